// What lite_run calls of Paddle Lite's C++ API, declared for the engine inside the x86-64 wheel
// paddlelite==2.13rc0, which ships no headers. For tests on x86 and the stand-in of
// tests/native/; a board's SDK comes with its own paddle_api.h of the same name.
//
// Names, member order and virtual functions follow the binary interface of that wheel (Itanium
// C++ ABI, libstdc++'s C++11 strings): nothing may be reordered or left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace paddle::lite_api {

using shape_t = std::vector<int64_t>;

enum class TargetType : int { kHost = 1 };

enum class PrecisionType : int {
  kUnk = 0,
  kFloat = 1,
  kInt8 = 2,
  kInt32 = 3,
  kAny = 4,
  kFP16 = 5,
  kBool = 6,
  kInt64 = 7,
  kInt16 = 8,
  kUInt8 = 9,
  kFP64 = 10,
};

// Unscoped as in the original, so that a number can be cast to it either way.
enum PowerMode {
  LITE_POWER_HIGH = 0,
  LITE_POWER_LOW = 1,
  LITE_POWER_FULL = 2,
  LITE_POWER_NO_BIND = 3,
  LITE_POWER_RAND_HIGH = 4,
  LITE_POWER_RAND_LOW = 5,
};

// A handle of a tensor that the predictor owns.
class Tensor {
 public:
  explicit Tensor(void* raw);

  void Resize(const shape_t& shape);
  template <typename T>
  const T* data() const;
  template <typename T>
  T* mutable_data(TargetType target = TargetType::kHost) const;
  shape_t shape() const;
  PrecisionType precision() const;
  bool IsInitialized() const;

 private:
  void* raw_;
};

class PaddlePredictor {
 public:
  virtual std::unique_ptr<Tensor> GetInput(int index) = 0;
  virtual std::unique_ptr<const Tensor> GetOutput(int index) const = 0;
  virtual void Run() = 0;
  virtual std::shared_ptr<PaddlePredictor> Clone() = 0;
  virtual std::shared_ptr<PaddlePredictor> Clone(const std::vector<std::string>& names) = 0;
  virtual std::string GetVersion() const = 0;
  virtual std::vector<std::string> GetInputNames() = 0;
  virtual std::vector<std::string> GetOutputNames() = 0;
  // Not called here; they keep the places of the virtual functions.
  virtual std::vector<std::string> GetParamNames() = 0;
  virtual bool TryShrinkMemory() = 0;
  virtual std::unique_ptr<Tensor> GetInputByName(const std::string& name) = 0;
  virtual std::unique_ptr<const Tensor> GetTensor(const std::string& name) const = 0;
  virtual std::unique_ptr<Tensor> GetMutableTensor(const std::string& name) = 0;
  virtual void SaveOptimizedModel(const std::string& folder, int type, bool record) = 0;
  virtual void SetStream(TargetType target, void* stream) = 0;
  virtual ~PaddlePredictor() = default;

 protected:
  int threads_{1};
  PowerMode mode_{LITE_POWER_NO_BIND};
};

class ConfigBase {
 public:
  explicit ConfigBase(PowerMode mode = LITE_POWER_NO_BIND, int threads = 1);
  void set_threads(int threads);
  void set_power_mode(PowerMode mode);

 private:
  // Settings of other hardware, by type and order; the library's own functions read and write them.
  using Buffer = std::vector<char>;
  std::string model_folder_;
  int threads_{1};
  PowerMode mode_{LITE_POWER_NO_BIND};
  int opencl_tune_{0};
  std::string opencl_path_;
  std::string opencl_name_;
  int opencl_precision_{0};
  std::string subgraph_cache_;
  std::map<std::string, std::pair<Buffer, Buffer>> subgraph_buffers_;
  std::vector<std::string> adapter_devices_;
  std::string adapter_properties_;
  int (*adapter_callback_)(int, void*){nullptr};
  std::string adapter_cache_;
  std::map<std::string, std::vector<shape_t>> adapter_shapes_;
  std::map<std::string, Buffer> adapter_buffers_;
  int device_{0};
  int x86_math_threads_{1};
  std::string metal_path_;
  bool metal_flags_[2]{false, false};
  void* metal_device_{nullptr};
  bool metal_reuse_{false};
  std::vector<std::string> discarded_passes_;
  std::map<TargetType, std::shared_ptr<void>> target_settings_;
};

class MobileConfig : public ConfigBase {
 public:
  void set_model_from_file(const std::string& path);
  void set_model_from_buffer(const std::string& model);
  // The path, or with is_model_from_memory the model itself.
  const std::string& lite_model_file() const { return model_; }
  bool is_model_from_memory() const { return from_memory_; }

 private:
  bool from_memory_{false};
  int precision_mode_{0};
  std::string model_;
  const char* buffer_{nullptr};
  size_t buffer_size_{0};
  std::string old_model_buffer_;
  std::string old_param_buffer_;
};

template <typename Config>
std::shared_ptr<PaddlePredictor> CreatePaddlePredictor(const Config& config);

}  // namespace paddle::lite_api
