#include "limits.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <system_error>
#include <vector>

#include "engine_log.h"
#include "failure.h"

namespace command {
namespace {

namespace fs = std::filesystem;

// Of the memory that an engine may map: for itself, for each byte of the model, of the largest
// file that is fed. Job.memory_bytes of py_runner/job.py, which knows the sample.
constexpr double kGiB = 1 << 30;
constexpr double kEngineBytes = 4 * kGiB, kOfModel = 8, kOfSample = 512;

// The bytes of the largest file at a path or below.
double largest(const std::string& path) {
  std::error_code none;
  if (!fs::is_directory(path, none)) {
    const auto size = fs::file_size(path, none);
    return none ? 0 : static_cast<double>(size);
  }
  double bytes = 0;
  for (fs::recursive_directory_iterator at(path, none), end; !none && at != end;
       at.increment(none)) {
    std::error_code gone;
    if (!at->is_regular_file(gone)) continue;
    const auto size = at->file_size(gone);
    if (!gone) bytes = std::max(bytes, static_cast<double>(size));
  }
  return bytes;
}

// The memory that can be had without swapping; 0 where the system does not say.
double free_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    double kilobytes = 0;
    if (name == "MemAvailable:" && file >> kilobytes) return kilobytes * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

double memory_bytes(const Options& options) {
  if (options.memory_limit_gb > 0) return options.memory_limit_gb * 1e9;
  std::error_code none;
  double model = 0;
  for (fs::directory_iterator at(options.bundle, none), end; !none && at != end;
       at.increment(none)) {
    if (at->path().extension() == ".nb") model = std::max(model, largest(at->path()));
  }
  double sample = largest(options.bundle + "/samples");
  if (!options.samples.empty()) sample = std::max(sample, largest(options.samples));
  for (const std::string& input : options.inputs) sample = std::max(sample, largest(input));
  const double wanted = kEngineBytes + kOfModel * model + kOfSample * sample;
  // A board has less: what would not fit is to end in words, not by the kernel's choice. Threads
  // map more than they use.
  const double free = free_bytes();
  return free > 0 ? std::min(wanted, free + kGiB) : wanted;
}

// What this process has mapped already.
double mapped_bytes() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages;
  return pages * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

void limit_memory(double bytes) {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_AS, &limit) != 0) return;
  const double wanted = mapped_bytes() + bytes;
  if (wanted >= static_cast<double>(std::numeric_limits<rlim_t>::max())) return;
  limit.rlim_cur = std::min(limit.rlim_cur, static_cast<rlim_t>(wanted));
  ::setrlimit(RLIMIT_AS, &limit);
}

void set_clock(double seconds) {
  struct itimerval timer {};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - std::floor(seconds)) * 1e6);
  if (seconds > 0 && timer.it_value.tv_sec == 0) {
    timer.it_value.tv_usec = std::max<suseconds_t>(timer.it_value.tv_usec, 1);
  }
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

// Made beforehand: a signal's handler can only write.
std::array<char, 128> too_long_text;

constexpr std::array<int, 3> kEnds = {SIGTERM, SIGINT, SIGHUP};
std::array<struct sigaction, 3> before;
volatile std::sig_atomic_t came = 0;

void note(int signal) { came = signal; }

}  // namespace

Limits::Limits(const Options& options) {
  time_s_ = options.time_limit_s;
  memory_gb_ = memory_bytes(options) / 1e9;
  limit_memory(memory_gb_ * 1e9);
  if (time_s_ > 0) {
    std::snprintf(too_long_text.data(), too_long_text.size(),
                  "the engine gave no answer within %g s", time_s_);
    struct sigaction action {};
    action.sa_handler = ended;
    ::sigaction(SIGALRM, &action, nullptr);
  }
  restart();
}

Limits::~Limits() { stop(); }

void Limits::restart() {
  if (time_s_ > 0) set_clock(time_s_);
}

void Limits::stop() {
  if (time_s_ > 0) set_clock(0);
}

std::string Limits::advice(const std::string& error) {
  if (memory_gb_ <= 0 || error.find("not enough memory") == std::string::npos) return "";
  std::array<char, 160> text;
  std::snprintf(text.data(), text.size(),
                "; it may take %.1f GB, by the sizes of model and samples and what is free: the "
                "file is damaged, or give --memory-limit",
                memory_gb_);
  return text.data();
}

void Limits::ended(int) { EngineLog::end(too_long_text.data()); }

Undisturbed::Undisturbed() {
  came = 0;
  for (size_t i = 0; i < kEnds.size(); ++i) {
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    ::sigaction(kEnds[i], &action, &before[i]);
  }
}

Undisturbed::~Undisturbed() {
  for (size_t i = 0; i < kEnds.size(); ++i) ::sigaction(kEnds[i], &before[i], nullptr);
  if (came != 0) std::raise(came);
}

}  // namespace command
