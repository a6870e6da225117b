// Not Paddle Lite. It stands in for the library where tests are cross-built without an SDK, which
// is not ours to keep: CI has none for ARM. It runs one network, the one that hands its inputs on
// (armlinux/src/probe.h is its .nb file), and ends the process for any other, as Paddle Lite does
// for what it cannot run. What it proves is our side: parsing, checks, copies, runs, files. What it
// cannot prove is anything about a model; the tests with a real engine do.
//
// Linked only with -DLITE_RUN_STAND_IN=ON, and it says "stand-in" where its version is asked for,
// or what LITE_RUN_STAND_IN_VERSION in the environment holds. It reads /proc/cpuinfo as Paddle Lite
// does, and logs what it found. It dies of the signal that LITE_RUN_STAND_IN_SIGNAL numbers.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include "paddle_api.h"

namespace paddle::lite_api {

namespace {

struct Storage {
  shape_t shape;
  std::vector<uint8_t> bytes;
  PrecisionType precision = PrecisionType::kUnk;
};

Storage& storage(void* raw) { return *static_cast<Storage*>(raw); }

[[noreturn]] void die(const char* why) {
  std::cerr << "[F] stand-in engine: " << why << "\n";
  std::abort();
}

// As Paddle Lite does, once and with fopen: tests see in the log what it was shown.
void look_at_cpu() {
  FILE* file = std::fopen("/proc/cpuinfo", "rb");
  if (file == nullptr) return;
  char line[1024];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strstr(line, "part") != nullptr || std::strstr(line, "Hardware") != nullptr) {
      std::cerr << "[I] stand-in engine reads " << line;
    }
  }
  std::fclose(file);
}

template <typename T>
constexpr PrecisionType precision_of();
template <>
constexpr PrecisionType precision_of<float>() {
  return PrecisionType::kFloat;
}
template <>
constexpr PrecisionType precision_of<int64_t>() {
  return PrecisionType::kInt64;
}
template <>
constexpr PrecisionType precision_of<int32_t>() {
  return PrecisionType::kInt32;
}
template <>
constexpr PrecisionType precision_of<int8_t>() {
  return PrecisionType::kInt8;
}
template <>
constexpr PrecisionType precision_of<uint8_t>() {
  return PrecisionType::kUInt8;
}
template <>
constexpr PrecisionType precision_of<bool>() {
  return PrecisionType::kBool;
}

class Predictor : public PaddlePredictor {
 public:
  std::unique_ptr<Tensor> GetInput(int index) override {
    if (index != 0) die("there is one input");
    return std::make_unique<Tensor>(&input_);
  }
  std::unique_ptr<const Tensor> GetOutput(int index) const override {
    if (index != 0) die("there is one output");
    return std::make_unique<Tensor>(const_cast<Storage*>(&output_));
  }
  void Run() override {
    if (input_.bytes.empty()) die("the input was not set");
    const char* signal = std::getenv("LITE_RUN_STAND_IN_SIGNAL");
    if (signal != nullptr) std::raise(std::atoi(signal));
    output_ = input_;
  }
  std::shared_ptr<PaddlePredictor> Clone() override { die("not supported"); }
  std::shared_ptr<PaddlePredictor> Clone(const std::vector<std::string>&) override {
    die("not supported");
  }
  std::string GetVersion() const override {
    const char* pretended = std::getenv("LITE_RUN_STAND_IN_VERSION");
    return pretended != nullptr ? pretended : "stand-in";
  }
  std::vector<std::string> GetInputNames() override { return {"x"}; }
  std::vector<std::string> GetOutputNames() override { return {"x"}; }
  std::vector<std::string> GetParamNames() override { die("not supported"); }
  bool TryShrinkMemory() override { return true; }
  std::unique_ptr<Tensor> GetInputByName(const std::string&) override { return GetInput(0); }
  std::unique_ptr<const Tensor> GetTensor(const std::string&) const override {
    return GetOutput(0);
  }
  std::unique_ptr<Tensor> GetMutableTensor(const std::string&) override { die("not supported"); }
  void SaveOptimizedModel(const std::string&, int, bool) override { die("not supported"); }
  void SetStream(TargetType, void*) override { die("not supported"); }

 private:
  Storage input_;
  Storage output_;
};

}  // namespace

Tensor::Tensor(void* raw) : raw_(raw) {}
void Tensor::Resize(const shape_t& shape) { storage(raw_).shape = shape; }
shape_t Tensor::shape() const { return storage(raw_).shape; }
bool Tensor::IsInitialized() const { return !storage(raw_).bytes.empty(); }
PrecisionType Tensor::precision() const {
  if (storage(raw_).precision == PrecisionType::kUnk) die("the tensor was not initialized");
  return storage(raw_).precision;
}

template <typename T>
const T* Tensor::data() const {
  return reinterpret_cast<const T*>(storage(raw_).bytes.data());
}

template <typename T>
T* Tensor::mutable_data(TargetType) const {
  size_t count = 1;
  for (const int64_t side : storage(raw_).shape) count *= static_cast<size_t>(side);
  storage(raw_).bytes.resize(count * sizeof(T));
  storage(raw_).precision = precision_of<T>();
  return reinterpret_cast<T*>(storage(raw_).bytes.data());
}

template const float* Tensor::data<float>() const;
template float* Tensor::mutable_data<float>(TargetType) const;
template const int64_t* Tensor::data<int64_t>() const;
template int64_t* Tensor::mutable_data<int64_t>(TargetType) const;
template const int32_t* Tensor::data<int32_t>() const;
template int32_t* Tensor::mutable_data<int32_t>(TargetType) const;
template const int8_t* Tensor::data<int8_t>() const;
template int8_t* Tensor::mutable_data<int8_t>(TargetType) const;
template const uint8_t* Tensor::data<uint8_t>() const;
template uint8_t* Tensor::mutable_data<uint8_t>(TargetType) const;
template const bool* Tensor::data<bool>() const;
template bool* Tensor::mutable_data<bool>(TargetType) const;

ConfigBase::ConfigBase(PowerMode, int) {}
void ConfigBase::set_threads(int) {}
void ConfigBase::set_power_mode(PowerMode) {}

void MobileConfig::set_model_from_file(const std::string& path) {
  model_ = path;
  from_memory_ = false;
}

void MobileConfig::set_model_from_buffer(const std::string& model) {
  model_ = model;
  from_memory_ = true;
}

template <>
std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const MobileConfig& config) {
  static const bool looked = [] {
    look_at_cpu();
    return true;
  }();
  (void)looked;
  std::string model = config.lite_model_file();
  if (!config.is_model_from_memory()) {
    std::ifstream file(model, std::ios::binary);
    model.assign(std::istreambuf_iterator<char>(file), {});
  }
  // Kernels name themselves "operator/alias/target/precision/layout".
  const auto holds = [&](const char* text) { return model.find(text) != std::string::npos; };
  const bool hands_on = holds("feed/def/1/4/2") && holds("fetch/def/1/4/2");
  if (!hands_on || holds("/def/4/") || holds("/def/2/") || model.size() > 2000) {
    die("this is not the network that hands its input on, and no other is known");
  }
  return std::make_shared<Predictor>();
}

}  // namespace paddle::lite_api
