// libFuzzer target: JPEG files, from the first marker to the tensor.
#include "fuzz_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lite_run::fuzz_image(data, size);
  return 0;
}
