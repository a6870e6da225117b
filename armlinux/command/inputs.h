// The inputs of the command line, as samples.
#pragma once

#include <functional>
#include <string>

#include "lite_run.h"
#include "options.h"

namespace command {

// Record all inputs; where there are none, the bundle's own samples. `each` is called after each
// sample, and returns whether to go on. Throws Failure.
void record_inputs(lr_session* session, const Options& options,
                   const std::function<bool(const char* id)>& each);

}  // namespace command
