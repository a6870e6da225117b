// lite_run.h as a stranger uses it, on whichever engine the library was linked with.
#include <dirent.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "lite_run.h"
#include "made_bundle.h"
#include "npy.h"
#include "run.h"

using nlohmann::json;

namespace {

// Checks a status, and what lr_error says where it is not LR_OK.
bool refused(int status, int expected, const std::string& part) {
  const bool as_expected =
      status == expected && std::string(lr_error()).find(part) != std::string::npos;
  if (!as_expected) MESSAGE("status " << status << ": " << lr_error());
  return as_expected;
}

struct Session {
  explicit Session(const std::string& bundle, int threads = 1) {
    const int status = lr_open(bundle.c_str(), threads, LR_POWER_NO_BIND, &handle);
    REQUIRE_MESSAGE(status == LR_OK, lr_error());
  }
  ~Session() { lr_close(&handle); }
  operator lr_session*() const { return handle; }
  lr_session* handle = nullptr;
};

// A bundle in a folder of its own.
struct Made {
  explicit Made(const std::function<void(json&)>& edit = [](json&) {}) {
    write_bundle(scratch / "b", edit);
    path = scratch / "b";
  }
  int open() const {
    lr_session* session = nullptr;
    const int status = lr_open(path.c_str(), 1, LR_POWER_NO_BIND, &session);
    CHECK((session != nullptr) == (status == LR_OK));
    lr_close(&session);
    return status;
  }
  Scratch scratch;
  std::string path;
};

// Changes the targets of both architectures.
std::function<void(json&)> targets(const std::function<void(json&)>& edit) {
  return [edit](json& document) {
    for (json& target : document["targets"]) edit(target);
  };
}

int set(lr_session* session, const std::vector<float>& values) {
  const int64_t shape[] = {static_cast<int64_t>(values.size()) / 10, 10};
  return lr_set_input(session, 0, "float32", shape, 2, values.data(),
                      values.size() * sizeof(float));
}

std::vector<float> output(lr_session* session) {
  const void* data = nullptr;
  const int64_t* shape = nullptr;
  int rank = 0;
  REQUIRE(lr_output(session, 0, &data, nullptr, &shape, &rank) == LR_OK);
  const auto count = std::accumulate(shape, shape + rank, int64_t{1}, std::multiplies<>());
  const auto* values = static_cast<const float*>(data);
  return {values, values + count};
}

std::vector<float> counted(int rows, float first) {
  std::vector<float> values(static_cast<size_t>(rows) * 10);
  std::iota(values.begin(), values.end(), first);
  return values;
}

long resident_bytes() {
  std::ifstream file("/proc/self/statm");
  long total = 0;
  long resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// AddressSanitizer keeps what was freed for a while; LeakSanitizer looks for leaks in its place.
#if defined(__SANITIZE_ADDRESS__)
constexpr long kMostGrowthBytes = 500000000;
#else
constexpr long kMostGrowthBytes = 1000000;
#endif

int open_files() {
  int count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

}  // namespace

TEST_CASE("a session tells what it opened") {
  Made made;
  Session session(made.path, 2);
  const json info = json::parse(lr_info(session));
  CHECK(info["name"] == "hands on");
  CHECK(info["threads"] == 2);
  CHECK(info["opt_version"] == "v2.13-rc");
  CHECK(info["labels"] == 10);
  CHECK(info["image"] == false);
  CHECK(info["samples"] == 3);
  CHECK(!info["engine"].get<std::string>().empty());
  CHECK(json::parse(lr_info(nullptr))["lite_run"] == info["lite_run"]);
  CHECK(lr_count(session, LR_INPUT) == 1);
  CHECK(lr_count(session, LR_OUTPUT) == 1);
  CHECK(lr_count(session, 2) == -1);
  CHECK(lr_count(nullptr, LR_INPUT) == -1);
  const char* name = nullptr;
  const char* dtype = nullptr;
  const int64_t* shape = nullptr;
  int rank = 0;
  REQUIRE(lr_spec(session, LR_INPUT, 0, &name, &dtype, &shape, &rank) == LR_OK);
  CHECK(std::string(name) == "x");
  CHECK(std::string(dtype) == "float32");
  CHECK(rank == 2);
  CHECK(shape[0] == -1);
  CHECK(shape[1] == 10);
  CHECK(refused(lr_spec(session, LR_OUTPUT, 1, &name, nullptr, nullptr, nullptr), LR_USAGE,
                "no such"));
  CHECK(std::string(lr_label(session, 9)) == "j");
  CHECK(lr_label(session, 10) == nullptr);
  CHECK(lr_label(session, -1) == nullptr);
}

TEST_CASE("wrong calls are refused") {
  Made made;
  lr_session* session = nullptr;
  CHECK(refused(lr_open(nullptr, 1, 3, &session), LR_USAGE, "NULL"));
  CHECK(refused(lr_open(made.path.c_str(), 1, 3, nullptr), LR_USAGE, "NULL"));
  CHECK(refused(lr_open(made.path.c_str(), 0, 3, &session), LR_USAGE, "1 to 256"));
  CHECK(refused(lr_open(made.path.c_str(), 257, 3, &session), LR_USAGE, "1 to 256"));
  CHECK(refused(lr_open(made.path.c_str(), 1, 6, &session), LR_USAGE, "power mode"));
  CHECK(session == nullptr);
  lr_close(&session);
  lr_close(nullptr);
  lr_forget(nullptr);
  CHECK(refused(lr_run(nullptr), LR_USAGE, "NULL"));
  CHECK(refused(lr_set_file(nullptr, 0, "x"), LR_USAGE, "NULL"));
  CHECK(refused(lr_output(nullptr, 0, nullptr, nullptr, nullptr, nullptr), LR_USAGE, "NULL"));

  Session opened(made.path);
  const float values[10] = {};
  const int64_t shape[] = {1, 10};
  const auto try_set = [&](int index, const char* dtype, const int64_t* dims, int rank,
                           size_t bytes) {
    return lr_set_input(opened, index, dtype, dims, rank, values, bytes);
  };
  CHECK(refused(lr_run(opened), LR_USAGE, "input 'x' was not set"));
  CHECK(refused(try_set(1, "float32", shape, 2, 40), LR_USAGE, "no input 1"));
  CHECK(refused(try_set(-1, "float32", shape, 2, 40), LR_USAGE, "no input -1"));
  CHECK(refused(try_set(0, "float64", shape, 2, 80), LR_USAGE,
                "takes float32[?, 10], not float64[1, 10]"));
  CHECK(refused(try_set(0, "float32", shape, 1, 4), LR_USAGE,
                "takes float32[?, 10], not float32[1]"));
  CHECK(refused(try_set(0, "float32", shape, 2, 39), LR_USAGE, "39 bytes are given"));
  CHECK(refused(try_set(0, "float32", shape, -1, 40), LR_USAGE, "rank"));
  CHECK(refused(lr_set_input(opened, 0, "float32", shape, 2, nullptr, 40), LR_USAGE, "NULL"));
  for (const int64_t rows : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    const int64_t dims[] = {rows, 10};
    CHECK(refused(try_set(0, "float32", dims, 2, 40), LR_USAGE, "takes"));
  }
  const int64_t huge[] = {int64_t{1} << 62, 10};
  CHECK(refused(try_set(0, "float32", huge, 2, 40), LR_USAGE, "too large"));
  const uint8_t pixels[12] = {};
  CHECK(refused(lr_set_image(opened, pixels, 2, 2, 6, 3), LR_USAGE, "nothing of images"));
  CHECK(refused(lr_set_image(opened, pixels, 2, 2, 5, 3), LR_USAGE, "stride"));
  CHECK(refused(lr_set_image(opened, pixels, 2, 2, 6, 1), LR_USAGE, "channels"));
  CHECK(refused(lr_set_image(opened, pixels, 0, 2, 6, 3), LR_USAGE, "width"));
  CHECK(refused(lr_output(opened, 0, nullptr, nullptr, nullptr, nullptr), LR_USAGE,
                "nothing was run"));
  REQUIRE(try_set(0, "float32", shape, 2, 40) == LR_OK);
  REQUIRE(lr_run(opened) == LR_OK);
  CHECK(refused(lr_run(opened), LR_USAGE, "since the last run"));
  CHECK(refused(lr_output(opened, 1, nullptr, nullptr, nullptr, nullptr), LR_USAGE, "no output 1"));
}

TEST_CASE("the network hands its input on, at any batch, and answers end with the next input") {
  Made made;
  Session session(made.path);
  for (const int rows : {1, 3, 2, 1, 50}) {
    const auto values = counted(rows, static_cast<float>(rows));
    REQUIRE(set(session, values) == LR_OK);
    REQUIRE(lr_run(session) == LR_OK);
    CHECK(output(session) == values);
  }
  REQUIRE(set(session, counted(1, 0)) == LR_OK);
  CHECK(refused(lr_output(session, 0, nullptr, nullptr, nullptr, nullptr), LR_USAGE,
                "nothing was run"));
  // No alignment is needed.
  std::vector<char> odd(41);
  const auto values = counted(1, 5);
  std::memcpy(odd.data() + 1, values.data(), 40);
  const int64_t shape[] = {1, 10};
  REQUIRE(lr_set_input(session, 0, "float32", shape, 2, odd.data() + 1, 40) == LR_OK);
  REQUIRE(lr_run(session) == LR_OK);
  CHECK(output(session) == values);
}

TEST_CASE("what is wrong with a bundle is found before the engine sees it") {
  CHECK(Made().open() == LR_OK);
  {
    Made made;
    made.path += "x";
    CHECK(refused(made.open(), LR_FAULT, "bx: not a bundle: there is no bundle.json in it"));
  }
  {
    Made made;
    const std::string model = read_text(made.path + "/model.nb");
    write_text(made.path + "/model.nb", model.substr(0, model.size() - 1));
    CHECK(refused(made.open(), LR_FAULT, "1325 bytes, the bundle says 1326; copy it again"));
    std::string changed = model;
    changed.back() = static_cast<char>(changed.back() ^ 1);
    write_text(made.path + "/model.nb", changed);
    CHECK(refused(made.open(), LR_FAULT, "checksum"));
    std::filesystem::remove(made.path + "/model.nb");
    CHECK(refused(made.open(), LR_FAULT, "model.nb: cannot be read: No such file"));
  }
  {
    Made made(targets([](json& target) {
      target["sha256"] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
      target["bytes"] = 3;
    }));
    write_text(made.path + "/model.nb", "abc");
    CHECK(refused(made.open(), LR_FAULT, "not a .nb file"));
  }
  CHECK(refused(Made([](json& d) { d["targets"] = json::object(); }).open(), LR_USAGE,
                "convert with --target"));
  CHECK(refused(Made(targets([](json& t) {
                  t["kernels"] = {{"opencl/float", 1}};
                })).open(),
                LR_FAULT, "made for opencl"));
#if defined(__x86_64__)
  CHECK(refused(Made(targets([](json& t) {
                  t["kernels"] = {{"arm/fp16", 1}};
                })).open(),
                LR_FAULT, "made for arm"));
  CHECK(refused(Made(targets([](json& t) {
                  t["kernels"] = {{"x86/int8", 1}};
                })).open(),
                LR_FAULT, "wrong numbers on x86"));
#else
  CHECK(refused(Made(targets([](json& t) {
                  t["kernels"] = {{"x86/float", 1}};
                })).open(),
                LR_FAULT, "made for x86"));
#endif
  CHECK(refused(Made(targets([](json& t) { t["opt_version"] = "v2.12"; })).open(), LR_FAULT,
                "the bundle says v2.12"));
  // The stand-in for ARM bears no release's name, unless it is told to.
#if !defined(__aarch64__) && !defined(__arm__)
  CHECK(refused(Made(targets([](json& t) {
                  t["needs"] = {{"later", "v9.1"}};
                })).open(),
                LR_FAULT, "operator later needs Paddle Lite v9.1, and this library is v2."));
#endif
  CHECK(refused(Made(targets([](json& t) { t["needs"] = {"later"}; })).open(), LR_FAULT, "needs"));
  CHECK(Made(targets([](json& t) { t["needs"] = {{"roll", "v2.12"}}; })).open() == LR_OK);
  CHECK(refused(Made([](json& d) {
                  d["inputs"][0]["shape"] = {int64_t{1} << 39, 10};
                }).open(),
                LR_FAULT, "of memory, and"));
  CHECK(refused(Made([](json& d) { d["inputs"][0]["dtype"] = "complex64"; }).open(), LR_FAULT,
                "complex64"));
  CHECK(refused(Made([](json& d) { d["outputs"] = json::array(); }).open(), LR_FAULT,
                "has 1 inputs and 1 outputs"));
}

TEST_CASE("the device checks itself with the bundle's samples") {
  Made made;
  Session session(made.path);
  const char* text = nullptr;
  CHECK(refused(lr_check(session, &text), LR_USAGE, "nothing was recorded"));
  struct Seen {
    lr_session* session;
    std::vector<std::string> ids;
  } seen{session, {}};
  const lr_progress progress = [](void* user, const char* id, int done, int total) {
    auto* the_seen = static_cast<Seen*>(user);
    the_seen->ids.emplace_back(id);
    return done == total || output(the_seen->session).size() != 10 ? 1 : 0;
  };
  REQUIRE(lr_record_samples(session, nullptr, 1, 2, progress, &seen) == LR_OK);
  CHECK(seen.ids == std::vector<std::string>{"s0", "s1", "s2"});
  REQUIRE(lr_check(session, &text) == LR_OK);
  const json report = json::parse(text);
  CHECK(report["passed"] == true);
  CHECK(report["samples"] == 3);
  CHECK(report["top1_agreement"] == 1.0);
  REQUIRE(lr_summary(session, &text) == LR_OK);
  CHECK(json::parse(text)["latency"]["count"] == 6);
  CHECK(refused(lr_record_samples(session, nullptr, 0, 1, nullptr, nullptr), LR_USAGE,
                "recorded already"));
  REQUIRE(lr_check(session, &text) == LR_OK);  // the record is as it was
  lr_forget(session);
  CHECK(refused(lr_summary(session, &text), LR_USAGE, "nothing was recorded"));
}

TEST_CASE("a device that answers wrongly is told so") {
  Made made;
  auto reference = lite_run::Run::open(made.path + "/reference");
  reference.latency_ms.assign(3, {1.0});
  auto* values = reinterpret_cast<float*>(reference.outputs[0].values[1].data.data());
  values[3] += 2;
  reference.save(made.path + "/reference", true);
  Session session(made.path);
  REQUIRE(lr_record_samples(session, nullptr, 0, 1, nullptr, nullptr) == LR_OK);
  const char* text = nullptr;
  CHECK(refused(lr_check(session, &text), LR_FAILED, "output 'y': cosine"));
  CHECK(json::parse(text)["passed"] == false);
  CHECK(json::parse(text)["outputs"][0]["worst"] == "s1");
  write_text(made.path + "/reference/run.json", "{\"format\": 1}");
  CHECK(refused(lr_check(session, &text), LR_FAULT, "damaged"));
  std::filesystem::remove_all(made.path + "/reference");
  CHECK(refused(lr_check(session, &text), LR_FAULT, "run.json: cannot be read"));
}

TEST_CASE("answers are recorded, and saved as a Run, whole or not at all") {
  Made made;
  Session session(made.path);
  const std::string run = made.scratch / "run";
  CHECK(refused(lr_save_run(session, run.c_str(), 0), LR_USAGE, "nothing was recorded"));
  CHECK(refused(lr_record(session, "a", -1, 0, 1), LR_USAGE, "was not set"));
  REQUIRE(set(session, counted(1, 0)) == LR_OK);
  CHECK(refused(lr_record(session, "a", -1, 0, 0), LR_USAGE, "repeat"));
  constexpr int kMany = std::numeric_limits<int>::max();
  CHECK(refused(lr_record(session, "a", -1, kMany, 1), LR_USAGE, "at most 10000000"));
  CHECK(refused(lr_record(session, "a", -1, 0, kMany), LR_USAGE, "at most 10000000"));
  CHECK(refused(lr_record_samples(session, nullptr, kMany, kMany, nullptr, nullptr), LR_USAGE,
                "at most 10000000"));
  CHECK(refused(lr_record(session, "\xff", -1, 0, 1), LR_USAGE, "UTF-8"));
  REQUIRE(set(session, counted(1, 0)) == LR_OK);
  REQUIRE(lr_record(session, "a, \"b\"\n", 4, 2, 3) == LR_OK);
  CHECK(output(session) == counted(1, 0));
  REQUIRE(set(session, counted(2, 7)) == LR_OK);
  REQUIRE(lr_record(session, "c", -1, 0, 1) == LR_OK);
  REQUIRE(lr_save_run(session, run.c_str(), 0) == LR_OK);
  auto saved = lite_run::Run::open(run);
  CHECK(saved.samples[0].id == "a, \"b\"\n");
  CHECK(saved.samples[0].label == 4);
  CHECK(!saved.samples[1].label);
  CHECK(saved.outputs[0].values[1].shape == std::vector<int64_t>{2, 10});  // shapes vary
  CHECK(read_text(run + "/latency.csv").find("\"a, \"\"b\"\"\n\",2,") != std::string::npos);

  REQUIRE(set(session, counted(1, 0)) == LR_OK);
  REQUIRE(lr_record(session, "d", -1, 0, 1) == LR_OK);
  CHECK(refused(lr_save_run(session, run.c_str(), 0), LR_USAGE, "exists already"));
  CHECK(refused(lr_save_run(session, made.path.c_str(), 1), LR_USAGE, "not a run"));
  CHECK(refused(lr_save_run(session, (run + "/none/x").c_str(), 1), LR_USAGE, "no folder"));
  REQUIRE(lr_save_run(session, (run + "/").c_str(), 1) == LR_OK);
  CHECK(lite_run::Run::open(run).samples[0].id == "d");
  int entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(made.scratch / "")) {
    (void)entry;
    ++entries;
  }
  CHECK(entries == 2);  // the bundle and the run, and nothing partial
}

TEST_CASE("samples come from a list, an array or a file") {
  Made made;
  Session session(made.path);
  const std::string folder = made.scratch / "data";
  std::filesystem::create_directory(folder);
  const std::string path = folder + "/x.npy";
  lite_run::Array stack{"float32", {3, 10}, std::vector<uint8_t>(120)};
  const auto values = counted(3, 1);
  std::memcpy(stack.data.data(), values.data(), 120);
  lite_run::write_npy(path, stack);
  REQUIRE(lr_record_samples(session, path.c_str(), 1, 1, nullptr, nullptr) == LR_OK);
  CHECK(output(session) == counted(1, 21));
  const lr_progress first = [](void*, const char*, int, int) { return 1; };
  const json list = json::array(
      {{{"id", "one"}, {"label", nullptr}, {"sha256", nullptr}, {"feeds", {{"x", "x.npy"}}}}});
  write_text(folder + "/samples.json", list.dump());
  REQUIRE(lr_record_samples(session, folder.c_str(), 1, 1, first, nullptr) == LR_OK);
  const char* text = nullptr;
  REQUIRE(lr_summary(session, &text) == LR_OK);
  const json samples = json::parse(text)["samples"];
  REQUIRE(samples.size() == 4);
  CHECK(samples[2]["id"] == "x.npy[2]");
  CHECK(samples[3]["id"] == "one");

  REQUIRE(lr_set_file(session, 0, path.c_str()) == LR_OK);  // a batch of 3
  REQUIRE(lr_run(session) == LR_OK);
  CHECK(output(session) == values);
  write_text(folder + "/cat.jpg", "no picture");
  const std::string cat = folder + "/cat.jpg";
  CHECK(refused(lr_set_file(session, 0, cat.c_str()), LR_USAGE, "says nothing of images"));
  CHECK(refused(lr_set_file(session, 0, folder.c_str()), LR_FAULT, "not a regular file"));
  CHECK(refused(lr_set_file(session, 1, path.c_str()), LR_USAGE, "no input 1"));
  stack.dtype = "int32";
  lite_run::write_npy(path, stack);
  CHECK(refused(lr_set_file(session, 0, path.c_str()), LR_FAULT, "x.npy: input 'x' takes"));
  CHECK(
      refused(lr_record_samples(session, path.c_str(), 1, 1, nullptr, nullptr), LR_FAULT, "takes"));
  CHECK(refused(lr_record_samples(session, (folder + "/none").c_str(), 1, 1, nullptr, nullptr),
                LR_FAULT, "No such file"));
  REQUIRE(lr_summary(session, &text) == LR_OK);
  CHECK(json::parse(text)["samples"].size() == 4);
}

TEST_CASE("pictures become tensors as the bundle says") {
  Made made([](json& d) {
    d["inputs"][0]["shape"] = {-1, 3, -1, 2};
    d["outputs"][0]["shape"] = {-1, 3, -1, 2};
    d["labels"] = nullptr;
    d["image"] = {{"resize", "none"}, {"size", nullptr},   {"crop", nullptr},
                  {"color", "RGB"},   {"scale", 1.0},      {"interpolation", "cv2-linear"},
                  {"divisor", 1.0},   {"mean", {0, 0, 0}}, {"std", {1, 1, 1}}};
  });
  Session session(made.path);
  CHECK(json::parse(lr_info(session))["image"] == true);
  // Two pixels by one, then by two: rows 3 bytes longer than they need, and with alpha.
  const uint8_t rgb[] = {1, 2, 3, 4, 5, 6, 99, 99, 99, 7, 8, 9, 10, 11, 12, 99, 99, 99};
  const uint8_t rgba[] = {1, 2, 3, 99, 4, 5, 6, 99};
  const std::vector<float> one = {1, 4, 2, 5, 3, 6};
  const std::vector<float> two = {1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12};
  REQUIRE(lr_set_image(session, rgb, 2, 1, 9, 3) == LR_OK);
  REQUIRE(lr_run(session) == LR_OK);
  CHECK(output(session) == one);
  REQUIRE(lr_set_image(session, rgba, 2, 1, 8, 4) == LR_OK);
  REQUIRE(lr_run(session) == LR_OK);
  CHECK(output(session) == one);
  REQUIRE(lr_set_image(session, rgb, 2, 2, 9, 3) == LR_OK);
  REQUIRE(lr_run(session) == LR_OK);
  CHECK(output(session) == two);
  CHECK(refused(lr_set_image(session, rgb, 3, 2, 9, 3), LR_FAULT, "a picture of 3 x 2: input 'x'"));
  CHECK(refused(lr_set_image(session, rgb, 2, 2, 5, 3), LR_USAGE, "stride"));
  // What only Python does is refused by name, when a picture comes; arrays are fed all the same.
  const std::vector<std::pair<std::string, json>> later = {
      {"resize", "fit"}, {"interpolation", "cv2-cubic"}, {"stride", 32}, {"wide", true}};
  for (const auto& entry : later) {
    const std::string& key = entry.first;
    const json& value = entry.second;
    Made beyond([&](json& d) {
      d["inputs"][0]["shape"] = {-1, 3, -1, 2};
      d["outputs"][0]["shape"] = {-1, 3, -1, 2};
      d["labels"] = nullptr;
      d["image"] = {{"resize", "exact"}, {"size", {2, 2}}, {"interpolation", "cv2-linear"}};
      d["image"][key] = value;
    });
    Session other(beyond.path);
    CHECK(json::parse(lr_info(other))["image"] == false);
    CHECK(
        refused(lr_set_image(other, rgb, 2, 2, 9, 3), LR_USAGE,
                value.is_string() ? (key + " " + value.get<std::string>()).c_str() : key.c_str()));
  }
  const std::string cat = made.scratch / "cat.jpg";
  write_text(cat, "no picture");
  CHECK(refused(lr_set_file(session, 0, cat.c_str()), LR_FAULT, "cat.jpg: "));
}

TEST_CASE("errors belong to their thread") {
  CHECK(refused(lr_run(nullptr), LR_USAGE, "NULL"));
  std::string other = "not asked";
  std::thread([&] { other = lr_error(); }).join();
  CHECK(other.empty());
  CHECK(std::string(lr_error()).find("NULL") != std::string::npos);
}

TEST_CASE("two sessions in two threads answer as one does") {
  Made made;
  std::vector<std::string> wrong(2);
  std::vector<std::thread> threads;
  threads.reserve(2);
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Session session(made.path);
      for (int i = 0; i < 200; ++i) {
        const auto values = counted(1, static_cast<float>(i * 2 + t));
        if (set(session, values) != LR_OK || lr_run(session) != LR_OK ||
            output(session) != values) {
          wrong[static_cast<size_t>(t)] = "run " + std::to_string(i) + ": " + lr_error();
          return;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<std::string>{"", ""});
}

TEST_CASE("10,000 runs need no more memory than 1,000") {
  Made made;
  Session session(made.path);
  const auto values = counted(4, 1);
  const auto runs = [&](int count) {
    for (int i = 0; i < count; ++i) {
      if (set(session, values) != LR_OK || lr_run(session) != LR_OK) return false;
    }
    return true;
  };
  REQUIRE(runs(1000));
  const long before = resident_bytes();
  const int files = open_files();
  REQUIRE(runs(9000));
  CHECK(resident_bytes() - before < kMostGrowthBytes);
  CHECK(open_files() == files);
}

TEST_CASE("opening 1,000 times leaks neither memory nor files") {
  Made made;
  const auto opens = [&](int count) {
    for (int i = 0; i < count; ++i) {
      if (made.open() != LR_OK) return false;
    }
    return true;
  };
  REQUIRE(opens(200));
  const long before = resident_bytes();
  const int files = open_files();
  REQUIRE(opens(800));
  CHECK(resident_bytes() - before < kMostGrowthBytes);
  CHECK(open_files() == files);
}
