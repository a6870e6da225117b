#include "decode/png_rows.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lite_run {

bool PngFormat::known() const {
  const bool low = depth == 1 || depth == 2 || depth == 4, high = depth == 8 || depth == 16;
  switch (color) {
    case 0:
      return low || high;
    case 3:
      return low || depth == 8;
    case 2:
    case 4:
    case 6:
      return high;
    default:
      return false;
  }
}

int PngFormat::bits() const {
  static constexpr std::array<int, 7> kChannels = {1, 0, 3, 1, 2, 0, 4};
  return kChannels[color] * depth;
}

bool unfilter(uint8_t* row, const uint8_t* previous, size_t length, size_t gap) {
  const auto add = [row](size_t i, int value) { row[i] = static_cast<uint8_t>(row[i] + value); };
  switch (row[0]) {
    case 0:
      return true;
    case 1:
      for (size_t i = gap + 1; i <= length; ++i) add(i, row[i - gap]);
      return true;
    case 2:
      for (size_t i = 1; i <= length; ++i) add(i, previous[i]);
      return true;
    case 3:
      for (size_t i = 1; i <= gap; ++i) add(i, previous[i] / 2);
      for (size_t i = gap + 1; i <= length; ++i) add(i, (row[i - gap] + previous[i]) / 2);
      return true;
    case 4:
      for (size_t i = 1; i <= gap; ++i) add(i, previous[i]);
      for (size_t i = gap + 1; i <= length; ++i) {
        const int left = row[i - gap], above = previous[i], corner = previous[i - gap];
        const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
        const int to_corner = std::abs(left + above - 2 * corner);
        add(i, to_left <= to_above && to_left <= to_corner ? left
               : to_above <= to_corner                     ? above
                                                           : corner);
      }
      return true;
    default:
      return false;
  }
}

PngColors::PngColors(PngFormat format, const std::vector<uint8_t>& palette) : format_(format) {
  if (format_.palette()) {
    for (size_t i = 0; i < palette.size() / 3; ++i) {
      std::copy_n(palette.begin() + static_cast<ptrdiff_t>(i * 3), 3, colors_[i].begin());
    }
  } else if (format_.color == 0 && format_.depth <= 8) {
    const int most = (1 << format_.depth) - 1;
    for (int i = 0; i <= most; ++i) colors_[i].fill(static_cast<uint8_t>(i * 255 / most));
  }
}

void PngColors::to_rgb(const uint8_t* samples, uint32_t count, uint8_t* rgb) const {
  const int depth = format_.depth;
  if (depth < 8) {
    for (size_t i = 0; i < count; ++i) {
      const size_t bit = i * depth;
      const int sample = samples[bit / 8] >> (8 - depth - bit % 8) & ((1 << depth) - 1);
      std::memcpy(rgb + i * 3, colors_[sample].data(), 3);
    }
  } else if (format_.palette() || (format_.color == 0 && depth == 8)) {
    for (size_t i = 0; i < count; ++i) std::memcpy(rgb + i * 3, colors_[samples[i]].data(), 3);
  } else if (format_.color == 2 && depth == 8) {
    std::memcpy(rgb, samples, count * size_t{3});
  } else {
    // The high bytes of whole samples; alpha is passed over.
    const size_t step = static_cast<size_t>(format_.bits()) / 8, sample = depth / 8;
    const size_t green = (format_.color & 2) != 0 ? sample : 0, blue = 2 * green;
    for (size_t i = 0; i < count; ++i, samples += step) {
      rgb[i * 3] = samples[0];
      rgb[i * 3 + 1] = samples[green];
      rgb[i * 3 + 2] = samples[blue];
    }
  }
}

}  // namespace lite_run
