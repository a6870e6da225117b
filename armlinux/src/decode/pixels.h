// What decoding gives, and what it may be asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace lite_run {

// Pillow's MAX_IMAGE_PIXELS, open_image's limit.
constexpr int64_t kMaxPixels = 89478485;

// An image as a person sees it: 8-bit RGB, rows from top to bottom, width * 3 bytes each.
struct Pixels {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

struct Extent {
  int64_t height = 0;
  int64_t width = 0;
};

struct DecodeOptions {
  // Larger images are refused before memory is taken for their pixels.
  int64_t max_pixels = kMaxPixels;
  // Where given: the size that the upright image will be resized to. The decoder of JPEG then
  // shrinks the image to 1/2, 1/4 or 1/8, as long as it stays no smaller than that.
  std::function<Extent(Extent image)> wanted;
};

}  // namespace lite_run
