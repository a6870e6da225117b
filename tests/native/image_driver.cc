// Prints the digest of the tensor of every image and preprocessing, for tests/test_native_image.py.
//
//   image_driver SPECS.json < LIST_OF_FILES
//
// SPECS.json is a list of bundle.json's "image" values. One line for each of them that is refused,
// then, for every line of standard input, a file, and every spec: `ok H W CRC32 ADLER32` of the
// float32 tensor, or `refused CODE MESSAGE`.
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

#include "error.h"
#include "image.h"

namespace {

using lite_run::ImageSpec;
using lite_run::Pixels;

std::vector<uint8_t> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw lite_run::Error(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

// The tensor of the same pixels with alpha and gaps between the rows.
std::vector<float> from_rgba(const ImageSpec& spec, const Pixels& pixels, size_t size) {
  const ptrdiff_t stride = (static_cast<ptrdiff_t>(pixels.width) + 3) * 4;
  std::vector<uint8_t> rgba(static_cast<size_t>(stride * (pixels.height - 1) + pixels.width * 4));
  for (int y = 0; y < pixels.height; ++y) {
    for (int x = 0; x < pixels.width; ++x) {
      uint8_t* pixel = rgba.data() + y * stride + x * 4;
      std::memcpy(pixel, pixels.rgb.data() + (static_cast<size_t>(y) * pixels.width + x) * 3, 3);
      pixel[3] = static_cast<uint8_t>(x * 7 + y);
    }
  }
  std::vector<float> tensor(size, -1.0F);
  spec.apply(rgba.data(), pixels.width, pixels.height, stride, 4, tensor.data());
  return tensor;
}

void print(const ImageSpec& spec, const Pixels& pixels) {
  const auto shape = spec.shape(pixels.width, pixels.height);
  const auto size = static_cast<size_t>(shape[1] * shape[2] * shape[3]);
  std::vector<float> tensor(size, -1.0F);
  spec.apply(pixels.rgb.data(), pixels.width, pixels.height,
             static_cast<ptrdiff_t>(pixels.width) * 3, 3, tensor.data());
  const auto* bytes = reinterpret_cast<const Bytef*>(tensor.data());
  const auto count = static_cast<uInt>(size * sizeof(float));
  const std::vector<float> twin = from_rgba(spec, pixels, size);
  if (std::memcmp(twin.data(), tensor.data(), count) != 0) {
    throw lite_run::Error("RGB and RGBA give different tensors");
  }
  std::printf("ok %lld %lld %08lx %08lx\n", static_cast<long long>(shape[2]),
              static_cast<long long>(shape[3]), crc32(0, bytes, count), adler32(1, bytes, count));
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): a tool for tests
int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::vector<ImageSpec> specs;
  std::vector<bool> drafts;
  std::ifstream file(arguments[1]);
  for (const nlohmann::json& value : nlohmann::json::parse(file)) {
    try {
      specs.push_back(ImageSpec::parse(value));
      drafts.push_back(value.value("draft", false));
    } catch (const lite_run::Error& error) {
      std::printf("refused %d %s\n", error.code, error.what());
    }
  }
  for (std::string path; std::getline(std::cin, path);) {
    Pixels pixels;
    std::vector<uint8_t> data;
    std::string refused;
    try {
      data = read(path);
      pixels = lite_run::decode_image(data.data(), data.size());
    } catch (const lite_run::Error& error) {
      refused = std::to_string(error.code) + " " + error.what();
    }
    for (size_t i = 0; i < specs.size(); ++i) {
      try {
        if (refused.empty()) {
          print(specs[i], drafts[i] ? specs[i].decode(data.data(), data.size()) : pixels);
        } else {
          std::printf("refused %s\n", refused.c_str());
        }
      } catch (const lite_run::Error& error) {
        std::printf("refused %d %s\n", error.code, error.what());
      }
    }
    std::fflush(stdout);
  }
  return 0;
}
