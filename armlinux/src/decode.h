// JPEG and PNG files to upright RGB pixels: the same pixels as py_runner.image.open_image gives, or
// a refusal where it refuses.
#pragma once

#include <cstddef>
#include <cstdint>

#include "decode/pixels.h"

namespace lite_run {

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
