// NumPy's .npy files, versions 1 to 3 (numpy/lib/format.py says what they are), and the arrays
// that they hold: numbers in C order, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lite_run {

// `dtype` is NumPy's name ("float32"); `data` holds the elements in C order.
struct Array {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> data;

  // Number of elements.
  size_t count() const;
};

// Bytes of an element; 0 for a dtype that is not supported.
size_t item_bytes(const std::string& dtype);

// "float32[1, 3, 224, 224]", with "?" for -1.
std::string describe(const std::string& dtype, const std::vector<int64_t>& shape);

// What the header of a .npy file of `file_bytes` bytes says, of which the first `size` are in
// `data`. Throws Error, without a file name, for anything that is not a plain numeric array in C
// order whose elements fill the rest of the file.
struct NpyHeader {
  std::string dtype;
  std::vector<int64_t> shape;
  size_t data_offset;
};
NpyHeader parse_npy_header(const uint8_t* data, size_t size, uint64_t file_bytes);

// Whether bytes begin like a .npy file.
bool is_npy(const uint8_t* data, size_t size);

// Read a file. Throws Error, which names it; memory stays within the size of the file.
Array read_npy(const std::string& path);
// The same of a file that has been read.
Array parse_npy(const std::string& path, std::vector<uint8_t> file);

// Write `arrays`, which are alike, stacked on a new axis 0; or a single one as it is.
void write_npy_stacked(const std::string& path, const std::vector<Array>& arrays);
void write_npy(const std::string& path, const Array& array);

}  // namespace lite_run
