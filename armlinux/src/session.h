// A bundle opened on this machine's engine: what fits it is fed to it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bundle.h"
#include "engine.h"
#include "npy.h"

namespace lite_run {

class Session {
 public:
  // Checks a bundle's files and this machine, then loads the model. Throws Error.
  Session(const std::string& path, int threads, int power_mode);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Bundle& bundle() const { return bundle_; }
  const Target& target() const { return target_; }
  const std::string& engine_version() const { return found_.engine_version; }
  const std::string& machine() const { return machine_; }
  int threads() const { return threads_; }
  // When its engine began to start.
  std::chrono::steady_clock::time_point start() const { return start_; }

  // What lr_info says of it.
  nlohmann::json info() const;

  // As lr_set_input, lr_set_image and lr_set_file. Throw Error.
  void set_input(int index, const std::string& dtype, const std::vector<int64_t>& shape,
                 const void* data, size_t bytes);
  void set_image(const uint8_t* pixels, int width, int height, ptrdiff_t stride, int channels);
  void set_file(int index, const std::string& path);

  // Copies of the inputs. Throws Error (kUsage) where one was not set since the last run.
  std::vector<Array> feeds() const { return engine_.feeds(); }

  // Run the inputs that were set. Throws Error, kUsage where one was not since the last run.
  void run() { engine_.run(); }
  // Run these, which fit the inputs.
  void run(const std::vector<Array>& feeds);

  // What the last run answered. The first throws Error (kUsage) where there is nothing.
  const Answer& answer(int index) const;
  const std::vector<Answer>& answers() const { return engine_.answers(); }

 private:
  // What can be known before the engine reads the model.
  struct Found {
    int64_t estimated_memory_bytes = 0;
    std::string engine_version;
    std::vector<std::string> warnings;
  };

  Found check_fit() const;
  const TensorSpec& input(int index) const;
  const ImageSpec& image_spec() const;

  Bundle bundle_;
  const Target& target_;
  std::string file_;
  int threads_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  Found found_;
  Engine engine_;
  std::string machine_;
};

}  // namespace lite_run
