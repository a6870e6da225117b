// bundle.json: any text is read or refused with an Error.
#include <string>

#include "bundle.h"
#include "error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto bundle = lite_run::parse_bundle("b", {data, data + size});
    for (const auto& [name, target] : bundle.targets) (void)bundle.limits(target);
  } catch (const lite_run::Error&) {  // refused
  }
  return 0;
}
