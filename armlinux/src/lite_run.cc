// The C ABI of lite_run.h: arguments are checked, and errors become a status and a text.
#include "lite_run.h"

#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine.h"
#include "error.h"
#include "record.h"
#include "session.h"
#include "shown_cpu.h"

using lite_run::Answer;
using lite_run::Error;
using lite_run::kUsage;
using lite_run::TensorSpec;
using nlohmann::json;

namespace {

constexpr int kMostThreads = 256;

std::string text_of(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

// The texts are those that the caller was given pointers to.
struct lr_session : lite_run::Session {
  lr_session(const char* bundle, int threads, int power_mode)
      : Session(bundle, threads, power_mode), record(*this), info_text(text_of(info())) {}

  lite_run::Record record;
  std::string info_text;
  std::string report_text;
  std::string summary_text;
};

namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

int failed(int code, const char* what) noexcept {
  try {
    std::string text = what;
    // One line, whatever a file is called.
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < ' ') c = ' ';
    }
    last_error() = std::move(text);
  } catch (...) {  // not even memory for the words
    last_error().clear();
  }
  return code;
}

// Runs what may throw; nothing leaves this library but a status.
template <typename Function>
int guarded(Function&& function) noexcept {
  try {
    return function();
  } catch (const Error& error) {
    return failed(error.code, error.what());
  } catch (const std::bad_alloc&) {
    return failed(LR_FAULT, "there is not enough memory");
  } catch (const std::exception& error) {
    return failed(LR_FAULT, error.what());
  } catch (...) {
    return failed(LR_FAULT, "an unknown error");
  }
}

void need(bool holds, const char* what) {
  if (!holds) throw Error(what, kUsage);
}

const std::vector<TensorSpec>* specs(const lr_session* session, int side) {
  if (session == nullptr) return nullptr;
  if (side == LR_INPUT) return &session->bundle().inputs;
  return side == LR_OUTPUT ? &session->bundle().outputs : nullptr;
}

template <typename T>
void give(T* to, T value) {
  if (to != nullptr) *to = value;
}

}  // namespace

const char* lr_error(void) { return last_error().c_str(); }

int lr_open(const char* bundle, int threads, int power_mode, lr_session** session) {
  return guarded([&] {
    need(bundle != nullptr && session != nullptr, "lr_open: a pointer is NULL");
    need(threads >= 1 && threads <= kMostThreads, "threads are 1 to 256");
    need(power_mode >= LR_POWER_HIGH && power_mode <= LR_POWER_RAND_LOW, "unknown power mode");
    *session = std::make_unique<lr_session>(bundle, threads, power_mode).release();
    return LR_OK;
  });
}

void lr_close(lr_session** session) {
  if (session == nullptr) return;
  delete *session;
  *session = nullptr;
}

const char* lr_info(const lr_session* session) {
  return session != nullptr ? session->info_text.c_str()
                            : "{\"lite_run\":\"" LITE_RUN_VERSION "\"}";
}

int lr_cpu(const char** cpu) {
  return guarded([&] {
    need(cpu != nullptr, "lr_cpu: a pointer is NULL");
    static const std::string text = [] {
      (void)lite_run::engine_version();  // has it look
      return text_of(lite_run::shown_cpu());
    }();
    *cpu = text.c_str();
    return LR_OK;
  });
}

int lr_count(const lr_session* session, int side) {
  const auto* list = specs(session, side);
  return list != nullptr ? static_cast<int>(list->size()) : -1;
}

int lr_spec(const lr_session* session, int side, int index, const char** name, const char** dtype,
            const int64_t** shape, int* rank) {
  return guarded([&] {
    const auto* list = specs(session, side);
    need(list != nullptr, "lr_spec: the session is NULL, or side neither LR_INPUT nor LR_OUTPUT");
    need(index >= 0 && static_cast<size_t>(index) < list->size(), "lr_spec: no such tensor");
    const TensorSpec& spec = (*list)[static_cast<size_t>(index)];
    give(name, spec.name.c_str());
    give(dtype, spec.dtype.c_str());
    give(shape, spec.shape.data());
    give(rank, static_cast<int>(spec.shape.size()));
    return LR_OK;
  });
}

int lr_set_input(lr_session* session, int index, const char* dtype, const int64_t* shape, int rank,
                 const void* data, size_t bytes) {
  return guarded([&] {
    need(session != nullptr && dtype != nullptr && (shape != nullptr || rank == 0) && rank >= 0 &&
             data != nullptr,
         "lr_set_input: a pointer is NULL or rank below 0");
    session->set_input(index, dtype, {shape, shape + rank}, data, bytes);
    return LR_OK;
  });
}

int lr_set_image(lr_session* session, const uint8_t* pixels, int width, int height,
                 ptrdiff_t stride, int channels) {
  return guarded([&] {
    need(session != nullptr && pixels != nullptr, "lr_set_image: a pointer is NULL");
    need(channels == 3 || channels == 4, "channels are 3 for RGB or 4 for RGBA");
    need(width > 0 && height > 0 && stride / channels >= width,
         "a picture has a width, a height, and a stride of at least width * channels");
    session->set_image(pixels, width, height, stride, channels);
    return LR_OK;
  });
}

int lr_set_file(lr_session* session, int index, const char* path) {
  return guarded([&] {
    need(session != nullptr && path != nullptr, "lr_set_file: a pointer is NULL");
    session->set_file(index, path);
    return LR_OK;
  });
}

int lr_run(lr_session* session) {
  return guarded([&] {
    need(session != nullptr, "lr_run: the session is NULL");
    session->run();
    return LR_OK;
  });
}

int lr_output(const lr_session* session, int index, const void** data, const char** dtype,
              const int64_t** shape, int* rank) {
  return guarded([&] {
    need(session != nullptr, "lr_output: the session is NULL");
    const Answer& answer = session->answer(index);
    give(data, answer.data);
    give(dtype, answer.dtype);
    give(shape, answer.shape.data());
    give(rank, static_cast<int>(answer.shape.size()));
    return LR_OK;
  });
}

const char* lr_label(const lr_session* session, int64_t class_number) {
  if (session == nullptr || class_number < 0) return nullptr;
  const auto& labels = session->bundle().labels;
  const auto index = static_cast<uint64_t>(class_number);
  return index < labels.size() ? labels[static_cast<size_t>(index)].c_str() : nullptr;
}

int lr_record(lr_session* session, const char* sample_id, int64_t label, int warmup, int repeat) {
  return guarded([&] {
    need(session != nullptr && sample_id != nullptr, "lr_record: a pointer is NULL");
    session->record.add(sample_id, label >= 0 ? std::optional<int64_t>(label) : std::nullopt,
                        warmup, repeat);
    return LR_OK;
  });
}

int lr_record_samples(lr_session* session, const char* path, int warmup, int repeat,
                      lr_progress progress, void* user) {
  return guarded([&] {
    need(session != nullptr, "lr_record_samples: the session is NULL");
    const auto told = [&](const std::string& id, size_t done, size_t total) {
      return progress == nullptr ||
             progress(user, id.c_str(), static_cast<int>(done), static_cast<int>(total)) == 0;
    };
    session->record.add_samples(path, warmup, repeat, told);
    return LR_OK;
  });
}

void lr_forget(lr_session* session) {
  if (session != nullptr) session->record.forget();
}

int lr_check(lr_session* session, const char** report) {
  return guarded([&] {
    need(session != nullptr && report != nullptr, "lr_check: a pointer is NULL");
    const json judged = session->record.check();
    session->report_text = text_of(judged);
    *report = session->report_text.c_str();
    const bool passed = judged["passed"].get<bool>();
    std::string failures;
    for (const char* why : {"failures", "unjudged"}) {
      for (const json& text : judged[why]) {
        failures += (failures.empty() ? "" : "; ") + text.get<std::string>();
      }
    }
    return passed ? LR_OK : failed(LR_FAILED, failures.c_str());
  });
}

int lr_summary(lr_session* session, const char** summary) {
  return guarded([&] {
    need(session != nullptr && summary != nullptr, "lr_summary: a pointer is NULL");
    session->summary_text = text_of(session->record.summary());
    *summary = session->summary_text.c_str();
    return LR_OK;
  });
}

int lr_save_run(lr_session* session, const char* path, int force) {
  return guarded([&] {
    need(session != nullptr && path != nullptr, "lr_save_run: a pointer is NULL");
    session->record.save(path, force != 0);
    return LR_OK;
  });
}
