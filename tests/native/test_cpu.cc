// What Paddle Lite takes a CPU for, and what it is shown instead. The texts are those of boards.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cpu.h"

using lite_run::cpuinfo_showing;
using lite_run::Features;
using lite_run::parts_of;
using lite_run::taken_for;

namespace {

constexpr Features kNone{false, false};
constexpr Features kHalf{false, true};
constexpr Features kDot{true, false};
constexpr Features kBoth{true, true};

std::string cpuinfo(const std::vector<std::string>& parts, const std::string& end = "") {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    text += "processor\t: " + std::to_string(i) +
            "\nFeatures\t: fp asimd\nCPU part\t: " + parts[i] + "\nCPU revision\t: 1\n\n";
  }
  return text + end;
}

const std::vector<std::string> kRk3588 = {"0xd05", "0xd05", "0xd05", "0xd05",
                                          "0xd0b", "0xd0b", "0xd0b", "0xd0b"};

}  // namespace

TEST_CASE("a CPU is taken for what its parts are known for") {
  CHECK(taken_for(cpuinfo({"0xd0b", "0xd0b"}), "") == kNone);
  CHECK(taken_for(cpuinfo({"0xd40", "0xd40"}), "") == kBoth);
  CHECK(taken_for(cpuinfo({"0xd08"}), "") == kNone);
  CHECK(taken_for(cpuinfo({"0xd46"}), "") == kDot);
  CHECK(taken_for("", "") == kNone);
}

TEST_CASE("dot product needs every core, fp16 any") {
  CHECK(taken_for(cpuinfo({"0xd05", "0xd0a"}), "") == kHalf);
  CHECK(taken_for(cpuinfo(kRk3588), "") == kHalf);
  CHECK(taken_for(cpuinfo({"0xd46", "0xd47"}), "") == kBoth);
}

TEST_CASE("a chip that is known by name is taken for what that has") {
  CHECK(taken_for(cpuinfo({"0xd03"}, "Hardware\t: Qualcomm Technologies, Inc SM8150\n"), "") ==
        kBoth);
  CHECK(taken_for(cpuinfo({"0xd40"}, "Hardware\t: mt6765\n"), "") == kNone);
  CHECK(taken_for(cpuinfo({"0xd40"}, "Hardware\t: BCM2835\n"), "") == kBoth);
  CHECK(taken_for(cpuinfo({"0xd03"}), "_kona_board") == kBoth);
  // Of the models the first alone.
  CHECK(taken_for(cpuinfo({"0xd03"}, "model name\t: SM8150\nmodel name\t: x\n"), "") == kBoth);
  CHECK(taken_for(cpuinfo({"0xd03"}, "model name\t: x\nmodel name\t: SM8150\n"), "") == kNone);
}

TEST_CASE("a CPU that is known is shown as it is") {
  CHECK_FALSE(cpuinfo_showing(cpuinfo({"0xd40"}), "", kBoth));
  CHECK_FALSE(cpuinfo_showing(cpuinfo({"0xd08"}), "", kNone));
  CHECK_FALSE(cpuinfo_showing(cpuinfo({"0xd0b"}), "", kNone));
}

TEST_CASE("parts that are unknown are shown as ones with the same features, others stay") {
  const auto text = cpuinfo_showing(cpuinfo(kRk3588, "Hardware\t: Rockchip RK3588\n"), "", kBoth);
  REQUIRE(text);
  CHECK(parts_of(*text) == std::vector<std::string>{"0xd05", "0xd40"});
  CHECK(text->find("processor\t: 7\n") != std::string::npos);
  CHECK(text->find("RK3588") != std::string::npos);
  CHECK(parts_of(*cpuinfo_showing(cpuinfo({"0xd80", "0xd81"}), "", kBoth)) ==
        std::vector<std::string>{"0xd40"});
}

TEST_CASE("what is shown never has more or less than the CPU") {
  const std::vector<std::vector<std::string>> boards = {{},
                                                        {"0xd03"},
                                                        {"0xd05"},
                                                        {"0xd08"},
                                                        {"0xd0a"},
                                                        {"0xd0b"},
                                                        {"0xd40"},
                                                        {"0xd46"},
                                                        {"0xd80"},
                                                        {"0xd05", "0xd0a"},
                                                        {"0xd46", "0xd47", "0xd48"},
                                                        kRk3588};
  for (const auto& parts : boards) {
    for (const char* end : {"", "Hardware\t: SM8150\n", "Hardware\t: MT6765\n"}) {
      for (const Features has : {kNone, kHalf, kDot, kBoth}) {
        const std::string real = cpuinfo(parts, end);
        const auto text = cpuinfo_showing(real, "", has);
        CHECK(taken_for(text ? *text : real, "") == has);
        CHECK(text.has_value() == (taken_for(real, "") != has));
      }
    }
  }
}

TEST_CASE("a device that Android names decides, whatever is shown") {
  CHECK_FALSE(cpuinfo_showing(cpuinfo({"0xd03"}), "_msm8998", kBoth));
  CHECK_FALSE(cpuinfo_showing(cpuinfo({"0xd03"}), "_kona", kNone));
}

TEST_CASE("the names of features") {
  CHECK(kBoth.names() == std::vector<std::string>{"dot product", "fp16"});
  CHECK(kNone.names().empty());
}
