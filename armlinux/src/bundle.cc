#include "bundle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "cpu.h"
#include "error.h"
#include "file.h"
#include "machine.h"
#include "nb.h"
#include "sha256.h"

namespace lite_run {

using nlohmann::json;

namespace {

constexpr int kFormat = 1;
constexpr const char* kConvertAgain = "convert the model again";
// A manifest with labels of 100,000 classes is some megabytes.
constexpr uint64_t kMostManifestBytes = 32 << 20;
constexpr size_t kMostDims = 32;
constexpr int64_t kMostSide = int64_t{1} << 40;

const json& field(const json& object, const char* name) {
  if (!object.is_object()) throw Error("an entry is not an object");
  const auto found = object.find(name);
  if (found == object.end()) throw Error(std::string("field '") + name + "' is missing");
  return *found;
}

[[noreturn]] void throw_type(const char* name, const char* type) {
  throw Error(std::string("field '") + name + "' is not " + type);
}

const json& list(const json& object, const char* name) {
  const json& value = field(object, name);
  if (!value.is_array()) throw_type(name, "a list");
  return value;
}

std::string text(const json& object, const char* name) {
  const json& value = field(object, name);
  if (!value.is_string()) throw_type(name, "a text");
  // C strings end at a zero byte, so a text with one would be another in every client.
  if (value.get_ref<const std::string&>().find('\0') != std::string::npos) {
    throw_type(name, "a text without zero bytes");
  }
  return value.get<std::string>();
}

int64_t whole(const json& value, const char* name) {
  if (!value.is_number_integer()) throw_type(name, "a whole number");
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw_type(name, "a number of 63 bits");
  }
  return value.get<int64_t>();
}

std::string inside(const std::string& file) {
  if (!stays_inside(file)) throw Error("the file name '" + file + "' leads out of the folder");
  return file;
}

Target parse_target(const json& entry) {
  Target target;
  target.file = inside(text(entry, "file"));
  target.sha256 = text(entry, "sha256");
  const int64_t bytes = whole(field(entry, "bytes"), "bytes");
  if (bytes < 0) throw_type("bytes", "a size");
  target.bytes = static_cast<uint64_t>(bytes);
  target.opt_version = text(entry, "opt_version");
  target.precision = text(entry, "precision");
  const json& kernels = field(entry, "kernels");
  if (!kernels.is_object()) throw_type("kernels", "an object");
  for (const auto& [name, count] : kernels.items()) target.kernels[name] = whole(count, "kernels");
  // Operators and the first release of Paddle Lite that has them, where that is not v2.10.
  if (const auto needs = entry.find("needs"); needs != entry.end()) {
    if (!needs->is_object()) throw_type("needs", "an object");
    for (const auto& [name, release] : needs->items()) {
      if (!release.is_string()) throw_type("needs", "an object of texts");
      target.needs[name] = release.get<std::string>();
    }
  }
  return target;
}

std::optional<double> real_or_null(const json& object, const char* name) {
  const json& value = field(object, name);
  if (value.is_null()) return std::nullopt;
  if (!value.is_number()) throw_type(name, "a number");
  return value.get<double>();
}

// A limit, within the least and most that mean something: LIMIT_RANGES of py_runner's bundle.py.
std::optional<double> limit(const json& limits, const char* name, double least, double most) {
  const auto value = real_or_null(limits, name);
  if (value && !(std::isfinite(*value) && least <= *value && *value <= most)) {
    throw Error(std::string("the limit ") + name + " is " + limits[name].dump() +
                ", which no limit can be");
  }
  return value;
}

std::optional<Limits> parse_limits(const json& recipe) {
  if (!recipe.contains("limits")) return std::nullopt;
  const json& limits = recipe["limits"];
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto cosine = limit(limits, "cosine", -1, 1);
  if (!cosine) throw_type("cosine", "a number");
  Limits parsed{*cosine, limit(limits, "max_abs_diff", 0, kInfinity),
                limit(limits, "top1_drop", -100, 100)};
  if (limits.contains("noise_times")) {
    const auto times = limit(limits, "noise_times", 0, kInfinity);
    if (!times) throw_type("noise_times", "a number");
    parsed.noise_times = *times;
  }
  return parsed;
}

std::vector<TensorSpec> parse_specs(const json& document, const char* name) {
  std::vector<TensorSpec> specs;
  for (const json& entry : list(document, name)) {
    TensorSpec spec{text(entry, "name"), text(entry, "dtype"), {}};
    const json& shape = list(entry, "shape");
    if (shape.size() > kMostDims) throw_type("shape", "a shape");
    for (const json& side : shape) {
      const int64_t value = whole(side, "shape");
      if (value < -1 || value > kMostSide) throw_type("shape", "a shape");
      spec.shape.push_back(value);
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

std::vector<SavedSample> parse_samples(const json& entries) {
  std::vector<SavedSample> samples;
  std::set<std::string> ids;
  for (const json& entry : entries) {
    SavedSample sample;
    sample.id = text(entry, "id");
    if (!ids.insert(sample.id).second) throw Error("sample '" + sample.id + "' is there twice");
    const json& label = field(entry, "label");
    if (!label.is_null()) sample.label = whole(label, "label");
    if (!field(entry, "sha256").is_null()) sample.sha256 = text(entry, "sha256");
    const json& feeds = field(entry, "feeds");
    if (!feeds.is_object()) throw_type("feeds", "an object");
    for (const auto& [name, file] : feeds.items())
      sample.feeds[name] = inside(text(feeds, name.c_str()));
    samples.push_back(std::move(sample));
  }
  return samples;
}

// Throws Error (kUsage) where there are not as many labels as the first output has classes:
// check_labels of py_runner/data/labels.py.
void check_labels(const Bundle& bundle) {
  if (bundle.labels.empty() || bundle.outputs.empty() || bundle.outputs[0].shape.empty()) return;
  const int64_t classes = bundle.outputs[0].shape.back();
  if (classes > 0 && static_cast<uint64_t>(classes) != bundle.labels.size()) {
    throw Error(bundle.path + ": " + std::to_string(bundle.labels.size()) +
                    " labels for a model of " + std::to_string(classes) +
                    " classes: convert it with the right --labels",
                kUsage);
  }
}

// Whether the labels name the classes of a row of scores: those of other tasks name boxes or
// characters.
bool is_classification(const json& document) {
  const auto task = document.find("task");
  return task == document.end() || task->is_null() || text(*task, "name") == "classification";
}

std::string read_text(const std::string& path) {
  const std::vector<uint8_t> data = read_file(path, kMostManifestBytes);
  return {data.begin(), data.end()};
}

}  // namespace

std::string TensorSpec::mismatch(const std::string& have_dtype,
                                 const std::vector<int64_t>& have) const {
  bool fits = have_dtype == dtype && have.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = have[i] > 0 && (shape[i] == -1 || shape[i] == have[i]);
  }
  if (fits) return "";
  return "input '" + name + "' takes " + describe(dtype, shape) + ", not " +
         describe(have_dtype, have);
}

Bundle Bundle::open(const std::string& path) {
  const std::string manifest = path + "/bundle.json";
  try {
    return parse_bundle(path, read_text(manifest));
  } catch (const Error& error) {
    const std::string what = error.what();
    if (what.find("cannot be read: No such file") == std::string::npos) throw;
    throw Error(path + ": not a bundle: there is no bundle.json in it");
  }
}

Bundle parse_bundle(const std::string& path, const std::string& text_) {
  const std::string manifest = path + "/bundle.json";
  const json document = parse_json(manifest, text_, kConvertAgain);
  if (!document.is_object() || !document.contains("format")) {
    throw Error(manifest + ": not the manifest of a bundle");
  }
  if (document["format"] != kFormat) {
    throw Error(manifest + ": bundle format " +
                document["format"].dump(-1, ' ', true).substr(0, 20) +
                ", and this lite_run reads format 1: convert the model again, or update lite_run");
  }
  try {
    Bundle bundle;
    bundle.path = path;
    bundle.sha256 = Sha256().update(text_.data(), text_.size()).hex();
    bundle.name = text(document, "name");
    bundle.recipe = text(field(document, "recipe"), "name");
    bundle.recipe_limits = parse_limits(document["recipe"]);
    const json& targets = field(document, "targets");
    if (!targets.is_object()) throw_type("targets", "an object");
    for (const auto& [name, entry] : targets.items()) bundle.targets[name] = parse_target(entry);
    bundle.inputs = parse_specs(document, "inputs");
    bundle.outputs = parse_specs(document, "outputs");
    const json& image = field(document, "image");
    bundle.beyond = ImageSpec::beyond(image);
    if (!image.is_null() && bundle.beyond.empty()) bundle.image = ImageSpec::parse(image);
    const json& labels = field(document, "labels");
    if (!labels.is_null()) {
      if (!labels.is_array()) throw_type("labels", "a list");
      for (const json& label : labels) {
        if (!label.is_string()) throw_type("labels", "a list of texts");
        bundle.labels.push_back(label.get<std::string>());
      }
    }
    bundle.samples = parse_samples(list(document, "samples"));
    if (is_classification(document)) check_labels(bundle);
    return bundle;
  } catch (const Error& error) {
    if (error.code == kUsage) throw;
    throw Error(manifest + ": damaged: " + error.what() + "; " + kConvertAgain);
  }
}

Limits Bundle::limits(const Target& target) const {
  return recipe_limits && target.precision == recipe ? *recipe_limits
                                                     : limits_for(target.precision);
}

const Target& Bundle::target_here() const {
  const auto found = targets.find(this_target());
  if (found != targets.end()) return found->second;
  std::string has;
  for (const auto& [name, target] : targets) {
    if (!has.empty()) has += ", ";
    has += name;
  }
  throw Error(path + ": has no " + this_target() + " model, which this CPU needs, only " +
                  (has.empty() ? "none" : has) + ": convert with --target " + this_target() +
                  " as well",
              kUsage);
}

std::string Bundle::verified(const Target& target) const {
  std::string file = path_inside(path, target.file);
  const uint64_t bytes = file_size(file);
  if (bytes != target.bytes) {
    throw Error(file + ": damaged: " + std::to_string(bytes) + " bytes, the bundle says " +
                std::to_string(target.bytes) + "; copy it again");
  }
  if (file_sha256(file) != target.sha256) {
    throw Error(file + ": damaged: its checksum is not the bundle's; copy it again");
  }
  for (const auto& [kernel, count] : target.kernels) {
    const std::string device = kernel.substr(0, kernel.find('/'));
    if (count > 0 && device != this_target() && device != "host" && device != "any") {
      throw Error(file + ": is made for " + device + ", and this CPU is " + this_target() +
                  ": convert with --target " + this_target());
    }
    // Measured: accuracy 0.5 instead of 0.95, NaN, and other numbers in the next run.
    if (count > 0 && device == "x86" && kernel == "x86/int8") {
      throw Error(file + ": has int8 kernels, which compute wrong numbers on x86: run it on ARM");
    }
  }
  const auto half = target.kernels.find("arm/fp16");
  if (half != target.kernels.end() && half->second > 0 && !cpu_features().fp16) {
    throw Error(file + ": computes in fp16, which this CPU lacks: convert with --recipe fp32");
  }
  const MappedFile mapped(file);
  try {
    const NbHeader header = parse_nb(mapped.data(), mapped.size());
    if (header.opt_version != target.opt_version) {
      throw Error("written by the optimizer " + header.opt_version + ", the bundle says " +
                  target.opt_version + "; convert the model again");
    }
  } catch (const Error& error) {
    throw Error(file + ": " + error.what());
  }
  return file;
}

std::vector<SavedSample> read_sample_list(const std::string& file) {
  const json document = parse_json(file, read_text(file), "write it again");
  try {
    if (!document.is_array()) throw Error("not a list of samples");
    return parse_samples(document);
  } catch (const Error& error) {
    throw Error(file + ": " + error.what());
  }
}

std::vector<Array> read_sample(const std::string& folder, const SavedSample& sample,
                               const std::vector<TensorSpec>& inputs) {
  std::vector<Array> feeds;
  for (const TensorSpec& input : inputs) {
    const auto found = sample.feeds.find(input.name);
    if (found == sample.feeds.end()) {
      throw Error(folder + ": sample '" + sample.id + "': nothing for input '" + input.name + "'");
    }
    feeds.push_back(read_npy(path_inside(folder, found->second)));
    const std::string wrong = input.mismatch(feeds.back().dtype, feeds.back().shape);
    if (!wrong.empty()) throw Error(folder + ": sample '" + sample.id + "': " + wrong);
  }
  if (!sample.sha256.empty() && sample_hash(inputs, feeds) != sample.sha256) {
    throw Error(folder + ": the tensors of sample '" + sample.id + "' were altered; copy it again");
  }
  return feeds;
}

std::string sample_hash(const std::vector<TensorSpec>& inputs, const std::vector<Array>& feeds) {
  std::map<std::string, const Array*> by_name;
  for (size_t i = 0; i < inputs.size(); ++i) by_name[inputs[i].name] = &feeds[i];
  Sha256 digest;
  for (const auto& [name, array] : by_name) {
    std::string head = name + '\0' + array->dtype + '\0';
    for (size_t i = 0; i < array->shape.size(); ++i) {
      head += (i ? "," : "") + std::to_string(array->shape[i]);
    }
    head += '\0';
    digest.update(head.data(), head.size());
    digest.update(array->data.data(), array->data.size());
  }
  return digest.hex();
}

}  // namespace lite_run
