#include "session.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "error.h"
#include "file.h"
#include "image.h"
#include "machine.h"
#include "nb.h"
#include "shown_cpu.h"

namespace lite_run {

using nlohmann::json;

namespace {

constexpr uint64_t kMostPictureBytes = uint64_t{1} << 30;

// A rough estimate of what the engine needs for a model: the parameters as read and as rearranged
// for its kernels (those of weight-only recipes as floats), inputs, outputs, and the library. The
// factors are those of lite_opt/model/cost.py, which knows the activations as well.
int64_t estimated_memory_bytes(const Bundle& bundle, const Target& target) {
  const double widened = target.precision == "int8-weights"    ? 4
                         : target.precision == "int16-weights" ? 2
                                                               : 1;
  double tensors = 0;
  for (const auto* specs : {&bundle.inputs, &bundle.outputs}) {
    for (const TensorSpec& spec : *specs) {
      auto bytes = static_cast<double>(item_bytes(spec.dtype));
      for (const int64_t side : spec.shape) {
        bytes *= static_cast<double>(std::max<int64_t>(side, 1));
      }
      tensors += bytes;
    }
  }
  return static_cast<int64_t>(20e6 + 1.65 * widened * static_cast<double>(target.bytes) +
                              5 * tensors);
}

}  // namespace

Session::Session(const std::string& path, int threads, int power_mode)
    : bundle_(Bundle::open(path)),
      target_(bundle_.target_here()),
      file_(bundle_.verified(target_)),
      threads_(threads),
      found_(check_fit()),
      engine_(bundle_, file_, threads, power_mode),
      machine_(lite_run::machine()) {}

Session::Found Session::check_fit() const {
  for (const TensorSpec& spec : bundle_.inputs) {
    if (!can_be_fed(spec.dtype)) {
      throw Error(bundle_.path + ": input '" + spec.name + "' is " + spec.dtype +
                  ", which cannot be fed here");
    }
  }
  Found found;
  found.estimated_memory_bytes = estimated_memory_bytes(bundle_, target_);
  const int64_t free = free_memory_bytes();
  if (free >= 0 && free < found.estimated_memory_bytes) {
    const auto mb = [](int64_t bytes) { return std::to_string(bytes / 1000000) + " MB"; };
    throw Error(file_ + ": needs about " + mb(found.estimated_memory_bytes) + " of memory, and " +
                mb(free) + " are free: end other programs, or convert with a smaller --recipe");
  }
  found.engine_version = lite_run::engine_version();
  const std::string slow = cpu_warning(target_.precision);
  if (!slow.empty()) found.warnings.push_back(slow);
  for (const auto& [name, release] : target_.needs) {
    if (is_older(found.engine_version, release)) {
      throw Error(bundle_.path + ": operator " + name + " needs Paddle Lite " + release +
                  ", and this library is " + found.engine_version +
                  ": install that release, or convert with --lite " + found.engine_version);
    }
  }
  const std::string differ = "the Paddle Lite library is " + found.engine_version + ", and " +
                             target_.file + " was made for " + target_.opt_version;
  switch (version_fit(found.engine_version, target_.opt_version)) {
    case Fit::kRefused:
      // Measured: 2.8 and 2.9 crash on files of 2.13 or answer wrongly.
      throw Error(bundle_.path + ": " + differ + ": install the library of that version");
    case Fit::kUnsure:
      found.warnings.push_back(differ + ": use the same version of both where answers are wrong");
      break;
    case Fit::kSame:
      break;
  }
  return found;
}

json Session::info() const {
  return {{"lite_run", LITE_RUN_VERSION},
          {"engine", found_.engine_version},
          {"opt_version", target_.opt_version},
          {"name", bundle_.name},
          {"sha256", bundle_.sha256},
          {"precision", target_.precision},
          {"target", this_target()},
          {"file", target_.file},
          {"threads", threads_},
          {"machine", machine_},
          {"cpu", shown_cpu()},
          {"device", "cpu"},
          {"labels", bundle_.labels.size()},
          {"image", bundle_.image.has_value() && bundle_.inputs.size() == 1},
          {"samples", bundle_.samples.size()},
          {"estimated_memory_bytes", found_.estimated_memory_bytes},
          {"warnings", found_.warnings}};
}

void Session::set_input(int index, const std::string& dtype, const std::vector<int64_t>& shape,
                        const void* data, size_t bytes) {
  const TensorSpec& spec = input(index);
  const std::string wrong = spec.mismatch(dtype, shape);
  if (!wrong.empty()) throw Error(wrong, kUsage);
  size_t expected = item_bytes(dtype);
  for (const int64_t side : shape) {
    if (static_cast<uint64_t>(side) > SIZE_MAX / 2 / expected) {
      throw Error(describe(dtype, shape) + " is too large for this machine", kUsage);
    }
    expected *= static_cast<size_t>(side);
  }
  if (bytes != expected) {
    throw Error("input '" + spec.name + "': " + std::to_string(bytes) + " bytes are given, and " +
                    describe(dtype, shape) + " has " + std::to_string(expected),
                kUsage);
  }
  engine_.set(static_cast<size_t>(index), shape,
              [&](void* elements) { std::memcpy(elements, data, bytes); });
}

void Session::set_image(const uint8_t* pixels, int width, int height, ptrdiff_t stride,
                        int channels) {
  const ImageSpec& spec = image_spec();
  const auto fixed = spec.shape(width, height);
  const std::vector<int64_t> shape(fixed.begin(), fixed.end());
  const std::string wrong = bundle_.inputs[0].mismatch("float32", shape);
  if (!wrong.empty()) {
    throw Error("a picture of " + std::to_string(width) + " x " + std::to_string(height) + ": " +
                wrong);
  }
  engine_.set(0, shape, [&](void* elements) {
    spec.apply(pixels, width, height, stride, channels, static_cast<float*>(elements));
  });
}

void Session::set_file(int index, const std::string& path) {
  input(index);
  std::vector<uint8_t> data = read_file(path, kMostPictureBytes);
  if (is_npy(data.data(), data.size())) {
    const Array array = parse_npy(path, std::move(data));
    const std::string wrong = input(index).mismatch(array.dtype, array.shape);
    if (!wrong.empty()) throw Error(path + ": " + wrong);
    set_input(index, array.dtype, array.shape, array.data.data(), array.data.size());
    return;
  }
  try {
    const Pixels pixels = image_spec().decode(data.data(), data.size());
    data = {};
    set_image(pixels.rgb.data(), pixels.width, pixels.height, ptrdiff_t{3} * pixels.width, 3);
  } catch (const Error& error) {
    throw Error(path + ": " + error.what(), error.code);
  }
}

void Session::run(const std::vector<Array>& feeds) {
  for (size_t i = 0; i < feeds.size(); ++i) {
    const std::vector<uint8_t>& data = feeds[i].data;
    engine_.set(i, feeds[i].shape,
                [&](void* elements) { std::memcpy(elements, data.data(), data.size()); });
  }
  engine_.run();
}

const Answer& Session::answer(int index) const {
  if (index < 0 || static_cast<size_t>(index) >= bundle_.outputs.size()) {
    throw Error("there is no output " + std::to_string(index), kUsage);
  }
  if (answers().empty()) throw Error("nothing was run since an input was set", kUsage);
  return answers()[static_cast<size_t>(index)];
}

const TensorSpec& Session::input(int index) const {
  if (index < 0 || static_cast<size_t>(index) >= bundle_.inputs.size()) {
    throw Error("there is no input " + std::to_string(index), kUsage);
  }
  return bundle_.inputs[static_cast<size_t>(index)];
}

const ImageSpec& Session::image_spec() const {
  if (!bundle_.beyond.empty()) {
    throw Error(bundle_.path + ": its preprocessing has " + bundle_.beyond +
                    ", which lite_run does not do: give arrays, made with paddle-edge run",
                kUsage);
  }
  if (!bundle_.image || bundle_.inputs.size() != 1) {
    throw Error(bundle_.path +
                    ": says nothing of images, or has more than one input: give "
                    "arrays, or convert with --image",
                kUsage);
  }
  return *bundle_.image;
}

}  // namespace lite_run
