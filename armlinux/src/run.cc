#include "run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <set>

#include "error.h"
#include "file.h"
#include "machine.h"

namespace lite_run {

using nlohmann::json;

namespace {

constexpr int kFormat = 1;
constexpr uint64_t kMostManifestBytes = 256 << 20;

bool alike(const std::vector<Array>& values) {
  return std::all_of(values.begin(), values.end(), [&](const Array& value) {
    return value.shape == values[0].shape && value.dtype == values[0].dtype;
  });
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 32> text;
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S+00:00", &utc);
  return text.data();
}

// A field of CSV as Python's csv module writes it.
std::string quoted(const std::string& field) {
  if (field.find_first_of(",\"\r\n") == std::string::npos && !field.empty()) return field;
  std::string text = "\"";
  for (const char c : field) text += c == '"' ? "\"\"" : std::string(1, c);
  return text + "\"";
}

std::string numbered(const std::string& folder, size_t number) {
  std::array<char, 32> name;
  std::snprintf(name.data(), name.size(), "/%06zu.npy", number);
  return folder + name.data();
}

std::vector<Array> read_output(const std::string& path, size_t index, bool stacked, size_t count) {
  const std::string stem = path + "/output_" + std::to_string(index);
  std::vector<Array> values;
  if (!stacked) {
    for (size_t i = 0; i < count; ++i) values.push_back(read_npy(numbered(stem, i)));
    return values;
  }
  const Array all = read_npy(stem + ".npy");
  if (all.shape.empty() || all.shape[0] != static_cast<int64_t>(count) || count == 0) {
    throw Error(stem + ".npy: damaged: does not hold the " + std::to_string(count) +
                " samples of run.json");
  }
  const size_t bytes = all.data.size() / count;
  for (size_t i = 0; i < count; ++i) {
    const auto begin = all.data.begin() + static_cast<ptrdiff_t>(i * bytes);
    values.push_back({all.dtype,
                      {all.shape.begin() + 1, all.shape.end()},
                      {begin, begin + static_cast<ptrdiff_t>(bytes)}});
  }
  return values;
}

}  // namespace

json latency_statistics(const std::vector<std::vector<double>>& latency_ms) {
  std::vector<double> sorted;
  for (const auto& repeats : latency_ms) {
    sorted.insert(sorted.end(), repeats.begin(), repeats.end());
  }
  std::sort(sorted.begin(), sorted.end());
  double sum = 0;
  for (const double ms : sorted) sum += ms;
  const double mean = sum / static_cast<double>(sorted.size());
  const auto percentile = [&](double percent) {
    const double rank = percent / 100 * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(rank);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (rank - std::floor(rank));
  };
  return {{"count", sorted.size()},   {"mean_ms", mean},
          {"p50_ms", percentile(50)}, {"p90_ms", percentile(90)},
          {"p99_ms", percentile(99)}, {"min_ms", sorted.front()},
          {"max_ms", sorted.back()},  {"throughput_per_s", mean > 0 ? 1e3 / mean : 0.0}};
}

json Run::summary() const {
  json list = json::array();
  for (const SampleInfo& sample : samples) {
    list.push_back({{"id", sample.id},
                    {"sha256", sample.sha256},
                    {"label", sample.label ? json(*sample.label) : json()}});
  }
  json out = json::array();
  for (const Output& output : outputs) {
    out.push_back({{"name", output.name},
                   {"dtype", output.values[0].dtype},
                   {"shape", alike(output.values) ? json(output.values[0].shape) : json()}});
  }
  return {{"format", kFormat},
          {"engine", engine},
          {"engine_version", engine_version},
          {"device", device},
          {"machine", machine},
          {"cpu", cpu},
          {"threads", threads},
          {"precision", precision},
          {"model", {{"name", model_name}, {"sha256", model_sha256}}},
          {"warmup", warmup},
          {"peak_memory_bytes", peak_memory_bytes()},
          {"wall_s", wall_s},
          {"created", now()},
          {"latency", latency_statistics(latency_ms)},
          {"outputs", std::move(out)},
          {"samples", std::move(list)}};
}

void Run::save(const std::string& path, bool force) const {
  WholeFolder folder(path, force);
  for (size_t o = 0; o < outputs.size(); ++o) {
    const std::string stem = folder.path() + "/output_" + std::to_string(o);
    if (alike(outputs[o].values)) {
      write_npy_stacked(stem + ".npy", outputs[o].values);
      continue;
    }
    std::filesystem::create_directory(stem);
    for (size_t i = 0; i < samples.size(); ++i) write_npy(numbered(stem, i), outputs[o].values[i]);
  }
  OutputFile csv(folder.path() + "/latency.csv");
  csv.write("sample,repeat,ms\r\n");
  for (size_t i = 0; i < samples.size(); ++i) {
    for (size_t r = 0; r < latency_ms[i].size(); ++r) {
      std::array<char, 64> ms;
      std::snprintf(ms.data(), ms.size(), ",%zu,%.6f\r\n", r, latency_ms[i][r]);
      csv.write(quoted(samples[i].id) + ms.data());
    }
  }
  csv.close();
  OutputFile manifest(folder.path() + "/run.json");
  manifest.write(summary().dump(1) + "\n");
  manifest.close();
  folder.commit();
}

Run Run::open(const std::string& path) {
  const std::string manifest = path + "/run.json";
  const std::vector<uint8_t> data = read_file(manifest, kMostManifestBytes);
  const json document = parse_json(manifest, {data.begin(), data.end()}, "copy it again");
  try {
    if (!document.is_object() || document.value("format", 0) != kFormat) {
      throw Error("not a run of format 1");
    }
    Run run;
    std::set<std::string> ids;
    for (const json& entry : document.at("samples")) {
      SampleInfo sample{entry.at("id").get<std::string>(), entry.at("sha256").get<std::string>(),
                        std::nullopt};
      if (!entry.at("label").is_null()) sample.label = entry["label"].get<int64_t>();
      if (!ids.insert(sample.id).second) throw Error("sample '" + sample.id + "' is there twice");
      run.samples.push_back(std::move(sample));
    }
    size_t index = 0;
    for (const json& entry : document.at("outputs")) {
      run.outputs.push_back(
          {entry.at("name").get<std::string>(),
           read_output(path, index++, !entry.at("shape").is_null(), run.samples.size())});
    }
    if (document.contains("noise")) document["noise"].get_to(run.noise);
    return run;
  } catch (const json::exception&) {
    throw Error(manifest + ": damaged: a field is missing or of a wrong type; copy it again");
  }
}

}  // namespace lite_run
