#include "shown.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace command {
namespace {

// How many bytes of UTF-8 begin at `at`, and what character they are; 0 where they are none.
size_t decode(const std::string& text, size_t at, uint32_t& character) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t first = byte(at);
  const size_t size = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first >= 0xf8 || (first >= 0x80 && first < 0xc2)) return 0;
  character = size == 1 ? first : first & (0xffU >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
    character = character << 6 | (byte(at + i) & 0x3fU);
  }
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const bool half = character >= 0xd800 && character < 0xe000;
  return character < kLeast[size] || character > 0x10ffff || half ? 0 : size;
}

bool unseen(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

std::string escaped(const std::string& text, bool json) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    uint32_t character = 0;
    const size_t size = decode(text, at, character);
    std::array<char, 16> escape;
    if (size == 0) character = static_cast<uint8_t>(text[at]);
    if (size == 0 || unseen(character)) {
      const char* format = json || character > 0xff ? "\\u%04x" : "\\x%02x";
      std::snprintf(escape.data(), escape.size(), format, static_cast<unsigned>(character));
      result += escape.data();
    } else {
      result.append(text, at, size);
    }
    at += size == 0 ? 1 : size;
  }
  return result;
}

}  // namespace

std::string shown(const std::string& text) { return escaped(text, false); }

std::string shown_json(const std::string& text) { return escaped(text, true); }

}  // namespace command
