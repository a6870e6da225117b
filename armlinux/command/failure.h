// What ends the command: an error in one line, and the exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace command {

struct Failure : std::runtime_error {
  Failure(int code_, const std::string& what) : std::runtime_error(what), code(code_) {}
  int code;
};

}  // namespace command
