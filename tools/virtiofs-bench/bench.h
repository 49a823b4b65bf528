// The whole benchmark: servers up, every case in turns, reports, servers down. Main thread.
#pragma once

#include <atomic>

#include "virtiofs-bench/expected.h"
#include "virtiofs-bench/options.h"

namespace fusewire::bench {

// Measures what `options` say, prints the table to standard output, progress to standard error if that is a
// terminal, and writes the files asked for. `interrupted` (set by a signal handler) ends it early: what was
// measured until then is reported, and everything is cleaned up.
Expected<void> run(const Options& options, const std::atomic<bool>& interrupted);

}  // namespace fusewire::bench
