#include "decode/jpeg.h"

#include <cstdio>  // jpeglib.h needs it

#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "decode/canvas.h"
#include "decode/jpeg_markers.h"
#include "decode/refusal.h"

namespace lite_run {
namespace {

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

}  // namespace

Pixels decode_jpeg(Bytes file, const DecodeOptions& options) {
  JpegHead head = read_jpeg_head(file);
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

}  // namespace lite_run
