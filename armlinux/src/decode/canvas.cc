#include "decode/canvas.h"

#include <cstring>

#include "decode/orientation.h"

namespace lite_run {

Canvas::Canvas(int width, int height, int orientation) : width_(width) {
  const bool turned = sideways(orientation);
  pixels_.width = turned ? height : width;
  pixels_.height = turned ? width : height;
  pixels_.rgb.resize(static_cast<size_t>(width) * height * 3);
  const ptrdiff_t pixel = 3, row = static_cast<ptrdiff_t>(pixels_.width) * 3;
  const ptrdiff_t to_right = (pixels_.width - 1) * pixel, down = (pixels_.height - 1) * row;
  switch (orientation) {
    case 2:
      place(to_right, -pixel, row);
      break;
    case 3:
      place(to_right + down, -pixel, -row);
      break;
    case 4:
      place(down, pixel, -row);
      break;
    case 5:
      place(0, row, pixel);
      break;
    case 6:
      place(to_right, row, -pixel);
      break;
    case 7:
      place(to_right + down, -row, -pixel);
      break;
    case 8:
      place(down, -row, pixel);
      break;
    default:
      place(0, pixel, row);
  }
}

void Canvas::put(int y, int rows, const uint8_t* rgb) {
  // Copies: what is written below might be a member, for all that the compiler knows.
  const ptrdiff_t width = width_, x_step = x_step_, y_step = y_step_;
  uint8_t* const start = pixels_.rgb.data() + start_ + y * y_step;
  const ptrdiff_t row_bytes = width * 3;
  if (x_step == 3) {
    for (int i = 0; i < rows; ++i) std::memcpy(start + i * y_step, rgb + i * row_bytes, row_bytes);
    return;
  }
  for (ptrdiff_t x = 0; x < width; ++x) {
    for (ptrdiff_t i = 0; i < rows; ++i) {
      std::memcpy(start + x * x_step + i * y_step, rgb + i * row_bytes + x * 3, 3);
    }
  }
}

void Canvas::place(ptrdiff_t start, ptrdiff_t x_step, ptrdiff_t y_step) {
  start_ = start;
  x_step_ = x_step;
  y_step_ = y_step;
}
}  // namespace lite_run
