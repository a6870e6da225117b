#include "npy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "error.h"
#include "file.h"

namespace lite_run {

namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicBytes = 6;
constexpr size_t kMostHeaderBytes = 1 << 16;
constexpr size_t kMostRank = 32;
// Elements and bytes are counted in 64 bits; this leaves room for a product with an item's size.
constexpr int64_t kMostElements = int64_t{1} << 56;

struct Type {
  const char* name;
  const char* descr;  // without the byte order
  size_t bytes;
};

constexpr std::array<Type, 12> kTypes = {{
    {"bool", "b1", 1},
    {"int8", "i1", 1},
    {"uint8", "u1", 1},
    {"int16", "i2", 2},
    {"uint16", "u2", 2},
    {"int32", "i4", 4},
    {"uint32", "u4", 4},
    {"int64", "i8", 8},
    {"uint64", "u8", 8},
    {"float16", "f2", 2},
    {"float32", "f4", 4},
    {"float64", "f8", 8},
}};

const Type* find_type(const std::string& dtype) {
  const auto* found = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const Type& type) { return dtype == type.name; });
  return found == kTypes.end() ? nullptr : found;
}

// Reads the literal of a Python dict that the header is.
class Literal {
 public:
  Literal(const char* begin, const char* end) : at_(begin), end_(end) {}

  bool take(char wanted) {
    skip();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  void need(char wanted) {
    if (!take(wanted)) throw Error("damaged: its header is not NumPy's");
  }

  std::string string() {
    skip();
    if (at_ == end_ || (*at_ != '\'' && *at_ != '"')) {
      throw Error("its elements are not plain numbers");
    }
    const char quote = *at_++;
    const char* begin = at_;
    while (at_ != end_ && *at_ != quote && *at_ != '\\') ++at_;
    std::string text(begin, at_);
    need(quote);
    return text;
  }

  bool boolean() {
    skip();
    for (const auto& [word, value] :
         {std::pair<const char*, bool>{"True", true}, {"False", false}}) {
      const size_t length = std::strlen(word);
      if (static_cast<size_t>(end_ - at_) >= length && std::equal(word, word + length, at_)) {
        at_ += length;
        return value;
      }
    }
    throw Error("damaged: its header is not NumPy's");
  }

  std::vector<int64_t> tuple() {
    std::vector<int64_t> values;
    need('(');
    while (!take(')')) {
      skip();
      int64_t value = 0;
      const char* begin = at_;
      for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
        value = value * 10 + (*at_ - '0');
        if (value > kMostElements) throw Error("damaged: a dimension is too large");
      }
      if (at_ == begin || values.size() == kMostRank) throw Error("damaged: its shape is not one");
      values.push_back(value);
      if (!take(',')) {
        need(')');
        break;
      }
    }
    return values;
  }

  bool ended() {
    skip();
    return at_ == end_;
  }

 private:
  void skip() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t')) ++at_;
  }

  const char* at_;
  const char* end_;
};

std::string header_text(const std::string& dtype, const std::vector<int64_t>& shape) {
  const Type* type = find_type(dtype);
  if (type == nullptr) throw Error("arrays of " + dtype + " cannot be written");
  std::string dims;
  for (const int64_t side : shape) dims += std::to_string(side) + ", ";
  if (shape.size() == 1) {
    dims.resize(dims.size() - 1);  // (3,)
  } else if (!shape.empty()) {
    dims.resize(dims.size() - 2);
  }
  std::string text = std::string("{'descr': '") + (type->bytes == 1 ? "|" : "<") + type->descr +
                     "', 'fortran_order': False, 'shape': (" + dims + "), }";
  // Version 1: the data begin at a multiple of 64 bytes.
  const size_t before = kMagicBytes + 4;
  text.append(63 - (before + text.size()) % 64, ' ');
  text += '\n';
  std::string whole(kMagic, kMagicBytes);
  whole += '\x01';
  whole += '\0';
  whole += static_cast<char>(text.size() & 255);
  whole += static_cast<char>(text.size() >> 8);
  return whole + text;
}

}  // namespace

size_t Array::count() const {
  size_t count = 1;
  for (const int64_t side : shape) count *= static_cast<size_t>(side);
  return count;
}

size_t item_bytes(const std::string& dtype) {
  const Type* type = find_type(dtype);
  return type == nullptr ? 0 : type->bytes;
}

std::string describe(const std::string& dtype, const std::vector<int64_t>& shape) {
  std::string text = dtype + "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + (shape[i] < 0 ? "?" : std::to_string(shape[i]));
  }
  return text + "]";
}

bool is_npy(const uint8_t* data, size_t size) {
  return size >= kMagicBytes && std::memcmp(data, kMagic, kMagicBytes) == 0;
}

NpyHeader parse_npy_header(const uint8_t* data, size_t size, uint64_t file_bytes) {
  if (!is_npy(data, size)) throw Error("not a .npy file");
  if (size < kMagicBytes + 4) throw Error("damaged: truncated");
  const int version = data[kMagicBytes];
  if (version < 1 || version > 3) {
    throw Error(".npy of version " + std::to_string(version) + ": 1 to 3 can be read");
  }
  const size_t length_bytes = version == 1 ? 2 : 4;
  size_t begin = kMagicBytes + 2;
  if (size < begin + length_bytes) throw Error("damaged: truncated");
  uint64_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= uint64_t{data[begin + i]} << (8 * i);
  begin += length_bytes;
  if (length > kMostHeaderBytes || length > size - begin) {
    throw Error("damaged: its header is truncated or too long");
  }
  const auto* text = reinterpret_cast<const char*>(data) + begin;
  Literal literal(text, text + length);
  NpyHeader header{"", {}, begin + static_cast<size_t>(length)};
  std::string descr;
  bool has_order = false;
  bool has_shape = false;
  literal.need('{');
  while (!literal.take('}')) {
    const std::string key = literal.string();
    literal.need(':');
    if (key == "descr") {
      descr = literal.string();
    } else if (key == "fortran_order") {
      has_order = true;
      if (literal.boolean()) {
        throw Error("its elements are in Fortran order: save numpy.ascontiguousarray of it");
      }
    } else if (key == "shape") {
      has_shape = true;
      header.shape = literal.tuple();
    } else {
      throw Error("damaged: its header is not NumPy's");
    }
    if (!literal.take(',')) {
      literal.need('}');
      break;
    }
  }
  if (!literal.ended() || descr.empty() || !has_order || !has_shape) {
    throw Error("damaged: its header is not NumPy's");
  }
  for (const Type& type : kTypes) {
    const bool order = descr[0] == '<' || (descr[0] == '|' && type.bytes == 1);
    if (order && descr.compare(1, std::string::npos, type.descr) == 0) header.dtype = type.name;
  }
  if (header.dtype.empty()) throw Error("its elements are '" + descr + "', which is not supported");
  // Dimensions of 0 make an empty array of whatever the others are, which therefore count as 1.
  uint64_t elements = 1;
  bool empty = false;
  for (const int64_t side : header.shape) {
    empty = empty || side == 0;
    if (side > 0 && elements > static_cast<uint64_t>(kMostElements / side)) {
      throw Error("damaged: its shape is too large");
    }
    elements *= side > 0 ? static_cast<uint64_t>(side) : 1;
  }
  const uint64_t expected = empty ? 0 : elements * item_bytes(header.dtype);
  const uint64_t have = file_bytes - std::min<uint64_t>(file_bytes, header.data_offset);
  if (have != expected) {
    throw Error("damaged: " + std::to_string(have) + " bytes of elements, " +
                std::to_string(expected) + " expected (" + describe(header.dtype, header.shape) +
                ")");
  }
  return header;
}

Array parse_npy(const std::string& path, std::vector<uint8_t> file) {
  try {
    NpyHeader header = parse_npy_header(file.data(), file.size(), file.size());
    file.erase(file.begin(), file.begin() + static_cast<ptrdiff_t>(header.data_offset));
    return {std::move(header.dtype), std::move(header.shape), std::move(file)};
  } catch (const Error& error) {
    throw Error(path + ": " + error.what());
  }
}

Array read_npy(const std::string& path) { return parse_npy(path, read_file(path, SIZE_MAX / 4)); }

void write_npy_stacked(const std::string& path, const std::vector<Array>& arrays) {
  std::vector<int64_t> shape = {static_cast<int64_t>(arrays.size())};
  shape.insert(shape.end(), arrays[0].shape.begin(), arrays[0].shape.end());
  OutputFile file(path);
  file.write(header_text(arrays[0].dtype, shape));
  for (const Array& array : arrays) file.write(array.data.data(), array.data.size());
  file.close();
}

void write_npy(const std::string& path, const Array& array) {
  OutputFile file(path);
  file.write(header_text(array.dtype, array.shape));
  file.write(array.data.data(), array.data.size());
  file.close();
}

}  // namespace lite_run
