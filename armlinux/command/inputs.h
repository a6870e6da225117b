// The inputs of the command line, as samples.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "lite_run.h"
#include "options.h"

namespace command {

// Throws Failure where a Run that is written would take the place of what is read.
void check_kept(const Options& options);

// Record all inputs; where there are none, the bundle's own samples. `each` is called after each
// sample, and returns whether to go on. Pictures of a folder that cannot be decoded here are left
// out: returns how many, by the ends of their names, for whoever prints. Throws Failure.
std::map<std::string, int> record_inputs(lr_session* session, const Options& options,
                                         const std::function<bool(const char* id)>& each);

// What record_inputs returns, in words: "2 .bmp, 1 .gif".
std::string counted(const std::map<std::string, int>& by_suffix);

}  // namespace command
