// drive(): one driver thread's loop. It keeps every slot's request in flight, takes what came back, and sends
// the next request of all those slots with one publish, so with at most one kick, as a busy guest's driver
// does.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>

#include "driver/queue.h"
#include "virtiofs-bench/histogram.h"
#include "virtiofs-bench/workload.h"

namespace fusewire::bench {

using Clock = std::chrono::steady_clock;

enum class Wait { irq, poll };

// Waits for one queue, in either way.
class Waiter {
 public:
  // What it is given is borrowed.
  Waiter(driver::Queue& queue, const Link& link, Wait how) : queue_(queue), link_(link), how_(how) {}
  // To be called when there is nothing to take: returns when there is, or (when it polls) may be. Fails as
  // wait_for_used() does, but does not give up a silent server when it polls.
  Expected<void> wait();

 private:
  driver::Queue& queue_;
  const Link& link_;
  const Wait how_;
  unsigned spins_ = 0;
};

struct Loop {
  driver::Queue& queue;
  std::span<Slot> slots;
  Workload& workload;
  Wait wait = Wait::irq;
  // For how long operations begin; those that have begun are finished.
  Clock::duration length = Clock::duration::max();
  // Likewise once it is true, as it is when another thread has failed, or once link.interrupted is.
  const std::atomic<bool>& stop;
  const Link& link;
  unsigned thread = 0;
};

struct LoopTotals {
  std::uint64_t operations = 0;
  std::uint64_t bytes = 0;
  Histogram latency;  // of operations: from the publish of the first request to the last reply's arrival
};

// Runs until there is nothing more to send and every reply has come. Fails at the first reply that is wrong.
// Adds to `totals`.
Expected<void> drive(const Loop& loop, LoopTotals& totals);

}  // namespace fusewire::bench
