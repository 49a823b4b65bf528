#include "virtiofs-bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace fusewire::bench {
namespace {

constexpr std::array kFigures{&Figures::operations_per_second,
                              &Figures::megabytes_per_second,
                              &Figures::p50_us,
                              &Figures::p99_us,
                              &Figures::p999_us,
                              &Figures::cpu_us,
                              &Figures::kicks,
                              &Figures::interrupts,
                              &Figures::peak_mib,
                              &Figures::descriptors};

std::string ratio(double ours, double theirs) {
  return theirs > 0 ? fmt::format("{:.2f}", ours / theirs) : "-";
}

using Cells = std::vector<std::string>;

Cells cells(const Row& row, const std::string& server, const Figures& own, const Figures& first,
            bool is_first) {
  return {std::string(row.point.workload->name),
          fmt::format("{}", row.point.queues),
          fmt::format("{}", row.point.depth),
          std::string(to_string(row.point.wait)),
          server,
          fmt::format("{:.0f}", own.operations_per_second),
          own.megabytes_per_second > 0 ? fmt::format("{:.0f}", own.megabytes_per_second) : "-",
          fmt::format("{:.1f}", own.p50_us),
          fmt::format("{:.1f}", own.p99_us),
          fmt::format("{:.1f}", own.p999_us),
          fmt::format("{:.2f}", own.cpu_us),
          fmt::format("{:.3f}", own.kicks),
          fmt::format("{:.3f}", own.interrupts),
          fmt::format("{:.1f}", own.peak_mib),
          fmt::format("{:.0f}", own.descriptors),
          is_first ? "" : ratio(first.operations_per_second, own.operations_per_second),
          is_first ? "" : ratio(first.cpu_us, own.cpu_us),
          is_first ? "" : ratio(first.p50_us, own.p50_us)};
}

}  // namespace

Figures figures(const RunResult& run) {
  const auto operations = static_cast<double>(std::max<std::uint64_t>(run.operations, 1));
  Figures one;
  one.operations_per_second = static_cast<double>(run.operations) / run.seconds;
  one.megabytes_per_second = static_cast<double>(run.bytes) / run.seconds / 1e6;
  one.p50_us = run.latency.percentile(0.5) / 1e3;
  one.p99_us = run.latency.percentile(0.99) / 1e3;
  one.p999_us = run.latency.percentile(0.999) / 1e3;
  one.cpu_us = run.cpu_seconds * 1e6 / operations;
  one.kicks = static_cast<double>(run.kicks) / operations;
  one.interrupts = static_cast<double>(run.interrupts) / operations;
  one.peak_mib = static_cast<double>(run.footprint.peak_bytes) / (1 << 20);
  one.descriptors = static_cast<double>(run.footprint.descriptors);
  return one;
}

Figures median(const std::vector<Figures>& runs) {
  Figures result;
  if (runs.empty()) return result;
  for (const auto figure : kFigures) {
    std::vector<double> values;
    for (const Figures& run : runs) values.push_back(run.*figure);
    std::ranges::sort(values);
    const std::size_t middle = values.size() / 2;
    result.*figure = values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  }
  return result;
}

std::string table(const std::vector<std::string>& servers, const std::vector<Row>& rows, bool markdown) {
  std::vector<Cells> lines{{"workload", "queues", "depth", "wait", "server", "ops/s", "MB/s", "p50 us",
                            "p99 us", "p99.9 us", "CPU us/op", "kicks/op", "irqs/op", "peak MiB", "fds"}};
  if (servers.size() > 1) lines[0].insert(lines[0].end(), {"ops ratio", "CPU ratio", "p50 ratio"});
  for (const Row& row : rows) {
    const Figures first = median(row.runs[0]);
    for (std::size_t i = 0; i < servers.size(); ++i) {
      if (row.runs[i].empty()) continue;
      lines.push_back(cells(row, servers[i], median(row.runs[i]), first, i == 0));
      lines.back().resize(lines[0].size());
    }
  }
  std::vector<std::size_t> widths(lines[0].size());
  for (const Cells& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  constexpr std::size_t kTextColumns = 5;
  std::string text;
  for (std::size_t n = 0; n < lines.size(); ++n) {
    for (std::size_t i = 0; i < lines[n].size(); ++i) {
      const bool left = i < kTextColumns;
      const std::string cell = left ? fmt::format("{:<{}}", lines[n][i], widths[i])
                                    : fmt::format("{:>{}}", lines[n][i], widths[i]);
      text += markdown ? fmt::format("| {} ", cell) : i == 0 ? cell : "  " + cell;
    }
    text += markdown ? "|\n" : "\n";
    if (!markdown || n != 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i)
      text += fmt::format("|{:-<{}}{}", "", widths[i] + 1, i < kTextColumns ? "-" : ":");
    text += "|\n";
  }
  return text;
}

}  // namespace fusewire::bench
