// Files read whole within bounds, JSON among them, and folders written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace lite_run {

// The bytes of a regular file. Throws Error where it is missing, no regular file (a device or a
// pipe may never end), or larger than `most_bytes`.
std::vector<uint8_t> read_file(const std::string& path, uint64_t most_bytes);

// Parses JSON of a file; throws Error that names it and says `advice`.
nlohmann::json parse_json(const std::string& file, const std::string& text, const char* advice);

// Size of a regular file; throws Error as read_file does.
uint64_t file_size(const std::string& path);

// Lower-case hexadecimal SHA-256 of a file, in bounded memory.
std::string file_sha256(const std::string& path);

// Whether a file name from a manifest stays inside its folder: relative, without "..".
bool stays_inside(const std::string& name);

// The path of a file in a folder. Throws Error for a link that leads out of it: a copy of the
// folder would lack it, and somebody else's would show us what it likes.
std::string path_inside(const std::string& folder, const std::string& name);

// A file mapped for reading; empty files are refused.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Collects what is written to a file; `close` throws Error where anything failed.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, size_t bytes);
  void write(const std::string& text) { write(text.data(), text.size()); }
  void close();

 private:
  std::string path_;
  int fd_ = -1;
};

// A new empty folder beside `path` that takes its name on `commit`, and is removed without it.
//
// Throws Error (kUsage) where `path` is taken: with `force` a folder that holds run.json is
// replaced, anything else never is. A link to such a folder stays: what it leads to is replaced.
// Where `commit` fails, what was there is there again.
class WholeFolder {
 public:
  WholeFolder(const std::string& path, bool force);
  ~WholeFolder();
  WholeFolder(const WholeFolder&) = delete;
  WholeFolder& operator=(const WholeFolder&) = delete;
  const std::string& path() const { return partial_; }
  void commit();

 private:
  std::string final_;
  std::string partial_;
  bool done_ = false;
};

}  // namespace lite_run
