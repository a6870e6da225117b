// What the engine writes to standard error.
#pragma once

#include <string>

namespace command {

// Keeps what the engine writes to standard error, some twenty lines a start, and shows it where
// the engine ends the process.
class EngineLog {
 public:
  // through: nothing is kept; as_json: a JSON object tells of the engine's end, too.
  EngineLog(bool through, bool as_json);

  // A line for a person, past the log; names in it reach no terminal raw.
  static void say(const std::string& text);

  // End the process with LR_FAULT and this line, from a signal's handler. `text` holds no quotes.
  [[noreturn]] static void end(const char* text);

 private:
  static void died(int signal);

  // Static, as a signal's handler knows nothing else.
  static inline int log_ = -1;
  static inline int terminal_ = -1;
  static inline bool as_json_ = false;
};

}  // namespace command
