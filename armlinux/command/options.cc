#include "options.h"

#include <getopt.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "failure.h"

namespace command {
namespace {

constexpr const char* kUsageText =
    R"(Usage: lite_run BUNDLE [INPUT...] [options]
       lite_run --cpu

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
      --identity M     auto (default): where Paddle Lite does not know this CPU, it is shown one that
                       has the same features, so that it uses them; off: it is not. Without this
                       option the environment variable LR_CPU decides
      --warmup N       unmeasured inferences before the first sample (default 1, with --bench 5)
      --repeat N       measured inferences of each sample (default 1, with --bench 50)
      --bench          measure the latency of one sample, of the bundle's where none is given,
                       for each number of threads; with CPU frequency, temperature and memory
      --time-limit S   seconds that a sample may take, and to open the model
      --memory-limit GB  memory that the engine may take (default: several times what the sizes of
                       model and samples tell, and not much more than is free)
      --sysfs DIR      where frequency and temperature are read (default /sys)
      --force          replace the Run folder of -o
      --cpu            say what this CPU is, what it has, and what of that the engine uses
      --json           print one JSON object, and nothing else, on standard output
      --log            let Paddle Lite's log through to standard error
  -h, --help           show this
      --version        show the version

Exit codes: 0 done, 1 the check failed, 2 usage, 3 a file, this machine or the engine is at fault.
)";

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

double amount(const char* option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value > 0 && value <= 1e6)) {
    throw Failure(LR_USAGE, std::string(option) +
                                " takes a number above 0, at most 1000000, not '" + text + "'");
  }
  return value;
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

}  // namespace

Options parse(int argc, char** argv) {
  enum {
    kSamples = 256,
    kTopK,
    kThreads,
    kPower,
    kIdentity,
    kCpu,
    kWarmup,
    kRepeat,
    kBench,
    kTime,
    kMemory,
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
                             {"identity", required_argument, nullptr, kIdentity},
                             {"cpu", no_argument, nullptr, kCpu},
                             {"warmup", required_argument, nullptr, kWarmup},
                             {"repeat", required_argument, nullptr, kRepeat},
                             {"bench", no_argument, nullptr, kBench},
                             {"time-limit", required_argument, nullptr, kTime},
                             {"memory-limit", required_argument, nullptr, kMemory},
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
      case kIdentity:
        ::setenv("LR_CPU", optarg, 1);  // the library refuses what it does not know
        break;
      case kCpu:
        options.cpu = true;
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
      case kTime:
        options.time_limit_s = amount("--time-limit", optarg);
        break;
      case kMemory:
        options.memory_limit_gb = amount("--memory-limit", optarg);
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
        std::cout << "lite_run "
                  << nlohmann::json::parse(lr_info(nullptr))["lite_run"].get<std::string>() << "\n";
        std::exit(LR_OK);
      default:
        throw Failure(LR_USAGE, std::string("'") + argv[optind - 1] +
                                    "' is unknown or lacks its value; see lite_run --help");
    }
  }
  if (options.cpu && optind == argc) return options;
  if (options.cpu) throw Failure(LR_USAGE, "--cpu takes no bundle: what runs one says it, too");
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

}  // namespace command
