// What a session answered to samples, and how fast: kept, judged, and saved as a Run.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bundle.h"
#include "npy.h"
#include "run.h"
#include "session.h"

namespace lite_run {

class Record {
 public:
  // Told of each sample, `done` of `total`; false ends it.
  using Progress = std::function<bool(const std::string& id, size_t done, size_t total)>;

  // The session outlives it.
  explicit Record(Session& session);

  // As lr_record and lr_record_samples. Throw Error; the record is then as it was before.
  void add(const std::string& id, std::optional<int64_t> label, int warmup, int repeat);
  void add_samples(const char* path, int warmup, int repeat, const Progress& progress);

  void forget();

  // The report on how the record compares with the bundle's reference. Throws Error.
  nlohmann::json check() const;

  // As run.json has it. Throws Error (kUsage) where nothing was recorded.
  nlohmann::json summary();

  // Write a Run folder, and forget what was recorded. Throws Error.
  void save(const std::string& path, bool force);

 private:
  void add(const std::string& id, std::optional<int64_t> label, std::string hash,
           const std::vector<Array>& feeds, int warmup, int repeat);
  void add_list(const std::string& folder, const std::vector<SavedSample>& samples, int warmup,
                int repeat, const Progress& progress);
  void add_stack(const std::string& path, int warmup, int repeat, const Progress& progress);
  void shrink(size_t count);
  const Run& finished();

  Session& session_;
  Run run_;
  std::set<std::string> ids_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace lite_run
