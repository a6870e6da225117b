// The texts of a PNG file, among which EXIF and XMP may be, read as PIL.PngImagePlugin reads them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "decode/bytes.h"

namespace lite_run {

// Inflate a text or profile, which Pillow refuses where there would be more than it allows, and
// ignores where it is damaged.
std::optional<std::string> inflate_text(Bytes data);

class PngTexts {
 public:
  // Keep what matters of a chunk tEXt, zTXt or iTXt, and refuse what Pillow refuses.
  void take(std::string_view name, Bytes data);
  // The same of a chunk eXIf.
  void take_exif(Bytes data);

  // The EXIF data: of eXIf, or as hexadecimal text behind three lines, as ImageMagick writes it.
  std::string exif() const;
  const std::string& xmp() const { return xmp_; }

 private:
  enum class Exif { kNone, kBytes, kText };

  Exif exif_kind_ = Exif::kNone;
  std::string exif_, xmp_;
  std::optional<std::string> raw_profile_;
  size_t bytes_ = 0;
};

}  // namespace lite_run
