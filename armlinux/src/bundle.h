// The deployable folder, as py_runner/formats/bundle.py writes it: the poorest reader of
// bundle.json.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "compare.h"
#include "image.h"
#include "npy.h"

namespace lite_run {

// An input or output; -1 in `shape` is a dynamic dimension.
struct TensorSpec {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;

  // Why a tensor of this dtype and shape cannot be fed here, in words; "" where it can.
  std::string mismatch(const std::string& have_dtype, const std::vector<int64_t>& have) const;
};

// One .nb file; `kernels` counts its kernels by "target/precision".
struct Target {
  std::string file;
  std::string sha256;
  uint64_t bytes;
  std::string opt_version;
  std::map<std::string, std::string> needs;  // operator -> the first release that has it
  std::map<std::string, int64_t> kernels;
  std::string precision;
};

// A sample on disk; `feeds` maps an input to a .npy file relative to the folder of the list.
struct SavedSample {
  std::string id;
  std::optional<int64_t> label;
  std::string sha256;  // "" where the list does not say
  std::map<std::string, std::string> feeds;
};

struct Bundle {
  std::string path;
  std::string sha256;  // of the manifest: what identifies the model in a Run
  std::string name;
  std::string recipe;
  std::optional<Limits> recipe_limits;  // none in bundles of before they were recorded
  std::map<std::string, Target> targets;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::optional<ImageSpec> image;
  std::string beyond;  // what `image` asks for that this library does not do; else empty
  std::vector<std::string> labels;
  std::vector<SavedSample> samples;

  // The manifest of a bundle. Throws Error, one line that names the file.
  static Bundle open(const std::string& path);

  // What to judge a target by: the bundle's own limits, where the target is of its recipe.
  Limits limits(const Target& target) const;
  // The target that this CPU runs. Throws Error (kUsage) where the bundle has none.
  const Target& target_here() const;
  // The path of a target's file, after it was found to be there and intact: its size, its
  // checksum, its format, and that its kernels are for this CPU. Throws Error.
  std::string verified(const Target& target) const;
};

// What `Bundle::open` does with the text of a manifest; `path` is the bundle's.
Bundle parse_bundle(const std::string& path, const std::string& text);

// The list of a file `samples.json`, see lr_record_samples. Throws Error, which names the file.
std::vector<SavedSample> read_sample_list(const std::string& file);

// The tensors of a sample, in the order of `inputs`. Throws Error where one is missing, damaged,
// altered, or does not fit.
std::vector<Array> read_sample(const std::string& folder, const SavedSample& sample,
                               const std::vector<TensorSpec>& inputs);

// The hash of what a sample feeds: `sample_hash` of py_runner/tensors.py.
std::string sample_hash(const std::vector<TensorSpec>& inputs, const std::vector<Array>& feeds);

}  // namespace lite_run
