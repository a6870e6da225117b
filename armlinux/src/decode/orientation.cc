#include "decode/orientation.h"

#include <array>
#include <cmath>
#include <cstring>
#include <string_view>

namespace lite_run {
namespace {

// One directory of TIFF's tagged values, as PIL.TiffImagePlugin.ImageFileDirectory_v2 reads it.
class Tiff {
 public:
  explicit Tiff(Bytes data) : data_(data) {
    readable_ = false;
    for (const char* head : {"MM\0\x2a", "II\x2a\0", "MM\x2a\0", "II\0\x2a", "MM\0\x2b"}) {
      readable_ = readable_ || data.starts_with({head, 4});
    }
    readable_ = readable_ && data.size() >= 8;  // a big TIFF (II, 43) never is, in EXIF
    little_ = readable_ && data[0] == 'I';
  }

  // Whether the head is one that Pillow accepts.
  bool readable() const { return readable_; }

  // Value of tag 0x0112 of the first directory: 1..8 turn the image, 0 is a value that does not,
  // nothing where there is no such tag.
  std::optional<int> orientation() const {
    std::optional<int> found;
    uint64_t at = u32(4);
    if (at + 2 > data_.size()) return found;
    const uint64_t entries = u16(at);
    at += 2;
    for (uint64_t i = 0; i < entries && at + 12 <= data_.size(); ++i, at += 12) {
      const uint32_t type = u16(at + 2);
      const uint64_t unit = type < 17 ? kUnits[type] : 0;
      if (unit == 0) continue;
      const uint64_t size = unit * u32(at + 4);
      uint64_t value = at + 8;
      if (size > 4) {
        value = u32(at + 8);
        if (value + size > data_.size()) return found;  // Pillow reads no further
      }
      if (size != 0 && u16(at) == 0x0112) found = turn(type, value);
    }
    return found;
  }

 private:
  // Bytes of one value, by TIFF's number of its type.
  static constexpr std::array<uint8_t, 17> kUnits = {0, 1, 1, 2, 4, 8, 1, 1, 2,
                                                     4, 8, 4, 8, 4, 0, 0, 8};

  int turn(uint32_t type, uint64_t at) const {
    double value = 0;
    switch (type) {
      case 3:
      case 8:
        value = u16(at);
        break;
      case 4:
      case 9:
      case 13:
        value = u32(at);
        break;
      case 5:
      case 10:
        if (u32(at + 4) != 0) {
          const double below = type == 5 ? u32(at + 4) : static_cast<int32_t>(u32(at + 4));
          value = (type == 5 ? u32(at) : static_cast<int32_t>(u32(at))) / below;
        }
        break;
      case 6:
        value = data_[at];
        break;
      case 11: {
        const uint32_t bits = u32(at);
        float single;
        std::memcpy(&single, &bits, sizeof single);
        value = single;
        break;
      }
      case 12:
      case 16: {
        const uint64_t bits = little_ ? u32(at) | static_cast<uint64_t>(u32(at + 4)) << 32
                                      : static_cast<uint64_t>(u32(at)) << 32 | u32(at + 4);
        if (type == 12) {
          std::memcpy(&value, &bits, sizeof value);
        } else {
          value = static_cast<double>(bits);
        }
        break;
      }
      default:  // text and bytes are no numbers
        break;
    }
    return value >= 1 && value <= 8 && value == std::floor(value) ? static_cast<int>(value) : 0;
  }

  uint32_t u16(uint64_t at) const {
    const uint8_t* p = data_.data() + at;
    return little_ ? p[1] << 8 | p[0] : p[0] << 8 | p[1];
  }
  uint32_t u32(uint64_t at) const {
    return little_ ? u16(at) | u16(at + 2) << 16 : u16(at) << 16 | u16(at + 2);
  }

  Bytes data_;
  bool readable_, little_;
};

// What Pillow's regular expression tiff:Orientation(="|>)([0-9]) finds.
int xmp_orientation(Bytes xmp) {
  const std::string_view text(reinterpret_cast<const char*>(xmp.data()), xmp.size());
  const std::string_view name = "tiff:Orientation";
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    std::string_view rest = text.substr(at + name.size());
    if (rest.substr(0, 2) == "=\"") {
      rest.remove_prefix(2);
    } else if (rest.substr(0, 1) == ">") {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 1;
}

}  // namespace

std::optional<int> orientation(Bytes exif, Bytes xmp) {
  while (exif.starts_with({"Exif\0\0", 6})) exif.remove_prefix(6);
  if (!exif.empty()) {
    const Tiff tiff(exif);
    if (!tiff.readable()) return std::nullopt;
    if (const std::optional<int> found = tiff.orientation()) return found;
  }
  return xmp_orientation(xmp);
}

}  // namespace lite_run
