#include "virtiofs-bench/loop.h"

#include <fmt/format.h>
#include <vector>

namespace fusewire::bench {
namespace {

class Driver {
 public:
  Driver(const Loop& loop, LoopTotals& totals)
      : loop_(loop),
        totals_(totals),
        waiter_(loop.queue, loop.link, loop.wait),
        begun_(loop.slots.size()),
        in_operation_(loop.slots.size(), false) {
    for (const Slot& slot : loop.slots) ready_.push_back(slot.index());
    unique_ = std::uint64_t{loop.thread + 1} << 40;
  }

  Expected<void> run() {
    if (loop_.wait == Wait::poll) loop_.queue.disarm();
    for (;;) {
      if (auto sent = submit(); !sent) return sent;
      if (loop_.queue.outstanding() == 0) break;
      if (auto taken = reap(); !taken) return taken;
    }
    loop_.queue.drain();  // What was signalled for this run counts for it.
    return {};
  }

 private:
  Expected<void> submit() {
    if (ready_.empty()) return {};
    const auto now = Clock::now();
    const bool stop = now - start_ > loop_.length || loop_.stop.load(std::memory_order_relaxed) ||
                      loop_.link.interrupted.load(std::memory_order_relaxed);
    for (const unsigned index : ready_) {
      if (!in_operation_[index]) {
        if (stop) continue;
        begun_[index] = now;
      }
      Slot& slot = loop_.slots[index];
      if (!loop_.workload.next(slot)) continue;
      in_operation_[index] = true;
      unique_ += 2;
      if (!slot.stage(loop_.queue, unique_))
        return failed("the ring has no room: --ring-size is too small for the depth");
    }
    ready_.clear();
    loop_.queue.publish();
    return {};
  }

  Expected<void> reap() {
    auto used = loop_.queue.take();
    while (!used) {
      if (auto waited = waiter_.wait(); !waited) return waited;
      used = loop_.queue.take();
    }
    const auto now = Clock::now();
    for (; used; used = loop_.queue.take()) {
      Slot& slot = loop_.slots[used->cookie];
      if (auto right = slot.check(used->length); !right) return right;
      const auto progress = loop_.workload.check(slot);
      if (!progress) return failed(fmt::format("{}: {}", slot.describe(), progress.error()));
      const auto index = static_cast<unsigned>(used->cookie);
      ready_.push_back(index);
      totals_.bytes += progress->bytes;
      if (!progress->finished) continue;
      in_operation_[index] = false;
      if (progress->operations == 0) continue;
      totals_.operations += progress->operations;
      totals_.latency.add(static_cast<std::uint64_t>((now - begun_[index]).count()));
    }
    return {};
  }

  const Loop& loop_;
  LoopTotals& totals_;
  Waiter waiter_;
  std::vector<Clock::time_point> begun_;
  std::vector<char> in_operation_;
  std::vector<unsigned> ready_;
  std::uint64_t unique_;
  const Clock::time_point start_ = Clock::now();
};

}  // namespace

Expected<void> Waiter::wait() {
  // Taking failed, so that a broken ring is seen here, whichever way we wait.
  if (queue_.broken()) return failed("the server returned a chain that it did not have");
  if (how_ == Wait::irq) return wait_for_used(queue_, link_);
  constexpr unsigned kSpinsPerLook = 1U << 20;
  if (++spins_ % kSpinsPerLook != 0) return {};
  return still_there(link_);
}

Expected<void> drive(const Loop& loop, LoopTotals& totals) { return Driver(loop, totals).run(); }

}  // namespace fusewire::bench
