// PNG files, read on zlib as Pillow reads them.
#pragma once

#include "decode/bytes.h"
#include "decode/pixels.h"

namespace lite_run {

// What decode_image does with a file that begins like PNG.
Pixels decode_png(Bytes file, const DecodeOptions& options);

}  // namespace lite_run
