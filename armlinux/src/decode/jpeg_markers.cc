#include "decode/jpeg_markers.h"

#include <algorithm>
#include <optional>
#include <string>

#include "decode/orientation.h"
#include "decode/refusal.h"

namespace lite_run {
namespace {

class JpegMarkers {
 public:
  explicit JpegMarkers(Bytes file) : file_(file) {}

  JpegHead read() {
    at_ = 2;
    for (;;) {
      if (byte() != 0xFF) continue;
      uint8_t code = byte();
      while (code == 0xFF) code = byte();
      if (code == 0 || code == 0xC8 || (code >= 0xD0 && code <= 0xD9) ||
          (code >= 0xF0 && code <= 0xFD)) {
        continue;  // no parameters
      }
      if (code < 0xC0) unidentified("no marker found");
      const Bytes segment = parameters();
      if (code == 0xDA) break;
      if (code >= 0xE0 && code <= 0xEF) {
        application(code, segment);
      } else if (code == 0xDB) {
        quantization(segment);
      } else if ((code >= 0xC0 && code <= 0xCF && code != 0xC4 && code != 0xCC) || code == 0xDE) {
        frame(segment);
      }
    }
    if (head_.layers == 0 || head_.width == 0 || head_.height == 0) {
      unidentified("it has no size");
    }
    set_orientation();
    return head_;
  }

 private:
  uint8_t byte() {
    if (at_ >= file_.size()) unidentified("it ends before the image begins");
    return file_[at_++];
  }

  Bytes parameters() {
    const size_t length = byte() << 8;
    const size_t count = std::max<size_t>(length | byte(), 2) - 2;
    if (file_.size() - at_ < count) refuse("Truncated File Read");
    at_ += count;
    return file_.substr(at_ - count, count);
  }

  static void need(Bytes segment, size_t size) {
    if (segment.size() < size) unidentified("a marker is too short");
  }

  void application(uint8_t code, Bytes segment) {
    if (code == 0xE0 && segment.starts_with("JFIF")) {
      need(segment, 7);
      if (segment.size() >= 12 && (segment[7] == 1 || segment[7] == 2)) has_dpi_ = true;
    } else if (code == 0xE1 && segment.starts_with({"Exif\0\0", 6})) {
      // The first block keeps its head.
      exif_ += segment.substr(exif_.empty() ? 0 : 6).text();
    } else if (code == 0xE1 && segment.starts_with({"http://ns.adobe.com/xap/1.0/\0", 29})) {
      xmp_ = segment.substr(29);
    } else if (code == 0xE2 && segment.starts_with({"ICC_PROFILE\0", 12})) {
      if (first_profile_.empty() ||
          std::lexicographical_compare(segment.begin(), segment.end(), first_profile_.begin(),
                                       first_profile_.end())) {
        first_profile_ = segment;
      }
    } else if (code == 0xEE && segment.starts_with("Adobe")) {
      need(segment, 7);
    }
  }

  static void quantization(Bytes segment) {
    while (!segment.empty()) {
      const size_t length = segment[0] < 16 ? 65 : 129;
      if (segment.size() < length) unidentified("bad quantization table marker");
      segment.remove_prefix(length);
    }
  }

  void frame(Bytes segment) {
    need(segment, 6);
    if (segment[0] != 8) {
      unidentified("cannot handle " + std::to_string(segment[0]) + "-bit layers");
    }
    head_.height = static_cast<int>(big16(segment.data() + 1));
    head_.width = static_cast<int>(big16(segment.data() + 3));
    head_.layers = segment[5];
    if (head_.layers != 1 && head_.layers != 3 && head_.layers != 4) {
      unidentified("cannot handle " + std::to_string(head_.layers) + "-layer images");
    }
    if (segment.size() % 3 != 0) unidentified("bad frame marker");
    if (!first_profile_.empty()) need(first_profile_, 14);
    first_profile_ = {};
  }

  void set_orientation() {
    const std::optional<int> found = orientation(Bytes(exif_), xmp_);
    if (found) {
      head_.orientation = *found;
    } else if (has_dpi_) {
      refuse("unreadable EXIF data");
    }
    // Without a resolution in the JFIF marker Pillow has looked for one in EXIF, noticed there that
    // it is unreadable, and goes on as if there were none.
  }

  Bytes file_;
  size_t at_ = 0;
  JpegHead head_;
  std::string exif_;
  Bytes xmp_, first_profile_;
  bool has_dpi_ = false;
};

}  // namespace

void JpegHead::shrink(const std::function<Extent(Extent)>& wanted) {
  const bool turned = sideways(orientation);
  const Extent fit = turned ? wanted({width, height}) : wanted({height, width});
  const int64_t times = std::min(width / (turned ? fit.height : fit.width),
                                 height / (turned ? fit.width : fit.height));
  while (shrunk < 8 && 2 * shrunk <= times) shrunk *= 2;
  width = (width + shrunk - 1) / shrunk;
  height = (height + shrunk - 1) / shrunk;
}

JpegHead read_jpeg_head(Bytes file) { return JpegMarkers(file).read(); }

}  // namespace lite_run
