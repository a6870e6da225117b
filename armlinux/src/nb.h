// Paddle Lite's .nb file without the engine: which optimizer wrote it, and whether it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lite_run {

// `weight_bytes` is the part of the file that holds parameters.
struct NbHeader {
  std::string opt_version;
  uint64_t params;
  uint64_t weight_bytes;
};

// Reads a whole file that lies at `data`, and steps through its parameters, so that a truncated
// one is found here and not by the engine, which aborts. The format is described in
// py_runner/formats/nb.py. Throws Error, without a file name.
NbHeader parse_nb(const uint8_t* data, size_t size);

// Whether a library of version `library` can run what the optimizer of version `opt` wrote:
// libraries before 2.10 answer wrongly, or crash, on files of later ones. Where both are read and
// agree, `kSame`; where they differ otherwise, or one is no release's name, `kUnsure`.
enum class Fit { kSame, kUnsure, kRefused };
Fit version_fit(const std::string& library, const std::string& opt);

// Whether a library is older than a release. One that bears no release's name is not known to be.
bool is_older(const std::string& library, const std::string& wanted);

}  // namespace lite_run
