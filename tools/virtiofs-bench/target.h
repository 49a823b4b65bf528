// Target: one server under measurement, with its tree and the memory that requests live in. Made and used by
// the main thread; run() starts the driver threads.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "virtiofs-bench/client.h"
#include "virtiofs-bench/options.h"
#include "virtiofs-bench/subject.h"
#include "virtiofs-bench/tree.h"

namespace fusewire::bench {

// One point of the grid that is measured.
struct Case {
  const WorkloadKind* workload = nullptr;
  unsigned queues = 1;
  unsigned depth = 1;
  Wait wait = Wait::irq;
};

class Target {
 public:
  // Starts (or finds) the server `index` of `options`, and makes its tree. Errors, of this and the others,
  // begin with its name.
  static Expected<std::unique_ptr<Target>> open(const Options& options, std::size_t index, const Site& site);

  Subject& subject() { return *subject_; }
  // Request queues that the server has, of those that were wanted.
  unsigned queues() const { return subject_->server().request_queues(); }

  // Why `point` cannot be measured with this server: "" if it can.
  std::string obstacle(const Case& point) const;
  // Warms up and measures once. An interrupted run gives what was done until then.
  Expected<RunResult> run(const Case& point, const Options& options);
  // Removes the tree, says goodbye and ends the server that was started.
  Expected<void> close();

 private:
  explicit Target(std::unique_ptr<Subject> subject) : subject_(std::move(subject)) {}
  Expected<void> prepare(const Options& options, std::size_t index);
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

  std::unique_ptr<Subject> subject_;
  fuse_init_out limits_{};
  unsigned ring_size_ = 0;
  std::vector<guestmem::SharedMemory::Piece> arenas_;  // by queue
  std::unique_ptr<Client> client_;                     // from prepare() on,
  std::unique_ptr<Forgets> forgets_;                   // as this
  Tree tree_;
};

}  // namespace fusewire::bench
