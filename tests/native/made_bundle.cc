#include "made_bundle.h"

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "bundle.h"
#include "probe.h"
#include "run.h"
#include "sha256.h"

namespace fs = std::filesystem;
using lite_run::Array;
using nlohmann::json;

Scratch::Scratch() {
  std::string pattern = (fs::temp_directory_path() / "lite-run-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bundle(const std::string& folder, const std::function<void(json&)>& edit) {
  fs::create_directories(folder + "/samples");
  const std::string model(std::begin(lite_run::kProbe), std::end(lite_run::kProbe));
  write_text(folder + "/model.nb", model);
  const std::vector<lite_run::TensorSpec> inputs = {{"x", "float32", {-1, 10}}};
  lite_run::Run reference;
  reference.engine = "paddle";
  reference.precision = "fp32";
  reference.outputs.push_back({"y", {}});
  json samples = json::array();
  for (int i = 0; i < 3; ++i) {
    float values[10];
    for (int k = 0; k < 10; ++k) values[k] = static_cast<float>((k * 7 + i * 3) % 10) / 4;
    Array array{"float32", {1, 10}, std::vector<uint8_t>(sizeof values)};
    std::memcpy(array.data.data(), values, sizeof values);
    const std::string file = "samples/000" + std::to_string(i) + ".0.npy";
    lite_run::write_npy(folder + "/" + file, array);
    const std::string hash = lite_run::sample_hash(inputs, {array});
    const std::string id = "s" + std::to_string(i);
    samples.push_back({{"id", id}, {"label", i}, {"sha256", hash}, {"feeds", {{"x", file}}}});
    reference.samples.push_back({id, hash, i});
    reference.outputs[0].values.push_back(std::move(array));
    reference.latency_ms.push_back({1.0});
  }
  reference.save(folder + "/reference", false);
  const json target = {{"file", "model.nb"},
                       {"sha256", lite_run::Sha256().update(model.data(), model.size()).hex()},
                       {"bytes", model.size()},
                       {"opt_version", "v2.13-rc"},
                       {"kernels", {{"host/any", 2}}},
                       {"precision", "fp32"}};
  const auto tensor = [](const char* name) {
    return json::array({{{"name", name}, {"dtype", "float32"}, {"shape", {-1, 10}}}});
  };
  json document = {{"format", 1},
                   {"name", "hands on"},
                   {"recipe", {{"name", "fp32"}}},
                   {"targets", {{"arm", target}, {"x86", target}}},
                   {"inputs", tensor("x")},
                   {"outputs", tensor("y")},
                   {"image", nullptr},
                   {"labels", {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}},
                   {"samples", samples}};
  edit(document);
  write_text(folder + "/bundle.json", document.dump(1));
}
