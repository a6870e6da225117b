// What this CPU can do, what Paddle Lite takes it for, and what to show the engine where they
// differ.
//
// From 2.12 to its last commit Paddle Lite decides by the part numbers of /proc/cpuinfo, or by the
// name of the chip, which kernels a CPU can run (lite/core/device_info.cc and .h). It never asks
// the kernel, and its tables end in 2021: the Cortex-A76 of a Raspberry Pi 5 is unknown to it, so
// static int8 runs without dot product; an early Cortex-A55 without that is taken for one that has
// it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lite_run {

// Of those that choose kernels: int8 dot product, and arithmetic in half precision.
struct Features {
  bool dot = false;
  bool fp16 = false;

  bool operator==(const Features& other) const { return dot == other.dot && fp16 == other.fp16; }
  bool operator!=(const Features& other) const { return !(*this == other); }
  // By name, as lr_info has them.
  std::vector<std::string> names() const;
};

// What the kernel says that every core of this CPU has.
Features cpu_features();

// What Paddle Lite takes a CPU for that has this /proc/cpuinfo. `device` is what Android calls the
// device, where the engine looks as well; "" elsewhere.
Features taken_for(const std::string& cpuinfo, const std::string& device);

// A /proc/cpuinfo of the same processors by which Paddle Lite takes the CPU for one with just these
// features: parts that it knows stay wherever they can, as do cores, frequencies and caches, which
// it reads elsewhere. None where nothing has to be changed, or `device` decides.
std::optional<std::string> cpuinfo_showing(const std::string& cpuinfo, const std::string& device,
                                           const Features& features);

// The different part numbers of a /proc/cpuinfo, such as {"0xd05", "0xd0b"}.
std::vector<std::string> parts_of(const std::string& cpuinfo);

// This machine's CPU, and what was decided to show of it, once.
struct Cpu {
  std::vector<std::string> parts;
  std::vector<int> mhz;  // the highest frequency of each core, 0 where the system does not say
  Features features;
  Features own;  // what the engine takes it for by itself
  std::optional<std::string> shown;
  bool off = false;  // LR_CPU=off
};

// Throws Error (kUsage) where LR_CPU is neither "auto" nor "off".
const Cpu& this_cpu();

}  // namespace lite_run
