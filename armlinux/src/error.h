// The one exception of the native core; it never leaves the library (lite_run.cc catches it).
#pragma once

#include <stdexcept>
#include <string>

namespace lite_run {

// Whose fault it is, by the exit codes of the command: LR_USAGE and LR_FAULT of lite_run.h.
enum Fault { kUsage = 2, kFault = 3 };

// One line that says what, which file, what to do.
struct Error : std::runtime_error {
  explicit Error(const std::string& what, int code_ = kFault)
      : std::runtime_error(what), code(code_) {}
  int code;
};

}  // namespace lite_run
