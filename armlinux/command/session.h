// A session of the library, which is closed by itself and whose errors are thrown.
#pragma once

#include <nlohmann/json.hpp>

#include "failure.h"
#include "lite_run.h"
#include "options.h"

namespace command {

inline void must(int status) {
  if (status != LR_OK) throw Failure(status, lr_error());
}

class Session {
 public:
  Session(const Options& options, int threads) {
    must(lr_open(options.bundle.c_str(), threads, options.power_mode, &session_));
  }
  ~Session() { lr_close(&session_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  operator lr_session*() const { return session_; }
  nlohmann::json info() const { return nlohmann::json::parse(lr_info(session_)); }
  nlohmann::json summary() const {
    const char* text = nullptr;
    must(lr_summary(session_, &text));
    return nlohmann::json::parse(text);
  }

 private:
  lr_session* session_ = nullptr;
};

}  // namespace command
