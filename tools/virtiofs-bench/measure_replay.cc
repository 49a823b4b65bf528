#include <fmt/format.h>

#include "virtiofs-bench/measure.h"
#include "virtiofs-bench/replay.h"

namespace fusewire::bench {
namespace {

constexpr WorkloadKind kReplayKind{"replay", "a recording", "request", 0, nullptr};

void note_differences(const std::string& server, const ReplayResult& result, Measured& measured) {
  for (const auto& [what, count] : result.differences)
    measured.notes.push_back(fmt::format("{}: {} times {}", server, count, what));
}

}  // namespace

Expected<void> measure_replay(const Options& options, const std::string& directory,
                              const std::atomic<bool>& interrupted, Measured& measured) {
  const auto recording = load_recording(options.replay);
  if (!recording) return failed(recording.error());
  Row row{{&kReplayKind, 1, recording->depth, options.waits.front()}, std::vector<Cell>(options.servers())};
  for (unsigned round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < options.servers() && !interrupted; ++i) {
      show_progress(fmt::format("replay: round {} of {}, server {}", round + 1, options.rounds, i + 1));
      const auto share = TemporaryDirectory::make(directory);
      if (!share) return failed(share.error());
      if (!options.contents.empty())
        if (auto filled = share->fill(options.contents); !filled) return filled;
      const auto subject =
          Subject::open(options, i, {directory, share->path(), interrupted}, wanted_for(*recording, options));
      if (!subject) return failed(subject.error());
      if (round == 0) measured.servers.push_back(describe(options, i, **subject));
      const auto result = replay(**subject, *recording, row.point.wait);
      if (!result) return failed(result.error());
      if (interrupted) break;
      row.servers[i].runs.push_back(figures(result->run));
      if (round == 0) note_differences((*subject)->name(), *result, measured);
    }
  }
  // Without all of the servers there is no row to show.
  if (measured.servers.size() == options.servers()) measured.rows.push_back(std::move(row));
  return {};
}

}  // namespace fusewire::bench
