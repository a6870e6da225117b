#include "decode.h"

#include "decode/bytes.h"
#include "decode/jpeg.h"
#include "decode/png.h"
#include "decode/refusal.h"

namespace lite_run {

Pixels decode_image(const uint8_t* data, size_t size, const DecodeOptions& options) {
  const Bytes file(data, size);
  if (file.starts_with("\xFF\xD8\xFF")) return decode_jpeg(file, options);
  if (file.starts_with("\x89PNG\r\n\x1A\n")) return decode_png(file, options);
  unidentified("it begins like neither; convert it to one of them");
}

}  // namespace lite_run
