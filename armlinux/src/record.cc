#include "record.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "compare.h"
#include "error.h"
#include "file.h"
#include "shown_cpu.h"

namespace lite_run {

using nlohmann::json;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostRuns = 10'000'000;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

Record::Record(Session& session) : session_(session), start_(session.start()) {
  run_.engine_version = session.engine_version();
  run_.machine = session.machine();
  run_.cpu = shown_cpu();
  run_.threads = session.threads();
  run_.precision = session.target().precision;
  run_.model_name = session.bundle().name;
  run_.model_sha256 = session.bundle().sha256;
}

void Record::add(const std::string& id, std::optional<int64_t> label, int warmup, int repeat) {
  const std::vector<Array> feeds = session_.feeds();
  add(id, label, sample_hash(session_.bundle().inputs, feeds), feeds, warmup, repeat);
}

void Record::add_samples(const char* path, int warmup, int repeat, const Progress& progress) {
  const Bundle& bundle = session_.bundle();
  const size_t before = run_.samples.size();
  try {
    if (path == nullptr) {
      add_list(bundle.path, bundle.samples, warmup, repeat, progress);
    } else if (std::filesystem::is_directory(path)) {
      const std::string folder = path;
      add_list(folder, read_sample_list(folder + "/samples.json"), warmup, repeat, progress);
    } else {
      add_stack(path, warmup, repeat, progress);
    }
  } catch (...) {
    shrink(before);
    throw;
  }
}

void Record::forget() {
  shrink(0);
  run_.warmup = 0;
  start_ = Clock::now();
}

json Record::check() const {
  if (run_.samples.empty()) throw Error("nothing was recorded: run samples first", kUsage);
  const Bundle& bundle = session_.bundle();
  const auto reference = Run::open(bundle.path + "/reference");
  return compare(reference, run_, bundle.limits(session_.target()));
}

json Record::summary() { return finished().summary(); }

void Record::save(const std::string& path, bool force) {
  finished().save(path, force);
  forget();
}

void Record::add(const std::string& id, std::optional<int64_t> label, std::string hash,
                 const std::vector<Array>& feeds, int warmup, int repeat) {
  if (warmup < 0 || repeat < 1 || warmup > kMostRuns || repeat > kMostRuns) {
    throw Error(
        "warmup is at least 0 and repeat at least 1, both at most " + std::to_string(kMostRuns),
        kUsage);
  }
  try {
    (void)json(id).dump();
  } catch (const json::exception&) {
    throw Error("the name of a sample is not UTF-8: rename it", kUsage);
  }
  if (ids_.count(id) != 0) throw Error("sample '" + id + "' is recorded already", kUsage);
  std::vector<double> latency_ms;
  std::vector<Array> outputs;
  for (int i = 0; i < warmup + repeat; ++i) {
    const auto start = Clock::now();
    session_.run(feeds);
    outputs.clear();
    for (const Answer& answer : session_.answers()) outputs.push_back(answer.copied());
    if (i >= warmup) latency_ms.push_back(ms_since(start));
  }
  // Memory for all of it first, so that the record stays whole.
  if (run_.outputs.empty()) {
    for (const TensorSpec& spec : session_.bundle().outputs) {
      run_.outputs.push_back({spec.name, {}});
    }
  }
  const size_t before = run_.samples.size();
  try {
    run_.samples.push_back({id, std::move(hash), label});
    run_.latency_ms.push_back(std::move(latency_ms));
    for (size_t o = 0; o < outputs.size(); ++o) {
      run_.outputs[o].values.push_back(std::move(outputs[o]));
    }
    ids_.insert(id);
  } catch (...) {
    shrink(before);
    throw;
  }
  if (before == 0) run_.warmup = warmup;
}

void Record::add_list(const std::string& folder, const std::vector<SavedSample>& samples,
                      int warmup, int repeat, const Progress& progress) {
  const std::vector<TensorSpec>& inputs = session_.bundle().inputs;
  if (samples.empty()) throw Error(folder + ": holds no samples");
  for (size_t i = 0; i < samples.size(); ++i) {
    const SavedSample& sample = samples[i];
    const auto feeds = read_sample(folder, sample, inputs);
    std::string hash = sample.sha256.empty() ? sample_hash(inputs, feeds) : sample.sha256;
    add(sample.id, sample.label, std::move(hash), feeds, i == 0 ? warmup : 0, repeat);
    if (!progress(sample.id, i + 1, samples.size())) return;
  }
}

void Record::add_stack(const std::string& path, int warmup, int repeat, const Progress& progress) {
  const std::vector<TensorSpec>& inputs = session_.bundle().inputs;
  if (inputs.size() != 1) {
    throw Error(path + ": one .npy feeds one input, and the model has " +
                std::to_string(inputs.size()) + ": use a folder with samples.json");
  }
  const MappedFile file(path);
  NpyHeader header;
  try {
    header = parse_npy_header(file.data(), file.size(), file.size());
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
  if (header.shape.empty() || header.shape[0] == 0) {
    throw Error(path + ": holds no samples: they are stacked on axis 0");
  }
  const auto count = static_cast<size_t>(header.shape[0]);
  header.shape[0] = 1;
  const std::string wrong = inputs[0].mismatch(header.dtype, header.shape);
  if (!wrong.empty()) throw Error(path + ": a sample of axis 0: " + wrong);
  const size_t bytes = (file.size() - header.data_offset) / count;
  const uint8_t* at = file.data() + header.data_offset;
  const std::string name = std::filesystem::path(path).filename().string();
  for (size_t i = 0; i < count; ++i, at += bytes) {
    const std::vector<Array> feeds = {{header.dtype, header.shape, {at, at + bytes}}};
    const std::string id = name + "[" + std::to_string(i) + "]";
    add(id, std::nullopt, sample_hash(inputs, feeds), feeds, i == 0 ? warmup : 0, repeat);
    if (!progress(id, i + 1, count)) return;
  }
}

void Record::shrink(size_t count) {
  while (run_.samples.size() > count) {
    ids_.erase(run_.samples.back().id);
    run_.samples.pop_back();
  }
  if (run_.latency_ms.size() > count) run_.latency_ms.resize(count);
  for (Run::Output& output : run_.outputs) {
    if (output.values.size() > count) output.values.resize(count);
  }
}

const Run& Record::finished() {
  if (run_.samples.empty()) throw Error("nothing was recorded", kUsage);
  run_.wall_s = ms_since(start_) / 1e3;
  return run_;
}

}  // namespace lite_run
