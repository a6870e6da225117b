#include "compare.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "error.h"

namespace lite_run {

using nlohmann::json;

namespace {

// Smaller probabilities are noise of the exponential; what fp16 holds below its smallest normal
// number, it holds with few bits or none.
constexpr double kLeastProbability = 1e-12;
constexpr double kLeastProbabilityFp16 = 6.1e-5;
// A candidate whose spread over the samples is below this part of the reference's is stuck.
constexpr double kLeastResponse = 0.01;
// A model whose own answers move by more than this says nothing that it could be held to.
constexpr double kMostNoise = 1e-2;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Values = std::vector<double>;

template <typename T>
Values converted(const Array& array) {
  Values values(array.data.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, array.data.data() + i * sizeof(T), sizeof(T));
    values[i] = static_cast<double>(value);
  }
  return values;
}

// One output of one sample in float64. `floating` and `row`, the length of the last axis, decide
// what kind of output it is.
struct Tensor {
  Values values;
  std::vector<int64_t> shape;
  bool floating;
  size_t row;
};

Tensor tensor(const Array& array) {
  static const std::map<std::string, Values (*)(const Array&)> kConvert = {
      {"bool", converted<uint8_t>},    {"int8", converted<int8_t>},
      {"uint8", converted<uint8_t>},   {"int16", converted<int16_t>},
      {"uint16", converted<uint16_t>}, {"int32", converted<int32_t>},
      {"uint32", converted<uint32_t>}, {"int64", converted<int64_t>},
      {"uint64", converted<uint64_t>}, {"float32", converted<float>},
      {"float64", converted<double>}};
  const auto found = kConvert.find(array.dtype);
  if (found == kConvert.end()) throw Error("outputs of " + array.dtype + " cannot be compared");
  return {found->second(array), array.shape, array.dtype.compare(0, 5, "float") == 0,
          array.shape.empty() ? 0 : static_cast<size_t>(array.shape.back())};
}

enum class Kind { kProbabilities, kLogits, kTensor };
constexpr std::array<const char*, 3> kKindNames = {"probabilities", "logits", "tensor"};

bool sums_to_one(const Tensor& tensor) {
  for (size_t begin = 0; begin < tensor.values.size(); begin += tensor.row) {
    double sum = 0;
    for (size_t i = begin; i < begin + tensor.row; ++i) {
      if (!(tensor.values[i] >= -1e-6)) return false;
      sum += tensor.values[i];
    }
    if (!(std::abs(sum - 1) < 1e-3)) return false;
  }
  return true;
}

Kind kind_of(const std::vector<Tensor>& tensors) {
  const Tensor& first = tensors[0];
  const auto all = [&](auto&& holds) { return std::all_of(tensors.begin(), tensors.end(), holds); };
  if (first.row < 2 || !first.floating || !all([](const Tensor& t) { return t.row > 0; }) ||
      all([](const Tensor& t) { return t.values.empty(); })) {
    return Kind::kTensor;
  }
  if (all(sums_to_one)) return Kind::kProbabilities;
  return all([&](const Tensor& t) { return t.values.size() == first.row; }) ? Kind::kLogits
                                                                            : Kind::kTensor;
}

// Whether a detector says so: with no row, or with a single -1.
bool found_nothing(const Tensor& tensor) {
  return tensor.values.empty() ||
         (tensor.shape == std::vector<int64_t>{1, 1} && tensor.values[0] == -1);
}

double dot(const Values& a, const Values& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

Values centred(const Tensor& tensor, Kind kind, double least) {
  Values scores = tensor.values;
  if (kind == Kind::kProbabilities) {
    for (double& score : scores) score = std::log(std::max(score, least));
  }
  const size_t row = kind == Kind::kTensor ? scores.size() : tensor.row;
  for (size_t begin = 0; begin < scores.size(); begin += row) {
    double* at = scores.data() + begin;
    const double mean = std::accumulate(at, at + row, 0.0) / static_cast<double>(row);
    for (size_t i = 0; i < row; ++i) at[i] -= mean;
  }
  return scores;
}

Values softmax(const Values& row) {
  const double top = *std::max_element(row.begin(), row.end());
  Values scores(row.size());
  std::transform(row.begin(), row.end(), scores.begin(),
                 [&](double value) { return std::exp(value - top); });
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
  for (double& score : scores) score /= sum;
  return scores;
}

double most_apart(const Values& a, const Values& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

double cosine_of(double ab, double aa, double bb) {
  if (aa == 0 || bb == 0) return aa == bb ? 1.0 : 0.0;
  return ab / std::sqrt(aa * bb);
}

// Standard deviation over vectors added one by one; none once their lengths differ.
class Spread {
 public:
  void add(const Values& vector) {
    if (count_++ == 0) sum_.assign(vector.size(), 0);
    alike_ = alike_ && vector.size() == sum_.size();
    if (!alike_) return;
    for (size_t i = 0; i < vector.size(); ++i) sum_[i] += vector[i];
    squares_ += dot(vector, vector);
  }

  std::optional<double> value() const {
    if (count_ == 0 || !alike_) return std::nullopt;
    const auto count = static_cast<double>(count_);
    return std::sqrt(std::max(0.0, squares_ / count - dot(sum_, sum_) / count / count));
  }

 private:
  size_t count_ = 0;
  bool alike_ = true;
  Values sum_;
  double squares_ = 0;
};

struct Difference {
  std::string name;
  Kind kind;
  double max_abs_diff = 0;
  double mean_abs_diff = 0;
  double max_probability_diff = 0;
  double cosine = 1;
  double cosine_min = 1;
  std::string worst;
  double sqnr_db = -kInfinity;
  std::optional<double> response;
  size_t not_finite = 0;
  std::vector<std::string> misshapen;
  std::optional<double> noise;
  std::optional<double> limit;
};

json number(double value) { return std::isfinite(value) ? json(value) : json(); }

json number(const std::optional<double>& value) { return value ? number(*value) : json(); }

json to_json(const Difference& d) {
  return {{"name", d.name},
          {"kind", kKindNames[static_cast<size_t>(d.kind)]},
          {"max_abs_diff", number(d.max_abs_diff)},
          {"mean_abs_diff", number(d.mean_abs_diff)},
          {"max_probability_diff", number(d.max_probability_diff)},
          {"cosine", number(d.cosine)},
          {"cosine_min", number(d.cosine_min)},
          {"worst", d.worst},
          {"sqnr_db", number(d.sqnr_db)},
          {"response", number(d.response)},
          {"not_finite", d.not_finite},
          {"misshapen", d.misshapen},
          {"noise", number(d.noise)},
          {"limit", number(d.limit)}};
}

template <typename... Args>
std::string formatted(const char* format, Args... args) {
  std::array<char, 96> text;
  std::snprintf(text.data(), text.size(), format, args...);
  return text.data();
}

bool finite(double value) { return std::isfinite(value); }

size_t count_not_finite(const Values& values) {
  return values.size() - static_cast<size_t>(std::count_if(values.begin(), values.end(), finite));
}

bool same_rows(const Tensor& a, const Tensor& b) {
  return a.shape.size() == b.shape.size() && !a.shape.empty() &&
         std::equal(a.shape.begin() + 1, a.shape.end(), b.shape.begin() + 1);
}

bool vary(const std::vector<Tensor>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const Tensor& t) { return t.shape != tensors[0].shape; });
}

// The places of the samples to which a candidate answered a tensor of another shape. Throws Error
// where no data explain that: these are different models.
std::vector<size_t> of_other_shape(const std::string& name, const std::vector<std::string>& ids,
                                   const std::vector<Tensor>& left,
                                   const std::vector<Tensor>& right) {
  std::vector<size_t> wrong;
  const bool varies = vary(left) || vary(right);
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool nothing = found_nothing(left[i]) || found_nothing(right[i]);
    if (left[i].shape == right[i].shape || (found_nothing(left[i]) && found_nothing(right[i]))) {
      continue;
    }
    if (left[i].shape.size() != right[i].shape.size() ||
        !(varies || nothing || same_rows(left[i], right[i]))) {
      throw Error("output '" + name + "' of sample '" + ids[i] + "' has the shape " +
                  describe("", right[i].shape) + ", and the reference has " +
                  describe("", left[i].shape) + ": these are runs of different models");
    }
    wrong.push_back(i);
  }
  return wrong;
}

std::string plain(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t side : shape) text += (text.empty() ? "" : ", ") + std::to_string(side);
  return "[" + text + "]";
}

// What is said of the first of the samples whose answers have another shape, and of how many more.
std::string misshapen(const std::string& name, const std::string& id, const Tensor& left,
                      const Tensor& right, size_t more) {
  const auto rows = [](const Tensor& t) {
    return std::to_string(found_nothing(t) ? 0 : t.shape.front());
  };
  const bool counted = same_rows(left, right) || found_nothing(left) || found_nothing(right);
  return "output '" + name + "': " +
         (counted ? rows(right) + " rows (boxes, say) against " + rows(left)
                  : "shape " + plain(right.shape) + " against " + plain(left.shape)) +
         " of the reference for '" + id + "'" +
         (more != 0 ? ", and other numbers for " + std::to_string(more) + " more" : "");
}

// The samples at these places are left out.
template <typename T>
void leave_out(std::vector<T>& values, const std::vector<size_t>& places) {
  for (auto place = places.rbegin(); place != places.rend(); ++place) {
    values.erase(values.begin() + static_cast<ptrdiff_t>(*place));
  }
}

Difference difference(const std::string& name, std::vector<std::string> ids,
                      std::vector<Tensor> left, std::vector<Tensor> right, double least_probability,
                      std::vector<std::string>& warnings) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (count_not_finite(left[i].values) != 0) {
      throw Error("the reference's output '" + name + "' of sample '" + ids[i] +
                  "' is not finite: convert the model again");
    }
  }
  Difference d;
  d.name = name;
  d.kind = kind_of(left);
  for (size_t i = 0; i < ids.size(); ++i) {
    const size_t bad = count_not_finite(right[i].values);
    if (bad != 0 && d.not_finite == 0) d.worst = ids[i];
    d.not_finite += bad;
  }
  const auto wrong = of_other_shape(name, ids, left, right);
  for (const size_t i : wrong) d.misshapen.push_back(ids[i]);
  if (d.not_finite != 0 || wrong.size() == ids.size()) {
    if (d.not_finite == 0) d.worst = ids[0];
    d.max_abs_diff = d.mean_abs_diff = d.max_probability_diff = kInfinity;
    d.cosine = d.cosine_min = 0;
    return d;
  }
  leave_out(ids, wrong);
  leave_out(left, wrong);
  leave_out(right, wrong);
  std::array<double, 3> sums = {0, 0, 0};
  double total = 0;
  double noise = 0;
  double magnitude = 0;
  size_t count = 0;
  double least = kInfinity;
  d.worst = ids[0];
  std::array<Spread, 2> spreads;
  for (size_t i = 0; i < ids.size(); ++i) {
    const Values& a = left[i].values;
    const Values& b = right[i].values;
    if (found_nothing(left[i]) && found_nothing(right[i])) continue;
    d.max_abs_diff = std::max(d.max_abs_diff, most_apart(a, b));
    for (size_t k = 0; k < a.size(); ++k) {
      total += std::abs(a[k] - b[k]);
      magnitude = std::max(magnitude, std::abs(a[k]));
    }
    count += a.size();
    if (d.kind == Kind::kLogits) {
      d.max_probability_diff = std::max(d.max_probability_diff, most_apart(softmax(a), softmax(b)));
    }
    const Values ca = centred(left[i], d.kind, least_probability);
    const Values cb = centred(right[i], d.kind, least_probability);
    const std::array<double, 3> here = {dot(ca, cb), dot(ca, ca), dot(cb, cb)};
    for (size_t k = 0; k < 3; ++k) sums[k] += here[k];
    for (size_t k = 0; k < ca.size(); ++k) noise += (ca[k] - cb[k]) * (ca[k] - cb[k]);
    const double cosine = cosine_of(here[0], here[1], here[2]);
    if (cosine < least) {
      least = cosine;
      d.worst = ids[i];
    }
    spreads[0].add(ca);
    spreads[1].add(cb);
  }
  if (d.kind == Kind::kTensor) {
    d.max_probability_diff = magnitude > 0 ? d.max_abs_diff / magnitude : d.max_abs_diff;
  } else if (d.kind == Kind::kProbabilities) {
    d.max_probability_diff = d.max_abs_diff;
  }
  const auto moves = spreads[0].value();
  const auto candidate_moves = spreads[1].value();
  if (moves && candidate_moves && ids.size() > 1) {
    if (*moves > 1e-6 * std::sqrt(sums[1] / static_cast<double>(ids.size()))) {
      d.response = *candidate_moves / *moves;
    } else {
      warnings.push_back("the reference's output '" + name +
                         "' hardly depends on the input: on these samples the comparison proves "
                         "little");
    }
  }
  d.mean_abs_diff = count != 0 ? total / static_cast<double>(count) : 0.0;
  d.cosine = cosine_of(sums[0], sums[1], sums[2]);
  d.sqnr_db = noise == 0 ? kInfinity : 10 * std::log10(sums[1] / noise);
  d.cosine_min = std::min(least, 1.0);
  return d;
}

void judge(const Difference& d, const Limits& limits, std::vector<std::string>& failures) {
  const std::string output = "output '" + d.name + "'";
  if (d.not_finite != 0) {
    failures.push_back(output + ": " + std::to_string(d.not_finite) +
                       " values are NaN or Inf, first in '" + d.worst + "'");
    return;
  }
  if (std::isinf(d.max_abs_diff)) return;  // no two answers of the same shape
  if (d.cosine < limits.cosine) {
    failures.push_back(output + formatted(": cosine %.6f is below %g", d.cosine, limits.cosine) +
                       ", worst for '" + d.worst + "'");
  }
  if (d.limit && d.max_probability_diff > *d.limit) {
    const char* what = d.kind == Kind::kTensor ? "relative difference" : "max |dp|";
    failures.push_back(output + ": " + what +
                       formatted(" %.2e is above %.3g", d.max_probability_diff, *d.limit));
  }
  if (d.response && *d.response < kLeastResponse) {
    failures.push_back(output + " does not move when the input does");
  }
}

// Why the output was not judged, where nothing was there to judge; "" where it was.
std::string unjudged(const Difference& d, const std::vector<Tensor>& left,
                     const std::vector<Tensor>& right, const Limits& limits) {
  const std::string output = "output '" + d.name + "'";
  if (std::all_of(left.begin(), left.end(), found_nothing) &&
      std::all_of(right.begin(), right.end(), found_nothing)) {
    return output + " is empty for every sample: give samples on which the model finds something";
  }
  const auto allowed = limits.difference(d.noise);
  if (!limits.max_abs_diff || !allowed || !std::isinf(*allowed)) return "";
  if (!(d.max_probability_diff > *limits.max_abs_diff) || std::isinf(d.max_probability_diff)) {
    return "";
  }
  return output + ": differs by " + formatted("%.2e", d.max_probability_diff) +
         ", and the reference's own answer moves by " + formatted("%.2e", *d.noise) +
         " with the last bit of its input: a model that chaotic cannot be judged on these samples";
}

// Indices of the largest values of a row, largest first, ties by the lower index, NaN last.
std::vector<size_t> top(const double* row, size_t length, size_t most) {
  std::vector<size_t> order(length);
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t count = std::min(most, length);
  const auto key = [&](size_t i) { return std::isnan(row[i]) ? -kInfinity : row[i]; };
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(),
                    [&](size_t a, size_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; });
  order.resize(count);
  return order;
}

bool holds(const std::vector<size_t>& places, size_t value) {
  return std::find(places.begin(), places.end(), value) != places.end();
}

struct Ranking {
  json top1_agreement;
  json top5_agreement;
  json accuracy;
  json disagreeing = json::array();
  std::optional<double> drop;
};

Ranking rank(const std::vector<std::string>& ids, const std::vector<std::optional<int64_t>>& labels,
             const std::vector<Tensor>& left, const std::vector<Tensor>& right) {
  constexpr size_t kMost = 5;
  Ranking ranking;
  const auto count = static_cast<double>(ids.size());
  double agree = 0;
  double among = 0;
  std::array<double, 4> hits = {0, 0, 0, 0};  // reference top-1, top-5, candidate top-1, top-5
  double labelled = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const size_t row = left[i].row;
    bool same = true;
    bool within = true;
    for (size_t begin = 0; begin < left[i].values.size(); begin += row) {
      const auto a = top(left[i].values.data() + begin, row, kMost);
      const auto b = top(right[i].values.data() + begin, row, kMost);
      same = same && a[0] == b[0];
      within = within && holds(b, a[0]);
      if (labels[i] && *labels[i] >= 0 && left[i].values.size() == row) {
        const auto label = static_cast<size_t>(*labels[i]);
        hits[0] += label == a[0];
        hits[1] += holds(a, label);
        hits[2] += label == b[0];
        hits[3] += holds(b, label);
      }
    }
    if (labels[i] && left[i].values.size() == row) ++labelled;
    agree += same;
    among += within;
    if (!same) ranking.disagreeing.push_back(ids[i]);
  }
  const bool more_than_five = left[0].row > kMost;
  ranking.top1_agreement = agree / count;
  if (more_than_five) ranking.top5_agreement = among / count;
  if (labelled > 0) {
    ranking.drop = (hits[0] - hits[2]) / labelled * 100;
    ranking.accuracy = {{"reference_top1", hits[0] / labelled},
                        {"candidate_top1", hits[2] / labelled},
                        {"drop", *ranking.drop},
                        {"labelled", labelled}};
    if (more_than_five) {
      ranking.accuracy["reference_top5"] = hits[1] / labelled;
      ranking.accuracy["candidate_top5"] = hits[3] / labelled;
    }
  }
  return ranking;
}

}  // namespace

Limits limits_for(const std::string& precision) {
  static const std::map<std::string, Limits> kLimits = {
      {"fp32", {0.99999, 1e-4}},           {"fp16", {0.999}},
      {"int16-weights", {0.99999}},        {"int8-weights", {0.99}},
      {"int8", {0.99, std::nullopt, 1.0}},
  };
  const auto found = kLimits.find(precision);
  return found != kLimits.end() ? found->second : kLimits.at("fp32");
}

std::optional<double> Limits::difference(std::optional<double> noise) const {
  if (!max_abs_diff || !noise || noise_times == 0) return max_abs_diff;
  if (!(*noise <= kMostNoise)) return kInfinity;
  return std::max(*max_abs_diff, noise_times * *noise);
}

json compare(const Run& reference, const Run& candidate, const Limits& limits) {
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < candidate.samples.size(); ++i) places[candidate.samples[i].id] = i;
  std::vector<std::pair<size_t, size_t>> pairs;
  std::vector<std::string> ids;
  std::vector<std::optional<int64_t>> labels;
  for (size_t i = 0; i < reference.samples.size(); ++i) {
    const SampleInfo& sample = reference.samples[i];
    const auto found = places.find(sample.id);
    if (found == places.end()) continue;
    if (sample.sha256 != candidate.samples[found->second].sha256) {
      throw Error("sample '" + sample.id +
                  "' was fed as different tensors in the two runs: use the same preprocessing for "
                  "both");
    }
    pairs.emplace_back(i, found->second);
    ids.push_back(sample.id);
    labels.push_back(sample.label);
  }
  if (pairs.empty()) {
    throw Error("these runs have no sample in common: run both on the same data", kUsage);
  }
  if (reference.outputs.size() != candidate.outputs.size()) {
    throw Error("these runs are of different models: " + std::to_string(reference.outputs.size()) +
                " outputs against " + std::to_string(candidate.outputs.size()));
  }
  std::vector<std::string> warnings;
  std::vector<std::string> failures;
  std::vector<std::string> nothing_judged;
  const size_t most = std::max(reference.samples.size(), candidate.samples.size());
  if (pairs.size() < most) {
    warnings.push_back("only " + std::to_string(pairs.size()) + " of " + std::to_string(most) +
                       " samples are in both runs");
  }
  json outputs = json::array();
  std::optional<Ranking> ranking;
  const double least_probability =
      candidate.precision == "fp16" ? kLeastProbabilityFp16 : kLeastProbability;
  for (size_t o = 0; o < reference.outputs.size(); ++o) {
    std::vector<Tensor> left;
    std::vector<Tensor> right;
    for (const auto& [r, c] : pairs) {
      left.push_back(tensor(reference.outputs[o].values[r]));
      right.push_back(tensor(candidate.outputs[o].values[c]));
    }
    const std::string& name = reference.outputs[o].name;
    Difference d = difference(name, ids, left, right, least_probability, warnings);
    const auto noise = reference.noise.find(name);
    if (noise != reference.noise.end()) d.noise = noise->second;
    d.limit = limits.difference(d.noise);
    if (d.limit && std::isinf(*d.limit)) d.limit.reset();
    outputs.push_back(to_json(d));
    if (!d.misshapen.empty()) {
      const auto first = std::find(ids.begin(), ids.end(), d.misshapen[0]) - ids.begin();
      failures.push_back(misshapen(name, d.misshapen[0], left[static_cast<size_t>(first)],
                                   right[static_cast<size_t>(first)], d.misshapen.size() - 1));
    }
    judge(d, limits, failures);
    const std::string why = unjudged(d, left, right, limits);
    if (!why.empty()) nothing_judged.push_back(why);
    if (!ranking && d.kind != Kind::kTensor && d.misshapen.empty())
      ranking = rank(ids, labels, left, right);
  }
  if (limits.top1_drop && ranking && ranking->drop && *ranking->drop > *limits.top1_drop) {
    failures.push_back(formatted("top-1 accuracy falls by %.2f points, and %g are allowed",
                                 *ranking->drop, *limits.top1_drop));
  }
  return {{"passed", failures.empty() && nothing_judged.empty()},
          {"samples", pairs.size()},
          {"outputs", std::move(outputs)},
          {"top1_agreement", ranking ? ranking->top1_agreement : json()},
          {"top5_agreement", ranking ? ranking->top5_agreement : json()},
          {"accuracy", ranking ? ranking->accuracy : json()},
          {"disagreeing", ranking ? ranking->disagreeing : json::array()},
          {"limits",
           {{"cosine", limits.cosine},
            {"max_abs_diff", number(limits.max_abs_diff)},
            {"top1_drop", number(limits.top1_drop)},
            {"noise_times", limits.noise_times}}},
          {"failures", failures},
          {"warnings", warnings},
          {"unjudged", nothing_judged}};
}

}  // namespace lite_run
