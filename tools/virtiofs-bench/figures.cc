#include "virtiofs-bench/figures.h"

#include <algorithm>

namespace fusewire::bench {

MeasuredServer describe(const Options& options, std::size_t index, const Subject& subject) {
  const std::string* command = options.command(index);
  return {.name = subject.name(),
          .command = command != nullptr ? *command : options.socket,
          .queues = subject.server().request_queues(),
          .features = subject.server().features()};
}

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
  for (const FigureKind& kind : kFigureKinds) {
    std::vector<double> values;
    values.reserve(runs.size());
    for (const Figures& run : runs) values.push_back(run.*kind.value);
    std::ranges::sort(values);
    const std::size_t middle = values.size() / 2;
    result.*kind.value = values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  }
  return result;
}

}  // namespace fusewire::bench
