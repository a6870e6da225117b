#include "inputs.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <vector>

#include "failure.h"
#include "session.h"

namespace command {
namespace {

namespace fs = std::filesystem;

// An input on the command line: a file, and what its sample is called.
struct Picture {
  std::string path;
  std::string id;
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

bool hidden(const fs::path& path) { return path.filename().string().rfind('.', 0) == 0; }

std::vector<Picture> pictures(const std::string& input) {
  if (!fs::is_directory(input)) return {{input, fs::path(input).filename().string()}};
  std::vector<Picture> found;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (fs::recursive_directory_iterator at(input, options), end; at != end; ++at) {
    if (hidden(at->path())) {
      if (at->is_directory()) at.disable_recursion_pending();
      continue;
    }
    const std::string suffix = lower(at->path().extension().string());
    if (suffix == ".jpg" || suffix == ".jpeg" || suffix == ".png") {
      found.push_back({at->path().string(), at->path().lexically_relative(input).generic_string()});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Picture& a, const Picture& b) { return a.id < b.id; });
  if (found.empty()) throw Failure(LR_FAULT, input + ": holds no JPEG or PNG pictures");
  return found;
}

}  // namespace

void record_inputs(lr_session* session, const Options& options,
                   const std::function<bool(const char* id)>& each) {
  int warmup = options.warmup;
  // A list of samples or arrays that the library reads.
  const auto record = [&](const char* path) {
    struct Call {
      const std::function<bool(const char* id)>& each;
      std::string problem;
    } call{each, ""};
    const lr_progress progress = [](void* user, const char* id, int, int) {
      auto& the_call = *static_cast<Call*>(user);
      try {
        return the_call.each(id) ? 0 : 1;
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
    for (const Picture& picture : pictures(input)) {
      must(lr_set_file(session, 0, picture.path.c_str()));
      must(lr_record(session, picture.id.c_str(), -1, warmup, options.repeat));
      warmup = 0;
      if (!each(picture.id.c_str())) return;
    }
  }
  if (options.samples.empty() && options.inputs.empty()) record(nullptr);
}

}  // namespace command
