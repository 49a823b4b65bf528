// Target: one server under measurement: its process, the connection, its tree, and the memory that requests
// live in. Made and used by the main thread; run() starts the driver threads.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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
                                                const std::string& directory,
                                                const std::atomic<bool>& interrupted);

  const std::string& name() const { return name_; }
  // Request queues that the server has, of those that were wanted.
  unsigned queues() const { return server_->request_queues(); }
  // Virtio features that were negotiated.
  std::uint64_t features() const { return server_->features(); }

  // Why `point` cannot be measured with this server: "" if it can.
  std::string obstacle(const Case& point) const;
  // Warms up and measures once. An interrupted run gives what was done until then.
  Expected<RunResult> run(const Case& point, const Options& options);
  // Removes the tree, says goodbye and ends the server that was started.
  Expected<void> close();

  // What the server wrote last, for messages; and how it ended, if it did.
  std::string post_mortem();

 private:
  explicit Target(const std::atomic<bool>& interrupted) : link_{-1, interrupted} {}
  Expected<void> connect(const Options& options);
  Expected<void> prepare(const Options& options);
  // What a request with so many pages takes of the ring.
  std::size_t descriptors(std::size_t pages) const;
  // Slots to make the tree with, as many as the ring allows.
  std::vector<Slot> build_slots() const;
  // Fresh slots of queue `queue`.
  std::vector<Slot> slots(unsigned queue, unsigned depth, std::size_t data_bytes) const;
  // What the threads of a run work with.
  struct Crew {
    std::vector<std::vector<Slot>> slots;  // by thread
    std::vector<std::unique_ptr<Workload>> workloads;
  };
  Expected<Crew> muster(const Case& point, const Options& options);
  // Runs the threads for `length`, until nothing is in flight any more.
  Expected<LoopTotals> phase(const Case& point, Crew& crew, std::chrono::duration<double> length);
  // Kicks and interrupts of all queues until now.
  std::pair<std::uint64_t, std::uint64_t> notifications() const;

  std::string name_;
  std::optional<ServerProcess> process_;
  std::unique_ptr<driver::Server> server_;
  Link link_;
  pid_t pid_ = 0;
  fuse_init_out limits_{};
  unsigned ring_size_ = 0;
  std::vector<guestmem::SharedMemory::Piece> arenas_;  // by queue
  std::optional<Client> client_;
  std::optional<Forgets> forgets_;
  Tree tree_;
};

}  // namespace fusewire::bench
