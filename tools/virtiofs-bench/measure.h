// The two things that can be measured: workloads, and a recording. Both start (or find) the servers, run them
// in turns (A B A B ...), so that what disturbs the machine disturbs all, and end them. Main thread.
//
// They fill in servers, rows and notes of `measured`, and do so up to where they fail or are interrupted.
#pragma once

#include <atomic>
#include <string>

#include "virtiofs-bench/figures.h"
#include "virtiofs-bench/options.h"

namespace fusewire::bench {

// `directory`: where started servers get theirs.
Expected<void> measure_workloads(const Options& options, const std::string& directory,
                                 const std::atomic<bool>& interrupted, Measured& measured);
// Each round has servers of its own, with fresh directories.
Expected<void> measure_replay(const Options& options, const std::string& directory,
                              const std::atomic<bool>& interrupted, Measured& measured);

// One line on standard error, over the last one; nothing when that is no terminal. "": takes the line away.
void show_progress(const std::string& text);

}  // namespace fusewire::bench
