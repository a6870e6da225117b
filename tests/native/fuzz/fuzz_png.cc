// libFuzzer target: PNG files, from the signature to the tensor.
//
// Checksums are put right first: a fuzzer cannot guess them.
#include <zlib.h>

#include "fuzz_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> file(data, data + size);
  const auto big = [&](size_t at) {
    return uint32_t{file[at]} << 24 | file[at + 1] << 16 | file[at + 2] << 8 | file[at + 3];
  };
  for (size_t at = 8; at + 12 <= file.size();) {
    const size_t length = big(at), after = at + 8 + length;
    if (after + 4 > file.size()) break;
    const uLong sum = crc32(0, file.data() + at + 4, static_cast<uInt>(length + 4));
    for (size_t i = 0; i < 4; ++i) file[after + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    at = after + 4;
  }
  lite_run::fuzz_image(file.data(), file.size());
  return 0;
}
