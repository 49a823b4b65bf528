// Target: one server under measurement: its process, the connection, its tree, and the memory that requests
// live in. Made and used by the main thread; run() starts the driver threads.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/server.h"
#include "virtiofs-bench/client.h"
#include "virtiofs-bench/options.h"
#include "virtiofs-bench/server_process.h"
#include "virtiofs-bench/tree.h"
#include "virtiofs-bench/usage.h"

namespace fusewire::bench {

// One point of the grid that is measured.
struct Case {
  const WorkloadKind* workload = nullptr;
  unsigned queues = 1;
  unsigned depth = 1;
  Wait wait = Wait::irq;
};

// What one run of a case gave.
struct RunResult {
  double seconds = 0;
  std::uint64_t operations = 0;
  std::uint64_t bytes = 0;
  Histogram latency;
  double cpu_seconds = 0;
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  Footprint footprint;
};

class Target {
 public:
  // Starts (or finds) the server `index` of `options`, and makes its tree. `directory`: where it gets its
  // own.
  static Expected<std::unique_ptr<Target>> open(const Options& options, std::size_t index,
                                                const std::string& directory);

  const std::string& name() const { return name_; }
  // Request queues that were started.
  unsigned queues() const { return server_->request_queues(); }

  // Warms up and measures once. `stop`: ends it early; the result is then of what was done until then.
  Expected<RunResult> run(const Case& point, const Options& options, std::atomic<bool>& stop);
  // Removes the tree, says goodbye and ends the server that was started.
  Expected<void> close();

  // What the server wrote last, for messages; and how it ended, if it did.
  std::string post_mortem();

 private:
  Target() = default;
  Expected<void> connect(const Options& options);
  Expected<void> prepare(const Options& options);
  // Fresh slots of queue `queue`.
  std::vector<Slot> slots(unsigned queue, unsigned depth, std::size_t data_bytes) const;
  Expected<void> phase(const Case& point, std::vector<std::vector<Slot>>& places,
                       std::vector<std::unique_ptr<Workload>>& workloads,
                       std::chrono::duration<double> length, std::atomic<bool>& stop, LoopTotals& totals);

  std::string name_;
  std::optional<ServerProcess> process_;
  std::unique_ptr<driver::Server> server_;
  pid_t pid_ = 0;
  std::vector<guestmem::SharedMemory::Piece> arenas_;  // by queue
  std::optional<Client> client_;
  std::optional<Forgets> forgets_;
  Tree tree_;
};

}  // namespace fusewire::bench
