// A bundle whose network hands its input on, written by the tests; every engine runs it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

// A folder that is gone with the object.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// Input `x` and output `y`, float32 [-1, 10], three samples `s0`, `s1`, `s2` with labels, and what
// a server would have answered to them. `edit` changes the manifest before it is written.
void write_bundle(
    const std::string& folder,
    const std::function<void(nlohmann::json&)>& edit = [](nlohmann::json&) {});

// Replace a file by a text.
void write_text(const std::string& path, const std::string& text);
std::string read_text(const std::string& path);
