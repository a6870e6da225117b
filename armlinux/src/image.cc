#include "image.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "error.h"

namespace lite_run {
namespace {

using Json = nlohmann::json;

// A 1 x 4000 picture with its short side brought to 256 would be a million pixels wide.
constexpr int64_t kMaxResizedPixels = int64_t{1} << 26;

// To which PaddleOCR shortens the long side of pages, and PaddleX lines of text.
constexpr double kLongestPage = 4000, kLongestLine = 3200;
// The rules of py_runner/data/geometry.py.
const std::vector<std::string> kResizes = {"short",    "exact",    "pad",       "none", "long",
                                           "page-min", "page-max", "page-long", "line"};

// Both sides times the ratio, to the nearest multiples of 32.
Extent page(double height, double width, double ratio) {
  double high = std::trunc(height * ratio), wide = std::trunc(width * ratio);
  if (std::max(high, wide) > kLongestPage) {
    ratio = kLongestPage / std::max(high, wide);
    high = std::trunc(high * ratio);
    wide = std::trunc(wide * ratio);
  }
  return {static_cast<int64_t>(std::max(std::nearbyint(high / 32) * 32, 32.0)),
          static_cast<int64_t>(std::max(std::nearbyint(wide / 32) * 32, 32.0))};
}

[[noreturn]] void refuse(const std::string& what) { throw Error("image: " + what); }

std::string by(int64_t height, int64_t width) {
  return std::to_string(height) + "x" + std::to_string(width);
}

bool is_side(const Json& value) {
  return value.is_number_integer() && value >= 1 && value <= 1 << 16;
}

bool is_pair(const Json& value) {
  return value.is_array() && value.size() == 2 && is_side(value[0]) && is_side(value[1]);
}

// The place of value in `allowed`.
size_t choice(const Json& spec, const char* name, const std::vector<std::string>& allowed) {
  const Json& value = spec.at(name);
  const auto found = value.is_string()
                         ? std::find(allowed.begin(), allowed.end(), value.get<std::string>())
                         : allowed.end();
  if (found == allowed.end()) {
    std::string names;
    for (const std::string& one : allowed) names += (names.empty() ? "" : ", ") + one;
    refuse(std::string(name) + " is " + value.dump() + "; it must be one of " + names);
  }
  return static_cast<size_t>(found - allowed.begin());
}

// As float32, because that is what it is used as: 1e-60 would be a division by zero.
float number(const Json& value, const std::string& name, bool positive) {
  constexpr double low = std::numeric_limits<float>::min();
  constexpr double high = std::numeric_limits<float>::max();
  const double x =
      value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(positive ? low <= x && x <= high : -high <= x && x <= high)) {
    refuse(name + " must be a " + (positive ? "positive" : "finite") +
           " number within float32, not " + value.dump());
  }
  return static_cast<float>(x);
}

std::array<float, 3> numbers(const Json& spec, const std::string& name, bool positive) {
  const Json& values = spec.at(name);
  if (!values.is_array() || values.size() != 3) {
    refuse(name + " needs a list of 3 numbers, not " + values.dump());
  }
  return {number(values[0], name, positive), number(values[1], name, positive),
          number(values[2], name, positive)};
}

// Write one row of the tensor's three channels. `Step` bytes from one pixel to the next.
template <int Step>
void write_row(const uint8_t* pixels, int64_t count, const std::array<const float*, 3>& table,
               float* tensor, int64_t plane) {
  const float* __restrict red = table[0];
  const float* __restrict green = table[1];
  const float* __restrict blue = table[2];
  float* __restrict first = tensor;
  float* __restrict second = tensor + plane;
  float* __restrict third = tensor + 2 * plane;
  for (int64_t i = 0; i < count; ++i, pixels += Step) {
    first[i] = red[pixels[0]];
    second[i] = green[pixels[1]];
    third[i] = blue[pixels[2]];
  }
}

// Which two source pixels make a destination pixel of cv2-linear, and their 11-bit weights.
struct Linear {
  std::vector<int32_t> first, second;
  std::vector<int16_t> first_weight, second_weight;

  // Of destinations start .. start + count - 1. snap: give the nearer pixel all the weight outside
  // the image (the horizontal pass only).
  Linear(int64_t source, int64_t destination, int64_t start, int64_t count, bool snap) {
    for (std::vector<int32_t>* indices : {&first, &second}) indices->reserve(count);
    for (std::vector<int16_t>* weights : {&first_weight, &second_weight}) weights->reserve(count);
    // OpenCV inverts its inverse: not the same double.
    const double scale = 1.0 / (static_cast<double>(destination) / static_cast<double>(source));
    for (int64_t i = start; i < start + count; ++i) {
      const auto position = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
      const float below = std::floor(position);
      const auto index = static_cast<int64_t>(below);
      float fraction = position - below;
      if (snap && (index < 0 || index >= source - 1)) fraction = 0;
      first.push_back(static_cast<int32_t>(std::clamp<int64_t>(index, 0, source - 1)));
      second.push_back(static_cast<int32_t>(std::clamp<int64_t>(index + 1, 0, source - 1)));
      first_weight.push_back(static_cast<int16_t>(std::lrint((1.0F - fraction) * 2048.0F)));
      second_weight.push_back(static_cast<int16_t>(std::lrint(fraction * 2048.0F)));
    }
  }
};

// Means of two by two pixels of two rows.
template <int Channels>
void halve(const uint8_t* __restrict upper, const uint8_t* __restrict lower,
           uint8_t* __restrict result, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < Channels; ++c) {
      const int64_t at = 2 * i * Channels + c;
      const int sum = upper[at] + upper[at + Channels] + lower[at] + lower[at + Channels];
      result[i * Channels + c] = static_cast<uint8_t>((sum + 2) >> 2);
    }
  }
}

// Four lanes a pixel, the last one unused, so that the arithmetic on a row runs in whole vectors.
constexpr int kLanes = 4;

// The pixels at `indices` of one row. No byte behind the row is read.
template <int Channels>
void gather(const uint8_t* row, int64_t width, const std::vector<int32_t>& indices,
            uint8_t* __restrict lanes) {
  // Four bytes are moved at once where a fourth exists: indices ascend.
  const int64_t last = Channels == kLanes ? width : width - 1;
  const auto safe = std::lower_bound(indices.begin(), indices.end(), last) - indices.begin();
  const int32_t* __restrict at = indices.data();
  for (int64_t i = 0; i < safe; ++i) {
    std::memcpy(lanes + i * kLanes, row + static_cast<ptrdiff_t>(at[i]) * Channels, kLanes);
  }
  for (auto i = safe; i < static_cast<int64_t>(indices.size()); ++i) {
    std::memcpy(lanes + i * kLanes, row + static_cast<ptrdiff_t>(at[i]) * Channels, 3);
  }
}

// Rows of a source image, resized horizontally by cv2-linear, the last two kept.
template <int Channels>
class LinearRows {
 public:
  LinearRows(const uint8_t* pixels, ptrdiff_t stride, int64_t width, const Linear& columns)
      : pixels_(pixels), stride_(stride), width_(width), columns_(columns) {
    count_ = static_cast<int64_t>(columns.first.size()) * kLanes;
    for (std::vector<int16_t>* values : {&weights_[0], &weights_[1], &rows_[0], &rows_[1]}) {
      values->resize(count_);
    }
    for (std::vector<uint8_t>* values : {&lanes_[0], &lanes_[1]}) values->resize(count_);
    for (int64_t i = 0; i < count_; ++i) {
      weights_[0][i] = columns.first_weight[i / kLanes];
      weights_[1][i] = columns.second_weight[i / kLanes];
    }
  }

  // Row y; a pointer to it stays valid until the next call but one.
  const int16_t* row(int32_t y) {
    for (int slot : {0, 1}) {
      if (held_[slot] == y) {
        next_ = 1 - slot;
        return rows_[slot].data();
      }
    }
    const int slot = next_;
    const uint8_t* source = pixels_ + y * stride_;
    gather<Channels>(source, width_, columns_.first, lanes_[0].data());
    gather<Channels>(source, width_, columns_.second, lanes_[1].data());
    blend(rows_[slot].data(), lanes_[0].data(), lanes_[1].data(), weights_[0].data(),
          weights_[1].data(), count_);
    held_[slot] = y;
    next_ = 1 - slot;
    return rows_[slot].data();
  }

 private:
  static void blend(int16_t* __restrict result, const uint8_t* __restrict p0,
                    const uint8_t* __restrict p1, const int16_t* __restrict a0,
                    const int16_t* __restrict a1, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      result[i] = static_cast<int16_t>((p0[i] * a0[i] + p1[i] * a1[i]) >> 4);
    }
  }

  const uint8_t* pixels_;
  ptrdiff_t stride_;
  int64_t width_;
  const Linear& columns_;
  int64_t count_ = 0;
  std::vector<int16_t> weights_[2];
  std::vector<int16_t> rows_[2];
  std::vector<uint8_t> lanes_[2];
  int32_t held_[2] = {-1, -1};
  int next_ = 0;
};

void blend_rows(uint8_t* __restrict result, const int16_t* __restrict h0,
                const int16_t* __restrict h1, int32_t b0, int32_t b1, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    result[i] = static_cast<uint8_t>((((h0[i] * b0) >> 16) + ((h1[i] * b1) >> 16) + 2) >> 2);
  }
}

// Which source pixels make a destination pixel of Pillow's BILINEAR, and their 22-bit weights: the
// triangle filter of libImaging/Resample.c, as wide as the reduction.
struct Triangle {
  static constexpr int kBits = 22;
  static constexpr int32_t kHalf = 1 << (kBits - 1);

  std::vector<int32_t> first, count;  // by destination
  std::vector<int32_t> weights;       // `taps` a destination
  int taps = 0;

  Triangle(int64_t source, int64_t destination, int64_t start, int64_t length) {
    // Pillow hands the source size on as a float.
    const double scale = static_cast<double>(static_cast<float>(source)) / destination;
    const double support = std::max(scale, 1.0);
    taps = static_cast<int>(std::ceil(support)) * 2 + 1;
    if (destination > INT_MAX / (taps * static_cast<int64_t>(sizeof(double))) ||  // Pillow's limit
        length * taps > kMaxResizedPixels) {
      throw Error("resizing " + std::to_string(source) + " to " + std::to_string(destination) +
                  " pixels would take too much memory");
    }
    weights.resize(static_cast<size_t>(length * taps));
    std::vector<double> exact(taps);
    const double shrink = 1.0 / support;
    // NOLINTBEGIN(bugprone-incorrect-roundings): Pillow's
    for (int64_t i = 0; i < length; ++i) {
      const double centre = (static_cast<double>(start + i) + 0.5) * scale;
      const auto low = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
      const auto high = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), source);
      double sum = 0;
      for (int64_t x = low; x < high; ++x) {
        const double distance = std::fabs((static_cast<double>(x) - centre + 0.5) * shrink);
        exact[x - low] = distance < 1.0 ? 1.0 - distance : 0.0;
        sum += exact[x - low];
      }
      for (int64_t x = low; x < high; ++x) {
        const double weight = sum != 0.0 ? exact[x - low] / sum : exact[x - low];
        weights[i * taps + x - low] = static_cast<int32_t>(0.5 + weight * (1 << kBits));
      }
      first.push_back(static_cast<int32_t>(low));
      count.push_back(static_cast<int32_t>(high - low));
    }
    // NOLINTEND(bugprone-incorrect-roundings)
  }
};

template <int Channels>
void triangle_row(const uint8_t* row, const Triangle& columns, uint8_t* __restrict result) {
  const int32_t* weights = columns.weights.data();
  for (size_t i = 0; i < columns.first.size(); ++i, weights += columns.taps, result += 3) {
    const uint8_t* pixel = row + static_cast<ptrdiff_t>(columns.first[i]) * Channels;
    int32_t red = Triangle::kHalf, green = Triangle::kHalf, blue = Triangle::kHalf;
    for (int32_t x = 0; x < columns.count[i]; ++x, pixel += Channels) {
      red += pixel[0] * weights[x];
      green += pixel[1] * weights[x];
      blue += pixel[2] * weights[x];
    }
    // Weights are positive and add up to 1: nothing to clip but a rounding above 255.
    result[0] = static_cast<uint8_t>(std::min(red >> Triangle::kBits, 255));
    result[1] = static_cast<uint8_t>(std::min(green >> Triangle::kBits, 255));
    result[2] = static_cast<uint8_t>(std::min(blue >> Triangle::kBits, 255));
  }
}

void add_weighted(int32_t* __restrict sums, const uint8_t* __restrict row, int32_t weight,
                  int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += row[i] * weight;
}

}  // namespace

// From source pixels to the window of the resized image that becomes the tensor.
struct ImageSpec::Plan {
  Extent source, resized, window;
  int64_t top = 0, left = 0;
  int64_t tensor_width = 0;  // more than the window's where zeros are added on the right
};

std::string ImageSpec::beyond(const Json& value) {
  static const std::map<std::string, std::vector<std::string>> values = {
      {"resize", {"within", "fit", "letterbox"}},
      {"interpolation", {"cv2-cubic", "cv2-area", "cv2-nearest", "cv2-linear-f32"}}};
  if (!value.is_object()) return "";
  for (const auto& [key, known] : values) {
    const auto found = value.find(key);
    if (found != value.end() && found->is_string() &&
        std::find(known.begin(), known.end(), found->get<std::string>()) != known.end()) {
      return key + " " + found->get<std::string>();
    }
  }
  for (const char* key : {"canvas", "fill", "stride", "wide", "upright"}) {
    if (value.contains(key)) return key;
  }
  return "";
}

ImageSpec ImageSpec::parse(const Json& value) {
  static const std::vector<std::string> names = {"resize",        "size",  "crop",    "color",
                                                 "interpolation", "scale", "divisor", "mean",
                                                 "std",           "draft"};
  if (!value.is_object()) {
    refuse(std::string("expected a JSON object, got ") + value.type_name());
  }
  for (const auto& [key, unused] : value.items()) {
    if (std::find(names.begin(), names.end(), key) == names.end()) refuse("unknown key " + key);
  }
  for (const std::string& name : names) {
    if (name != "draft" && !value.contains(name)) refuse("missing key " + name);
  }
  ImageSpec spec;
  spec.bgr_ = choice(value, "color", {"RGB", "BGR"}) == 1;
  spec.resize_ = static_cast<Resize>(choice(value, "resize", kResizes));
  spec.antialias_ = choice(value, "interpolation", {"cv2-linear", "pil-bilinear"}) == 1;

  const Json& size = value.at("size");
  if (spec.is_one_side()) {
    if (!is_side(size)) {
      refuse("resize " + kResizes[static_cast<size_t>(spec.resize_)] +
             " needs size = one side, not " + size.dump());
    }
    spec.size_.height = size.get<int64_t>();
  } else if (spec.resize_ == Resize::kNone) {
    if (!size.is_null()) refuse("resize none takes no size, but size is " + size.dump());
  } else {
    if (!is_pair(size)) refuse("size must be [height, width], not " + size.dump());
    spec.size_ = {size[0].get<int64_t>(), size[1].get<int64_t>()};
  }
  const Json& crop = value.at("crop");
  if (!crop.is_null()) {
    if (!is_pair(crop)) refuse("crop needs [height, width], not " + crop.dump());
    spec.crop_ = {crop[0].get<int64_t>(), crop[1].get<int64_t>()};
    if (spec.resize_ > Resize::kNone || spec.resize_ == Resize::kPad) {
      refuse("resize " + kResizes[static_cast<size_t>(spec.resize_)] + " takes no crop");
    }
    const bool fits =
        spec.resize_ == Resize::kShort
            // One side of the crop may exceed it (the long side is longer), but never both.
            ? std::min(spec.crop_.height, spec.crop_.width) <= spec.size_.height
            : spec.resize_ == Resize::kNone ||
                  (spec.crop_.height <= spec.size_.height && spec.crop_.width <= spec.size_.width);
    if (!fits) {
      refuse("crop " + by(spec.crop_.height, spec.crop_.width) + " does not fit into the size " +
             size.dump());
    }
  }

  if (spec.antialias_ && spec.resize_ > Resize::kNone) {
    refuse("resize " + kResizes[static_cast<size_t>(spec.resize_)] +
           " is OpenCV's: not with pil-bilinear");
  }
  const Json draft = value.value("draft", Json(false));
  if (!draft.is_boolean() || (draft == true && spec.resize_ == Resize::kNone)) {
    refuse("draft is " + draft.dump() + "; it must be true or false, and true needs a resize");
  }
  spec.draft_ = draft.get<bool>();

  const float scale = number(value.at("scale"), "scale", true);
  const float divisor = number(value.at("divisor"), "divisor", true);
  const std::array<float, 3> mean = numbers(value, "mean", false);
  const std::array<float, 3> std = numbers(value, "std", true);
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t x = 0; x < 256; ++x) {
      const float scaled = static_cast<float>(x) * scale;
      spec.table_[channel][x] = (scaled / divisor - mean[channel]) / std[channel];
    }
  }
  return spec;
}

Pixels ImageSpec::decode(const uint8_t* data, size_t size) const {
  DecodeOptions options;
  if (draft_) options.wanted = [this](Extent image) { return resized(large_enough(image)); };
  return decode_image(data, size, options);
}

std::vector<int64_t> ImageSpec::output_shape() const {
  if (crop_.height != 0) return {1, 3, crop_.height, crop_.width};
  if (resize_ == Resize::kLine) return {1, 3, size_.height, -1};
  if (size_.width != 0) return {1, 3, size_.height, size_.width};
  return {1, 3, -1, -1};
}

bool ImageSpec::is_page() const {
  return resize_ == Resize::kPageMin || resize_ == Resize::kPageMax || resize_ == Resize::kPageLong;
}

bool ImageSpec::is_one_side() const {
  return resize_ == Resize::kShort || resize_ == Resize::kLong || is_page();
}

Extent ImageSpec::large_enough(Extent image) const {
  if (!is_page() || image.height + image.width >= 64) return image;
  return {std::max<int64_t>(32, image.height), std::max<int64_t>(32, image.width)};
}

int64_t ImageSpec::line_width(Extent image) const {
  const auto high = static_cast<double>(size_.height);
  const auto least = static_cast<double>(size_.width);
  const double ratio = static_cast<double>(image.width) / static_cast<double>(image.height);
  return static_cast<int64_t>(
      std::min(std::trunc(high * std::max(least / high, ratio)), kLongestLine));
}

Extent ImageSpec::resized(Extent image) const {
  const auto height = static_cast<double>(image.height), width = static_cast<double>(image.width);
  switch (resize_) {
    case Resize::kShort: {
      // nearbyint rounds halves to even, as Python's round does.
      const double percent = static_cast<double>(size_.height) / std::min(width, height);
      return {static_cast<int64_t>(std::nearbyint(height * percent)),
              static_cast<int64_t>(std::nearbyint(width * percent))};
    }
    case Resize::kPad: {
      // The quotient first: ceil() of another order of operations can differ by one pixel.
      const double scaled = std::ceil(static_cast<double>(size_.height) * (width / height));
      return {size_.height,
              static_cast<int64_t>(std::min(scaled, static_cast<double>(size_.width)))};
    }
    case Resize::kExact:
      return size_;
    case Resize::kLong: {
      const double scale = static_cast<double>(size_.height) / std::max(width, height);
      return {static_cast<int64_t>(std::nearbyint(height * scale)),
              static_cast<int64_t>(std::nearbyint(width * scale))};
    }
    case Resize::kPageMin: {
      const double side = std::min(width, height), least = static_cast<double>(size_.height);
      return page(height, width, side < least ? least / side : 1.0);
    }
    case Resize::kPageMax: {
      const double side = std::max(width, height), most = static_cast<double>(size_.height);
      return page(height, width, side > most ? most / side : 1.0);
    }
    case Resize::kPageLong: {
      const double ratio = static_cast<double>(size_.height) / std::max(width, height);
      return {(static_cast<int64_t>(height * ratio) + 127) / 128 * 128,
              (static_cast<int64_t>(width * ratio) + 127) / 128 * 128};
    }
    case Resize::kLine: {
      const auto high = static_cast<double>(size_.height);
      const auto scaled = static_cast<int64_t>(std::ceil(high * (width / height)));
      return {size_.height, std::min(scaled, line_width(image))};
    }
    case Resize::kNone:
      break;
  }
  return image;
}

ImageSpec::Plan ImageSpec::plan(int width, int height) const {
  if (width < 1 || height < 1) {
    throw Error("expected pixels, got an image of " + by(height, width) + " (height x width)",
                kUsage);
  }
  Plan plan;
  plan.source = large_enough({height, width});
  plan.resized = resized(plan.source);
  plan.window = crop_.height != 0 ? crop_ : plan.resized;
  const int64_t window_height = plan.window.height, window_width = plan.window.width;
  if (window_height > plan.resized.height || window_width > plan.resized.width) {
    throw Error("the crop " + by(window_height, window_width) +
                " (height x width) is larger than the image, which is " +
                by(plan.resized.height, plan.resized.width) + " after the resize");
  }
  plan.top = (plan.resized.height - window_height) / 2;
  plan.left = (plan.resized.width - window_width) / 2;
  plan.tensor_width = resize_ == Resize::kPad    ? size_.width
                      : resize_ == Resize::kLine ? line_width(plan.source)
                                                 : window_width;
  if (plan.resized.height < 1 || plan.resized.width < 1) {
    throw Error("an image of " + by(height, width) + " (height x width) would become " +
                by(plan.resized.height, plan.resized.width) + ": nothing");
  }
  // What py_runner computes: with Pillow the whole image, of which the window is cut. Doubles
  // cannot overflow, and are exact as far as it matters.
  const Extent& computed = antialias_ && resize_ != Resize::kNone ? plan.resized : plan.window;
  const double made = static_cast<double>(window_height) * static_cast<double>(plan.tensor_width);
  if (std::max(static_cast<double>(computed.height) * static_cast<double>(computed.width), made) >
      static_cast<double>(kMaxResizedPixels)) {
    throw Error("an image of " + by(height, width) + " (height x width) would become " +
                by(plan.resized.height, plan.resized.width) + ": too large");
  }
  return plan;
}

std::array<int64_t, 4> ImageSpec::shape(int width, int height) const {
  const Plan plan = this->plan(width, height);
  return {1, 3, plan.window.height, plan.tensor_width};
}

void ImageSpec::apply(const uint8_t* pixels, int width, int height, ptrdiff_t stride, int channels,
                      float* tensor) const {
  if (channels != 3 && channels != 4) {
    throw Error("expected RGB or RGBA pixels, got " + std::to_string(channels) + " channels",
                kUsage);
  }
  const Plan plan = this->plan(width, height);
  std::vector<uint8_t> padded;
  if (plan.source.height != height || plan.source.width != width) {
    const ptrdiff_t wide = static_cast<ptrdiff_t>(plan.source.width) * channels;
    padded.resize(static_cast<size_t>(plan.source.height * wide));
    for (int64_t y = 0; y < height; ++y) {
      std::memcpy(padded.data() + y * wide, pixels + y * stride,
                  static_cast<size_t>(width) * static_cast<size_t>(channels));
    }
    pixels = padded.data();
    stride = wide;
  }
  if (channels == 3) {
    run<3>(plan, pixels, stride, tensor);
  } else {
    run<4>(plan, pixels, stride, tensor);
  }
}

template <int Channels>
void ImageSpec::run(const Plan& plan, const uint8_t* pixels, ptrdiff_t stride,
                    float* tensor) const {
  const int64_t rows = plan.window.height, columns = plan.window.width;
  const int64_t plane = rows * plan.tensor_width;
  // Pixels are RGB; table_ and the tensor have the spec's order.
  const std::array<const float*, 3> table = {table_[bgr_ ? 2 : 0].data(), table_[1].data(),
                                             table_[bgr_ ? 0 : 2].data()};
  float* const red = bgr_ ? tensor + 2 * plane : tensor;
  const int64_t to_next = bgr_ ? -plane : plane;
  const auto write = [&](auto step, int64_t row, const uint8_t* from) {
    write_row<decltype(step)::value>(from, columns, table, red + row * plan.tensor_width, to_next);
  };
  const auto write_pixels = [&](int64_t row, const uint8_t* from) {
    write(std::integral_constant<int, Channels>(), row, from);
  };
  if (columns < plan.tensor_width) {
    for (int64_t row = 0; row < 3 * rows; ++row) {
      float* const start = tensor + row * plan.tensor_width;
      std::fill(start + columns, start + plan.tensor_width, 0.0F);
    }
  }

  const bool same_height = plan.resized.height == plan.source.height;
  const bool same_width = plan.resized.width == plan.source.width;
  if (same_height && same_width) {
    for (int64_t row = 0; row < rows; ++row) {
      write_pixels(row, pixels + (plan.top + row) * stride + plan.left * Channels);
    }
  } else if (antialias_) {
    const Triangle across(plan.source.width, plan.resized.width, plan.left, columns);
    const Triangle down(plan.source.height, plan.resized.height, plan.top, rows);
    if (columns * down.taps > kMaxResizedPixels) {
      throw Error("resizing " + std::to_string(plan.source.height) + " rows to " +
                  std::to_string(plan.resized.height) + " would take too much memory");
    }
    // Of the source's rows, resized horizontally, the last ones are kept.
    const size_t row_bytes = static_cast<size_t>(columns) * 3;
    std::vector<uint8_t> ring(row_bytes * down.taps), result(row_bytes);
    std::vector<int32_t> sums(row_bytes);
    int32_t made = 0;  // rows before this one are in the ring, or were
    const auto slot = [&](int32_t y) { return ring.data() + row_bytes * (y % down.taps); };
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t first = down.first[row], end = first + down.count[row];
      for (made = std::max(made, first); made < end; ++made) {
        triangle_row<Channels>(pixels + made * stride, across, slot(made));
      }
      std::fill(sums.begin(), sums.end(), Triangle::kHalf);
      for (int32_t y = first; y < end; ++y) {
        add_weighted(sums.data(), slot(y), down.weights[row * down.taps + y - first],
                     static_cast<int64_t>(row_bytes));
      }
      for (size_t i = 0; i < row_bytes; ++i) {
        result[i] = static_cast<uint8_t>(std::min(sums[i] >> Triangle::kBits, 255));
      }
      write(std::integral_constant<int, 3>(), row, result.data());
    }
  } else if (2 * plan.resized.height == plan.source.height &&
             2 * plan.resized.width == plan.source.width) {
    // OpenCV takes the mean of four pixels here.
    std::vector<uint8_t> result(static_cast<size_t>(columns) * Channels);
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* upper = pixels + 2 * (plan.top + row) * stride + 2 * plan.left * Channels;
      halve<Channels>(upper, upper + stride, result.data(), columns);
      write_pixels(row, result.data());
    }
  } else {
    const Linear across(plan.source.width, plan.resized.width, plan.left, columns, true);
    const Linear down(plan.source.height, plan.resized.height, plan.top, rows, false);
    LinearRows<Channels> source(pixels, stride, plan.source.width, across);
    std::vector<uint8_t> result(static_cast<size_t>(columns) * kLanes);
    for (int64_t row = 0; row < rows; ++row) {
      const int16_t* upper = source.row(down.first[row]);
      const int16_t* lower = source.row(down.second[row]);
      blend_rows(result.data(), upper, lower, down.first_weight[row], down.second_weight[row],
                 columns * kLanes);
      write(std::integral_constant<int, kLanes>(), row, result.data());
    }
  }
}

}  // namespace lite_run
