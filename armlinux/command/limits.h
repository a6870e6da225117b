// How long the engine may take, and how much memory: a damaged model can want any of both.
#pragma once

#include <string>

#include "options.h"

namespace command {

// While it lives, no sample takes longer than the options allow, nor does this process map more
// memory. There is one at a time.
class Limits {
 public:
  // Throws Failure.
  explicit Limits(const Options& options);
  ~Limits();
  Limits(const Limits&) = delete;
  Limits& operator=(const Limits&) = delete;

  // The clock begins anew: called before a model is opened, and after each sample.
  static void restart();
  // The clock stands still.
  static void stop();

  // What to add to an error of the library that tells of a want of memory; else "".
  static std::string advice(const std::string& error);

 private:
  static void ended(int signal);

  static inline double time_s_ = 0;
  static inline double memory_gb_ = 0;
};

// While it lives, SIGTERM, SIGINT and SIGHUP wait: what is being written becomes whole.
class Undisturbed {
 public:
  Undisturbed();
  ~Undisturbed();
  Undisturbed(const Undisturbed&) = delete;
  Undisturbed& operator=(const Undisturbed&) = delete;
};

}  // namespace command
