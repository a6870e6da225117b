#include "nb.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <optional>
#include <utility>

#include "error.h"

namespace lite_run {

namespace {

constexpr unsigned kMetaVersion = 2;
constexpr size_t kVersionBytes = 16;

// Little-endian numbers of a file, each access checked against its size.
class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint64_t number(size_t bytes) {
    need(bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= uint64_t{data_[at_ + i]} << (8 * i);
    at_ += bytes;
    return value;
  }

  void skip(uint64_t bytes) {
    need(bytes);
    at_ += static_cast<size_t>(bytes);
  }

  const char* text() const { return reinterpret_cast<const char*>(data_) + at_; }
  size_t at() const { return at_; }

 private:
  void need(uint64_t bytes) const {
    if (bytes > size_ - at_) {
      throw Error("truncated: " + std::to_string(size_) + " bytes found, more are announced");
    }
  }

  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

// "v2.13-rc" -> (2, 13); a commit's name is no version.
std::optional<std::pair<int, int>> release(const std::string& version) {
  const char* at = version.c_str();
  if (*at == 'v') ++at;
  int parts[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    int digits = 0;
    for (; *at >= '0' && *at <= '9' && digits < 4; ++at, ++digits) {
      parts[i] = parts[i] * 10 + (*at - '0');
    }
    if (digits == 0 || digits == 4) return std::nullopt;
    if (i == 0 && *at++ != '.') return std::nullopt;
  }
  return std::make_pair(parts[0], parts[1]);
}

}  // namespace

NbHeader parse_nb(const uint8_t* data, size_t size) {
  Reader reader(data, size);
  const uint64_t meta_version = reader.number(2);
  if (meta_version != kMetaVersion) {
    throw Error("not a .nb file that can be read: format version " + std::to_string(meta_version) +
                ", and 2 is known: convert the model again");
  }
  const char* version = reader.text();
  reader.skip(kVersionBytes);
  // What follows the zero byte is not initialised.
  std::string opt_version(version, strnlen(version, kVersionBytes));
  if (!std::all_of(opt_version.begin(), opt_version.end(),
                   [](char c) { return c >= ' ' && c <= '~'; })) {
    throw Error("damaged: the version of the optimizer is unreadable");
  }
  reader.skip(reader.number(8));  // the topology
  if (reader.number(2) != 0) throw Error("damaged: parameters of an unknown version");
  reader.skip(reader.number(2));
  const uint64_t header_bytes = reader.number(2);
  if (header_bytes < 6) throw Error("damaged: a parameter header of a wrong size");
  const uint64_t params = reader.number(2);
  if (reader.number(4) > size) {
    throw Error("damaged: a parameter larger than the file is announced");  // it is allocated
  }
  reader.skip(header_bytes - 6);
  const size_t begin = reader.at();
  for (uint64_t i = 0; i < params; ++i) {
    const uint64_t bytes = reader.number(4);
    const uint64_t offset = reader.number(4);
    if (offset < 4 || offset >= bytes) throw Error("damaged: a parameter of a wrong size");
    reader.skip(bytes - 4);
  }
  if (reader.at() != size) {
    throw Error("damaged: " + std::to_string(size - reader.at()) + " bytes too many");
  }
  return {std::move(opt_version), params, size - begin};
}

Fit version_fit(const std::string& library, const std::string& opt) {
  const auto have = release(library);
  const auto want = release(opt);
  if (!have || !want) return Fit::kUnsure;
  constexpr std::pair<int, int> kLeast = {2, 10};
  if (*have < kLeast && *want >= kLeast) return Fit::kRefused;
  return *have == *want ? Fit::kSame : Fit::kUnsure;
}

bool is_older(const std::string& library, const std::string& wanted) {
  const auto have = release(library);
  const auto want = release(wanted);
  return have && want && *have < *want;
}

}  // namespace lite_run
