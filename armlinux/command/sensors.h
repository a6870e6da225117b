// Sensors of a board.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace command {

// How fast the cores run and how hot they are, where the system says so: a hot board is slower.
// {"cpu_mhz": {name: number}, "celsius": {name: number}}, read below `sysfs`.
nlohmann::json sensors(const std::string& sysfs);

}  // namespace command
