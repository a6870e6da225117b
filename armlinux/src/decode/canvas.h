// Where the decoder's pixels go in an upright image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "decode/pixels.h"

namespace lite_run {

class Canvas {
 public:
  // width, height: of the image as it is in the file; orientation: EXIF's.
  Canvas(int width, int height, int orientation);

  // Put `rows` rows of RGB pixels, one behind the other, where the decoder's row y and the
  // following ones belong. Many rows at once are faster where the image lies on its side.
  void put(int y, int rows, const uint8_t* rgb);

  // The place of the row y where a whole row can be written at once, or null.
  uint8_t* row(int y) { return x_step_ == 3 ? pixels_.rgb.data() + start_ + y * y_step_ : nullptr; }

  Pixels take() { return std::move(pixels_); }

 private:
  void place(ptrdiff_t start, ptrdiff_t x_step, ptrdiff_t y_step);

  int width_;
  Pixels pixels_;
  ptrdiff_t start_ = 0, x_step_ = 0, y_step_ = 0;
};

}  // namespace lite_run
