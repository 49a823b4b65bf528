#include <fmt/format.h>

#include <algorithm>

#include "virtiofs-bench/report.h"

namespace fusewire::bench {
namespace {

using Line = std::vector<std::string>;
constexpr std::size_t kTextColumns = 5;

Line headings(bool compare) {
  Line line{"workload", "queues", "depth", "wait", "server"};
  for (const FigureKind& kind : kFigureKinds) line.emplace_back(kind.heading);
  if (compare) line.insert(line.end(), {"ops ratio", "CPU ratio", "p50 ratio"});
  return line;
}

std::string ratio(double ours, double theirs) {
  return theirs > 0 ? fmt::format("{:.2f}", ours / theirs) : "-";
}

Line server_line(const Measured& measured, const Row& row, std::size_t server) {
  const Cell& cell = row.servers[server];
  Line line{std::string(row.point.workload->name), fmt::format("{}", row.point.queues),
            fmt::format("{}", row.point.depth), std::string(to_string(row.point.wait)),
            measured.servers[server].name};
  const Figures own = median(cell.runs), first = median(row.servers[0].runs);
  for (const FigureKind& kind : kFigureKinds) {
    const double value = own.*kind.value;
    const bool absent = cell.runs.empty() || (kind.value == &Figures::megabytes_per_second && value == 0);
    line.push_back(absent ? "-" : fmt::format("{:.{}f}", value, kind.digits));
  }
  if (measured.servers.size() == 1) return line;
  const bool compared = server != 0 && !cell.runs.empty() && !row.servers[0].runs.empty();
  for (const auto value : {&Figures::operations_per_second, &Figures::cpu_us, &Figures::p50_us})
    line.push_back(compared ? ratio(first.*value, own.*value) : "");
  return line;
}

std::string render(const std::vector<Line>& lines, bool markdown) {
  std::vector<std::size_t> widths(lines[0].size());
  for (const Line& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string text;
  for (std::size_t n = 0; n < lines.size(); ++n) {
    std::string shown;
    for (std::size_t i = 0; i < lines[n].size(); ++i) {
      shown += markdown ? "| " : i == 0 ? "" : "  ";
      shown += i < kTextColumns ? fmt::format("{:<{}}", lines[n][i], widths[i])
                                : fmt::format("{:>{}}", lines[n][i], widths[i]);
      if (markdown) shown += ' ';
    }
    if (markdown) shown += '|';
    shown.erase(shown.find_last_not_of(' ') + 1);
    text += shown + '\n';
    if (!markdown || n != 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i)
      text += fmt::format("|{:-<{}}{}", "", widths[i] + 1, i < kTextColumns ? '-' : ':');
    text += "|\n";
  }
  return text;
}

}  // namespace

std::string table(const Measured& measured, bool markdown) {
  std::vector<Line> lines{headings(measured.servers.size() > 1)};
  std::string notes;
  for (const Row& row : measured.rows) {
    for (std::size_t i = 0; i < measured.servers.size(); ++i) {
      lines.push_back(server_line(measured, row, i));
      if (row.servers[i].obstacle.empty()) continue;
      notes +=
          fmt::format("{}, queues {}, depth {}: not measured with {}: {}\n", row.point.workload->name,
                      row.point.queues, row.point.depth, measured.servers[i].name, row.servers[i].obstacle);
    }
  }
  for (const std::string& note : measured.notes) notes += note + "\n";
  if (!notes.empty()) notes.insert(0, "\n");
  return render(lines, markdown) + notes;
}

}  // namespace fusewire::bench
