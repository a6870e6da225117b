#include "decode.h"

#include <cstdio>  // jpeglib.h needs it

#include <jpeglib.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cmath>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "error.h"

namespace lite_run {
namespace {

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

[[noreturn]] void refuse(const std::string& why) {
  throw Error("cannot decode this image: " + why);
}

[[noreturn]] void unidentified(const std::string& why) {
  throw Error("not a JPEG or PNG image: " + why);
}

void check_size(int64_t width, int64_t height, const DecodeOptions& options) {
  // width and height have 32 bits: a double holds the product well enough to compare it.
  if (static_cast<double>(width) * static_cast<double>(height) >
      static_cast<double>(options.max_pixels)) {
    refuse(std::to_string(width) + "x" + std::to_string(height) + " pixels exceed the limit of " +
           std::to_string(options.max_pixels));
  }
}

uint32_t big16(const uint8_t* at) { return at[0] << 8 | at[1]; }
uint32_t big32(const uint8_t* at) { return big16(at) << 16 | big16(at + 2); }

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

// How to turn an image upright, as EXIF's orientation 1..8; other numbers mean nothing. Nothing
// where the EXIF data are not readable at all.
std::optional<int> orientation(Bytes exif, Bytes xmp) {
  while (exif.starts_with({"Exif\0\0", 6})) exif.remove_prefix(6);
  if (!exif.empty()) {
    const Tiff tiff(exif);
    if (!tiff.readable()) return std::nullopt;
    if (const std::optional<int> found = tiff.orientation()) return found;
  }
  return xmp_orientation(xmp);
}

// Where the decoder's pixels go in an upright image.
class Canvas {
 public:
  Canvas(int width, int height, int orientation) : width_(width) {
    const bool sideways = orientation >= 5 && orientation <= 8;
    pixels_.width = sideways ? height : width;
    pixels_.height = sideways ? width : height;
    pixels_.rgb.resize(static_cast<size_t>(width) * height * 3);
    const ptrdiff_t pixel = 3, row = static_cast<ptrdiff_t>(pixels_.width) * 3;
    const ptrdiff_t to_right = (pixels_.width - 1) * pixel, down = (pixels_.height - 1) * row;
    switch (orientation) {
      case 2:
        place(to_right, -pixel, row);
        break;
      case 3:
        place(to_right + down, -pixel, -row);
        break;
      case 4:
        place(down, pixel, -row);
        break;
      case 5:
        place(0, row, pixel);
        break;
      case 6:
        place(to_right, row, -pixel);
        break;
      case 7:
        place(to_right + down, -row, -pixel);
        break;
      case 8:
        place(down, -row, pixel);
        break;
      default:
        place(0, pixel, row);
    }
  }

  // Put `rows` rows of RGB pixels, one behind the other, where the decoder's row y and the
  // following ones belong. Many rows at once are faster where the image lies on its side.
  void put(int y, int rows, const uint8_t* rgb) {
    uint8_t* const start = pixels_.rgb.data() + start_ + y * y_step_;
    const ptrdiff_t row_bytes = static_cast<ptrdiff_t>(width_) * 3;
    if (x_step_ == 3) {
      for (int i = 0; i < rows; ++i) {
        std::memcpy(start + i * y_step_, rgb + i * row_bytes, row_bytes);
      }
      return;
    }
    for (ptrdiff_t x = 0; x < width_; ++x) {
      for (ptrdiff_t i = 0; i < rows; ++i) {
        std::memcpy(start + x * x_step_ + i * y_step_, rgb + i * row_bytes + x * 3, 3);
      }
    }
  }

  // The place of the row y where a whole row can be written at once, or null.
  uint8_t* row(int y) { return x_step_ == 3 ? pixels_.rgb.data() + start_ + y * y_step_ : nullptr; }

  Pixels take() { return std::move(pixels_); }

 private:
  void place(ptrdiff_t start, ptrdiff_t x_step, ptrdiff_t y_step) {
    start_ = start;
    x_step_ = x_step;
    y_step_ = y_step;
  }

  int width_;
  Pixels pixels_;
  ptrdiff_t start_ = 0, x_step_ = 0, y_step_ = 0;
};

struct JpegHead {
  int width = 0, height = 0, layers = 0;
  int orientation = 1;
  int shrunk = 1;  // how many times smaller than in the file

  // Let the decoder shrink the image, as Pillow's draft does.
  void shrink(const std::function<Extent(Extent)>& wanted) {
    const bool sideways = orientation >= 5 && orientation <= 8;
    const Extent fit = sideways ? wanted({width, height}) : wanted({height, width});
    const int64_t times = std::min(width / (sideways ? fit.height : fit.width),
                                   height / (sideways ? fit.width : fit.height));
    while (shrunk < 8 && 2 * shrunk <= times) shrunk *= 2;
    width = (width + shrunk - 1) / shrunk;
    height = (height + shrunk - 1) / shrunk;
  }
};

// The markers up to the first scan, read as PIL.JpegImagePlugin reads them before libjpeg sees the
// file: what it refuses is refused, and what it takes from them is returned.
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

struct JpegError {
  jpeg_error_mgr manager;  // first: libjpeg knows this part only
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

struct JpegSource {
  jpeg_source_mgr manager;  // first, too
  long skip;                // bytes to pass over that are not there yet
};

// libjpeg's decompressor over a file in memory, of which it sees a growing part. No function throws
// or allocates between libjpeg's frames and its own setjmp.
class JpegDecoder {
 public:
  explicit JpegDecoder(Bytes file) : file_(file) {
    std::memset(&info_, 0, sizeof info_);
    info_.err = jpeg_std_error(&error_.manager);
    error_.manager.error_exit = [](j_common_ptr info) {
      auto* error = reinterpret_cast<JpegError*>(info->err);
      info->err->format_message(info, error->message);
      std::longjmp(error->jump, 1);
    };
    error_.manager.output_message = [](j_common_ptr) {};
    source_.manager.init_source = [](j_decompress_ptr) {};
    source_.manager.term_source = [](j_decompress_ptr) {};
    source_.manager.fill_input_buffer = [](j_decompress_ptr) -> boolean { return FALSE; };
    source_.manager.resync_to_restart = jpeg_resync_to_restart;
    source_.manager.skip_input_data = [](j_decompress_ptr info, long count) {
      if (count > 0) skip(*reinterpret_cast<JpegSource*>(info->src), count);
    };
    source_.manager.next_input_byte = file.data();
    source_.manager.bytes_in_buffer = 0;
    source_.skip = 0;
    progress_.progress_monitor = [](j_common_ptr info) {
      // A file of a few kilobytes can hold thousands of scans, each the work of a whole image.
      if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) {
        auto* error = reinterpret_cast<JpegError*>(info->err);
        std::snprintf(error->message, sizeof error->message, "more than %d scans", kMaxScans);
        std::longjmp(error->jump, 1);
      }
    };
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }

  // head: what the file has to agree with, before libjpeg takes memory for its pixels.
  void start(const JpegHead& head) {
    Step step = Step::kHeader;
    if (!start_steps(step, head)) fail();
  }

  // Decode the next rows into `rows`.
  void read(JSAMPROW* rows, int count) {
    if (!read_steps(rows, count)) fail();
  }

  // Look at what follows the last row: an image may end without its end marker, but not in damage.
  void finish() {
    if (!finish_step()) fail();
  }

 private:
  enum class Step { kHeader, kStart };
  static constexpr int kMaxScans = 100;

  bool start_steps(Step& step, const JpegHead& head) {
    if (setjmp(error_.jump) != 0) return false;
    if (info_.src == nullptr) {
      jpeg_create_decompress(&info_);
      info_.src = &source_.manager;
      info_.progress = &progress_;
    }
    for (;;) {
      if (step == Step::kHeader) {
        int status;
        do {
          status = jpeg_read_header(&info_, FALSE);
        } while (status == JPEG_HEADER_TABLES_ONLY);
        if (status == JPEG_HEADER_OK) {
          const auto shrunk = [&](int64_t side) { return (side + head.shrunk - 1) / head.shrunk; };
          if (shrunk(info_.image_width) != head.width ||
              shrunk(info_.image_height) != head.height || info_.num_components != head.layers) {
            std::snprintf(error_.message, sizeof error_.message,
                          "its markers contradict each other");
            return false;
          }
          // YCCK and Adobe's inverted CMYK are told apart by libjpeg, everything else by count.
          info_.out_color_space = head.layers == 4 ? JCS_CMYK : JCS_RGB;
          info_.scale_num = 1;
          info_.scale_denom = static_cast<unsigned>(head.shrunk);
          step = Step::kStart;
        }
      }
      if (step == Step::kStart && jpeg_start_decompress(&info_) != FALSE) return true;
      if (!more()) return false;
    }
  }

  bool read_steps(JSAMPROW* rows, int count) {
    if (setjmp(error_.jump) != 0) return false;
    for (int done = 0; done < count;) {
      const JDIMENSION got =
          jpeg_read_scanlines(&info_, rows + done, static_cast<JDIMENSION>(count - done));
      done += static_cast<int>(got);
      if (got == 0 && !more()) return false;
    }
    return true;
  }

  bool finish_step() {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_finish_decompress(&info_);
    return true;
  }

  // Show libjpeg the next part of the file.
  bool more() {
    do {
      if (shown_ == file_.size()) {
        std::snprintf(error_.message, sizeof error_.message, "image file is truncated");
        return false;
      }
      const size_t part = std::min(kBlock, file_.size() - shown_);
      shown_ += part;
      source_.manager.bytes_in_buffer += part;
      const long count = source_.skip;
      source_.skip = 0;
      skip(source_, count);
    } while (source_.skip > 0);
    return true;
  }

  static void skip(JpegSource& source, long count) {
    const auto here = static_cast<long>(
        std::min<size_t>(source.manager.bytes_in_buffer, static_cast<size_t>(count)));
    source.manager.next_input_byte += here;
    source.manager.bytes_in_buffer -= static_cast<size_t>(here);
    source.skip = count - here;
  }

  [[noreturn]] void fail() { refuse(error_.message); }

  Bytes file_;
  size_t shown_ = 0;
  jpeg_decompress_struct info_;
  JpegError error_{};
  JpegSource source_{};
  jpeg_progress_mgr progress_{};
};

// Inks -> RGB as Pillow converts what it calls CMYK;I: samples are inverted, whatever wrote the
// file.
void cmyk_to_rgb(const uint8_t* cmyk, int count, uint8_t* rgb) {
  for (int i = 0; i < count; ++i, cmyk += 4, rgb += 3) {
    const int white = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[c]) * white + 128;
      rgb[c] = static_cast<uint8_t>(std::max(white - (((product >> 8) + product) >> 8), 0));
    }
  }
}

Pixels decode_jpeg(Bytes file, const DecodeOptions& options) {
  JpegHead head = JpegMarkers(file).read();
  check_size(head.width, head.height, options);
  if (options.wanted) head.shrink(options.wanted);
  JpegDecoder decoder(file);
  decoder.start(head);
  Canvas canvas(head.width, head.height, head.orientation);

  constexpr int kRows = 16;
  const size_t rgb_bytes = static_cast<size_t>(head.width) * 3;
  const size_t file_bytes = static_cast<size_t>(head.width) * (head.layers == 4 ? 4 : 3);
  std::vector<uint8_t> strip(rgb_bytes * kRows), inks(head.layers == 4 ? file_bytes * kRows : 0);
  for (int y = 0; y < head.height; y += kRows) {
    const int rows = std::min(kRows, head.height - y);
    const bool direct = head.layers != 4 && canvas.row(y) != nullptr;
    std::array<JSAMPROW, kRows> places;
    for (int i = 0; i < rows; ++i) {
      places[i] = direct             ? canvas.row(y + i)
                  : head.layers == 4 ? inks.data() + i * file_bytes
                                     : strip.data() + i * rgb_bytes;
    }
    decoder.read(places.data(), rows);
    if (head.layers == 4) cmyk_to_rgb(inks.data(), rows * head.width, strip.data());
    if (!direct) canvas.put(y, rows, strip.data());
  }
  decoder.finish();
  return canvas.take();
}

// What IHDR says of a sample.
struct PngFormat {
  int depth = 0, color = 0;

  bool known() const {
    const bool low = depth == 1 || depth == 2 || depth == 4, high = depth == 8 || depth == 16;
    switch (color) {
      case 0:
        return low || high;
      case 3:
        return low || depth == 8;
      case 2:
      case 4:
      case 6:
        return high;
      default:
        return false;
    }
  }
  bool palette() const { return color == 3; }
  int bits() const {
    static constexpr std::array<int, 7> kChannels = {1, 0, 3, 1, 2, 0, 4};
    return kChannels[color] * depth;
  }
};

// Undo the filter of one row. row[0] names the filter; `previous` is the row above, unfiltered, or
// zeros; `gap` bytes lie between a sample and its neighbour. False for an unknown filter.
bool unfilter(uint8_t* row, const uint8_t* previous, size_t length, size_t gap) {
  const auto add = [row](size_t i, int value) { row[i] = static_cast<uint8_t>(row[i] + value); };
  switch (row[0]) {
    case 0:
      return true;
    case 1:
      for (size_t i = gap + 1; i <= length; ++i) add(i, row[i - gap]);
      return true;
    case 2:
      for (size_t i = 1; i <= length; ++i) add(i, previous[i]);
      return true;
    case 3:
      for (size_t i = 1; i <= gap; ++i) add(i, previous[i] / 2);
      for (size_t i = gap + 1; i <= length; ++i) add(i, (row[i - gap] + previous[i]) / 2);
      return true;
    case 4:
      for (size_t i = 1; i <= gap; ++i) add(i, previous[i]);
      for (size_t i = gap + 1; i <= length; ++i) {
        const int left = row[i - gap], above = previous[i], corner = previous[i - gap];
        const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
        const int to_corner = std::abs(left + above - 2 * corner);
        add(i, to_left <= to_above && to_left <= to_corner ? left
               : to_above <= to_corner                     ? above
                                                           : corner);
      }
      return true;
    default:
      return false;
  }
}

// Inflate at most `limit` bytes of a text chunk or profile, which Pillow refuses where there would
// be more and ignores where they are damaged.
std::optional<std::string> inflate_text(Bytes data, size_t limit) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) refuse("out of memory");
  std::string text;
  std::array<char, 16384> block;
  stream.next_in = const_cast<Bytef*>(data.data());
  stream.avail_in = static_cast<uInt>(data.size());
  int status = Z_OK;
  while (status == Z_OK && text.size() < limit) {
    stream.next_out = reinterpret_cast<Bytef*>(block.data());
    stream.avail_out = static_cast<uInt>(std::min(block.size(), limit - text.size()));
    const uInt room = stream.avail_out;
    status = inflate(&stream, Z_SYNC_FLUSH);
    text.append(block.data(), room - stream.avail_out);
  }
  const bool more = status == Z_OK && stream.avail_in > 0;
  inflateEnd(&stream);
  if (more) refuse("decompressed data too large");
  if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END) return std::nullopt;
  return text;
}

// A PNG file, read chunk by chunk as PIL.PngImagePlugin reads it, and its pixels as
// libImaging/ZipDecode.c inflates them. What they refuse is refused, and where they are lenient
// (checksums of pixels, missing ends), so is this.
class PngReader {
 public:
  PngReader(Bytes file, const DecodeOptions& options) : file_(file), options_(options) {}

  Pixels read() {
    read_head();
    check_size(width_, height_, options_);
    Canvas canvas = read_pixels();
    read_tail();
    const std::optional<int> turn = orientation(Bytes(exif()), Bytes(xmp_));
    if (!turn) refuse("unreadable EXIF data");
    Pixels pixels = canvas.take();
    if (*turn < 2 || *turn > 8) return pixels;
    Canvas upright(pixels.width, pixels.height, *turn);
    upright.put(0, pixels.height, pixels.rgb.data());
    return upright.take();
  }

 private:
  struct Chunk {
    std::string_view name;
    size_t length = 0;
  };
  enum class Found { kChunk, kEnd, kBroken };
  struct Area {
    uint32_t left = 0, top = 0, width = 0, height = 0;
  };
  struct Inflater {
    z_stream stream{};
    Inflater() {
      if (inflateInit(&stream) != Z_OK) refuse("out of memory");
    }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
    ~Inflater() { inflateEnd(&stream); }
  };
  struct Pass {
    uint32_t left, top, across, down;
  };

  static constexpr size_t kMaxText = 1 << 20;
  static constexpr size_t kMaxTexts = 64 * kMaxText;

  // The head of the chunk at at_, which moves behind it.
  Found next(Chunk& chunk) {
    if (file_.size() - at_ < 4) return Found::kEnd;
    if (file_.size() - at_ < 8) return Found::kBroken;
    const uint8_t* head = file_.data() + at_;
    chunk.length = big32(head);
    chunk.name = {reinterpret_cast<const char*>(head + 4), 4};
    at_ += 8;
    const auto is_name = [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    };
    return std::all_of(chunk.name.begin(), chunk.name.end(), is_name) ? Found::kChunk
                                                                      : Found::kBroken;
  }

  Bytes content(size_t length) {
    if (file_.size() - at_ < length) refuse("Truncated File Read");
    at_ += length;
    return file_.substr(at_ - length, length);
  }

  void pass_over(size_t length) { at_ += std::min(length, file_.size() - at_); }

  // Everything before the pixels. Checksums count here.
  void read_head() {
    at_ = 8;
    for (;;) {
      Chunk chunk;
      if (next(chunk) != Found::kChunk) unidentified("broken PNG file");
      if (chunk.name == "IEND") unidentified("it has no pixels");
      if (chunk.name == "fdAT") unidentified("an animation without a first image");
      if (chunk.name == "IDAT" && format_.known()) {
        left_in_chunk_ = chunk.length;
        break;
      }
      const Bytes data = content(chunk.length);
      take(chunk.name, data);
      const uLong sum = crc32(crc32(0, file_.data() + at_ - chunk.length - 4, 4), data.data(),
                              static_cast<uInt>(chunk.length));
      if (file_.size() - at_ < 4 || big32(file_.data() + at_) != sum) {
        unidentified("broken PNG file (bad checksum in " + std::string(chunk.name) + ")");
      }
      at_ += 4;
    }
    if (width_ == 0 || height_ == 0) unidentified("it has no size");
    // The image before the first frame of an animation counts as one more.
    animated_ = frames_ && (*frames_ > 1 || !frame_);
  }

  // Everything behind the pixels, up to IEND, the next frame, or where the file breaks off.
  void read_tail() {
    pass_over(left_in_chunk_);
    for (;;) {
      pass_over(4);  // checksum
      Chunk chunk;
      if (next(chunk) != Found::kChunk || chunk.name == "IEND") break;
      if (chunk.name == "fcTL" && animated_) break;
      take(chunk.name, content(chunk.length));
    }
    if (format_.palette() && bad_transparency_) refuse("transparency outside the palette");
  }

  static void need(bool enough, std::string_view name) {
    if (!enough) refuse("broken " + std::string(name) + " chunk");
  }

  // Keep what matters of a chunk, and refuse what Pillow refuses of the rest.
  void take(std::string_view name, Bytes data) {
    const auto at_least = [&](size_t size) { need(data.size() >= size, name); };
    if (name == "IHDR") {
      at_least(13);
      width_ = big32(data.data());
      height_ = big32(data.data() + 4);
      const PngFormat format{data[8], data[9]};
      if (format.known()) format_ = format;
      interlaced_ = interlaced_ || data[12] != 0;
      need(data[11] == 0, name);
    } else if (name == "PLTE") {
      if (format_.palette()) palette_.assign(data.begin(), data.end());
    } else if (name == "tRNS") {
      if (!format_.known()) return;
      if (format_.color == 0) at_least(2);
      if (format_.color == 2) at_least(6);
      if (format_.palette()) bad_transparency_ = data.size() > 256 && !one_transparent(data);
    } else if (name == "gAMA") {
      at_least(4);
    } else if (name == "cHRM") {
      need(data.size() % 4 == 0, name);
    } else if (name == "sRGB") {
      at_least(1);
    } else if (name == "pHYs") {
      at_least(9);
    } else if (name == "iCCP") {
      const size_t zero = data.find(0) + 1;  // 0 where there is none, as Python's -1 + 1
      need(zero < data.size() && data[zero] == 0, name);
      inflate_text(data.substr(zero + 1), kMaxText);
    } else if (name == "eXIf") {
      exif_.assign(data.begin(), data.end());
      exif_kind_ = Exif::kBytes;
    } else if (name == "tEXt" || name == "zTXt" || name == "iTXt") {
      take_text(name, data);
    } else if (name == "acTL") {
      at_least(8);
      const uint32_t frames = big32(data.data());
      if (frames_) {
        frames_.reset();
      } else if (frames != 0 && frames <= 0x80000000) {
        frames_ = frames;
      }
    } else if (name == "fcTL") {
      at_least(26);
      take_sequence(data, name);
      frame_ = Area{big32(data.data() + 12), big32(data.data() + 16), big32(data.data() + 4),
                    big32(data.data() + 8)};
      need(uint64_t{frame_->left} + frame_->width <= width_ &&
               uint64_t{frame_->top} + frame_->height <= height_,
           name);
    } else if (name == "fdAT") {
      at_least(4);
      take_sequence(data, name);
    }
  }

  // Whether Pillow keeps one index of tRNS instead of all of it.
  static bool one_transparent(Bytes data) {
    const size_t zero = data.find(0);
    return zero < 256 && std::count(data.begin(), data.end(), uint8_t{255}) + 1 ==
                             static_cast<ptrdiff_t>(data.size());
  }

  void take_sequence(Bytes data, std::string_view name) {
    const uint32_t number = big32(data.data());
    need(number == next_in_sequence_ && (number != 0 || name == "fcTL"), name);
    ++next_in_sequence_;
  }

  void take_text(std::string_view name, Bytes data) {
    const size_t zero = data.find(0);
    const std::string key = data.substr(0, zero).text();
    Bytes rest = zero == Bytes::npos ? Bytes() : data.substr(zero + 1);
    std::optional<std::string> text;
    if (name == "tEXt") {
      text = rest.text();
    } else if (name == "zTXt") {
      need(rest.empty() || rest[0] == 0, name);
      text = inflate_text(rest.substr(std::min<size_t>(1, rest.size())), kMaxText).value_or("");
    } else {
      if (zero == Bytes::npos || rest.size() < 2) return;
      const bool compressed = rest[0] != 0;
      if (compressed && rest[1] != 0) return;
      rest.remove_prefix(2);
      for (int field = 0; field < 2; ++field) {  // language, translated key
        const size_t end = rest.find(0);
        if (end == Bytes::npos) return;
        rest.remove_prefix(end + 1);
      }
      if (compressed) {
        text = inflate_text(rest, kMaxText);
        if (!text) return;
      } else {
        text = rest.text();
      }
    }
    if (key.empty()) return;
    texts_ += text->size();
    if (texts_ > kMaxTexts) refuse("too much memory used in text chunks");
    if (key == "exif") {
      exif_kind_ = name == "tEXt" || text->empty() ? Exif::kBytes : Exif::kText;
      exif_ = std::move(*text);
    } else if (key == "Raw profile type exif") {
      raw_profile_ = std::move(text);
    } else if (key == "XML:com.adobe.xmp") {
      xmp_ = std::move(*text);
    }
  }

  // The EXIF data: of eXIf, or as hexadecimal text behind three lines, as ImageMagick writes it.
  std::string exif() const {
    if (exif_kind_ == Exif::kText) refuse("EXIF data in a text chunk");
    if (exif_kind_ == Exif::kBytes || !raw_profile_) return exif_;
    std::string_view text = *raw_profile_;
    for (int line = 0; line < 3; ++line) {
      text = text.substr(std::min(text.find('\n'), text.size() - 1) + 1);
    }
    std::string bytes;
    int high = -1;
    for (const char c : text) {
      if (c == '\n') continue;
      const auto digit = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
      if (digit < 16 && c > ' ') {
        if (high < 0) {
          high = static_cast<int>(digit);
        } else {
          bytes.push_back(static_cast<char>(high << 4 | static_cast<int>(digit)));
          high = -1;
        }
      } else if (high >= 0 || std::string_view(" \t\r\v\f").find(c) == std::string_view::npos) {
        refuse("EXIF data are not hexadecimal");
      }
    }
    if (high >= 0) refuse("EXIF data are not hexadecimal");
    return bytes;
  }

  // Point the stream at the next part of the pixels' data.
  void supply(z_stream& stream) {
    while (left_in_chunk_ == 0) {
      pass_over(4);  // checksum
      Chunk chunk;
      if (next(chunk) != Found::kChunk || (chunk.name != "IDAT" && chunk.name != "DDAT")) {
        refuse("image file is truncated");
      }
      left_in_chunk_ = chunk.length;
    }
    const size_t part = std::min(left_in_chunk_, kBlock);
    left_in_chunk_ -= part;
    const size_t there = std::min(part, file_.size() - at_);
    if (there == 0) refuse("image file is truncated");
    stream.next_in = const_cast<Bytef*>(file_.data() + at_);
    stream.avail_in = static_cast<uInt>(there);
    at_ += there;
  }

  Canvas read_pixels() {
    const Area area = frame_.value_or(Area{0, 0, width_, height_});
    if (area.width == 0 || area.height == 0) refuse("the first frame has no size");
    if (palette_.size() / 3 > 256) refuse("invalid palette size");
    const int bits = format_.bits();
    if (area.width > static_cast<uint32_t>(INT_MAX / bits - 7)) refuse("too wide");
    set_colors();

    // Its pixels are black where the data end early, or the first of the palette.
    Canvas canvas(static_cast<int>(width_), static_cast<int>(height_), 1);
    if (format_.palette() && colors_[0] != std::array<uint8_t, 3>{}) {
      for (uint32_t y = 0; y < height_; ++y) {
        uint8_t* const row = canvas.row(static_cast<int>(y));
        for (size_t x = 0; x < width_; ++x) std::memcpy(row + x * 3, colors_[0].data(), 3);
      }
    }

    static constexpr std::array<Pass, 7> kAdam7 = {{{0, 0, 8, 8},
                                                    {4, 0, 8, 8},
                                                    {0, 4, 4, 8},
                                                    {2, 0, 4, 4},
                                                    {0, 2, 2, 4},
                                                    {1, 0, 2, 2},
                                                    {0, 1, 1, 2}}};
    static constexpr Pass kWhole = {0, 0, 1, 1};
    const Pass* pass = interlaced_ ? kAdam7.data() : &kWhole;
    const Pass* const last = interlaced_ ? &kAdam7.back() : &kWhole;
    const auto pixels_of = [&](const Pass& of) {
      return area.width <= of.left ? 0 : (area.width - of.left - 1) / of.across + 1;
    };
    const auto bytes_of = [&](const Pass& of) {
      return (static_cast<size_t>(pixels_of(of)) * bits + 7) / 8;
    };

    const size_t most = bytes_of(kWhole) + 1;
    std::vector<uint8_t> row(most), previous(most), rgb(interlaced_ ? area.width * size_t{3} : 0);
    Inflater inflater;
    z_stream& stream = inflater.stream;
    size_t length = bytes_of(*pass), filled = 0;
    uint32_t y = 0;
    for (;;) {
      if (stream.avail_in == 0) supply(stream);
      stream.next_out = row.data() + filled;
      stream.avail_out = static_cast<uInt>(length + 1 - filled);
      const int status = inflate(&stream, Z_NO_FLUSH);
      if (status < 0) refuse("broken data stream");
      filled = length + 1 - stream.avail_out;
      if (filled <= length) {
        stream.avail_in = 0;  // what is left of a stream that has ended
        continue;
      }
      filled = 0;
      if (!unfilter(row.data(), previous.data(), length, static_cast<size_t>(bits + 7) / 8)) {
        refuse("unknown filter");
      }
      if (interlaced_) {
        to_rgb(row.data() + 1, pixels_of(*pass), rgb.data());
        uint8_t* to = canvas.row(static_cast<int>(y)) + pass->left * 3;
        for (size_t i = 0; i < pixels_of(*pass); ++i, to += pass->across * 3) {
          std::memcpy(to, rgb.data() + i * 3, 3);
        }
      } else {
        to_rgb(row.data() + 1, area.width,
               canvas.row(static_cast<int>(area.top + y)) + area.left * size_t{3});
      }
      row.swap(previous);
      y += pass->down;
      while (y >= area.height || pixels_of(*pass) == 0) {
        if (pass == last) return canvas;
        ++pass;
        y = pass->top;
        length = bytes_of(*pass);
        std::fill(previous.begin(), previous.end(), uint8_t{0});
      }
      if (status == Z_STREAM_END) return canvas;
    }
  }

  // RGB of every sample of at most 8 bits that stands alone.
  void set_colors() {
    if (format_.palette()) {
      for (size_t i = 0; i < palette_.size() / 3; ++i) {
        std::copy_n(palette_.begin() + static_cast<ptrdiff_t>(i * 3), 3, colors_[i].begin());
      }
    } else if (format_.color == 0 && format_.depth <= 8) {
      const int most = (1 << format_.depth) - 1;
      for (int i = 0; i <= most; ++i) colors_[i].fill(static_cast<uint8_t>(i * 255 / most));
    }
  }

  void to_rgb(const uint8_t* samples, uint32_t count, uint8_t* rgb) const {
    const int depth = format_.depth;
    if (depth < 8) {
      for (size_t i = 0; i < count; ++i) {
        const size_t bit = i * depth;
        const int sample = samples[bit / 8] >> (8 - depth - bit % 8) & ((1 << depth) - 1);
        std::memcpy(rgb + i * 3, colors_[sample].data(), 3);
      }
    } else if (format_.palette() || (format_.color == 0 && depth == 8)) {
      for (size_t i = 0; i < count; ++i) std::memcpy(rgb + i * 3, colors_[samples[i]].data(), 3);
    } else if (format_.color == 2 && depth == 8) {
      std::memcpy(rgb, samples, count * size_t{3});
    } else {
      // The high bytes of whole samples; alpha is passed over.
      const size_t step = static_cast<size_t>(format_.bits()) / 8, sample = depth / 8;
      const size_t green = (format_.color & 2) != 0 ? sample : 0, blue = 2 * green;
      for (size_t i = 0; i < count; ++i, samples += step) {
        rgb[i * 3] = samples[0];
        rgb[i * 3 + 1] = samples[green];
        rgb[i * 3 + 2] = samples[blue];
      }
    }
  }

  enum class Exif { kNone, kBytes, kText };

  Bytes file_;
  const DecodeOptions& options_;
  size_t at_ = 0, left_in_chunk_ = 0;
  PngFormat format_;
  uint32_t width_ = 0, height_ = 0;
  bool interlaced_ = false, bad_transparency_ = false, animated_ = false;
  std::vector<uint8_t> palette_;
  std::array<std::array<uint8_t, 3>, 256> colors_{};
  std::optional<uint32_t> frames_;
  std::optional<Area> frame_;
  uint32_t next_in_sequence_ = 0;
  Exif exif_kind_ = Exif::kNone;
  std::string exif_, xmp_;
  std::optional<std::string> raw_profile_;
  size_t texts_ = 0;
};

}  // namespace

Pixels decode_image(const uint8_t* data, size_t size, const DecodeOptions& options) {
  const Bytes file(data, size);
  if (file.starts_with("\xFF\xD8\xFF")) return decode_jpeg(file, options);
  if (file.starts_with("\x89PNG\r\n\x1A\n")) return PngReader(file, options).read();
  unidentified("it begins like neither; convert it to one of them");
}

}  // namespace lite_run
