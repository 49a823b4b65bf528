// What was measured, as a table and as files. Main thread.
#pragma once

#include <string>

#include "virtiofs-bench/expected.h"
#include "virtiofs-bench/figures.h"
#include "virtiofs-bench/options.h"

namespace fusewire::bench {

// One line for each server of each row, with medians; those after the first say how the first compares with
// them (the ratio of the medians).
std::string table(const Measured& measured, bool markdown);

// A JSON object with everything: machine, options, servers, and of each case the runs and their median.
// docs/virtiofs-bench.md has its shape.
std::string json(const Measured& measured, const Options& options);

// The commands by which gnuplot draws an SVG chart into `path`: operations per second of each case, those of
// the second server being 1, or in absolute numbers when there is only one.
std::string gnuplot_script(const Measured& measured, const std::string& path);
// Runs gnuplot with `script`. Fails when that is not installed, or does not like it.
Expected<void> run_gnuplot(const std::string& script);

}  // namespace fusewire::bench
