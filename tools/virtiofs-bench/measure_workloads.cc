#include <fmt/format.h>

#include "virtiofs-bench/measure.h"
#include "virtiofs-bench/target.h"

namespace fusewire::bench {
namespace {

using Targets = std::vector<std::unique_ptr<Target>>;

std::vector<Case> grid(const Options& options) {
  std::vector<Case> cases;
  for (const WorkloadKind* workload : options.workloads)
    for (const unsigned queues : options.queues)
      for (const unsigned depth : options.depths)
        for (const Wait wait : options.waits) cases.push_back({workload, queues, depth, wait});
  return cases;
}

Expected<Targets> open(const Options& options, const Site& site, Measured& measured) {
  Targets targets;
  for (std::size_t i = 0; i < options.servers() && !site.interrupted; ++i) {
    show_progress(fmt::format("starting server {} and making its tree", i + 1));
    auto target = Target::open(options, i, site);
    if (!target) return failed(target.error());
    measured.servers.push_back(describe(options, i, (*target)->subject()));
    targets.push_back(std::move(*target));
  }
  return targets;
}

// One run of each server that can do it.
Expected<void> measure_round(const Targets& targets, const Options& options,
                             const std::atomic<bool>& interrupted, Row& row) {
  for (std::size_t i = 0; i < targets.size() && !interrupted; ++i) {
    if (!row.servers[i].obstacle.empty()) continue;
    const auto run = targets[i]->run(row.point, options);
    if (!run) return failed(fmt::format("{}: {}", row.point.workload->name, run.error()));
    if (!interrupted) row.servers[i].runs.push_back(figures(*run));
  }
  return {};
}

Expected<void> measure(const Targets& targets, const Options& options, const std::atomic<bool>& interrupted,
                       Measured& measured) {
  const std::vector<Case> cases = grid(options);
  for (std::size_t n = 0; n < cases.size() && !interrupted; ++n) {
    const Case& point = cases[n];
    Row& row = measured.rows.emplace_back(point, std::vector<Cell>(targets.size()));
    for (std::size_t i = 0; i < targets.size(); ++i) row.servers[i].obstacle = targets[i]->obstacle(point);
    for (unsigned round = 0; round < options.rounds; ++round) {
      show_progress(fmt::format("{} of {}: {}, queues {}, depth {}, {}: round {} of {}", n + 1, cases.size(),
                                point.workload->name, point.queues, point.depth, to_string(point.wait),
                                round + 1, options.rounds));
      if (auto done = measure_round(targets, options, interrupted, row); !done) return done;
    }
  }
  return {};
}

}  // namespace

Expected<void> measure_workloads(const Options& options, const std::string& directory,
                                 const std::atomic<bool>& interrupted, Measured& measured) {
  // One for all: they read and write the same data file (tree.h).
  const auto share = TemporaryDirectory::make(directory);
  if (!share) return failed(share.error());
  const auto targets = open(options, {directory, share->path(), interrupted}, measured);
  if (!targets) return failed(targets.error());
  if (auto done = measure(*targets, options, interrupted, measured); !done) return done;
  show_progress("removing the trees");
  // All are told goodbye, whatever happens with one of them.
  Expected<void> result;
  for (const auto& target : *targets)
    if (auto closed = target->close(); !closed && result) result = closed;
  return result;
}

}  // namespace fusewire::bench
