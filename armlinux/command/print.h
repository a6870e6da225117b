// All that the command prints: for a person, or with --json for a program.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace command {

void print_json(const nlohmann::json& document);

// The warnings of lr_info, to standard error.
void warn(const nlohmann::json& info);

// What answers() gives, of one sample.
void print_answer(const std::string& id, const nlohmann::json& outputs);

// Where the answers to all samples are.
void print_saved(const std::string& run, const nlohmann::json& summary);

// The report of lr_check, then the verdict in one line.
void print_report(const nlohmann::json& report);
void print_verdict(const std::string& bundle, const nlohmann::json& info,
                   const nlohmann::json& report, const nlohmann::json& summary);

// What lr_cpu says.
void print_cpu(const nlohmann::json& about);

// The table of --bench: its head, and a summary for a number of threads. That has the sensors
// "before" and "after".
void print_bench_head();
void print_bench(const nlohmann::json& summary);

}  // namespace command
