// Judges a Run against what the server answered: lite_opt/judge/compare.py, rule by rule.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "run.h"

namespace lite_run {

// How far a run may be from its reference; see lite_opt/judge/limits.py.
struct Limits {
  double cosine = 0;
  std::optional<double> max_abs_diff = std::nullopt;
  std::optional<double> top1_drop = std::nullopt;
  double noise_times = 8.0;

  // The largest difference allowed of an output with this noise; none for no limit, infinite where
  // no difference means anything.
  std::optional<double> difference(std::optional<double> noise) const;
};

// The limits of a precision, of fp32 where it is unknown: LIMITS of lite_opt/judge/limits.py.
Limits limits_for(const std::string& precision);

// The report of lite_opt/judge/compare.py as JSON, without its "reference" and "candidate"; what is
// not finite is null. Throws Error where the runs cannot be compared.
nlohmann::json compare(const Run& reference, const Run& candidate, const Limits& limits);

}  // namespace lite_run
