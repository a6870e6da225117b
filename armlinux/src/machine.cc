#include "machine.h"

#include <sys/utsname.h>

#include <cstring>
#include <fstream>

namespace lite_run {

namespace {

// The kB of a line "Name:   123 kB" of a file in /proc, in bytes; -1 where there is none.
int64_t proc_bytes(const char* path, const char* name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, std::strlen(name), name) == 0) {
      return std::strtoll(line.c_str() + std::strlen(name), nullptr, 10) * 1024;
    }
  }
  return -1;
}

}  // namespace

const char* this_target() {
#if defined(__aarch64__) || defined(__arm__)
  return "arm";
#elif defined(__x86_64__) || defined(__i386__)
  return "x86";
#else
#error "Paddle Lite runs on ARM and x86 only"
#endif
}

int64_t free_memory_bytes() {
  const int64_t available = proc_bytes("/proc/meminfo", "MemAvailable:");
  const int64_t swap = proc_bytes("/proc/meminfo", "SwapFree:");
  return available < 0 ? -1 : available + (swap < 0 ? 0 : swap);
}

int64_t peak_memory_bytes() {
  // Not ru_maxrss: that survives exec, so a process would inherit its parent's peak.
  const int64_t peak = proc_bytes("/proc/self/status", "VmHWM:");
  return peak < 0 ? 0 : peak;
}

std::string machine() {
  struct utsname name {};
  std::string text = "unknown";
  if (::uname(&name) == 0) text = std::string(name.sysname) + " " + name.machine;
  std::ifstream file("/proc/device-tree/model");
  std::string board;
  std::getline(file, board, '\0');
  return board.empty() ? text : text + " (" + board + ")";
}

}  // namespace lite_run
