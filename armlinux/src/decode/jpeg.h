// JPEG files, by libjpeg-turbo.
#pragma once

#include "decode/bytes.h"
#include "decode/pixels.h"

namespace lite_run {

// What decode_image does with a file that begins like JPEG.
Pixels decode_jpeg(Bytes file, const DecodeOptions& options);

}  // namespace lite_run
