// SHA-256 (FIPS 180-4). Our own, because the library also has to build where no cryptographic
// library is to be had, as with Android's NDK.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "sha256_rounds.h"

namespace lite_run {

class Sha256 {
 public:
  Sha256& update(const void* data, size_t bytes);
  // The digest in lower-case hexadecimal. The object is used up.
  std::string hex();

 private:
  Sha256State state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  size_t pending_bytes_ = 0;
  uint64_t total_bytes_ = 0;
};

}  // namespace lite_run
