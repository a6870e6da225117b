// What this engine answered to which samples, and how fast: py_runner/formats/run.py's Run and its
// folder.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "npy.h"

namespace lite_run {

struct SampleInfo {
  std::string id;
  std::string sha256;
  std::optional<int64_t> label;
};

// `outputs[o].values[i]` is what output `o` answered to `samples[i]`; `latency_ms[i][r]` is its
// repeat `r`.
struct Run {
  struct Output {
    std::string name;
    std::vector<Array> values;
  };

  std::string engine = "native";
  std::string engine_version;
  std::string device = "cpu";
  std::string machine;
  nlohmann::json cpu;  // as shown_cpu() says
  int threads = 1;
  std::string precision;
  std::string model_name;
  std::string model_sha256;
  int warmup = 0;
  double wall_s = 0;
  std::vector<SampleInfo> samples;
  std::vector<Output> outputs;
  std::vector<std::vector<double>> latency_ms;
  // By output, how far its answers move by themselves; lite_opt measures it of references.
  std::map<std::string, double> noise;

  // Everything but the arrays, as run.json has it.
  nlohmann::json summary() const;
  // Write a Run folder, whole or not at all. Throws Error (kUsage) where `path` is taken.
  void save(const std::string& path, bool force) const;
  // Read samples, outputs and noise of a Run folder; the other fields stay as they are. Throws
  // Error.
  static Run open(const std::string& path);
};

// count, mean_ms, p50_ms, p90_ms, p99_ms, min_ms, max_ms and throughput_per_s; percentiles
// interpolate linearly between ranks.
nlohmann::json latency_statistics(const std::vector<std::vector<double>>& latency_ms);

}  // namespace lite_run
