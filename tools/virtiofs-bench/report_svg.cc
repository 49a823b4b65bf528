#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "virtiofs-bench/report.h"

namespace fusewire::bench {
namespace {

// A string in gnuplot's double quotes, in which a backslash escapes.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

// What sets this row apart from the others, under its bars: the grid's axes that do not vary are left out.
std::string label(const Row& row, const Measured& measured) {
  std::string text(row.point.workload->name);
  const auto varies = [&](auto member) {
    return std::ranges::any_of(measured.rows,
                               [&](const Row& other) { return other.point.*member != row.point.*member; });
  };
  if (varies(&Case::depth)) text += fmt::format(" qd{}", row.point.depth);
  if (varies(&Case::queues)) text += fmt::format(" q{}", row.point.queues);
  if (varies(&Case::wait)) text += fmt::format(" {}", to_string(row.point.wait));
  return text;
}

}  // namespace

std::string gnuplot_script(const Measured& measured, const std::string& path) {
  const std::size_t servers = measured.servers.size();
  const bool relative = servers > 1;
  std::size_t shown = 0;
  std::string script = "$data << END_OF_DATA\n";
  for (const Row& row : measured.rows) {
    const double unit = relative ? median(row.servers[1].runs).operations_per_second : 1;
    if (unit <= 0) continue;  // nothing to compare with
    ++shown;
    script += quoted(label(row, measured));
    for (const Cell& cell : row.servers) {
      const double value = median(cell.runs).operations_per_second;
      script += value > 0 ? fmt::format(" {:.4f}", value / unit) : " NaN";
    }
    script += '\n';
  }
  script += "END_OF_DATA\n";
  const std::size_t width = std::max<std::size_t>(480, 120 + shown * (20 + 12 * servers));
  script += fmt::format("set terminal svg size {},480 dynamic enhanced background rgb 'white'\n", width);
  script += fmt::format("set output {}\n", quoted(path));
  script +=
      "set style data histogram\nset style histogram cluster gap 1\nset style fill solid noborder\n"
      "set boxwidth 0.9\nset grid ytics\nset border 3\nset tics nomirror\n"
      "set xtics rotate by -40 noenhanced\nset key above left noenhanced\n"
      "set linetype 1 lc rgb '#1f5fa8'\nset linetype 2 lc rgb '#b0b5bc'\nset linetype 3 lc rgb '#d9a441'\n";
  script += relative
                ? fmt::format("set ylabel {} noenhanced\nset yrange [0:*]\n",
                              quoted(fmt::format("operations per second, {} = 1", measured.servers[1].name)))
                : "set ylabel 'operations per second'\nset logscale y\n";
  script += "plot ";
  for (std::size_t i = 0; i < servers; ++i)
    script += fmt::format("{}$data using {}:xtic(1) title {}", i == 0 ? "" : ", ", i + 2,
                          quoted(measured.servers[i].name));
  return script + "\n";
}

Expected<void> run_gnuplot(const std::string& script) {
  FILE* pipe = ::popen("gnuplot", "w");
  if (pipe == nullptr) return failed("gnuplot cannot be started");
  const bool written = std::fwrite(script.data(), 1, script.size(), pipe) == script.size();
  if (::pclose(pipe) != 0 || !written)
    return failed("gnuplot failed (it is in Debian's package gnuplot-nox)");
  return {};
}

}  // namespace fusewire::bench
