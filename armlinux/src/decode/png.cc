#include "decode/png.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "decode/canvas.h"
#include "decode/orientation.h"
#include "decode/png_rows.h"
#include "decode/png_texts.h"
#include "decode/refusal.h"

namespace lite_run {
namespace {

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
    const std::optional<int> turn = orientation(Bytes(texts_.exif()), Bytes(texts_.xmp()));
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
      inflate_text(data.substr(zero + 1));
    } else if (name == "eXIf") {
      texts_.take_exif(data);
    } else if (name == "tEXt" || name == "zTXt" || name == "iTXt") {
      texts_.take(name, data);
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
    const PngColors colors(format_, palette_);

    // Its pixels are black where the data end early, or the first of the palette.
    Canvas canvas(static_cast<int>(width_), static_cast<int>(height_), 1);
    if (format_.palette() && colors.first() != std::array<uint8_t, 3>{}) {
      for (uint32_t y = 0; y < height_; ++y) {
        uint8_t* const row = canvas.row(static_cast<int>(y));
        for (size_t x = 0; x < width_; ++x) std::memcpy(row + x * 3, colors.first().data(), 3);
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
        colors.to_rgb(row.data() + 1, pixels_of(*pass), rgb.data());
        uint8_t* to = canvas.row(static_cast<int>(y)) + pass->left * 3;
        for (size_t i = 0; i < pixels_of(*pass); ++i, to += pass->across * 3) {
          std::memcpy(to, rgb.data() + i * 3, 3);
        }
      } else {
        colors.to_rgb(row.data() + 1, area.width,
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

  Bytes file_;
  const DecodeOptions& options_;
  size_t at_ = 0, left_in_chunk_ = 0;
  PngFormat format_;
  uint32_t width_ = 0, height_ = 0;
  bool interlaced_ = false, bad_transparency_ = false, animated_ = false;
  std::vector<uint8_t> palette_;
  std::optional<uint32_t> frames_;
  std::optional<Area> frame_;
  uint32_t next_in_sequence_ = 0;
  PngTexts texts_;
};

}  // namespace

Pixels decode_png(Bytes file, const DecodeOptions& options) {
  return PngReader(file, options).read();
}

}  // namespace lite_run
