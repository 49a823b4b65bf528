// What was measured, as tables and files. Main thread.
#pragma once

#include <string>
#include <vector>

#include "virtiofs-bench/target.h"

namespace fusewire::bench {

// The figures that a run is reported by.
struct Figures {
  double operations_per_second = 0;
  double megabytes_per_second = 0;  // 10^6 bytes
  double p50_us = 0, p99_us = 0, p999_us = 0;
  double cpu_us = 0;                 // of the server, for each operation
  double kicks = 0, interrupts = 0;  // for each operation
  double peak_mib = 0;
  double descriptors = 0;
};
Figures figures(const RunResult& run);
// Of each figure the median.
Figures median(const std::vector<Figures>& runs);

// One case: the runs of each server.
struct Row {
  Case point;
  std::vector<std::vector<Figures>> runs;  // by server, then by round
};

// One line for each server of each row; those after the first say how the first compares with them.
std::string table(const std::vector<std::string>& servers, const std::vector<Row>& rows, bool markdown);

}  // namespace fusewire::bench
