// What liblite_run adds to the engine, for benchmarks/native.py: one input, copied in, run, and the
// first output read, on one thread.
//
//   engine_bench bare|ours|both BUNDLE MODEL.nb INPUT.npy RUNS
//
// "bare" loops over Paddle Lite's C++ API, "ours" over lite_run.h, "both" over either in turn, each
// on a model of its own. Prints one JSON object with the times of all runs after the first, in
// milliseconds: "bare_ms", "ours_ms".
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "lite_run.h"
#include "npy.h"
#include "paddle_api.h"

namespace {

namespace lite = paddle::lite_api;

class Bare {
 public:
  Bare(const std::string& model, const lite_run::Array& input) : input_(input) {
    lite::MobileConfig config;
    config.set_model_from_file(model);
    config.set_threads(1);
    predictor_ = lite::CreatePaddlePredictor<lite::MobileConfig>(config);
  }

  // The first element of the answer.
  float once() const {
    const std::unique_ptr<lite::Tensor> tensor = predictor_->GetInput(0);
    tensor->Resize(input_.shape);
    std::memcpy(tensor->mutable_data<float>(), input_.data.data(), input_.data.size());
    predictor_->Run();
    return *predictor_->GetOutput(0)->data<float>();
  }

 private:
  const lite_run::Array& input_;
  std::shared_ptr<lite::PaddlePredictor> predictor_;
};

class Ours {
 public:
  Ours(const std::string& bundle, const lite_run::Array& input) : input_(input) {
    check(lr_open(bundle.c_str(), 1, LR_POWER_NO_BIND, &session_));
  }
  ~Ours() { lr_close(&session_); }
  Ours(const Ours&) = delete;
  Ours& operator=(const Ours&) = delete;

  float once() const {
    const void* data = nullptr;
    check(lr_set_input(session_, 0, input_.dtype.c_str(), input_.shape.data(),
                       static_cast<int>(input_.shape.size()), input_.data.data(),
                       input_.data.size()));
    check(lr_run(session_));
    check(lr_output(session_, 0, &data, nullptr, nullptr, nullptr));
    return *static_cast<const float*>(data);
  }

 private:
  static void check(int status) {
    if (status != LR_OK) throw std::runtime_error(lr_error());
  }

  const lite_run::Array& input_;
  lr_session* session_ = nullptr;
};

template <typename Side>
float timed(const Side& side, std::vector<double>& all_ms) {
  const auto start = std::chrono::steady_clock::now();
  const float answer = side.once();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  all_ms.push_back(took.count());
  return answer;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): a tool for benchmarks
int main(int count, char** arguments) {
  if (count != 6) return 2;
  const std::string mode = arguments[1];
  const lite_run::Array input = lite_run::read_npy(arguments[4]);
  const int runs = std::atoi(arguments[5]);
  std::unique_ptr<Bare> bare;
  std::unique_ptr<Ours> ours;
  if (mode != "ours") bare = std::make_unique<Bare>(arguments[3], input);
  if (mode != "bare") ours = std::make_unique<Ours>(arguments[2], input);
  std::vector<double> bare_ms;
  std::vector<double> ours_ms;
  for (int i = 0; i <= runs; ++i) {
    float answers[2] = {};
    // Either side comes first in half of the turns.
    for (const int side : {i % 2, 1 - i % 2}) {
      if (side == 0 && bare) answers[0] = timed(*bare, bare_ms);
      if (side == 1 && ours) answers[1] = timed(*ours, ours_ms);
    }
    if (mode == "both" && answers[0] != answers[1]) throw std::runtime_error("answers differ");
  }
  nlohmann::json result = nlohmann::json::object();
  if (bare) result["bare_ms"] = std::vector<double>(bare_ms.begin() + 1, bare_ms.end());
  if (ours) result["ours_ms"] = std::vector<double>(ours_ms.begin() + 1, ours_ms.end());
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
