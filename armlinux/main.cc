// The command lite_run: parse, call the library, print. What it knows of models is in lite_run.h.
#include <fcntl.h>
#include <getopt.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lite_run.h"

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kUsageText =
    R"(Usage: lite_run BUNDLE [INPUT...] [options]

Runs a bundle of paddle-edge on this machine with Paddle Lite.

Without INPUT: checks itself. The bundle's samples are run and compared with what the server
answered to them; exits 1 where the answers are not within the limits of the bundle's precision.

INPUT is a JPEG or PNG picture; a folder, whose pictures are taken at any depth; or a .npy file
that holds the samples of a model with one input, stacked on axis 0. Samples are called as
`paddle-edge run --data INPUT` calls them, so that `paddle-edge compare` finds them again.

  -o, --out RUN        write the answers as a Run folder, which `paddle-edge compare` reads
      --samples DIR    run the samples that DIR/samples.json lists: [{"id": text, "label": number
                       or null, "sha256": text or null, "feeds": {input name: .npy file in DIR}}].
                       The list "samples" of a bundle.json is one such list
      --top-k N        classes to print for a sample (default 5)
      --threads N      CPU threads (default 1); with --bench a list such as 1,2,4
      --power-mode M   cores to use on ARM: no-bind (default), high, low, full, rand-high, rand-low
      --warmup N       unmeasured inferences before the first sample (default 1, with --bench 5)
      --repeat N       measured inferences of each sample (default 1, with --bench 50)
      --bench          measure the latency of one sample, of the bundle's where none is given,
                       for each number of threads; with CPU frequency, temperature and memory
      --sysfs DIR      where frequency and temperature are read (default /sys)
      --force          replace the Run folder of -o
      --json           print one JSON object, and nothing else, on standard output
      --log            let Paddle Lite's log through to standard error
  -h, --help           show this
      --version        show the version

Exit codes: 0 done, 1 the check failed, 2 usage, 3 a file, this machine or the engine is at fault.
)";

// What ends the command: an error in one line, and the exit code.
struct Failure : std::runtime_error {
  Failure(int code_, const std::string& what) : std::runtime_error(what), code(code_) {}
  int code;
};

void must(int status) {
  if (status != LR_OK) throw Failure(status, lr_error());
}

struct Options {
  std::string bundle;
  std::vector<std::string> inputs;
  std::string samples;
  std::string out;
  std::string sysfs = "/sys";
  std::vector<int> threads = {1};
  int power_mode = LR_POWER_NO_BIND;
  int warmup = -1;
  int repeat = -1;
  int top_k = 5;
  bool bench = false;
  bool force = false;
  bool as_json = false;
  bool log = false;
};

int number(const char* option, const std::string& text, int least) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < least ||
      value > std::numeric_limits<int>::max() / 4) {
    throw Failure(LR_USAGE, std::string(option) + " takes a number of at least " +
                                std::to_string(least) + ", not '" + text + "'");
  }
  return static_cast<int>(value);
}

std::vector<int> numbers(const char* option, const std::string& text) {
  std::vector<int> values;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(number(option, text.substr(begin, end - begin), 1));
    begin = end + 1;
  }
  return values;
}

int power_mode(const std::string& name) {
  constexpr std::array<const char*, 6> kNames = {"high",    "low",       "full",
                                                 "no-bind", "rand-high", "rand-low"};
  const auto* found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) {
    throw Failure(LR_USAGE, "--power-mode is one of no-bind, high, low, full, rand-high, rand-low");
  }
  return static_cast<int>(found - kNames.begin());
}

Options parse(int argc, char** argv) {
  enum {
    kSamples = 256,
    kTopK,
    kThreads,
    kPower,
    kWarmup,
    kRepeat,
    kBench,
    kSysfs,
    kForce,
    kJson,
    kLog,
    kVersion
  };
  const option kOptions[] = {{"out", required_argument, nullptr, 'o'},
                             {"samples", required_argument, nullptr, kSamples},
                             {"top-k", required_argument, nullptr, kTopK},
                             {"threads", required_argument, nullptr, kThreads},
                             {"power-mode", required_argument, nullptr, kPower},
                             {"warmup", required_argument, nullptr, kWarmup},
                             {"repeat", required_argument, nullptr, kRepeat},
                             {"bench", no_argument, nullptr, kBench},
                             {"sysfs", required_argument, nullptr, kSysfs},
                             {"force", no_argument, nullptr, kForce},
                             {"json", no_argument, nullptr, kJson},
                             {"log", no_argument, nullptr, kLog},
                             {"help", no_argument, nullptr, 'h'},
                             {"version", no_argument, nullptr, kVersion},
                             {nullptr, 0, nullptr, 0}};
  Options options;
  opterr = 0;
  for (int key; (key = getopt_long(argc, argv, "o:h", kOptions, nullptr)) != -1;) {
    switch (key) {
      case 'o':
        options.out = optarg;
        break;
      case kSamples:
        options.samples = optarg;
        break;
      case kTopK:
        options.top_k = number("--top-k", optarg, 1);
        break;
      case kThreads:
        options.threads = numbers("--threads", optarg);
        break;
      case kPower:
        options.power_mode = power_mode(optarg);
        break;
      case kWarmup:
        options.warmup = number("--warmup", optarg, 0);
        break;
      case kRepeat:
        options.repeat = number("--repeat", optarg, 1);
        break;
      case kBench:
        options.bench = true;
        break;
      case kSysfs:
        options.sysfs = optarg;
        break;
      case kForce:
        options.force = true;
        break;
      case kJson:
        options.as_json = true;
        break;
      case kLog:
        options.log = true;
        break;
      case 'h':
        std::cout << kUsageText;
        std::exit(LR_OK);
      case kVersion:
        std::cout << "lite_run " << json::parse(lr_info(nullptr))["lite_run"].get<std::string>()
                  << "\n";
        std::exit(LR_OK);
      default:
        throw Failure(LR_USAGE, std::string("'") + argv[optind - 1] +
                                    "' is unknown or lacks its value; see lite_run --help");
    }
  }
  if (optind == argc) throw Failure(LR_USAGE, "which bundle? see lite_run --help");
  options.bundle = argv[optind];
  options.inputs.assign(argv + optind + 1, argv + argc);
  if (options.warmup < 0) options.warmup = options.bench ? 5 : 1;
  if (options.repeat < 0) options.repeat = options.bench ? 50 : 1;
  if (options.threads.size() > 1 && !options.bench) {
    throw Failure(LR_USAGE, "several numbers of threads are compared with --bench");
  }
  if (options.bench && !options.out.empty()) {
    throw Failure(LR_USAGE, "--bench measures and --out keeps answers: choose one");
  }
  return options;
}

// Keeps what the engine writes to standard error, some twenty lines a start, and shows it where
// the engine ends the process.
class EngineLog {
 public:
  explicit EngineLog(bool through, bool as_json) {
    as_json_ = as_json;
    if (!through) {
      log_ = ::memfd_create("engine-log", MFD_CLOEXEC);
      terminal_ = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
      if (log_ >= 0 && terminal_ >= 0) ::dup2(log_, STDERR_FILENO);
    }
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
      struct sigaction action {};
      action.sa_handler = died;
      action.sa_flags = static_cast<int>(SA_RESETHAND);
      ::sigaction(signal, &action, nullptr);
    }
  }

  // A line for a person, past the log.
  static void say(const std::string& text) {
    const std::string line = text + "\n";
    put(terminal_ >= 0 ? terminal_ : STDERR_FILENO, line.data(), line.size());
  }

 private:
  static void put(int fd, const char* text, size_t size) {
    while (size > 0) {
      const ssize_t put = ::write(fd, text, size);
      if (put <= 0) return;
      text += put;
      size -= static_cast<size_t>(put);
    }
  }

  // In a process that is falling apart: system calls only.
  static void died(int signal) {
    const int to = terminal_ >= 0 ? terminal_ : STDERR_FILENO;
    if (log_ >= 0) {
      char tail[2048];
      const off_t size = ::lseek(log_, 0, SEEK_END);
      const off_t from = size > off_t{sizeof tail} ? size - off_t{sizeof tail} : 0;
      const ssize_t got = ::pread(log_, tail, sizeof tail, from);
      if (got > 0) put(to, tail, static_cast<size_t>(got));
    }
    constexpr char kText[] =
        "lite_run: the engine ended the process: its last words are above. The Paddle Lite library "
        "may lack operators of this model (use the SDK with_extra), or be of another version\n";
    put(to, kText, sizeof kText - 1);
    if (as_json_) {
      constexpr char kJson[] =
          "{\"error\": \"the engine ended the process; its last words are on standard error\", "
          "\"exit_code\": 3}\n";
      put(STDOUT_FILENO, kJson, sizeof kJson - 1);
    }
    (void)signal;
    ::_exit(LR_FAULT);
  }

  static inline int log_ = -1;
  static inline int terminal_ = -1;
  static inline bool as_json_ = false;
};

class Session {
 public:
  Session(const Options& options, int threads) {
    must(lr_open(options.bundle.c_str(), threads, options.power_mode, &session_));
  }
  ~Session() { lr_close(&session_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  operator lr_session*() const { return session_; }
  json info() const { return json::parse(lr_info(session_)); }
  json summary() const {
    const char* text = nullptr;
    must(lr_summary(session_, &text));
    return json::parse(text);
  }

 private:
  lr_session* session_ = nullptr;
};

// An input on the command line: a file, and what its sample is called.
struct Picture {
  std::string path;
  std::string id;
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

bool hidden(const fs::path& path) { return path.filename().string().rfind('.', 0) == 0; }

std::vector<Picture> pictures(const std::string& input) {
  if (!fs::is_directory(input)) return {{input, fs::path(input).filename().string()}};
  std::vector<Picture> found;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (fs::recursive_directory_iterator at(input, options), end; at != end; ++at) {
    if (hidden(at->path())) {
      if (at->is_directory()) at.disable_recursion_pending();
      continue;
    }
    const std::string suffix = lower(at->path().extension().string());
    if (suffix == ".jpg" || suffix == ".jpeg" || suffix == ".png") {
      found.push_back({at->path().string(), at->path().lexically_relative(input).generic_string()});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Picture& a, const Picture& b) { return a.id < b.id; });
  if (found.empty()) throw Failure(LR_FAULT, input + ": holds no JPEG or PNG pictures");
  return found;
}

template <typename T>
double value_at(const void* data, size_t index) {
  return static_cast<double>(static_cast<const T*>(data)[index]);
}

double value_of(const void* data, const std::string& dtype, size_t index) {
  if (dtype == "float32") return value_at<float>(data, index);
  if (dtype == "int64") return value_at<int64_t>(data, index);
  if (dtype == "int32") return value_at<int32_t>(data, index);
  return dtype == "int8" ? value_at<int8_t>(data, index) : value_at<uint8_t>(data, index);
}

json finite(double value) { return std::isfinite(value) ? json(value) : json(); }

// What the session's last answer says, for a person: classes where an output is one row of scores,
// else its range.
json answers(lr_session* session, int top_k) {
  json outputs = json::array();
  for (int i = 0; i < lr_count(session, LR_OUTPUT); ++i) {
    const char* name = nullptr;
    const char* dtype = nullptr;
    const void* data = nullptr;
    const int64_t* shape = nullptr;
    int rank = 0;
    must(lr_spec(session, LR_OUTPUT, i, &name, nullptr, nullptr, nullptr));
    must(lr_output(session, i, &data, &dtype, &shape, &rank));
    const auto count =
        static_cast<size_t>(std::accumulate(shape, shape + rank, int64_t{1}, std::multiplies<>()));
    std::vector<double> values(count);
    for (size_t k = 0; k < count; ++k) values[k] = value_of(data, dtype, k);
    json output = {
        {"name", name}, {"dtype", dtype}, {"shape", std::vector<int64_t>(shape, shape + rank)}};
    const bool row = rank > 0 && count >= 2 && count == static_cast<size_t>(shape[rank - 1]);
    if (row && std::string(dtype) == "float32") {
      std::vector<size_t> order(count);
      std::iota(order.begin(), order.end(), size_t{0});
      // NaN stands last, so that the order stays one.
      const auto key = [&](size_t k) {
        return std::isnan(values[k]) ? -std::numeric_limits<double>::infinity() : values[k];
      };
      const auto top = std::min(count, static_cast<size_t>(top_k));
      std::partial_sort(
          order.begin(), order.begin() + static_cast<ptrdiff_t>(top), order.end(),
          [&](size_t a, size_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; });
      output["top"] = json::array();
      for (size_t k = 0; k < top; ++k) {
        const char* label = lr_label(session, static_cast<int64_t>(order[k]));
        output["top"].push_back({{"class", order[k]},
                                 {"score", finite(values[order[k]])},
                                 {"label", label != nullptr ? json(label) : json()}});
      }
    } else if (count > 0) {
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      output["min"] = finite(*least);
      output["max"] = finite(*most);
    }
    outputs.push_back(std::move(output));
  }
  return outputs;
}

std::string text_of(const char* format, double value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::string shape_text(const json& shape) {
  std::string text;
  for (const json& side : shape) text += (text.empty() ? "" : ", ") + side.dump();
  return "[" + text + "]";
}

void print_answer(const std::string& id, const json& outputs) {
  std::cout << id << "\n";
  for (const json& output : outputs) {
    if (!output.contains("top")) {
      std::cout << "  " << output["name"].get<std::string>() << " "
                << output["dtype"].get<std::string>() << shape_text(output["shape"]);
      if (output.contains("min")) {
        std::cout << ", " << output["min"].dump() << " to " << output["max"].dump();
      }
      std::cout << "\n";
      continue;
    }
    for (const json& entry : output["top"]) {
      const json& score = entry["score"];
      std::cout << "  " << (score.is_null() ? "NaN" : text_of("%.6f", score.get<double>())) << "  "
                << entry["class"].dump();
      if (!entry["label"].is_null()) std::cout << " " << entry["label"].get<std::string>();
      std::cout << "\n";
    }
  }
}

void print_json(const json& document) {
  std::cout << document.dump(-1, ' ', false, json::error_handler_t::replace) << "\n";
}

// Runs all inputs; `each` is called after each sample, and returns whether to go on.
template <typename Each>
void record_inputs(lr_session* session, const Options& options, Each&& each) {
  int warmup = options.warmup;
  // A list of samples or arrays that the library reads.
  const auto record = [&](const char* path) {
    struct Call {
      Each& each;
      std::string problem;
    } call{each, ""};
    const lr_progress progress = [](void* user, const char* id, int, int) {
      auto& the_call = *static_cast<Call*>(user);
      try {
        return the_call.each(id) ? 0 : 1;
      } catch (const std::exception& error) {  // nothing may pass through C
        the_call.problem = error.what();
        return 1;
      }
    };
    must(lr_record_samples(session, path, warmup, options.repeat, progress, &call));
    if (!call.problem.empty()) throw Failure(LR_FAULT, call.problem);
    warmup = 0;
  };
  if (!options.samples.empty()) record(options.samples.c_str());
  for (const std::string& input : options.inputs) {
    if (lower(fs::path(input).extension().string()) == ".npy" && !fs::is_directory(input)) {
      record(input.c_str());
      continue;
    }
    for (const Picture& picture : pictures(input)) {
      must(lr_set_file(session, 0, picture.path.c_str()));
      must(lr_record(session, picture.id.c_str(), -1, warmup, options.repeat));
      warmup = 0;
      if (!each(picture.id.c_str())) return;
    }
  }
  if (options.samples.empty() && options.inputs.empty()) record(nullptr);
}

json save(lr_session* session, const Options& options) {
  if (options.out.empty()) return nullptr;
  must(lr_save_run(session, options.out.c_str(), options.force ? 1 : 0));
  return options.out;
}

void warn(const json& info) {
  for (const json& warning : info["warnings"]) {
    EngineLog::say("lite_run: warning: " + warning.get<std::string>());
  }
}

void print_report(const json& report) {
  for (const json& output : report["outputs"]) {
    const auto figure = [&](const char* name, const char* format) {
      return output[name].is_null() ? std::string("-")
                                    : text_of(format, output[name].get<double>());
    };
    std::cout << "output '" << output["name"].get<std::string>() << "' ("
              << output["kind"].get<std::string>() << "): cosine " << figure("cosine", "%.9f")
              << ", worst " << figure("cosine_min", "%.9f") << " for '"
              << output["worst"].get<std::string>() << "', "
              << (output["kind"] == "tensor" ? "relative difference " : "max |dp| ")
              << figure("max_probability_diff", "%.1e") << ", response "
              << figure("response", "%.3f") << "\n";
  }
  if (!report["top1_agreement"].is_null()) {
    std::cout << "top-1 agreement "
              << text_of("%.1f %%", report["top1_agreement"].get<double>() * 100) << "\n";
  }
  for (const json& warning : report["warnings"]) {
    EngineLog::say("lite_run: warning: " + warning.get<std::string>());
  }
  for (const json& failure : report["failures"]) {
    std::cout << "FAILED: " << failure.get<std::string>() << "\n";
  }
}

int check(const Options& options) {
  const Session session(options, options.threads[0]);
  const json info = session.info();
  record_inputs(session, options, [](const char*) { return true; });
  const char* text = nullptr;
  const int status = lr_check(session, &text);
  if (status != LR_FAILED) must(status);
  const json report = json::parse(text);
  const json summary = session.summary();
  const json run = save(session, options);
  if (options.as_json) {
    json document = {{"passed", status == LR_OK},
                     {"info", info},
                     {"report", report},
                     {"latency", summary["latency"]},
                     {"run", run},
                     {"peak_memory_bytes", summary["peak_memory_bytes"]}};
    print_json(document);
    return status;
  }
  warn(info);
  print_report(report);
  std::cout << (status == LR_OK ? "passed" : "failed") << ": " << options.bundle << " ("
            << info["precision"].get<std::string>() << ") on " << info["machine"].get<std::string>()
            << ", Paddle Lite " << info["engine"].get<std::string>() << ", "
            << report["samples"].dump() << " samples, p50 "
            << text_of("%.2f ms", summary["latency"]["p50_ms"].get<double>()) << "\n";
  return status;
}

int infer(const Options& options) {
  const Session session(options, options.threads[0]);
  if (!options.as_json) warn(session.info());
  json samples = json::array();
  const bool quiet = !options.out.empty() && !options.as_json;
  record_inputs(session, options, [&](const char* id) {
    if (quiet) return true;
    json outputs = answers(session, options.top_k);
    if (options.as_json) {
      samples.push_back({{"id", id}, {"outputs", std::move(outputs)}});
    } else {
      print_answer(id, outputs);
    }
    return true;
  });
  const json summary = session.summary();
  const json run = save(session, options);
  if (options.as_json) {
    print_json({{"info", session.info()},
                {"samples", std::move(samples)},
                {"latency", summary["latency"]},
                {"peak_memory_bytes", summary["peak_memory_bytes"]},
                {"run", run}});
  } else if (!options.out.empty()) {
    std::cout << options.out << ": " << summary["samples"].size() << " samples, p50 "
              << text_of("%.2f ms", summary["latency"]["p50_ms"].get<double>()) << "\n";
  }
  return LR_OK;
}

std::optional<double> number_in(const fs::path& path) {
  std::ifstream file(path);
  double value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The numbers in the folders of `root` that are called `prefix` and digits, in their order.
std::vector<std::pair<std::string, double>> readings(const fs::path& root,
                                                     const std::string& prefix,
                                                     const std::string& file) {
  std::vector<std::pair<int, double>> found;
  std::error_code none;
  for (fs::directory_iterator at(root, none), end; !none && at != end; at.increment(none)) {
    const std::string name = at->path().filename().string();
    if (name.size() <= prefix.size() || name.rfind(prefix, 0) != 0 ||
        !std::all_of(name.begin() + static_cast<ptrdiff_t>(prefix.size()), name.end(),
                     [](char c) { return c >= '0' && c <= '9'; })) {
      continue;
    }
    if (const auto value = number_in(at->path() / file)) {
      found.emplace_back(std::atoi(name.c_str() + prefix.size()), *value);
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::pair<std::string, double>> named;
  named.reserve(found.size());
  for (const auto& [index, value] : found) {
    named.emplace_back(prefix + std::to_string(index), value);
  }
  return named;
}

// How fast the cores run and how hot they are, where the system says so: a hot board is slower.
json sensors(const std::string& sysfs) {
  json cpu_mhz = json::object();
  for (const auto& [name, khz] :
       readings(fs::path(sysfs) / "devices/system/cpu", "cpu", "cpufreq/scaling_cur_freq")) {
    cpu_mhz[name] = khz / 1e3;
  }
  json celsius = json::object();
  for (const auto& [name, thousandths] :
       readings(fs::path(sysfs) / "class/thermal", "thermal_zone", "temp")) {
    std::ifstream type(fs::path(sysfs) / "class/thermal" / name / "type");
    std::string label = name;
    std::getline(type, label);
    celsius[label.empty() || celsius.contains(label) ? name : label] = thousandths / 1e3;
  }
  return {{"cpu_mhz", std::move(cpu_mhz)}, {"celsius", std::move(celsius)}};
}

std::string sensor_text(const json& before, const json& after, const char* unit) {
  std::string text;
  for (const auto& [name, value] : before.items()) {
    text += (text.empty() ? "" : ", ") + name + " " + text_of("%.0f", value.get<double>());
    if (after.contains(name)) text += " -> " + text_of("%.0f", after[name].get<double>());
    text += std::string(" ") + unit;
  }
  return text.empty() ? "not offered by this system" : text;
}

int bench(const Options& options) {
  json runs = json::array();
  for (const int threads : options.threads) {
    const Session session(options, threads);
    if (!options.as_json && runs.empty()) {
      warn(session.info());
      std::printf("%8s %10s %10s %10s %10s %10s %12s\n", "threads", "p50 ms", "p90 ms", "p99 ms",
                  "mean ms", "per s", "memory MB");
    }
    const json before = sensors(options.sysfs);
    record_inputs(session, options, [](const char*) { return false; });  // the first sample
    const json after = sensors(options.sysfs);
    json summary = session.summary();
    summary["before"] = before;
    summary["after"] = after;
    if (!options.as_json) {
      const json& latency = summary["latency"];
      const auto ms = [&](const char* name) { return latency[name].get<double>(); };
      std::printf("%8d %10.3f %10.3f %10.3f %10.3f %10.1f %12.1f\n", threads, ms("p50_ms"),
                  ms("p90_ms"), ms("p99_ms"), ms("mean_ms"), ms("throughput_per_s"),
                  summary["peak_memory_bytes"].get<double>() / 1e6);
      std::printf("%8s CPU: %s; temperature: %s\n", "",
                  sensor_text(before["cpu_mhz"], after["cpu_mhz"], "MHz").c_str(),
                  sensor_text(before["celsius"], after["celsius"], "C").c_str());
    }
    runs.push_back(std::move(summary));
  }
  if (options.as_json) print_json({{"model", options.bundle}, {"runs", std::move(runs)}});
  return LR_OK;
}

int run(const Options& options) {
  if (options.bench) return bench(options);
  return options.inputs.empty() && options.samples.empty() ? check(options) : infer(options);
}

int failed(const char* what, int code, bool as_json) {
  EngineLog::say(std::string("lite_run: ") + what);
  if (as_json) print_json({{"error", what}, {"exit_code", code}});
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  bool as_json = std::any_of(
      argv, argv + argc, [](const char* argument) { return std::strcmp(argument, "--json") == 0; });
  try {
    const Options options = parse(argc, argv);
    const EngineLog log(options.log, options.as_json);
    const int code = run(options);
    std::cout.flush();
    if (!std::cout) throw Failure(LR_FAULT, "standard output cannot be written");
    return code;
  } catch (const Failure& error) {
    return failed(error.what(), error.code, as_json);
  } catch (const std::exception& error) {
    return failed(error.what(), LR_FAULT, as_json);
  }
}
