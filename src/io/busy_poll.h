// BusyPoll: whether, and for how long, a queue's worker looks at its ring before it sleeps.
//
// A sleep costs two switches here and an interrupt of the driver's processor there, often more than the
// request itself. A driver that answers soon is therefore waited for awake, up to a limit. One that was not
// soon even once is not waited for until it has been: an idle queue uses no processor time.
//
// Used by the worker's thread alone, except for the count of those that are awake.
#pragma once

#include <atomic>
#include <chrono>

namespace fusewire::io {

class BusyPoll {
 public:
  using Clock = std::chrono::steady_clock;

  // Where the one runs who is waited for: anywhere, or on this thread's own processor, which the thread stays
  // on. There it takes the processor from a thread that waits awake, and none of its own is lost to it: what
  // remains is that the processor need not be woken.
  enum class Partner { anywhere, here };

  // Waits awake for `limit` at most; 0: never.
  explicit BusyPoll(std::chrono::microseconds limit, Partner partner = Partner::anywhere)
      : limit_(limit), partner_(partner) {}

  // The worker's thread begins, and ends. One that never polls is not counted.
  void starts() {
    if (is_counted()) awake_.fetch_add(1, std::memory_order_relaxed);
  }
  void ends() {
    if (is_counted()) awake_.fetch_sub(1, std::memory_order_relaxed);
  }

  // Whether wait() would wait: not when the last waits were long, nor when more workers are awake than half
  // of the processors: their drivers, anywhere, need the other half, and whoever polls takes a processor from
  // one of them.
  bool pays() const {
    return soon_ && (!is_counted() || awake_.load(std::memory_order_relaxed) <= most_awake());
  }
  // Calls `ready` until it is true or the time is up; whether it was. Does nothing when it does not pay.
  template <class Ready>
  bool wait(const Ready& ready);

  // Tells how the wait went on that wait() could not end: to be called around the sleep.
  void falls_asleep() {
    ends();
    if (limit_.count() != 0 && began_ == Clock::time_point{}) began_ = Clock::now();
  }
  void woke_up();

 private:
  // How many workers may be awake for any to poll: half of the processors, at least one.
  static unsigned most_awake();
  static void pause();

  // What a sleep takes longer than the wait itself.
  static constexpr std::chrono::microseconds kWakeUp{50};
  static constexpr int kLooksPerClock = 16;

  // SAFETY: relaxed throughout: the count guards nothing, and a poll too many or too few does no harm.
  static inline std::atomic<unsigned> awake_{0};

  bool is_counted() const { return limit_.count() != 0 && partner_ == Partner::anywhere; }

  const std::chrono::microseconds limit_;
  const Partner partner_;
  bool soon_ = false;          // the last wait was shorter than the limit
  Clock::time_point began_{};  // of a wait that goes on
};

template <class Ready>
bool BusyPoll::wait(const Ready& ready) {
  if (!pays()) return false;
  began_ = Clock::now();
  bool found = false;
  do {
    for (int look = 0; look < kLooksPerClock && !found; ++look) {
      pause();
      found = ready();
    }
  } while (!found && Clock::now() - began_ < limit_);
  if (found) began_ = {};
  return found;
}

}  // namespace fusewire::io
