#include "print.h"

#include <array>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "engine_log.h"
#include "shown.h"

namespace command {

using nlohmann::json;

namespace {

std::string text_of(const char* format, double value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::string shape_text(const json& shape) {
  std::string text;
  for (const json& side : shape) text += (text.empty() ? "" : ", ") + side.dump();
  return "[" + text + "]";
}

std::string sensor_text(const json& before, const json& after, const char* unit) {
  std::string text;
  for (const auto& [name, value] : before.items()) {
    text += (text.empty() ? "" : ", ") + name + " " + text_of("%.0f", value.get<double>());
    if (after.contains(name)) text += " -> " + text_of("%.0f", after[name].get<double>());
    text += std::string(" ") + unit;
  }
  return text.empty() ? "not offered by this system" : text;
}

constexpr const char* kNoFeature = "neither dot product nor fp16";

std::string words(const json& list, const char* none) {
  std::string text;
  for (const json& word : list) {
    text += (text.empty() ? "" : ", ") + (word.is_string() ? word.get<std::string>() : word.dump());
  }
  return text.empty() ? none : text;
}

}  // namespace

void print_json(const json& document) {
  const std::string text = document.dump(-1, ' ', false, json::error_handler_t::replace);
  std::cout << shown_json(text) << "\n";
}

void warn(const json& info) {
  for (const json& warning : info["warnings"]) {
    EngineLog::say("lite_run: warning: " + warning.get<std::string>());
  }
}

void print_answer(const std::string& id, const json& outputs) {
  std::cout << shown(id) << "\n";
  for (const json& output : outputs) {
    if (!output.contains("top")) {
      std::cout << "  " << shown(output["name"].get<std::string>()) << " "
                << output["dtype"].get<std::string>() << shape_text(output["shape"]);
      if (output.contains("min")) {
        std::cout << ", " << output["min"].dump() << " to " << output["max"].dump();
      }
      std::cout << "\n";
      continue;
    }
    for (const json& entry : output["top"]) {
      const json& score = entry["score"];
      std::cout << "  " << (score.is_null() ? "NaN" : text_of("%.6f", score.get<double>())) << "  "
                << entry["class"].dump();
      if (!entry["label"].is_null()) std::cout << " " << shown(entry["label"].get<std::string>());
      std::cout << "\n";
    }
  }
}

void print_saved(const std::string& run, const json& summary) {
  std::cout << shown(run) << ": " << summary["samples"].size() << " samples, p50 "
            << text_of("%.2f ms", summary["latency"]["p50_ms"].get<double>()) << "\n";
}

void print_report(const json& report) {
  for (const json& output : report["outputs"]) {
    const auto figure = [&](const char* name, const char* format) {
      return output[name].is_null() ? std::string("-")
                                    : text_of(format, output[name].get<double>());
    };
    std::cout << "output '" << shown(output["name"].get<std::string>()) << "' ("
              << output["kind"].get<std::string>() << "): cosine " << figure("cosine", "%.9f")
              << ", worst " << figure("cosine_min", "%.9f") << " for '"
              << shown(output["worst"].get<std::string>()) << "', "
              << (output["kind"] == "tensor" ? "relative difference " : "max |dp| ")
              << figure("max_probability_diff", "%.1e") << ", response "
              << figure("response", "%.3f") << "\n";
  }
  if (!report["top1_agreement"].is_null()) {
    std::cout << "top-1 agreement "
              << text_of("%.1f %%", report["top1_agreement"].get<double>() * 100) << "\n";
  }
  for (const json& warning : report["warnings"]) {
    EngineLog::say("lite_run: warning: " + warning.get<std::string>());
  }
  for (const json& failure : report["failures"]) {
    std::cout << "FAILED: " << shown(failure.get<std::string>()) << "\n";
  }
  for (const json& reason : report["unjudged"]) {
    std::cout << "UNJUDGED: " << shown(reason.get<std::string>()) << "\n";
  }
}

void print_verdict(const std::string& bundle, const json& info, const json& report,
                   const json& summary) {
  const json& cpu = info["cpu"];
  if (!cpu["parts"].empty()) {
    const auto why = cpu["why"].get<std::string>();
    std::cout << "CPU part " << words(cpu["parts"], "") << " has "
              << words(cpu["features"], kNoFeature) << "; the engine uses "
              << words(cpu["engine_features"], kNoFeature) << (why.empty() ? "" : " (" + why + ")")
              << "\n";
  }
  const char* outcome = report["passed"].get<bool>() ? "passed"
                        : report["failures"].empty() ? "unjudged"
                                                     : "failed";
  std::cout << outcome << ": " << shown(bundle) << " ("
            << shown(info["precision"].get<std::string>()) << ") on "
            << shown(info["machine"].get<std::string>()) << ", Paddle Lite "
            << shown(info["engine"].get<std::string>()) << ", " << report["samples"].dump()
            << " samples, p50 " << text_of("%.2f ms", summary["latency"]["p50_ms"].get<double>())
            << "\n";
}

void print_cpu(const json& about) {
  std::cout << "CPU part         " << words(about["parts"], "not offered by this system") << "\n"
            << "cores at MHz     " << words(about["mhz"], "not offered by this system") << "\n"
            << "it has           " << words(about["features"], kNoFeature) << "\n"
            << "the engine uses  " << words(about["engine_features"], kNoFeature) << "\n";
  const auto why = about["why"].get<std::string>();
  if (!why.empty()) std::cout << "because          " << why << "\n";
}

void print_bench_head() {
  std::printf("%8s %10s %10s %10s %10s %10s %12s\n", "threads", "p50 ms", "p90 ms", "p99 ms",
              "mean ms", "per s", "memory MB");
}

void print_bench(const json& summary) {
  const json& latency = summary["latency"];
  const auto ms = [&](const char* name) { return latency[name].get<double>(); };
  std::printf("%8d %10.3f %10.3f %10.3f %10.3f %10.1f %12.1f\n", summary["threads"].get<int>(),
              ms("p50_ms"), ms("p90_ms"), ms("p99_ms"), ms("mean_ms"), ms("throughput_per_s"),
              summary["peak_memory_bytes"].get<double>() / 1e6);
  const json& before = summary["before"];
  const json& after = summary["after"];
  std::printf("%8s CPU: %s; temperature: %s\n", "",
              shown(sensor_text(before["cpu_mhz"], after["cpu_mhz"], "MHz")).c_str(),
              shown(sensor_text(before["celsius"], after["celsius"], "C")).c_str());
}

}  // namespace command
