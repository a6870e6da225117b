#include "sensors.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

namespace command {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

std::optional<double> number_in(const fs::path& path) {
  std::ifstream file(path);
  double value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The numbers in the folders of `root` that are called `prefix` and digits, in their order.
std::vector<std::pair<std::string, double>> readings(const fs::path& root,
                                                     const std::string& prefix,
                                                     const std::string& file) {
  std::vector<std::pair<int, double>> found;
  std::error_code none;
  for (fs::directory_iterator at(root, none), end; !none && at != end; at.increment(none)) {
    const std::string name = at->path().filename().string();
    if (name.size() <= prefix.size() || name.rfind(prefix, 0) != 0 ||
        !std::all_of(name.begin() + static_cast<ptrdiff_t>(prefix.size()), name.end(),
                     [](char c) { return c >= '0' && c <= '9'; })) {
      continue;
    }
    if (const auto value = number_in(at->path() / file)) {
      found.emplace_back(std::atoi(name.c_str() + prefix.size()), *value);
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::pair<std::string, double>> named;
  named.reserve(found.size());
  for (const auto& [index, value] : found) {
    named.emplace_back(prefix + std::to_string(index), value);
  }
  return named;
}

}  // namespace

json sensors(const std::string& sysfs) {
  json cpu_mhz = json::object();
  for (const auto& [name, khz] :
       readings(fs::path(sysfs) / "devices/system/cpu", "cpu", "cpufreq/scaling_cur_freq")) {
    cpu_mhz[name] = khz / 1e3;
  }
  json celsius = json::object();
  for (const auto& [name, thousandths] :
       readings(fs::path(sysfs) / "class/thermal", "thermal_zone", "temp")) {
    std::ifstream type(fs::path(sysfs) / "class/thermal" / name / "type");
    std::string label = name;
    std::getline(type, label);
    celsius[label.empty() || celsius.contains(label) ? name : label] = thousandths / 1e3;
  }
  return {{"cpu_mhz", std::move(cpu_mhz)}, {"celsius", std::move(celsius)}};
}

}  // namespace command
