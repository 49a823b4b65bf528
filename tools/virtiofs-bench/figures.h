// Figures: what a run is reported by, and the grid of what was measured. Plain data.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "virtiofs-bench/target.h"

namespace fusewire::bench {

struct Figures {
  double operations_per_second = 0;
  double megabytes_per_second = 0;  // 10^6 bytes
  double p50_us = 0, p99_us = 0, p999_us = 0;
  double cpu_us = 0;                 // of the server, for each operation
  double kicks = 0, interrupts = 0;  // for each operation
  double peak_mib = 0;
  double descriptors = 0;
};

// Each of them once: its name in files, its heading in tables, and the digits behind the point that it is
// printed with.
struct FigureKind {
  std::string_view name;
  std::string_view heading;
  int digits;
  double Figures::* value;
};
inline constexpr std::array kFigureKinds{
    FigureKind{"operations_per_second", "ops/s", 0, &Figures::operations_per_second},
    FigureKind{"megabytes_per_second", "MB/s", 0, &Figures::megabytes_per_second},
    FigureKind{"p50_us", "p50 us", 1, &Figures::p50_us},
    FigureKind{"p99_us", "p99 us", 1, &Figures::p99_us},
    FigureKind{"p999_us", "p99.9 us", 1, &Figures::p999_us},
    FigureKind{"cpu_us_per_operation", "CPU us/op", 2, &Figures::cpu_us},
    FigureKind{"kicks_per_operation", "kicks/op", 3, &Figures::kicks},
    FigureKind{"interrupts_per_operation", "irqs/op", 3, &Figures::interrupts},
    FigureKind{"peak_mib", "peak MiB", 1, &Figures::peak_mib},
    FigureKind{"descriptors", "fds", 0, &Figures::descriptors},
};

Figures figures(const RunResult& run);
// Of each figure the median; zeros when there are no runs.
Figures median(const std::vector<Figures>& runs);

// What one server gave for one case.
struct Cell {
  std::vector<Figures> runs = {};
  std::string obstacle = {};  // why there are none
};
struct Row {
  Case point;
  std::vector<Cell> servers;  // in the order of Measured::servers
};

struct MeasuredServer {
  std::string name;
  std::string command;  // or its socket
  unsigned queues = 0;
  std::uint64_t features = 0;  // virtio features that were negotiated
};
// What is known of server `index` once it is connected.
MeasuredServer describe(const Options& options, std::size_t index, const Subject& subject);

// All that there is to report.
struct Measured {
  std::vector<MeasuredServer> servers;
  std::vector<Row> rows;
  std::string directory;           // where started servers had theirs; "": none was started
  std::string file_system;         // its type
  std::vector<std::string> notes;  // what else the user should know, a sentence each
};

}  // namespace fusewire::bench
