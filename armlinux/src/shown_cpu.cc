#include "shown_cpu.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cpu.h"
#include "machine.h"

namespace lite_run {

using nlohmann::json;

namespace {

thread_local int showing = 0;  // how many live
std::atomic<int> reads{0};     // of /proc/cpuinfo, by the engine, through this library

bool in_effect() { return this_cpu().shown && reads > 0; }

Features engine_features() { return in_effect() ? this_cpu().features : this_cpu().own; }

std::string joined(const std::vector<std::string>& words, const char* none) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? none : text;
}

// Why the engine's features are not the CPU's, or how they came to be; "" where it knows the CPU.
std::string why() {
  const Cpu& cpu = this_cpu();
  if (cpu.own == cpu.features || std::strcmp(this_target(), "arm") != 0) return "";
  const std::string belief =
      "Paddle Lite takes " +
      (cpu.parts.empty() ? "a CPU without a part number" : "part " + joined(cpu.parts, "")) +
      " for one with " + joined(cpu.own.names(), "neither dot product nor fp16");
  if (cpu.off) return belief + ", and LR_CPU=off leaves it at that";
  if (!cpu.shown) return belief + ", because it knows the name of this device";
  if (reads > 0) return belief + ": it is shown part " + joined(parts_of(*cpu.shown), "");
  return belief +
         ", and did not ask this library for another: that was opened by dlopen, or the engine was "
         "there before it. Link it, or start the process with LD_PRELOAD=liblite_run.so";
}

}  // namespace

ShowCpu::ShowCpu() {
  (void)this_cpu();  // reads the file itself
  ++showing;
}

ShowCpu::~ShowCpu() { --showing; }

json shown_cpu() {
  const Cpu& cpu = this_cpu();
  const auto parts = in_effect() ? parts_of(*cpu.shown) : std::vector<std::string>{};
  return {{"parts", cpu.parts},
          {"mhz", cpu.mhz},
          {"features", cpu.features.names()},
          {"engine_features", engine_features().names()},
          {"shown", parts},
          {"why", why()}};
}

std::string cpu_warning(const std::string& precision) {
  const Features has = this_cpu().features;
  const Features used = engine_features();
  if (used.dot && !has.dot && precision == "int8") {
    return "the engine may end with an illegal instruction: " + why();
  }
  if (has.dot && !used.dot && precision == "int8" && !this_cpu().off) {
    return "int8 runs without dot product, which this CPU has: " + why();
  }
  return "";
}

}  // namespace lite_run

#if defined(__aarch64__) || defined(__arm__)

namespace {

// A stream that ends after the text; null where the system has nothing to make it of. Through a
// pipe, which holds it whole: fmemopen is missing in old Androids.
FILE* stream_of(const std::string& text) {
  int ends[2];
  if (::pipe(ends) != 0) return nullptr;
  const bool whole =
      ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(ends[1]);
  FILE* stream = whole ? ::fdopen(ends[0], "r") : nullptr;
  if (stream == nullptr) ::close(ends[0]);
  return stream;
}

}  // namespace

// Found before that of the C library, which everything else is handed on to.
extern "C" __attribute__((visibility("default"))) FILE* fopen(const char* path, const char* mode) {
  using Open = FILE* (*)(const char*, const char*);
  static const Open next = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, "fopen"));
  if (lite_run::showing > 0 && path != nullptr && std::strcmp(path, "/proc/cpuinfo") == 0) {
    const auto& shown = lite_run::this_cpu().shown;
    FILE* stream = shown ? stream_of(*shown) : nullptr;
    if (stream != nullptr) {
      ++lite_run::reads;
      return stream;
    }
  }
  return next(path, mode);
}

#endif
