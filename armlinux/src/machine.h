// What this machine is, can do, and has left.
#pragma once

#include <cstdint>
#include <string>

namespace lite_run {

// The target of a bundle that this CPU runs: "arm" or "x86".
const char* this_target();

// Memory that can be had without ending anything, swap included; -1 where the system does not say.
int64_t free_memory_bytes();

// The most memory that this process ever held; 0 where the system does not say.
int64_t peak_memory_bytes();

// "Linux aarch64", and on a board its name: "Linux aarch64 (Raspberry Pi 4 Model B Rev 1.4)".
std::string machine();

}  // namespace lite_run
