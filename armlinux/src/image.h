// ImageSpec: pixels -> tensor, exactly as the bundle says; bit-equal to py_runner/data/image.py,
// whose docstrings are the contract of every field.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "decode.h"

namespace lite_run {

class ImageSpec {
 public:
  // The value of "image" in bundle.json. Throws Error for what ImageSpec.from_json refuses.
  static ImageSpec parse(const nlohmann::json& value);

  // What the value asks for that py_runner does and this library does not, in words that name it;
  // empty where there is nothing of the kind.
  static std::string beyond(const nlohmann::json& value);

  // Decode an image file as decode_image does, shrunk on the way where the spec's draft is on.
  Pixels decode(const uint8_t* data, size_t size) const;

  // Shape of the tensor, NCHW; -1 where it depends on the image.
  std::vector<int64_t> output_shape() const;

  // Shape of the tensor of an image of this size. Throws Error where the image is smaller than the
  // crop or would become too large.
  std::array<int64_t, 4> shape(int width, int height) const;

  // Write the tensor of one image, NCHW in C order, all of shape(width, height).
  //
  // pixels    8 bits a channel, rows from top to bottom
  // stride    bytes from one row to the next
  // channels  3 for RGB, 4 for RGBA, whose alpha is ignored
  //
  // Throws Error as shape() does, and for sizes below 1 and other channels.
  void apply(const uint8_t* pixels, int width, int height, ptrdiff_t stride, int channels,
             float* tensor) const;

 private:
  // In the order of kResizes in image.cc.
  enum class Resize { kShort, kExact, kPad, kNone, kLong, kPageMin, kPageMax, kPageLong, kLine };
  struct Plan;  // what apply() does to an image of one size

  Plan plan(int width, int height) const;
  Extent resized(Extent image) const;
  bool is_page() const;
  bool is_one_side() const;
  // What an image becomes before it is resized: PaddleOCR adds black to the smallest pages.
  Extent large_enough(Extent image) const;
  int64_t line_width(Extent image) const;
  template <int Channels>
  void run(const Plan& plan, const uint8_t* pixels, ptrdiff_t stride, float* tensor) const;

  Resize resize_ = Resize::kNone;
  Extent size_;  // height alone where is_one_side()
  Extent crop_;  // 0 x 0: none
  bool bgr_ = false;
  bool antialias_ = false;  // pil-bilinear
  bool draft_ = false;
  // Tensor value of each byte value, by channel of the tensor.
  std::array<std::array<float, 256>, 3> table_{};
};

}  // namespace lite_run
