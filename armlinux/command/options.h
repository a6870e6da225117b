// What the command line asks for.
#pragma once

#include <string>
#include <vector>

#include "lite_run.h"

namespace command {

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
  double time_limit_s = 0;     // 0: none
  double memory_limit_gb = 0;  // 0: by the sizes of model and samples
  bool bench = false;
  bool force = false;
  bool as_json = false;
  bool log = false;
  bool cpu = false;
};

// Throws Failure for what makes no sense. Ends the process after --help and --version.
Options parse(int argc, char** argv);

}  // namespace command
