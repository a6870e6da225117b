// Rows of a PNG file: what its filters hide, and what its samples mean.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lite_run {

// What IHDR says of a sample.
struct PngFormat {
  int depth = 0, color = 0;

  bool known() const;
  bool palette() const { return color == 3; }
  int bits() const;
};

// Undo the filter of one row. row[0] names the filter; `previous` is the row above, unfiltered, or
// zeros; `gap` bytes lie between a sample and its neighbour. False for an unknown filter.
bool unfilter(uint8_t* row, const uint8_t* previous, size_t length, size_t gap);

// Samples -> RGB.
class PngColors {
 public:
  // palette: the contents of PLTE, of at most 256 colors.
  PngColors(PngFormat format, const std::vector<uint8_t>& palette);

  // The color of sample 0, where a sample of at most 8 bits stands alone; else black.
  const std::array<uint8_t, 3>& first() const { return colors_[0]; }

  // Convert `count` pixels of a row.
  void to_rgb(const uint8_t* samples, uint32_t count, uint8_t* rgb) const;

 private:
  PngFormat format_;
  // RGB of every sample of at most 8 bits that stands alone.
  std::array<std::array<uint8_t, 3>, 256> colors_{};
};

}  // namespace lite_run
