// The command lite_run: parse, call the library, print. What it knows of models is in lite_run.h.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "answers.h"
#include "engine_log.h"
#include "failure.h"
#include "inputs.h"
#include "limits.h"
#include "lite_run.h"
#include "options.h"
#include "print.h"
#include "sensors.h"
#include "session.h"

namespace command {
namespace {

using nlohmann::json;

json save(lr_session* session, const Options& options) {
  if (options.out.empty()) return nullptr;
  Limits::stop();
  const Undisturbed undisturbed;
  must(lr_save_run(session, options.out.c_str(), options.force ? 1 : 0));
  return options.out;
}

// Says how far long work is, where nothing else is printed meanwhile.
class Progress {
 public:
  explicit Progress(bool tells) : tells_(tells) {}
  void step() {
    ++done_;
    const auto now = Clock::now();
    if (!tells_ || now - told_ < std::chrono::seconds(5)) return;
    told_ = now;
    EngineLog::say("lite_run: " + std::to_string(done_) + " samples answered");
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool tells_;
  size_t done_ = 0;
  Clock::time_point told_ = Clock::now();
};

int check(const Options& options) {
  const Session session(options, options.threads[0]);
  const json info = session.info();
  Progress progress(!options.as_json);
  record_inputs(session, options, [&](const char*) {
    progress.step();
    return true;
  });
  const char* text = nullptr;
  const int status = lr_check(session, &text);
  if (status != LR_FAILED) must(status);
  const json report = json::parse(text);
  const json summary = session.summary();
  const json run = save(session, options);
  if (options.as_json) {
    json document = {{"passed", status == LR_OK},
                     {"info", info},
                     {"report", report},
                     {"latency", summary["latency"]},
                     {"run", run},
                     {"peak_memory_bytes", summary["peak_memory_bytes"]}};
    print_json(document);
    return status;
  }
  warn(info);
  print_report(report);
  print_verdict(options.bundle, info, report, summary);
  return status;
}

int infer(const Options& options) {
  const Session session(options, options.threads[0]);
  if (!options.as_json) warn(session.info());
  json samples = json::array();
  const bool quiet = !options.out.empty() && !options.as_json;
  Progress progress(quiet);
  const auto left_out = record_inputs(session, options, [&](const char* id) {
    progress.step();
    if (quiet) return true;
    json outputs = answers(session, options.top_k);
    if (options.as_json) {
      samples.push_back({{"id", id}, {"outputs", std::move(outputs)}});
    } else {
      print_answer(id, outputs);
    }
    return true;
  });
  const json summary = session.summary();
  const json run = save(session, options);
  if (!left_out.empty()) {
    EngineLog::say("lite_run: warning: left out, as nothing here decodes them: " +
                   counted(left_out));
  }
  if (options.as_json) {
    print_json({{"info", session.info()},
                {"left_out", left_out},
                {"samples", std::move(samples)},
                {"latency", summary["latency"]},
                {"peak_memory_bytes", summary["peak_memory_bytes"]},
                {"run", run}});
  } else if (!options.out.empty()) {
    print_saved(options.out, summary);
  }
  return LR_OK;
}

int bench(const Options& options) {
  json runs = json::array();
  for (const int threads : options.threads) {
    Limits::restart();
    const Session session(options, threads);
    if (!options.as_json && runs.empty()) {
      warn(session.info());
      print_bench_head();
    }
    const json before = sensors(options.sysfs);
    record_inputs(session, options, [](const char*) { return false; });  // the first sample
    const json after = sensors(options.sysfs);
    json summary = session.summary();
    summary["before"] = before;
    summary["after"] = after;
    if (!options.as_json) print_bench(summary);
    runs.push_back(std::move(summary));
  }
  if (options.as_json) print_json({{"model", options.bundle}, {"runs", std::move(runs)}});
  return LR_OK;
}

int cpu(const Options& options) {
  const char* text = nullptr;
  must(lr_cpu(&text));
  const json about = json::parse(text);
  options.as_json ? print_json(about) : print_cpu(about);
  return LR_OK;
}

int run(const Options& options) {
  if (options.cpu) return cpu(options);
  check_kept(options);
  if (options.bench) return bench(options);
  return options.inputs.empty() && options.samples.empty() ? check(options) : infer(options);
}

int failed(const std::string& error, int code, bool as_json) {
  const std::string what = error + Limits::advice(error);
  EngineLog::say("lite_run: " + what);
  if (as_json) print_json({{"error", what}, {"exit_code", code}});
  return code;
}

int execute(int argc, char** argv) {
  const bool as_json = std::any_of(
      argv, argv + argc, [](const char* argument) { return std::strcmp(argument, "--json") == 0; });
  try {
    const Options options = parse(argc, argv);
    const EngineLog log(options.log, options.as_json);
    const Limits limits(options);
    const int code = run(options);
    std::cout.flush();
    if (!std::cout) throw Failure(LR_FAULT, "standard output cannot be written");
    return code;
  } catch (const Failure& error) {
    return failed(error.what(), error.code, as_json);
  } catch (const std::exception& error) {
    return failed(error.what(), LR_FAULT, as_json);
  }
}

}  // namespace
}  // namespace command

int main(int argc, char** argv) { return command::execute(argc, argv); }
