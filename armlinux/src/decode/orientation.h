// Which way up an image is, by its EXIF or XMP data.
#pragma once

#include <optional>

#include "decode/bytes.h"

namespace lite_run {

// How to turn an image upright, as EXIF's orientation 1..8; other numbers mean nothing. Nothing
// where the EXIF data are not readable at all.
std::optional<int> orientation(Bytes exif, Bytes xmp);

// Whether an image of this orientation lies on its side.
inline bool sideways(int orientation) { return orientation >= 5 && orientation <= 8; }

}  // namespace lite_run
