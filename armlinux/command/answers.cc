#include "answers.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "session.h"

namespace command {

using nlohmann::json;

namespace {

template <typename T>
double value_at(const void* data, size_t index) {
  return static_cast<double>(static_cast<const T*>(data)[index]);
}

double value_of(const void* data, const std::string& dtype, size_t index) {
  if (dtype == "float32") return value_at<float>(data, index);
  if (dtype == "int64") return value_at<int64_t>(data, index);
  if (dtype == "int32") return value_at<int32_t>(data, index);
  return dtype == "int8" ? value_at<int8_t>(data, index) : value_at<uint8_t>(data, index);
}

json finite(double value) { return std::isfinite(value) ? json(value) : json(); }

}  // namespace

json answers(lr_session* session, int top_k) {
  json outputs = json::array();
  for (int i = 0; i < lr_count(session, LR_OUTPUT); ++i) {
    const char* name = nullptr;
    const char* dtype = nullptr;
    const void* data = nullptr;
    const int64_t* shape = nullptr;
    int rank = 0;
    must(lr_spec(session, LR_OUTPUT, i, &name, nullptr, nullptr, nullptr));
    must(lr_output(session, i, &data, &dtype, &shape, &rank));
    const auto count =
        static_cast<size_t>(std::accumulate(shape, shape + rank, int64_t{1}, std::multiplies<>()));
    std::vector<double> values(count);
    for (size_t k = 0; k < count; ++k) values[k] = value_of(data, dtype, k);
    json output = {
        {"name", name}, {"dtype", dtype}, {"shape", std::vector<int64_t>(shape, shape + rank)}};
    const bool row = rank > 0 && count >= 2 && count == static_cast<size_t>(shape[rank - 1]);
    if (row && std::string(dtype) == "float32") {
      std::vector<size_t> order(count);
      std::iota(order.begin(), order.end(), size_t{0});
      // NaN stands last, so that the order stays one.
      const auto key = [&](size_t k) {
        return std::isnan(values[k]) ? -std::numeric_limits<double>::infinity() : values[k];
      };
      const auto top = std::min(count, static_cast<size_t>(top_k));
      std::partial_sort(
          order.begin(), order.begin() + static_cast<ptrdiff_t>(top), order.end(),
          [&](size_t a, size_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; });
      output["top"] = json::array();
      for (size_t k = 0; k < top; ++k) {
        const char* label = lr_label(session, static_cast<int64_t>(order[k]));
        output["top"].push_back({{"class", order[k]},
                                 {"score", finite(values[order[k]])},
                                 {"label", label != nullptr ? json(label) : json()}});
      }
    } else if (count > 0) {
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      output["min"] = finite(*least);
      output["max"] = finite(*most);
    }
    outputs.push_back(std::move(output));
  }
  return outputs;
}

}  // namespace command
