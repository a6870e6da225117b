// Paddle Lite with one model in it. What is known of its API, and of its bugs, is in engine.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bundle.h"
#include "npy.h"

namespace lite_run {

// Paddle Lite's version, which it tells before it sees a user's model.
std::string engine_version();

// Whether an input of this dtype can be set.
bool can_be_fed(const std::string& dtype);

// An output of the last run, in the engine's memory.
struct Answer {
  const char* dtype;
  std::vector<int64_t> shape;
  const void* data;

  Array copied() const;
};

class Engine {
 public:
  // Load a .nb file, which has to have the inputs and outputs of `bundle`. Only a reference to the
  // bundle is kept. Throws Error.
  Engine(const Bundle& bundle, std::string file, int threads, int power_mode);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Let `write` put the elements of an input where they belong; `shape` fits it. Where it throws,
  // the input is not set.
  void set(size_t index, const std::vector<int64_t>& shape,
           const std::function<void(void* elements)>& write);

  // Copies of the inputs. Throws Error (kUsage) where one was not set since the last run.
  std::vector<Array> feeds() const;

  // Throws Error (kUsage) as feeds() does, and where the engine's answer is none.
  void run();

  // By output; empty where nothing was run since an input was set.
  const std::vector<Answer>& answers() const { return answers_; }

 private:
  struct Model;

  std::unique_ptr<Model> load() const;
  void reload();
  void need_inputs() const;

  const Bundle& bundle_;
  std::string file_;
  int threads_;
  int power_mode_;
  std::unique_ptr<Model> model_;
  std::vector<Answer> answers_;
};

}  // namespace lite_run
