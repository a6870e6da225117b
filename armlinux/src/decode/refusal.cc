#include "decode/refusal.h"

#include "error.h"

namespace lite_run {

void refuse(const std::string& why) { throw Error("cannot decode this image: " + why); }

void unidentified(const std::string& why) { throw Error("not a JPEG or PNG image: " + why); }

void check_size(int64_t width, int64_t height, const DecodeOptions& options) {
  // width and height have 32 bits: a double holds the product well enough to compare it.
  if (static_cast<double>(width) * static_cast<double>(height) >
      static_cast<double>(options.max_pixels)) {
    refuse(std::to_string(width) + "x" + std::to_string(height) + " pixels exceed the limit of " +
           std::to_string(options.max_pixels));
  }
}

}  // namespace lite_run
