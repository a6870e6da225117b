#include "engine_log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "lite_run.h"
#include "shown.h"

namespace command {
namespace {

void put(int fd, const char* text, size_t size) {
  while (size > 0) {
    const ssize_t put = ::write(fd, text, size);
    if (put <= 0) return;
    text += put;
    size -= static_cast<size_t>(put);
  }
}

void put(int fd, const char* text) { put(fd, text, std::strlen(text)); }

// A log is somebody else's text, as names are: what a terminal would obey is hidden.
void hide_escapes(char* text, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < ' ' && byte != '\n' && byte != '\t') || byte == 0x7f) text[i] = '?';
    const bool control = byte == 0xc2 && i + 1 < size && (text[i + 1] & 0xe0) == 0x80;
    if (control) text[i] = text[i + 1] = '?';
  }
}

}  // namespace

EngineLog::EngineLog(bool through, bool as_json) {
  as_json_ = as_json;
  if (!through) {
    log_ = ::memfd_create("engine-log", MFD_CLOEXEC);
    terminal_ = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (log_ >= 0 && terminal_ >= 0) ::dup2(log_, STDERR_FILENO);
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
    struct sigaction action {};
    action.sa_handler = died;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigaction(signal, &action, nullptr);
  }
}

void EngineLog::say(const std::string& text) {
  const std::string line = shown(text) + "\n";
  put(terminal_ >= 0 ? terminal_ : STDERR_FILENO, line.data(), line.size());
}

void EngineLog::end(const char* text) {
  const int to = terminal_ >= 0 ? terminal_ : STDERR_FILENO;
  put(to, "lite_run: ");
  put(to, text);
  put(to, "\n");
  if (as_json_) {
    put(STDOUT_FILENO, R"({"error": ")");
    put(STDOUT_FILENO, text);
    put(STDOUT_FILENO, R"(", "exit_code": 3})");
    put(STDOUT_FILENO, "\n");
  }
  ::_exit(LR_FAULT);
}

// In a process that is falling apart: system calls only.
void EngineLog::died(int signal) {
  const int to = terminal_ >= 0 ? terminal_ : STDERR_FILENO;
  if (log_ >= 0) {
    char tail[2048];
    const off_t size = ::lseek(log_, 0, SEEK_END);
    const off_t from = size > off_t{sizeof tail} ? size - off_t{sizeof tail} : 0;
    const ssize_t got = ::pread(log_, tail, sizeof tail, from);
    if (got > 0) {
      hide_escapes(tail, static_cast<size_t>(got));
      put(to, tail, static_cast<size_t>(got));
    }
  }
  constexpr char kEnded[] = "lite_run: the engine ended the process: its last words are above. ";
  constexpr char kLibrary[] =
      "The Paddle Lite library may lack operators of this model (use the SDK with_extra), or be of "
      "another version\n";
  constexpr char kCpu[] =
      "It took kernels with an instruction that this CPU lacks: `lite_run --cpu` says what it has, "
      "and what the engine takes it for\n";
  put(to, kEnded, sizeof kEnded - 1);
  if (signal == SIGILL) {
    put(to, kCpu, sizeof kCpu - 1);
  } else {
    put(to, kLibrary, sizeof kLibrary - 1);
  }
  if (as_json_) {
    constexpr char kJson[] =
        "{\"error\": \"the engine ended the process; its last words are on standard error\", "
        "\"exit_code\": 3}\n";
    put(STDOUT_FILENO, kJson, sizeof kJson - 1);
  }
  ::_exit(LR_FAULT);
}

}  // namespace command
