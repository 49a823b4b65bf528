// InFlight: which requests are being served, so that INIT and DESTROY can run alone and INTERRUPT finds its
// request.
//
// Entering and leaving take one uncontended lock each: requests of different queues use different shards.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "fusewire/slot.h"

namespace fusewire {

class InFlight {
 public:
  InFlight() = default;
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

  // Registers the request; waits while an exclusive section runs.
  void enter(Slot& slot);
  // Takes the request out. Must come before the slot is done.
  void leave(Slot& slot);

  // Keeps new requests waiting, interrupts (InterruptReason::stopping) those that wait for something, waits
  // until none is in flight, runs `section` and lets requests in again. Not from a thread whose own request
  // is in flight.
  void exclusive(const std::function<void()>& section);
  // The same, but returns false, and has not run `section`, when requests are in flight even after
  // `patience`.
  bool exclusive_within(std::chrono::milliseconds patience, const std::function<void()>& section);

  struct Abandoned {
    std::size_t requests = 0;
    std::size_t awaited = 0;  // of these: the kernel waits for an answer
  };
  // The same with an end: requests that are still in flight after `grace` are abandoned (Slot::abandon), and
  // how many these were is returned. Nothing touches them or this object for their sake later.
  Abandoned exclusive_abandoning(std::chrono::milliseconds grace, const std::function<void()>& section);

  // Abandons the requests of `queue`, and returns their slots, which nothing here touches later.
  std::vector<Slot*> abandon_queue(unsigned queue);

  using Handlers = std::vector<std::function<void(InterruptReason)>>;
  // Interrupts the request `unique`; false when it is not in flight. What is to be called for it with
  // InterruptReason::interrupted, without the caller's locks, is added to `handlers`.
  bool interrupt(RequestId unique, Handlers& handlers);
  // Interrupts the requests of `queue` (nullopt: of all) because the device stops.
  void interrupt_queue(std::optional<unsigned> queue);
  // See ReplyBase::set_interrupt_handler. Takes the handler, or, where it is already time to call it, says
  // why.
  std::optional<InterruptReason> set_interrupt_handler(Slot& slot,
                                                       std::function<void(InterruptReason)>& handler);

 private:
  struct alignas(64) Shard {
    std::mutex mutex;
    std::condition_variable changed;
    Slot* first = nullptr;
    bool closed = false;
  };
  // Keeps new requests waiting, and interrupts the others; and lets them in again.
  void close();
  void open();
  // Waits until the shard is empty; false when it is not, even at the deadline.
  using Deadline = std::chrono::steady_clock::time_point;
  static bool wait_until_empty(Shard& shard, std::optional<Deadline> deadline);
  // nullopt: of all queues. Returns of how many the kernel waits for an answer.
  static std::size_t abandon_in(Shard& shard, std::optional<unsigned> queue, std::vector<Slot*>& abandoned);
  Shard& shard_of(const Slot& slot) { return shards_[slot.queue % shards_.size()]; }

  // Interrupts what `matches` in one shard, and adds its handlers, for the caller to call. Returns how many
  // matched.
  template <class Matches>
  static std::size_t interrupt_in(Shard& shard, InterruptReason reason, const Matches& matches,
                                  Handlers& handlers);

  std::mutex exclusive_mutex_;
  std::array<Shard, 64> shards_;
};

}  // namespace fusewire
