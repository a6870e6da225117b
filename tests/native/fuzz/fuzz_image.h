// What the fuzzers of image files share: decode, then every kind of preprocessing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <vector>

#include "error.h"
#include "image.h"

namespace lite_run {

inline const std::vector<ImageSpec>& fuzz_specs() {
  static const std::vector<ImageSpec> specs = [] {
    std::vector<ImageSpec> made;
    for (const char* fields :
         {R"({"resize": "short", "size": 20, "crop": [16, 16], "interpolation": "cv2-linear"})",
          R"({"resize": "short", "size": 20, "crop": [9, 20], "interpolation": "pil-bilinear"})",
          R"({"resize": "exact", "size": [8, 8], "crop": null, "interpolation": "cv2-linear"})",
          R"({"resize": "exact", "size": [3, 33], "crop": null, "interpolation": "pil-bilinear"})",
          R"({"resize": "pad", "size": [6, 24], "crop": null, "interpolation": "cv2-linear"})",
          R"({"resize": "none", "size": null, "crop": [2, 2], "interpolation": "cv2-linear"})"}) {
      nlohmann::json spec = nlohmann::json::parse(fields);
      spec.update({{"color", "BGR"},
                   {"scale", 1.0},
                   {"divisor", 255.0},
                   {"mean", {0.5, 0.5, 0.5}},
                   {"std", {0.5, 0.5, 0.5}}});
      made.push_back(ImageSpec::parse(spec));
    }
    return made;
  }();
  return specs;
}

// Ends the process where a tensor holds what no pixel can become.
inline void fuzz_image(const uint8_t* data, size_t size) {
  Pixels pixels;
  try {
    DecodeOptions options;
    options.max_pixels = 1 << 16;  // fuzzers want speed
    pixels = decode_image(data, size, options);
  } catch (const Error&) {
    return;
  }
  if (pixels.rgb.size() != static_cast<size_t>(pixels.width) * pixels.height * 3) std::abort();
  for (const ImageSpec& spec : fuzz_specs()) {
    try {
      const auto shape = spec.shape(pixels.width, pixels.height);
      std::vector<float> tensor(static_cast<size_t>(shape[1] * shape[2] * shape[3]), 2.0F);
      spec.apply(pixels.rgb.data(), pixels.width, pixels.height,
                 static_cast<ptrdiff_t>(pixels.width) * 3, 3, tensor.data());
      for (const float value : tensor) {
        if (!(value >= -1 && value <= 1)) std::abort();
      }
    } catch (const Error&) {
      continue;  // smaller than the crop
    }
  }
}

}  // namespace lite_run
