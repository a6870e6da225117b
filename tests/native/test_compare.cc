// The verdict, on answers made for it. That it is lite_opt's, tests/test_native.py shows.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "compare.h"
#include "error.h"

using lite_run::Array;
using lite_run::Error;
using lite_run::Limits;
using lite_run::Run;

namespace {

Array row(const std::vector<float>& values) {
  Array array{"float32", {1, static_cast<int64_t>(values.size())}, {}};
  array.data.resize(values.size() * sizeof(float));
  if (!values.empty()) std::memcpy(array.data.data(), values.data(), array.data.size());
  return array;
}

Run answered(const std::vector<std::vector<float>>& rows) {
  Run run;
  run.precision = "fp32";
  run.outputs.push_back({"y", {}});
  for (const auto& values : rows) {
    run.samples.push_back({"s" + std::to_string(run.samples.size()), "hash", 0});
    run.outputs[0].values.push_back(row(values));
    run.latency_ms.push_back({1});
  }
  return run;
}

nlohmann::json judged(const Run& reference, const Run& candidate) {
  return lite_run::compare(reference, candidate, lite_run::limits_for("fp32"));
}

bool fails_with(const nlohmann::json& report, const std::string& part) {
  const std::string text = report["failures"].dump();
  return !report["passed"].get<bool>() && text.find(part) != std::string::npos;
}

const std::vector<std::vector<float>> kRows = {
    {3, 1, 0, -1, 2, 0.5F}, {0, 4, 1, 2, -2, 1}, {1, 0, 2, 5, 0, -3}};

}  // namespace

TEST_CASE("equal answers pass") {
  const auto report = judged(answered(kRows), answered(kRows));
  CHECK(report["passed"] == true);
  CHECK(report["outputs"][0]["kind"] == "logits");
  CHECK(report["outputs"][0]["response"] == 1.0);
  CHECK(report["outputs"][0]["sqnr_db"].is_null());  // there is no noise
  CHECK(report["top1_agreement"] == 1.0);
  CHECK(report["accuracy"]["reference_top1"].get<double>() == doctest::Approx(1.0 / 3));
}

TEST_CASE("a constant output fails, though it is close to each answer") {
  auto rows = kRows;
  for (auto& values : rows) values = kRows[0];
  CHECK(fails_with(judged(answered(kRows), answered(rows)), "does not move"));
}

TEST_CASE("NaN and Inf fail, whatever the rest is like") {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    auto rows = kRows;
    rows[1][2] = bad;
    const auto report = judged(answered(kRows), answered(rows));
    CHECK(fails_with(report, "1 values are NaN or Inf, first in 's1'"));
    CHECK(report["outputs"][0]["max_abs_diff"].is_null());
  }
  auto rows = kRows;
  for (auto& values : rows) values.assign(values.size(), std::nanf(""));
  CHECK(fails_with(judged(answered(kRows), answered(rows)), "18 values"));
}

TEST_CASE("small differences pass, larger ones fail by probability or cosine") {
  auto rows = kRows;
  rows[0][0] += 1e-5F;
  CHECK(judged(answered(kRows), answered(rows))["passed"] == true);
  rows[0][0] += 1e-2F;
  CHECK(fails_with(judged(answered(kRows), answered(rows)), "max |dp|"));
  rows[0][0] = -5;
  const auto report = judged(answered(kRows), answered(rows));
  CHECK(fails_with(report, "is below 0.99999, worst for 's0'"));
  CHECK(report["disagreeing"] == nlohmann::json({"s0"}));
}

TEST_CASE("a loss of accuracy fails where the limits say so") {
  auto rows = kRows;
  std::swap(rows[0][0], rows[0][1]);
  Limits limits{-1, std::nullopt, 1.0};
  const auto report = lite_run::compare(answered(kRows), answered(rows), limits);
  CHECK(fails_with(report, "top-1 accuracy falls by 33.33 points, and 1 are allowed"));
  limits.top1_drop = 34;
  CHECK(lite_run::compare(answered(kRows), answered(rows), limits)["passed"] == true);
}

TEST_CASE("runs that cannot be compared are refused") {
  Run other = answered(kRows);
  for (auto& sample : other.samples) sample.id += "x";
  CHECK_THROWS_WITH_AS(judged(answered(kRows), other),
                       "these runs have no sample in common: run both on the same data", Error);
  other = answered(kRows);
  other.samples[1].sha256 = "else";
  CHECK_THROWS_AS(judged(answered(kRows), other), Error);
  other = answered({{1, 2}, {3, 4}, {5, 6}});
  CHECK_THROWS_AS(judged(answered(kRows), other), Error);
  other = answered(kRows);
  other.outputs.push_back(other.outputs[0]);
  CHECK_THROWS_AS(judged(answered(kRows), other), Error);
  Run broken = answered(kRows);
  broken.outputs[0].values[0] = row({std::nanf(""), 1, 2, 3, 4, 5});
  CHECK_THROWS_AS(judged(broken, answered(kRows)), Error);
}

TEST_CASE("the reference's own noise raises the limit, or leaves nothing to judge") {
  const auto wide = [](float value) {
    Run run = answered(kRows);
    run.outputs[0].values[0] = row({value, 1, 0, -1, 2, 0.5F});
    run.outputs[0].values[0].shape = {2, 3};
    return run;
  };
  Run reference = wide(3);
  for (size_t i = 1; i < 3; ++i) reference.outputs[0].values[i].shape = {2, 3};
  Run candidate = wide(3.004F);  // 8e-4 of the largest, 5
  for (size_t i = 1; i < 3; ++i) candidate.outputs[0].values[i].shape = {2, 3};
  CHECK(fails_with(judged(reference, candidate), "is above 0.0001"));
  reference.noise["y"] = 0.9e-4;
  CHECK(fails_with(judged(reference, candidate), "is above 0.00072"));
  reference.noise["y"] = 1.1e-4;
  CHECK(judged(reference, candidate)["passed"] == true);
  CHECK(judged(reference, candidate)["outputs"][0]["limit"].get<double>() ==
        doctest::Approx(8.8e-4));
  reference.noise["y"] = 1.01e-2;
  auto report = judged(reference, candidate);
  CHECK(report["passed"] == false);
  CHECK(report["failures"].empty());
  CHECK(report["unjudged"].dump().find("chaotic") != std::string::npos);
  CHECK(report["outputs"][0]["limit"].is_null());
  CHECK(judged(reference, reference)["passed"] == true);
  Limits limits = lite_run::limits_for("fp32");
  limits.noise_times = 0;
  report = lite_run::compare(reference, candidate, limits);
  CHECK(fails_with(report, "is above 0.0001"));
}

TEST_CASE("what a detector did not find is not judged, and what it found too much is wrong") {
  const auto boxes = [](const std::vector<int64_t>& counts) {
    Run run;
    run.precision = "fp32";
    run.outputs.push_back({"y", {}});
    for (const int64_t count : counts) {
      run.samples.push_back({"s" + std::to_string(run.samples.size()), "hash", std::nullopt});
      Array array = count < 0 ? row({-1}) : row(std::vector<float>(static_cast<size_t>(count * 6)));
      if (count >= 0) array.shape = {count, 6};
      run.outputs[0].values.push_back(array);
      run.latency_ms.push_back({1});
    }
    return run;
  };
  for (const int64_t none : {0, -1}) {
    const auto report = judged(boxes({0, 0}), boxes({none, none}));
    CHECK(report["passed"] == false);
    CHECK(report["failures"].empty());
    CHECK(report["unjudged"][0] ==
          "output 'y' is empty for every sample: give samples on which the model finds something");
    CHECK(judged(boxes({0, 2}), boxes({none, 2}))["passed"] == true);
    const auto lost = judged(boxes({3}), boxes({none}));
    CHECK(lost["failures"] == nlohmann::json({"output 'y': 0 rows (boxes, say) against 3 of the "
                                              "reference for 's0'"}));
  }
  CHECK(judged(boxes({0}), boxes({0}))["outputs"][0]["kind"] == "tensor");
  const auto more = judged(boxes({2, 3, 1}), boxes({2, 4, 2}));
  CHECK(more["failures"] ==
        nlohmann::json({"output 'y': 4 rows (boxes, say) against 3 of the reference for 's1', and "
                        "other numbers for 1 more"}));
  CHECK(more["outputs"][0]["misshapen"] == nlohmann::json({"s1", "s2"}));
}

TEST_CASE("samples that only one run has are left out, and it is said") {
  const auto report = judged(answered(kRows), answered({kRows[0], kRows[1]}));
  CHECK(report["samples"] == 2);
  CHECK(report["warnings"][0] == "only 2 of 3 samples are in both runs");
}

TEST_CASE("percentiles interpolate between ranks") {
  const auto latency = lite_run::latency_statistics({{4, 1}, {3, 2}});
  CHECK(latency["count"] == 4);
  CHECK(latency["p50_ms"] == 2.5);
  CHECK(latency["p90_ms"].get<double>() == doctest::Approx(3.7));
  CHECK(latency["max_ms"] == 4.0);
  CHECK(latency["throughput_per_s"] == 400.0);
}
