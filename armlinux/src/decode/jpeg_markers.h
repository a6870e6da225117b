// The markers of a JPEG file up to the first scan, read as PIL.JpegImagePlugin reads them before
// libjpeg sees the file.
#pragma once

#include <functional>

#include "decode/bytes.h"
#include "decode/pixels.h"

namespace lite_run {

struct JpegHead {
  int width = 0, height = 0, layers = 0;
  int orientation = 1;
  int shrunk = 1;  // how many times smaller than in the file

  // Let the decoder shrink the image, as Pillow's draft does.
  void shrink(const std::function<Extent(Extent)>& wanted);
};

// What Pillow refuses is refused, and what it takes from the markers is returned.
JpegHead read_jpeg_head(Bytes file);

}  // namespace lite_run
