// The engine's view of /proc/cpuinfo: this library is asked first where it opens that file.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lite_run {

// While it lives, what this thread opens as /proc/cpuinfo is what this_cpu() has to show.
//
// On ARM the library exports `fopen`, which the loader finds before the C library's wherever this
// library comes first: in programs that link it, in processes started with LD_PRELOAD, and on
// Android, where the library that an app loads is looked into first. Where it was opened by dlopen
// on glibc it is not asked, and `shown_cpu` says so.
class ShowCpu {
 public:
  // Throws what this_cpu() does.
  ShowCpu();
  ~ShowCpu();
  ShowCpu(const ShowCpu&) = delete;
  ShowCpu& operator=(const ShowCpu&) = delete;
};

// As lr_info has it: {"parts", "mhz", "features", "engine_features", "shown", "why"}. Counted, not
// assumed: "shown" are the parts that the engine really read, [] where it read the file itself.
nlohmann::json shown_cpu();

// What a person should know who runs a model of this recipe; "" where there is nothing.
std::string cpu_warning(const std::string& precision);

}  // namespace lite_run
