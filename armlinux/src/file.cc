#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "error.h"
#include "sha256.h"

namespace lite_run {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBlockBytes = 1 << 16;

[[noreturn]] void throw_errno(const std::string& path, const char* what) {
  const char* why = errno == ENOSPC || errno == EDQUOT
                        ? "the disk is full: make room, and try again"
                        : std::strerror(errno);
  throw Error(path + ": " + what + ": " + why);
}

// Whether Linux has exchanged two names at once; not where it, or the file system, cannot.
bool exchanged(const std::string& a, const std::string& b) {
#if defined(SYS_renameat2) && !defined(__ANDROID__)  // which kills for calls it does not know
  constexpr unsigned kExchange = 2;                  // linux/fs.h
  return ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), kExchange) == 0;
#else
  (void)a, (void)b;
  return false;
#endif
}

// Lets two folders change their names: at once where the system can, else one by one, and back
// again where the second step fails.
void swap_names(const std::string& fresh, const std::string& old) {
  if (exchanged(fresh, old)) return;
  const std::string aside = fresh + ".old";
  if (std::rename(old.c_str(), aside.c_str()) != 0) throw_errno(old, "cannot be replaced");
  if (std::rename(fresh.c_str(), old.c_str()) != 0) {
    const int why = errno;
    std::rename(aside.c_str(), old.c_str());
    errno = why;
    throw_errno(old, "cannot be written");
  }
  std::rename(aside.c_str(), fresh.c_str());
}

// An open regular file, and its size.
class Input {
 public:
  explicit Input(const std::string& path) : path_(path) {
    // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) throw_errno(path, "cannot be read");
    struct stat status {};
    if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(fd_);
      throw Error(path + ": is not a regular file");
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }
  ~Input() { ::close(fd_); }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  int fd() const { return fd_; }
  uint64_t size() const { return size_; }

  // Up to `bytes` bytes; less only at the end of the file.
  size_t read(void* out, size_t bytes) const {
    size_t done = 0;
    while (done < bytes) {
      const ssize_t got = ::read(fd_, static_cast<char*>(out) + done, bytes - done);
      if (got == 0) break;
      if (got < 0) {
        if (errno == EINTR) continue;
        throw_errno(path_, "cannot be read");
      }
      done += static_cast<size_t>(got);
    }
    return done;
  }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, uint64_t most_bytes) {
  const Input file(path);
  if (file.size() > most_bytes) {
    throw Error(path + ": too large: " + std::to_string(file.size()) + " bytes, " +
                std::to_string(most_bytes) + " are allowed");
  }
  std::vector<uint8_t> data(static_cast<size_t>(file.size()));
  data.resize(file.read(data.data(), data.size()));
  return data;
}

nlohmann::json parse_json(const std::string& file, const std::string& text, const char* advice) {
  nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) throw Error(file + ": damaged: not JSON; " + advice);
  return document;
}

uint64_t file_size(const std::string& path) { return Input(path).size(); }

std::string file_sha256(const std::string& path) {
  const Input file(path);
  Sha256 digest;
  std::vector<uint8_t> block(kBlockBytes);
  while (const size_t got = file.read(block.data(), block.size())) digest.update(block.data(), got);
  return digest.hex();
}

bool stays_inside(const std::string& name) {
  if (name.empty() || name.find('\0') != std::string::npos) return false;
  const fs::path path(name);
  return path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

std::string path_inside(const std::string& folder, const std::string& name) {
  std::string path = folder + "/" + name;
  std::error_code none;
  const fs::path top = fs::canonical(folder, none), file = fs::canonical(path, none);
  if (!file.empty() &&
      std::mismatch(top.begin(), top.end(), file.begin(), file.end()).first != top.end()) {
    throw Error(path + ": is a link that leads out of the folder; copy the file here");
  }
  return path;
}

MappedFile::MappedFile(const std::string& path) {
  const Input file(path);
  if (file.size() == 0) throw Error(path + ": is empty");
  if (file.size() > SIZE_MAX / 2) throw Error(path + ": too large for this machine");
  size_ = static_cast<size_t>(file.size());
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (mapped == MAP_FAILED) throw_errno(path, "cannot be mapped");
  data_ = static_cast<const uint8_t*>(mapped);
}

MappedFile::~MappedFile() { ::munmap(const_cast<uint8_t*>(data_), size_); }

OutputFile::OutputFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_errno(path, "cannot be written");
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(const void* data, size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(fd_, from, bytes);
    if (put < 0) {
      if (errno == EINTR) continue;
      throw_errno(path_, "cannot be written");
    }
    from += put;
    bytes -= static_cast<size_t>(put);
  }
}

void OutputFile::close() {
  const int result = ::close(fd_);
  fd_ = -1;
  if (result != 0) throw_errno(path_, "cannot be written");
}

WholeFolder::WholeFolder(const std::string& path, bool force) {
  std::error_code ignored;
  const fs::path absolute = fs::absolute(path, ignored);
  fs::path target = absolute.lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "run/" means "run"
  const fs::file_status status = fs::symlink_status(target, ignored);
  if (fs::is_symlink(status)) {
    const fs::path led_to = fs::canonical(target, ignored);
    if (!led_to.empty()) target = led_to;
  }
  if (fs::exists(status)) {
    if (!force) throw Error(path + ": exists already; choose another name or force it", kUsage);
    const bool run = fs::is_directory(target, ignored) && fs::exists(target / "run.json", ignored);
    const bool empty = fs::is_directory(target, ignored) && fs::is_empty(target, ignored);
    if (!run && !empty) {
      throw Error(path + ": is not a run: choose another name", kUsage);
    }
  }
  if (!fs::is_directory(target.parent_path(), ignored)) {
    throw Error(path + ": there is no folder " + target.parent_path().string(), kUsage);
  }
  final_ = target.string();
  std::string pattern =
      (target.parent_path() / ("." + target.filename().string() + ".partial-XXXXXX")).string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw Error(path + ": cannot be written: " + std::strerror(errno), kUsage);
  }
  partial_ = pattern;
}

WholeFolder::~WholeFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(partial_, ignored);
}

void WholeFolder::commit() {
  std::error_code error;
  // mkdtemp makes it private, and a run is to be shared. The umask cannot be read without setting
  // it for all threads, so others get what they have of the folder above.
  struct stat parent {};
  const std::string above = fs::path(final_).parent_path().string();
  if (::stat(above.c_str(), &parent) == 0) ::chmod(partial_.c_str(), 0700 | (parent.st_mode & 055));
  if (fs::exists(fs::symlink_status(final_, error))) {
    swap_names(partial_, final_);  // what is old goes with this object
  } else {
    if (std::rename(partial_.c_str(), final_.c_str()) != 0) {
      throw_errno(final_, "cannot be written");
    }
    done_ = true;
  }
}

}  // namespace lite_run
