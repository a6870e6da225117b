// The frame of a .nb file: any bytes are read or refused with an Error.
#include "error.h"
#include "nb.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    (void)lite_run::parse_nb(data, size);
  } catch (const lite_run::Error&) {  // refused
  }
  return 0;
}
