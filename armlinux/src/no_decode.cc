// In place of decode.cc and decode/, where the system decodes pictures: no libjpeg, no zlib.
#include "decode.h"
#include "error.h"

namespace lite_run {

Pixels decode_image(const uint8_t*, size_t, const DecodeOptions&) {
  throw Error("this library reads no pictures: decode it, and give its pixels", kUsage);
}

}  // namespace lite_run
