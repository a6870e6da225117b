#include "inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>
#include <utility>
#include <vector>

#include "failure.h"
#include "limits.h"
#include "session.h"

namespace command {
namespace {

namespace fs = std::filesystem;

// An input on the command line: a file, and what its sample is called.
struct Picture {
  std::string path;
  std::string id;
};

// How the names of pictures end: IMAGE_SUFFIXES of py_runner/data/source.py.
constexpr std::array<const char*, 4> kDecoded = {".jpg", ".jpeg", ".jfif", ".png"};
constexpr std::array<const char*, 7> kOthers = {".bmp", ".webp", ".tif", ".tiff",
                                                ".gif", ".ppm",  ".pgm"};

template <size_t N>
bool among(const std::array<const char*, N>& suffixes, const std::string& suffix) {
  return std::find(suffixes.begin(), suffixes.end(), suffix) != suffixes.end();
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

bool hidden(const fs::path& path) { return path.filename().string().rfind('.', 0) == 0; }

// Which folder it is, whatever leads to it.
std::pair<dev_t, ino_t> identity(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw Failure(LR_FAULT, path.string() + ": is gone");
  return {status.st_dev, status.st_ino};
}

// The pictures of a folder, sorted; what cannot be decoded is counted in `left_out`.
std::vector<Picture> in_folder(const std::string& input, std::map<std::string, int>& left_out) {
  std::vector<Picture> found;
  std::vector<std::pair<dev_t, ino_t>> above = {identity(input)};
  const auto options = fs::directory_options::follow_directory_symlink;
  for (fs::recursive_directory_iterator at(input, options), end; at != end; ++at) {
    above.resize(static_cast<size_t>(at.depth()) + 1);
    if (hidden(at->path())) {
      at.disable_recursion_pending();
      continue;
    }
    if (at->is_directory()) {
      const auto here = identity(at->path());
      if (std::find(above.begin(), above.end(), here) != above.end()) {
        throw Failure(LR_FAULT, at->path().string() +
                                    ": is a link that leads back up: its pictures would count "
                                    "twice; remove it");
      }
      above.push_back(here);
      continue;
    }
    const std::string suffix = lower(at->path().extension().string());
    if (among(kDecoded, suffix)) {
      found.push_back({at->path().string(), at->path().lexically_relative(input).generic_string()});
    } else if (among(kOthers, suffix)) {
      ++left_out[suffix];
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Picture& a, const Picture& b) { return a.id < b.id; });
  return found;
}

std::vector<Picture> pictures(const std::string& input, std::map<std::string, int>& left_out) {
  if (!fs::is_directory(input)) return {{input, fs::path(input).filename().string()}};
  std::map<std::string, int> others;
  std::vector<Picture> found = in_folder(input, others);
  if (found.empty()) {
    const std::string but = others.empty() ? "" : ", only " + counted(others);
    throw Failure(LR_FAULT, input + ": holds no JPEG or PNG pictures" + but);
  }
  for (const auto& [suffix, count] : others) left_out[suffix] += count;
  return found;
}

}  // namespace

std::string counted(const std::map<std::string, int>& by_suffix) {
  std::string text;
  for (const auto& [suffix, count] : by_suffix) {
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + suffix;
  }
  return text;
}

void check_kept(const Options& options) {
  std::error_code none;
  const fs::path out = fs::canonical(options.out, none);
  if (options.out.empty() || out.empty()) return;
  std::vector<std::string> read = options.inputs;
  read.push_back(options.bundle);
  if (!options.samples.empty()) read.push_back(options.samples);
  for (const std::string& path : read) {
    const fs::path found = fs::canonical(path, none);
    if (std::mismatch(out.begin(), out.end(), found.begin(), found.end()).first == out.end()) {
      throw Failure(LR_USAGE, options.out + ": holds " + found.string() +
                                  ", which is read; choose another name");
    }
  }
}

std::map<std::string, int> record_inputs(lr_session* session, const Options& options,
                                         const std::function<bool(const char* id)>& each) {
  std::map<std::string, int> left_out;
  int warmup = options.warmup;
  const auto goes_on = [&](const char* id) {
    Limits::restart();
    return each(id);
  };
  // A list of samples or arrays that the library reads.
  const auto record = [&](const char* path) {
    struct Call {
      const std::function<bool(const char* id)> goes_on;
      std::string problem;
    } call{goes_on, ""};
    const lr_progress progress = [](void* user, const char* id, int, int) {
      auto& the_call = *static_cast<Call*>(user);
      try {
        return the_call.goes_on(id) ? 0 : 1;
      } catch (const std::exception& error) {  // nothing may pass through C
        the_call.problem = error.what();
        return 1;
      }
    };
    must(lr_record_samples(session, path, warmup, options.repeat, progress, &call));
    if (!call.problem.empty()) throw Failure(LR_FAULT, call.problem);
    warmup = 0;
  };
  if (!options.samples.empty()) record(options.samples.c_str());
  for (const std::string& input : options.inputs) {
    if (lower(fs::path(input).extension().string()) == ".npy" && !fs::is_directory(input)) {
      record(input.c_str());
      continue;
    }
    for (const Picture& picture : pictures(input, left_out)) {
      must(lr_set_file(session, 0, picture.path.c_str()));
      must(lr_record(session, picture.id.c_str(), -1, warmup, options.repeat));
      warmup = 0;
      if (!goes_on(picture.id.c_str())) return left_out;
    }
  }
  if (options.samples.empty() && options.inputs.empty()) record(nullptr);
  return left_out;
}

}  // namespace command
