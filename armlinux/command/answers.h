// What a session answered, in words for a person.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "lite_run.h"

namespace command {

// What the session's last answer says, by output: the best classes where it is one row of scores,
// else its range. Throws Failure.
nlohmann::json answers(lr_session* session, int top_k);

}  // namespace command
