// The only file that includes paddle_api.h.
#include "engine.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "error.h"
#include "paddle_api.h"
#include "probe.h"
#include "shown_cpu.h"

#if defined(__x86_64__)
// Paddle Lite's x86 engine has no setting for its threads; its OpenMP has. Weak: another build of
// the engine may come without.
extern "C" void omp_set_num_threads(int) __attribute__((weak));
#endif

namespace lite_run {
namespace {

namespace lite = paddle::lite_api;

// Measured with PP-OCR's detector: fed a smaller image than before, the x86 engine writes past its
// buffers and aborts, and a fresh predictor is right at any shape. The ARM engine gives the same
// bits either way.
#if defined(__x86_64__)
constexpr bool kShapesNeedReload = true;
#else
constexpr bool kShapesNeedReload = false;
#endif

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
  const ShowCpu show;
  auto predictor = lite::CreatePaddlePredictor<lite::MobileConfig>(config);
  if (predictor == nullptr) throw Error(what + ": the engine refused it");
  return predictor;
}

size_t bytes_of(const Type& type, const std::vector<int64_t>& shape) {
  return count_of(shape) * item_bytes(type.name);
}

}  // namespace

std::string engine_version() {
  const ShowCpu show;  // the first to be asked looks at the CPU
  lite::MobileConfig config;
  config.set_model_from_buffer(std::string(std::begin(kProbe), std::end(kProbe)));
  return load(config, "Paddle Lite")->GetVersion();
}

bool can_be_fed(const std::string& dtype) { return find_type(dtype) != nullptr; }

Array Answer::copied() const {
  const auto* from = static_cast<const uint8_t*>(data);
  return {dtype, shape, {from, from + count_of(shape) * item_bytes(dtype)}};
}

// The inputs are handles of the predictor's tensors.
struct Engine::Model {
  struct Input {
    const Type* type;
    std::unique_ptr<lite::Tensor> tensor;
    std::vector<int64_t> shape;
    bool set = false;

    void* claim() const {
      tensor->Resize(shape);
      return type->claim(*tensor);
    }
  };

  std::shared_ptr<lite::PaddlePredictor> predictor;
  std::vector<Input> inputs;
  bool ran = false;  // with the shapes of the inputs
};

Engine::Engine(const Bundle& bundle, std::string file, int threads, int power_mode)
    : bundle_(bundle),
      file_(std::move(file)),
      threads_(threads),
      power_mode_(power_mode),
      model_(load()) {}

Engine::~Engine() = default;

std::unique_ptr<Engine::Model> Engine::load() const {
  const ShowCpu show;
  lite::MobileConfig config;
  config.set_model_from_file(file_);
  config.set_power_mode(static_cast<lite::PowerMode>(power_mode_));
  config.set_threads(threads_);
  auto model = std::make_unique<Model>();
  model->predictor = lite_run::load(config, file_);
  const size_t ins = model->predictor->GetInputNames().size();
  const size_t outs = model->predictor->GetOutputNames().size();
  if (ins != bundle_.inputs.size() || outs != bundle_.outputs.size()) {
    throw Error(file_ + ": has " + std::to_string(ins) + " inputs and " + std::to_string(outs) +
                " outputs, and the bundle says " + std::to_string(bundle_.inputs.size()) + " and " +
                std::to_string(bundle_.outputs.size()) + ": convert the model again");
  }
  for (size_t i = 0; i < ins; ++i) {
    model->inputs.push_back(
        {find_type(bundle_.inputs[i].dtype), model->predictor->GetInput(static_cast<int>(i)), {}});
  }
  return model;
}

// A fresh predictor, to which the inputs that were set are carried over.
void Engine::reload() {
  auto fresh = load();
  for (size_t i = 0; i < fresh->inputs.size(); ++i) {
    const Model::Input& from = model_->inputs[i];
    Model::Input& to = fresh->inputs[i];
    if (!from.set) continue;
    to.shape = from.shape;
    std::memcpy(to.claim(), from.type->read(*from.tensor), bytes_of(*to.type, to.shape));
    to.set = true;
  }
  answers_.clear();
  model_ = std::move(fresh);
}

void Engine::set(size_t index, const std::vector<int64_t>& shape,
                 const std::function<void(void*)>& write) {
  if (kShapesNeedReload && model_->ran && model_->inputs[index].shape != shape) {
    model_->inputs[index].set = false;
    reload();
  }
  Model::Input& input = model_->inputs[index];
  answers_.clear();
  input.set = false;  // until it is
  input.shape = shape;
  write(input.claim());
  input.set = true;
}

void Engine::need_inputs() const {
  for (size_t i = 0; i < model_->inputs.size(); ++i) {
    if (!model_->inputs[i].set) {
      throw Error("input '" + bundle_.inputs[i].name + "' was not set since the last run", kUsage);
    }
  }
}

std::vector<Array> Engine::feeds() const {
  need_inputs();
  std::vector<Array> feeds;
  for (const Model::Input& input : model_->inputs) {
    const auto* from = static_cast<const uint8_t*>(input.type->read(*input.tensor));
    feeds.push_back(
        {input.type->name, input.shape, {from, from + bytes_of(*input.type, input.shape)}});
  }
  return feeds;
}

void Engine::run() {
  need_inputs();
  answers_.clear();
#if defined(__x86_64__)
  if (omp_set_num_threads != nullptr) omp_set_num_threads(threads_);
#endif
  model_->predictor->Run();
  model_->ran = true;
  for (Model::Input& input : model_->inputs) input.set = false;
  std::vector<Answer> answers;
  for (size_t i = 0; i < bundle_.outputs.size(); ++i) {
    const auto output = model_->predictor->GetOutput(static_cast<int>(i));
    std::vector<int64_t> shape = output->shape();
    const TensorSpec& spec = bundle_.outputs[i];
    if (!output->IsInitialized()) {
      // Nothing found is an empty tensor, which never got memory.
      const auto* type = find_type(spec.dtype);
      if (count_of(shape) != 0 || type == nullptr) {
        throw Error(file_ + ": the engine computed nothing for output '" + spec.name + "'");
      }
      answers.push_back({type->name, std::move(shape), nullptr});
      continue;
    }
    const lite::PrecisionType precision = output->precision();
    const auto* type =
        std::find_if(std::begin(kTypes), std::end(kTypes),
                     [&](const Type& candidate) { return candidate.precision == precision; });
    if (type == std::end(kTypes)) {
      throw Error(file_ + ": output '" + spec.name + "' is of a type that is not supported (" +
                  std::to_string(static_cast<int>(precision)) + ")");
    }
    answers.push_back({type->name, std::move(shape), type->read(*output)});
  }
  answers_ = std::move(answers);
}

}  // namespace lite_run
