#include "cpu.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "error.h"
#include "machine.h"

#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__ANDROID__)
#include <sys/system_properties.h>
#endif

namespace lite_run {
namespace {

// A part number that Paddle Lite knows, and what it takes for granted of such cores.
struct Part {
  unsigned number;
  Features features;
};

constexpr Features kNone{false, false};
constexpr Features kHalf{false, true};
constexpr Features kDot{true, false};
constexpr Features kBoth{true, true};

// get_cpu_arch, has_dot and has_fp16 of 044ba5b, v2.13-rc and the last commit. What is not listed
// is taken for a core with neither.
constexpr Part kParts[] = {
    {0x803, kBoth}, {0x805, kBoth}, {0xd05, kBoth}, {0x804, kBoth}, {0xd40, kBoth},
    {0xd0d, kBoth}, {0xd41, kBoth}, {0xd44, kBoth}, {0xd47, kBoth}, {0xd48, kBoth},
    {0xd46, kDot},  {0x802, kHalf}, {0xd0a, kHalf},
};

// The parts to show, with just these features: Cortex-A76, A510, A75 and A72. Their kernels are
// those of a core that Paddle Lite does not know; only A35, A53 and A73 have some of their own.
constexpr Part kShown[] = {{0xd40, kBoth}, {0xd46, kDot}, {0xd0a, kHalf}, {0xd08, kNone}};

// A chip that Paddle Lite knows by name. Its cores then are those of this table, whatever
// /proc/cpuinfo says.
struct Chip {
  const char* name;
  Features features;
};

// SetCPUInfoByName, in its order. FT2000PLUS is left out: it sets caches, but no cores.
constexpr Chip kChips[] = {
    {"SM8350", kBoth},   {"SA8155", kBoth},   {"SA8195", kBoth}, {"KONA", kBoth},
    {"SM8150", kBoth},   {"SDM845", kHalf},   {"SDM710", kHalf}, {"MSM8998", kNone},
    {"MSM8996", kNone},  {"SDM660", kNone},   {"SDM636", kNone}, {"MSM8976", kNone},
    {"MSM8953", kNone},  {"MSM8939", kNone},  {"MT6891", kBoth}, {"MT6797", kNone},
    {"MT6799", kNone},   {"MT6795", kNone},   {"MT6762", kNone}, {"MT6753", kNone},
    {"MT6752", kNone},   {"MT6750", kNone},   {"MT6758", kNone}, {"MT6757", kNone},
    {"MT6763", kNone},   {"MT6755", kNone},   {"MT6771", kNone}, {"MT6765", kNone},
    {"MT6739", kNone},   {"MT6738", kNone},   {"MT6737", kNone}, {"KIRIN980", kBoth},
    {"KIRIN990", kBoth}, {"KIRIN810", kBoth},
};

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool holds(const std::string& text, const char* word) {
  return text.find(word) != std::string::npos;
}

// As the engine reads it: "CPU part" and a tab; 0 for any other line.
unsigned part_of(const std::string& line) {
  unsigned part = 0;
  return std::sscanf(line.c_str(), "CPU part\t: %x", &part) == 1 ? part : 0;
}

template <size_t N>
Features features_of(const Part (&parts)[N], unsigned number) {
  const auto* found = std::find_if(std::begin(parts), std::end(parts),
                                   [&](const Part& part) { return part.number == number; });
  return found == std::end(parts) ? kNone : found->features;
}

std::string hex(unsigned number) {
  std::array<char, 16> text;
  std::snprintf(text.data(), text.size(), "0x%03x", number);
  return text.data();
}

// Whether a line names the chip to the engine.
bool names_chip(const std::string& line) {
  return holds(line, "Hardware") || holds(line, "model name");
}

// The lines that count to the engine: few enough to fit into a pipe, whatever the machine.
std::string shown_with(const std::string& cpuinfo, unsigned part, const Features& features,
                       bool with_names) {
  std::string text;
  bool any = false;
  for (const std::string& line : lines_of(cpuinfo)) {
    if (part_of(line) != 0) {
      const bool fits = features_of(kParts, part_of(line)) == features;
      text += "CPU part\t: " + hex(fits ? part_of(line) : part) + "\n";
      any = true;
    } else if (line.compare(0, 9, "processor") == 0 || (with_names && names_chip(line))) {
      text += line + "\n";
    }
  }
  if (!any) text += "CPU part\t: " + hex(part) + "\n";  // the engine takes the rest to be like it
  return text;
}

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What else the engine looks for the chip's name in.
std::string device_name() {
  std::string name;
#if defined(__ANDROID__)
  for (const char* property : {"ro.product.board", "ro.board.platform", "ro.chipname"}) {
    char value[PROP_VALUE_MAX] = "";
    __system_property_get(property, value);
    name += std::string("_") + value;
  }
#endif
  return name;
}

std::vector<int> core_mhz() {
  std::vector<int> mhz;
  for (;;) {
    const std::string core = "/sys/devices/system/cpu/cpu" + std::to_string(mhz.size());
    if (!std::ifstream(core + "/uevent")) break;
    mhz.push_back(std::atoi(file_text(core + "/cpufreq/cpuinfo_max_freq").c_str()) / 1000);
  }
  return mhz;
}

bool switched_off() {
  const char* value = std::getenv("LR_CPU");
  if (value == nullptr || *value == '\0' || std::strcmp(value, "auto") == 0) return false;
  if (std::strcmp(value, "off") == 0) return true;
  throw Error("LR_CPU is 'auto' or 'off', not '" + std::string(value) + "'", kUsage);
}

}  // namespace

std::vector<std::string> Features::names() const {
  std::vector<std::string> list;
  if (dot) list.emplace_back("dot product");
  if (fp16) list.emplace_back("fp16");
  return list;
}

Features cpu_features() {
  // Bits ASIMDDP, and FPHP with ASIMDHP, of the kernel's asm/hwcap.h.
#if defined(__aarch64__)
  constexpr unsigned long kDotBit = 1UL << 20;
  constexpr unsigned long kHalfBits = 1UL << 9 | 1UL << 10;
#elif defined(__arm__)
  constexpr unsigned long kDotBit = 1UL << 24;
  constexpr unsigned long kHalfBits = 1UL << 22 | 1UL << 23;
#endif
#if defined(__aarch64__) || defined(__arm__)
  const unsigned long bits = getauxval(AT_HWCAP);
  return {(bits & kDotBit) != 0, (bits & kHalfBits) == kHalfBits};
#else
  return kNone;
#endif
}

Features taken_for(const std::string& cpuinfo, const std::string& device) {
  std::string name;
  bool model_named = false;
  bool any = false;
  Features all{true, false};  // dot product where all cores have it, fp16 where any has
  for (const std::string& line : lines_of(cpuinfo)) {
    if (holds(line, "Hardware")) name += line;
    if (holds(line, "model name") && !model_named) {
      name += line;
      model_named = true;
    }
    if (holds(line, "part")) {
      const Features core = features_of(kParts, part_of(line));
      all = {all.dot && core.dot, all.fp16 || core.fp16};
      any = true;
    }
  }
  name += device;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const auto* chip = std::find_if(std::begin(kChips), std::end(kChips),
                                  [&](const Chip& known) { return holds(name, known.name); });
  if (chip != std::end(kChips)) return chip->features;
  return any ? all : kNone;
}

std::optional<std::string> cpuinfo_showing(const std::string& cpuinfo, const std::string& device,
                                           const Features& features) {
  if (taken_for(cpuinfo, device) == features) return std::nullopt;
  const auto* part = std::find_if(std::begin(kShown), std::end(kShown),
                                  [&](const Part& known) { return known.features == features; });
  for (const bool with_names : {true, false}) {
    std::string text = shown_with(cpuinfo, part->number, features, with_names);
    if (taken_for(text, device) == features) return text;
  }
  return std::nullopt;
}

std::vector<std::string> parts_of(const std::string& cpuinfo) {
  std::vector<std::string> parts;
  for (const std::string& line : lines_of(cpuinfo)) {
    if (part_of(line) == 0) continue;
    std::string part = hex(part_of(line));
    if (std::find(parts.begin(), parts.end(), part) == parts.end())
      parts.push_back(std::move(part));
  }
  return parts;
}

const Cpu& this_cpu() {
  static const Cpu cpu = [] {
    const std::string cpuinfo = file_text("/proc/cpuinfo");
    const std::string device = device_name();
    Cpu found{parts_of(cpuinfo), core_mhz(), cpu_features(), {}, {}, switched_off()};
    if (std::strcmp(this_target(), "arm") != 0) return found;
    found.own = taken_for(cpuinfo, device);
    if (!found.off) found.shown = cpuinfo_showing(cpuinfo, device, found.features);
    return found;
  }();
  return cpu;
}

}  // namespace lite_run
