#include "decode/png_texts.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <utility>

#include "decode/refusal.h"

namespace lite_run {
namespace {

// Pillow's MAX_TEXT_CHUNK and MAX_TEXT_MEMORY.
constexpr size_t kMaxText = 1 << 20;
constexpr size_t kMaxTexts = 64 * kMaxText;

}  // namespace

std::optional<std::string> inflate_text(Bytes data) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) refuse("out of memory");
  std::string text;
  std::array<char, 16384> block;
  stream.next_in = const_cast<Bytef*>(data.data());
  stream.avail_in = static_cast<uInt>(data.size());
  int status = Z_OK;
  while (status == Z_OK && text.size() < kMaxText) {
    stream.next_out = reinterpret_cast<Bytef*>(block.data());
    stream.avail_out = static_cast<uInt>(std::min(block.size(), kMaxText - text.size()));
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

void PngTexts::take(std::string_view name, Bytes data) {
  const size_t zero = data.find(0);
  const std::string key = data.substr(0, zero).text();
  Bytes rest = zero == Bytes::npos ? Bytes() : data.substr(zero + 1);
  std::optional<std::string> text;
  if (name == "tEXt") {
    text = rest.text();
  } else if (name == "zTXt") {
    if (!rest.empty() && rest[0] != 0) refuse("broken zTXt chunk");
    text = inflate_text(rest.substr(std::min<size_t>(1, rest.size()))).value_or("");
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
      text = inflate_text(rest);
      if (!text) return;
    } else {
      text = rest.text();
    }
  }
  if (key.empty()) return;
  bytes_ += text->size();
  if (bytes_ > kMaxTexts) refuse("too much memory used in text chunks");
  if (key == "exif") {
    exif_kind_ = name == "tEXt" || text->empty() ? Exif::kBytes : Exif::kText;
    exif_ = std::move(*text);
  } else if (key == "Raw profile type exif") {
    raw_profile_ = std::move(text);
  } else if (key == "XML:com.adobe.xmp") {
    xmp_ = std::move(*text);
  }
}

void PngTexts::take_exif(Bytes data) {
  exif_.assign(data.begin(), data.end());
  exif_kind_ = Exif::kBytes;
}

std::string PngTexts::exif() const {
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

}  // namespace lite_run
