// .npy: any bytes are read or refused with an Error, and what is read has as many elements as its
// shape says.
#include <cstdlib>
#include <vector>

#include "error.h"
#include "npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto array = lite_run::parse_npy("f", std::vector<uint8_t>(data, data + size));
    if (array.data.size() != array.count() * lite_run::item_bytes(array.dtype)) std::abort();
  } catch (const lite_run::Error&) {  // refused
  }
  return 0;
}
