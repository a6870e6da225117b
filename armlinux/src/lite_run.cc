// The C ABI of lite_run.h over Paddle Lite: the only file that includes paddle_api.h.
#include "lite_run.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <set>

#include "bundle.h"
#include "compare.h"
#include "error.h"
#include "file.h"
#include "image.h"
#include "machine.h"
#include "nb.h"
#include "npy.h"
#include "paddle_api.h"
#include "probe.h"
#include "run.h"

#if defined(__x86_64__)
// Paddle Lite's x86 engine has no setting for its threads; its OpenMP has. Weak: another build of
// the engine may come without.
extern "C" void omp_set_num_threads(int) __attribute__((weak));
#endif

namespace lite_run {
namespace {

namespace lite = paddle::lite_api;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

// Measured with PP-OCR's detector: fed a smaller image than before, the x86 engine writes past its
// buffers and aborts, and a fresh predictor is right at any shape. The ARM engine gives the same
// bits either way.
#if defined(__x86_64__)
constexpr bool kShapesNeedReload = true;
#else
constexpr bool kShapesNeedReload = false;
#endif

constexpr uint64_t kMostPictureBytes = uint64_t{1} << 30;
constexpr int kMostThreads = 256;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Types of tensors by NumPy's names. `claim` makes room for elements and returns where they go,
// `read` returns where they are.
struct Type {
  const char* name;
  lite::PrecisionType precision;
  void* (*claim)(const lite::Tensor&);
  const void* (*read)(const lite::Tensor&);
};

template <typename T>
constexpr Type type_of(const char* name, lite::PrecisionType precision) {
  return {name, precision,
          [](const lite::Tensor& tensor) -> void* { return tensor.mutable_data<T>(); },
          [](const lite::Tensor& tensor) -> const void* { return tensor.data<T>(); }};
}

constexpr Type kTypes[] = {
    type_of<float>("float32", lite::PrecisionType::kFloat),
    type_of<int64_t>("int64", lite::PrecisionType::kInt64),
    type_of<int32_t>("int32", lite::PrecisionType::kInt32),
    type_of<int8_t>("int8", lite::PrecisionType::kInt8),
    type_of<uint8_t>("uint8", lite::PrecisionType::kUInt8),
    type_of<bool>("bool", lite::PrecisionType::kBool),
};

const Type* find_type(const std::string& name) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const Type& type) { return name == type.name; });
  return found == std::end(kTypes) ? nullptr : found;
}

size_t count_of(const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (const int64_t side : shape) count *= static_cast<size_t>(side);
  return count;
}

std::shared_ptr<lite::PaddlePredictor> load(const lite::MobileConfig& config,
                                            const std::string& what) {
  auto predictor = lite::CreatePaddlePredictor<lite::MobileConfig>(config);
  if (predictor == nullptr) throw Error(what + ": the engine refused it");
  return predictor;
}

std::string library_version() {
  lite::MobileConfig config;
  config.set_model_from_buffer(std::string(std::begin(kProbe), std::end(kProbe)));
  return load(config, "Paddle Lite")->GetVersion();
}

// A rough estimate of what the engine needs for a model: the parameters as read and as rearranged
// for its kernels (those of weight-only recipes as floats), inputs, outputs, and the library. The
// factors are those of lite_opt/model/cost.py, which knows the activations as well.
int64_t estimated_memory_bytes(const Bundle& bundle, const Target& target) {
  const double widened = target.precision == "int8-weights"    ? 4
                         : target.precision == "int16-weights" ? 2
                                                               : 1;
  double tensors = 0;
  for (const auto* specs : {&bundle.inputs, &bundle.outputs}) {
    for (const TensorSpec& spec : *specs) {
      auto bytes = static_cast<double>(item_bytes(spec.dtype));
      for (const int64_t side : spec.shape) {
        bytes *= static_cast<double>(std::max<int64_t>(side, 1));
      }
      tensors += bytes;
    }
  }
  return static_cast<int64_t>(20e6 + 1.65 * widened * static_cast<double>(target.bytes) +
                              5 * tensors);
}

}  // namespace
}  // namespace lite_run

using lite_run::Array;
using lite_run::Error;
using lite_run::kUsage;
using nlohmann::json;
namespace lite = paddle::lite_api;

struct lr_session {
  lr_session(const char* path, int threads, int power_mode)
      : bundle_(lite_run::Bundle::open(path)),
        target_(bundle_.target_here()),
        file_(bundle_.verified(target_)),
        threads_(threads),
        power_mode_(power_mode) {
    check_fit();
    open_predictor();
    record_.engine_version = engine_version_;
    record_.machine = lite_run::machine();
    record_.threads = threads_;
    record_.precision = target_.precision;
    record_.model_name = bundle_.name;
    record_.model_sha256 = bundle_.sha256;
    info_ = describe().dump(-1, ' ', false, json::error_handler_t::replace);
  }

  const lite_run::Bundle& bundle() const { return bundle_; }
  const std::string& info() const { return info_; }

  void set_input(int index, const std::string& dtype, const std::vector<int64_t>& shape,
                 const void* data, size_t bytes) {
    const lite_run::TensorSpec& spec = input(index);
    const std::string wrong = spec.mismatch(dtype, shape);
    if (!wrong.empty()) throw Error(wrong, kUsage);
    size_t expected = lite_run::item_bytes(dtype);
    for (const int64_t side : shape) {
      if (static_cast<uint64_t>(side) > SIZE_MAX / 2 / expected) {
        throw Error(lite_run::describe(dtype, shape) + " is too large for this machine", kUsage);
      }
      expected *= static_cast<size_t>(side);
    }
    if (bytes != expected) {
      throw Error("input '" + spec.name + "': " + std::to_string(bytes) + " bytes are given, and " +
                      lite_run::describe(dtype, shape) + " has " + std::to_string(expected),
                  kUsage);
    }
    std::memcpy(claim(index, shape), data, bytes);
  }

  void set_image(const uint8_t* pixels, int width, int height, ptrdiff_t stride, int channels) {
    const lite_run::ImageSpec& spec = image_spec();
    const auto fixed = spec.shape(width, height);
    const std::vector<int64_t> shape(fixed.begin(), fixed.end());
    const std::string wrong = bundle_.inputs[0].mismatch("float32", shape);
    if (!wrong.empty()) {
      throw Error("a picture of " + std::to_string(width) + " x " + std::to_string(height) + ": " +
                  wrong);
    }
    auto* tensor = static_cast<float*>(claim(0, shape));
    inputs_[0].set = false;  // until it is
    spec.apply(pixels, width, height, stride, channels, tensor);
    inputs_[0].set = true;
  }

  void set_file(int index, const std::string& path) {
    input(index);
    std::vector<uint8_t> data = lite_run::read_file(path, lite_run::kMostPictureBytes);
    if (lite_run::is_npy(data.data(), data.size())) {
      const Array array = lite_run::parse_npy(path, std::move(data));
      const std::string wrong = input(index).mismatch(array.dtype, array.shape);
      if (!wrong.empty()) throw Error(path + ": " + wrong);
      set_input(index, array.dtype, array.shape, array.data.data(), array.data.size());
      return;
    }
    try {
      const lite_run::Pixels pixels = image_spec().decode(data.data(), data.size());
      data = {};
      set_image(pixels.rgb.data(), pixels.width, pixels.height, ptrdiff_t{3} * pixels.width, 3);
    } catch (const Error& error) {
      throw Error(path + ": " + error.what(), error.code);
    }
  }

  void run() {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i].set) {
        throw Error("input '" + bundle_.inputs[i].name + "' was not set since the last run",
                    kUsage);
      }
    }
    infer();
  }

  // An output of the last run, in the engine's memory.
  struct Answer {
    const lite_run::Type* type;
    std::vector<int64_t> shape;
    const void* data;
  };

  const Answer& answer(int index) const {
    if (index < 0 || static_cast<size_t>(index) >= bundle_.outputs.size()) {
      throw Error("there is no output " + std::to_string(index), kUsage);
    }
    if (answers_.empty()) throw Error("nothing was run since an input was set", kUsage);
    return answers_[static_cast<size_t>(index)];
  }

  void record(const std::string& id, std::optional<int64_t> label, int warmup, int repeat) {
    std::vector<Array> feeds;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i].set) {
        throw Error("input '" + bundle_.inputs[i].name + "' was not set since the last run",
                    kUsage);
      }
      const auto* from = static_cast<const uint8_t*>(inputs_[i].type->read(*inputs_[i].tensor));
      const size_t bytes =
          lite_run::count_of(inputs_[i].shape) * lite_run::item_bytes(inputs_[i].type->name);
      feeds.push_back({inputs_[i].type->name, inputs_[i].shape, {from, from + bytes}});
    }
    record(id, label, lite_run::sample_hash(bundle_.inputs, feeds), feeds, warmup, repeat);
  }

  void record_samples(const char* path, int warmup, int repeat, lr_progress progress, void* user) {
    const size_t before = record_.samples.size();
    try {
      if (path == nullptr) {
        record_list(bundle_.path, bundle_.samples, warmup, repeat, progress, user);
      } else if (std::filesystem::is_directory(path)) {
        const std::string folder = path;
        record_list(folder, lite_run::read_sample_list(folder + "/samples.json"), warmup, repeat,
                    progress, user);
      } else {
        record_stack(path, warmup, repeat, progress, user);
      }
    } catch (...) {
      shrink_record(before);
      throw;
    }
  }

  void forget() {
    shrink_record(0);
    record_.warmup = 0;
    record_start_ = lite_run::Clock::now();
  }

  const char* check(bool* passed) {
    if (record_.samples.empty()) throw Error("nothing was recorded: run samples first", kUsage);
    const auto reference = lite_run::Run::open(bundle_.path + "/reference");
    const json report = lite_run::compare(reference, record_, bundle_.limits(target_));
    *passed = report["passed"].get<bool>();
    report_ = report.dump(-1, ' ', false, json::error_handler_t::replace);
    failures_.clear();
    for (const json& failure : report["failures"]) {
      failures_ += (failures_.empty() ? "" : "; ") + failure.get<std::string>();
    }
    return report_.c_str();
  }

  const std::string& failures() const { return failures_; }

  const char* summary() {
    summary_ = finished_record().summary().dump(-1, ' ', false, json::error_handler_t::replace);
    return summary_.c_str();
  }

  void save_run(const std::string& path, bool force) {
    finished_record().save(path, force);
    forget();
  }

 private:
  struct Input {
    const lite_run::Type* type;
    std::unique_ptr<lite::Tensor> tensor;
    std::vector<int64_t> shape;
    bool set = false;
  };

  // Everything that can be known before the engine reads the model.
  void check_fit() {
    for (const lite_run::TensorSpec& spec : bundle_.inputs) {
      if (lite_run::find_type(spec.dtype) == nullptr) {
        throw Error(bundle_.path + ": input '" + spec.name + "' is " + spec.dtype +
                    ", which cannot be fed here");
      }
    }
    estimated_bytes_ = lite_run::estimated_memory_bytes(bundle_, target_);
    const int64_t free = lite_run::free_memory_bytes();
    if (free >= 0 && free < estimated_bytes_) {
      const auto mb = [](int64_t bytes) { return std::to_string(bytes / 1000000) + " MB"; };
      throw Error(file_ + ": needs about " + mb(estimated_bytes_) + " of memory, and " + mb(free) +
                  " are free: end other programs, or convert with a smaller --recipe");
    }
    engine_version_ = lite_run::library_version();
    const std::string differ = "the Paddle Lite library is " + engine_version_ + ", and " +
                               target_.file + " was made for " + target_.opt_version;
    switch (lite_run::version_fit(engine_version_, target_.opt_version)) {
      case lite_run::Fit::kRefused:
        // Measured: 2.8 and 2.9 crash on files of 2.13 or answer wrongly.
        throw Error(bundle_.path + ": " + differ + ": install the library of that version");
      case lite_run::Fit::kUnsure:
        warnings_.push_back(differ + ": use the same version of both where answers are wrong");
        break;
      case lite_run::Fit::kSame:
        break;
    }
  }

  void open_predictor() {
    lite::MobileConfig config;
    config.set_model_from_file(file_);
    config.set_power_mode(static_cast<lite::PowerMode>(power_mode_));
    config.set_threads(threads_);
    auto predictor = lite_run::load(config, file_);
    const size_t ins = predictor->GetInputNames().size();
    const size_t outs = predictor->GetOutputNames().size();
    if (ins != bundle_.inputs.size() || outs != bundle_.outputs.size()) {
      throw Error(file_ + ": has " + std::to_string(ins) + " inputs and " + std::to_string(outs) +
                  " outputs, and the bundle says " + std::to_string(bundle_.inputs.size()) +
                  " and " + std::to_string(bundle_.outputs.size()) + ": convert the model again");
    }
    std::vector<Input> inputs;
    for (size_t i = 0; i < ins; ++i) {
      inputs.push_back({lite_run::find_type(bundle_.inputs[i].dtype),
                        predictor->GetInput(static_cast<int>(i)),
                        {}});
    }
    // What was set already is carried over; the old predictor still holds it.
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i].set) continue;
      inputs[i].shape = inputs_[i].shape;
      inputs[i].set = true;
      inputs[i].tensor->Resize(inputs[i].shape);
      std::memcpy(inputs[i].type->claim(*inputs[i].tensor),
                  inputs_[i].type->read(*inputs_[i].tensor),
                  lite_run::count_of(inputs[i].shape) * lite_run::item_bytes(inputs[i].type->name));
    }
    answers_.clear();
    inputs_ = std::move(inputs);
    predictor_ = std::move(predictor);
    ran_ = false;
  }

  const lite_run::TensorSpec& input(int index) const {
    if (index < 0 || static_cast<size_t>(index) >= bundle_.inputs.size()) {
      throw Error("there is no input " + std::to_string(index), kUsage);
    }
    return bundle_.inputs[static_cast<size_t>(index)];
  }

  const lite_run::ImageSpec& image_spec() const {
    if (!bundle_.image || bundle_.inputs.size() != 1) {
      throw Error(bundle_.path +
                      ": says nothing of images, or has more than one input: give "
                      "arrays, or convert with --image",
                  kUsage);
    }
    return *bundle_.image;
  }

  // Where the elements of an input go; its shape fits.
  void* claim(int index, const std::vector<int64_t>& shape) {
    const auto i = static_cast<size_t>(index);
    if (lite_run::kShapesNeedReload && ran_ && inputs_[i].shape != shape) {
      inputs_[i].set = false;
      open_predictor();
    }
    Input& input = inputs_[i];
    answers_.clear();
    input.shape = shape;
    input.set = true;
    input.tensor->Resize(shape);
    return input.type->claim(*input.tensor);
  }

  void infer() {
    answers_.clear();
#if defined(__x86_64__)
    if (omp_set_num_threads != nullptr) omp_set_num_threads(threads_);
#endif
    predictor_->Run();
    ran_ = true;
    for (Input& input : inputs_) input.set = false;
    std::vector<Answer> answers;
    for (size_t i = 0; i < bundle_.outputs.size(); ++i) {
      const auto output = predictor_->GetOutput(static_cast<int>(i));
      std::vector<int64_t> shape = output->shape();
      const lite_run::TensorSpec& spec = bundle_.outputs[i];
      if (!output->IsInitialized()) {
        // Nothing found is an empty tensor, which never got memory.
        const auto* type = lite_run::find_type(spec.dtype);
        if (lite_run::count_of(shape) != 0 || type == nullptr) {
          throw Error(file_ + ": the engine computed nothing for output '" + spec.name + "'");
        }
        answers.push_back({type, std::move(shape), nullptr});
        continue;
      }
      const lite::PrecisionType precision = output->precision();
      const auto* type = std::find_if(
          std::begin(lite_run::kTypes), std::end(lite_run::kTypes),
          [&](const lite_run::Type& candidate) { return candidate.precision == precision; });
      if (type == std::end(lite_run::kTypes)) {
        throw Error(file_ + ": output '" + spec.name + "' is of a type that is not supported (" +
                    std::to_string(static_cast<int>(precision)) + ")");
      }
      answers.push_back({type, std::move(shape), type->read(*output)});
    }
    answers_ = std::move(answers);
  }

  static Array copied(const Answer& answer) {
    const auto* from = static_cast<const uint8_t*>(answer.data);
    const size_t bytes = lite_run::count_of(answer.shape) * lite_run::item_bytes(answer.type->name);
    return {answer.type->name, answer.shape, {from, from + bytes}};
  }

  void record(const std::string& id, std::optional<int64_t> label, std::string hash,
              const std::vector<Array>& feeds, int warmup, int repeat) {
    if (warmup < 0 || repeat < 1) {
      throw Error("warmup is at least 0 and repeat at least 1", kUsage);
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
      const auto start = lite_run::Clock::now();
      for (size_t k = 0; k < feeds.size(); ++k) {
        std::memcpy(claim(static_cast<int>(k), feeds[k].shape), feeds[k].data.data(),
                    feeds[k].data.size());
      }
      infer();
      outputs.clear();
      for (const Answer& answer : answers_) outputs.push_back(copied(answer));
      if (i >= warmup) latency_ms.push_back(lite_run::ms_since(start));
    }
    // Memory for all of it first, so that the record stays whole.
    if (record_.outputs.empty()) {
      for (const lite_run::TensorSpec& spec : bundle_.outputs) {
        record_.outputs.push_back({spec.name, {}});
      }
    }
    const size_t before = record_.samples.size();
    try {
      record_.samples.push_back({id, std::move(hash), label});
      record_.latency_ms.push_back(std::move(latency_ms));
      for (size_t o = 0; o < outputs.size(); ++o) {
        record_.outputs[o].values.push_back(std::move(outputs[o]));
      }
      ids_.insert(id);
    } catch (...) {
      shrink_record(before);
      throw;
    }
    if (before == 0) record_.warmup = warmup;
  }

  void record_list(const std::string& folder, const std::vector<lite_run::SavedSample>& samples,
                   int warmup, int repeat, lr_progress progress, void* user) {
    if (samples.empty()) throw Error(folder + ": holds no samples");
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto feeds = lite_run::read_sample(folder, samples[i], bundle_.inputs);
      std::string hash = samples[i].sha256.empty() ? lite_run::sample_hash(bundle_.inputs, feeds)
                                                   : samples[i].sha256;
      record(samples[i].id, samples[i].label, std::move(hash), feeds, i == 0 ? warmup : 0, repeat);
      if (progress != nullptr && progress(user, samples[i].id.c_str(), static_cast<int>(i + 1),
                                          static_cast<int>(samples.size())) != 0) {
        return;
      }
    }
  }

  void record_stack(const std::string& path, int warmup, int repeat, lr_progress progress,
                    void* user) {
    if (bundle_.inputs.size() != 1) {
      throw Error(path + ": one .npy feeds one input, and the model has " +
                  std::to_string(bundle_.inputs.size()) + ": use a folder with samples.json");
    }
    const lite_run::MappedFile file(path);
    lite_run::NpyHeader header;
    try {
      header = lite_run::parse_npy_header(file.data(), file.size(), file.size());
    } catch (const Error& error) {
      throw Error(path + ": " + error.what());
    }
    if (header.shape.empty() || header.shape[0] == 0) {
      throw Error(path + ": holds no samples: they are stacked on axis 0");
    }
    const auto count = static_cast<size_t>(header.shape[0]);
    header.shape[0] = 1;
    const std::string wrong = bundle_.inputs[0].mismatch(header.dtype, header.shape);
    if (!wrong.empty()) throw Error(path + ": a sample of axis 0: " + wrong);
    const size_t bytes = (file.size() - header.data_offset) / count;
    const uint8_t* at = file.data() + header.data_offset;
    const std::string name = std::filesystem::path(path).filename().string();
    for (size_t i = 0; i < count; ++i, at += bytes) {
      const std::vector<Array> feeds = {{header.dtype, header.shape, {at, at + bytes}}};
      const std::string id = name + "[" + std::to_string(i) + "]";
      record(id, std::nullopt, lite_run::sample_hash(bundle_.inputs, feeds), feeds,
             i == 0 ? warmup : 0, repeat);
      if (progress != nullptr &&
          progress(user, id.c_str(), static_cast<int>(i + 1), static_cast<int>(count)) != 0) {
        return;
      }
    }
  }

  void shrink_record(size_t count) {
    while (record_.samples.size() > count) {
      ids_.erase(record_.samples.back().id);
      record_.samples.pop_back();
    }
    if (record_.latency_ms.size() > count) record_.latency_ms.resize(count);
    for (lite_run::Run::Output& output : record_.outputs) {
      if (output.values.size() > count) output.values.resize(count);
    }
  }

  const lite_run::Run& finished_record() {
    if (record_.samples.empty()) throw Error("nothing was recorded", kUsage);
    record_.wall_s = lite_run::ms_since(record_start_) / 1e3;
    return record_;
  }

  json describe() const {
    return {{"lite_run", LITE_RUN_VERSION},
            {"engine", engine_version_},
            {"opt_version", target_.opt_version},
            {"name", bundle_.name},
            {"sha256", bundle_.sha256},
            {"precision", target_.precision},
            {"target", lite_run::this_target()},
            {"file", target_.file},
            {"threads", threads_},
            {"machine", record_.machine},
            {"device", record_.device},
            {"labels", bundle_.labels.size()},
            {"image", bundle_.image.has_value() && bundle_.inputs.size() == 1},
            {"samples", bundle_.samples.size()},
            {"estimated_memory_bytes", estimated_bytes_},
            {"warnings", warnings_}};
  }

  lite_run::Bundle bundle_;
  const lite_run::Target& target_;
  std::string file_;
  int threads_;
  int power_mode_;
  int64_t estimated_bytes_ = 0;
  std::string engine_version_;
  std::vector<std::string> warnings_;
  std::string info_;

  std::shared_ptr<lite::PaddlePredictor> predictor_;
  std::vector<Input> inputs_;
  std::vector<Answer> answers_;  // empty: nothing was run since an input was set
  bool ran_ = false;             // the predictor has run, with the shapes of inputs_

  lite_run::Run record_;
  std::set<std::string> ids_;
  lite_run::Clock::time_point record_start_ = lite_run::Clock::now();
  std::string report_;
  std::string failures_;
  std::string summary_;
};

namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

int failed(int code, const char* what) noexcept {
  try {
    std::string text = what;
    // One line, whatever a file is called.
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < ' ') c = ' ';
    }
    last_error() = std::move(text);
  } catch (...) {  // not even memory for the words
    last_error().clear();
  }
  return code;
}

// Runs what may throw; nothing leaves this library but a status.
template <typename Function>
int guarded(Function&& function) noexcept {
  try {
    return function();
  } catch (const Error& error) {
    return failed(error.code, error.what());
  } catch (const std::bad_alloc&) {
    return failed(LR_FAULT, "there is not enough memory");
  } catch (const std::exception& error) {
    return failed(LR_FAULT, error.what());
  } catch (...) {
    return failed(LR_FAULT, "an unknown error");
  }
}

void need(bool holds, const char* what) {
  if (!holds) throw Error(what, kUsage);
}

const std::vector<lite_run::TensorSpec>* specs(const lr_session* session, int side) {
  if (session == nullptr) return nullptr;
  if (side == LR_INPUT) return &session->bundle().inputs;
  return side == LR_OUTPUT ? &session->bundle().outputs : nullptr;
}

template <typename T>
void give(T* to, T value) {
  if (to != nullptr) *to = value;
}

}  // namespace

const char* lr_error(void) { return last_error().c_str(); }

int lr_open(const char* bundle, int threads, int power_mode, lr_session** session) {
  return guarded([&] {
    need(bundle != nullptr && session != nullptr, "lr_open: a pointer is NULL");
    need(threads >= 1 && threads <= lite_run::kMostThreads, "threads are 1 to 256");
    need(power_mode >= LR_POWER_HIGH && power_mode <= LR_POWER_RAND_LOW, "unknown power mode");
    *session = std::make_unique<lr_session>(bundle, threads, power_mode).release();
    return LR_OK;
  });
}

void lr_close(lr_session** session) {
  if (session == nullptr) return;
  delete *session;
  *session = nullptr;
}

const char* lr_info(const lr_session* session) {
  return session != nullptr ? session->info().c_str() : "{\"lite_run\":\"" LITE_RUN_VERSION "\"}";
}

int lr_count(const lr_session* session, int side) {
  const auto* list = specs(session, side);
  return list != nullptr ? static_cast<int>(list->size()) : -1;
}

int lr_spec(const lr_session* session, int side, int index, const char** name, const char** dtype,
            const int64_t** shape, int* rank) {
  return guarded([&] {
    const auto* list = specs(session, side);
    need(list != nullptr, "lr_spec: the session is NULL, or side neither LR_INPUT nor LR_OUTPUT");
    need(index >= 0 && static_cast<size_t>(index) < list->size(), "lr_spec: no such tensor");
    const lite_run::TensorSpec& spec = (*list)[static_cast<size_t>(index)];
    give(name, spec.name.c_str());
    give(dtype, spec.dtype.c_str());
    give(shape, spec.shape.data());
    give(rank, static_cast<int>(spec.shape.size()));
    return LR_OK;
  });
}

int lr_set_input(lr_session* session, int index, const char* dtype, const int64_t* shape, int rank,
                 const void* data, size_t bytes) {
  return guarded([&] {
    need(session != nullptr && dtype != nullptr && (shape != nullptr || rank == 0) && rank >= 0 &&
             data != nullptr,
         "lr_set_input: a pointer is NULL or rank below 0");
    session->set_input(index, dtype, {shape, shape + rank}, data, bytes);
    return LR_OK;
  });
}

int lr_set_image(lr_session* session, const uint8_t* pixels, int width, int height,
                 ptrdiff_t stride, int channels) {
  return guarded([&] {
    need(session != nullptr && pixels != nullptr, "lr_set_image: a pointer is NULL");
    need(channels == 3 || channels == 4, "channels are 3 for RGB or 4 for RGBA");
    need(width > 0 && height > 0 && stride / channels >= width,
         "a picture has a width, a height, and a stride of at least width * channels");
    session->set_image(pixels, width, height, stride, channels);
    return LR_OK;
  });
}

int lr_set_file(lr_session* session, int index, const char* path) {
  return guarded([&] {
    need(session != nullptr && path != nullptr, "lr_set_file: a pointer is NULL");
    session->set_file(index, path);
    return LR_OK;
  });
}

int lr_run(lr_session* session) {
  return guarded([&] {
    need(session != nullptr, "lr_run: the session is NULL");
    session->run();
    return LR_OK;
  });
}

int lr_output(const lr_session* session, int index, const void** data, const char** dtype,
              const int64_t** shape, int* rank) {
  return guarded([&] {
    need(session != nullptr, "lr_output: the session is NULL");
    const lr_session::Answer& answer = session->answer(index);
    give(data, answer.data);
    give(dtype, answer.type->name);
    give(shape, answer.shape.data());
    give(rank, static_cast<int>(answer.shape.size()));
    return LR_OK;
  });
}

const char* lr_label(const lr_session* session, int64_t class_number) {
  if (session == nullptr || class_number < 0) return nullptr;
  const auto& labels = session->bundle().labels;
  const auto index = static_cast<uint64_t>(class_number);
  return index < labels.size() ? labels[static_cast<size_t>(index)].c_str() : nullptr;
}

int lr_record(lr_session* session, const char* sample_id, int64_t label, int warmup, int repeat) {
  return guarded([&] {
    need(session != nullptr && sample_id != nullptr, "lr_record: a pointer is NULL");
    session->record(sample_id, label >= 0 ? std::optional<int64_t>(label) : std::nullopt, warmup,
                    repeat);
    return LR_OK;
  });
}

int lr_record_samples(lr_session* session, const char* path, int warmup, int repeat,
                      lr_progress progress, void* user) {
  return guarded([&] {
    need(session != nullptr, "lr_record_samples: the session is NULL");
    session->record_samples(path, warmup, repeat, progress, user);
    return LR_OK;
  });
}

void lr_forget(lr_session* session) {
  if (session != nullptr) session->forget();
}

int lr_check(lr_session* session, const char** report) {
  return guarded([&] {
    need(session != nullptr && report != nullptr, "lr_check: a pointer is NULL");
    bool passed = false;
    *report = session->check(&passed);
    return passed ? LR_OK : failed(LR_FAILED, session->failures().c_str());
  });
}

int lr_summary(lr_session* session, const char** summary) {
  return guarded([&] {
    need(session != nullptr && summary != nullptr, "lr_summary: a pointer is NULL");
    *summary = session->summary();
    return LR_OK;
  });
}

int lr_save_run(lr_session* session, const char* path, int force) {
  return guarded([&] {
    need(session != nullptr && path != nullptr, "lr_save_run: a pointer is NULL");
    session->save_run(path, force != 0);
    return LR_OK;
  });
}
