// JPEG and PNG files to upright RGB pixels: the same pixels as py_runner.image.open_image gives, or
// a refusal where it refuses.
#pragma once

#include <cstddef>
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

// Decode the first image of a JPEG or PNG file and turn it upright as its EXIF or XMP says.
//
// Grey, palette and CMYK become RGB, transparency is dropped, 16-bit samples keep their high byte.
// Throws Error where the file is neither format, damaged, cut short, or too large; the message does
// not name the file. Other formats that Pillow reads are refused, too.
//
// JPEG comes from libjpeg-turbo with its defaults, which is Pillow's decoder. Versions 2.1 and 3.1
// agree on every pixel but those of progressive files that are damaged or incomplete, and version 3
// alone reads lossless JPEG. PNG is read here on zlib, as Pillow does it: libpng refuses other
// files. JPEG with more than 100 scans, and APNG without a default image, are refused here alone.
Pixels decode_image(const uint8_t* data, size_t size, const DecodeOptions& options = {});

}  // namespace lite_run
