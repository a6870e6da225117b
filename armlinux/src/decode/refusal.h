// How the decoders refuse a file: an Error, which does not name it.
#pragma once

#include <cstdint>
#include <string>

#include "decode/pixels.h"

namespace lite_run {

// An image that is damaged, or that Pillow refuses.
[[noreturn]] void refuse(const std::string& why);

// What is not even recognised as an image.
[[noreturn]] void unidentified(const std::string& why);

// Refuses more pixels than the options allow.
void check_size(int64_t width, int64_t height, const DecodeOptions& options);

}  // namespace lite_run
