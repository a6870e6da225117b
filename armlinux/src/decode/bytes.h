// What decoders read from: a view of a file, and its big-endian numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace lite_run {

// A view of a file or a part of it. (std::basic_string_view is for characters, and std::span
// C++20.)
class Bytes {
 public:
  static constexpr size_t npos = SIZE_MAX;

  Bytes() = default;
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  explicit Bytes(const std::string& text)
      : Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size()) {}

  const uint8_t* data() const { return data_; }
  const uint8_t* begin() const { return data_; }
  const uint8_t* end() const { return data_ + size_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  uint8_t operator[](size_t at) const { return data_[at]; }

  // at lies within.
  Bytes substr(size_t at, size_t count = npos) const {
    return {data_ + at, std::min(count, size_ - at)};
  }
  void remove_prefix(size_t count) { *this = substr(count); }
  size_t find(uint8_t value) const {
    const uint8_t* const found = std::find(begin(), end(), value);
    return found == end() ? npos : static_cast<size_t>(found - data_);
  }
  bool starts_with(std::string_view start) const {
    return size_ >= start.size() && std::memcmp(data_, start.data(), start.size()) == 0;
  }
  std::string text() const { return {begin(), end()}; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// How much of a file Pillow hands to its decoders at a time. It decides how far past the last row
// of an image a damaged file is read.
constexpr size_t kBlock = 65536;

inline uint32_t big16(const uint8_t* at) { return at[0] << 8 | at[1]; }
inline uint32_t big32(const uint8_t* at) { return big16(at) << 16 | big16(at + 2); }

}  // namespace lite_run
