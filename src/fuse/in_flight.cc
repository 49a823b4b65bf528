#include "fuse/in_flight.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "fusewire/thread_work.h"

namespace fusewire {

void InFlight::enter(Slot& slot) {
  Shard& shard = shard_of(slot);
  std::unique_lock lock(shard.mutex);
  if (shard.closed) {
    // What closed it waits for all requests, those too that only this thread can go on with.
    lock.unlock();
    ThreadWork::finish_all_of_this_thread();
    lock.lock();
    shard.changed.wait(lock, [&] { return !shard.closed; });
  }
  slot.previous_ = nullptr;
  slot.next_ = shard.first;
  if (shard.first != nullptr) shard.first->previous_ = &slot;
  shard.first = &slot;
}

void InFlight::leave(Slot& slot) {
  Shard& shard = shard_of(slot);
  std::function<void(InterruptReason)> handler;  // destroyed without the lock: it may own anything
  const std::lock_guard lock(shard.mutex);
  if (slot.on_interrupt_) handler.swap(slot.on_interrupt_);
  if (slot.next_ != nullptr) slot.next_->previous_ = slot.previous_;
  (slot.previous_ != nullptr ? slot.previous_->next_ : shard.first) = slot.next_;
  if (shard.closed && shard.first == nullptr) shard.changed.notify_all();
}

void InFlight::close() {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.closed = true;
  }
  interrupt_queue(std::nullopt);
}

void InFlight::open() {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.closed = false;
    shard.changed.notify_all();
  }
}

bool InFlight::wait_until_empty(Shard& shard, std::optional<Deadline> deadline) {
  std::unique_lock lock(shard.mutex);
  const auto empty = [&shard] { return shard.first == nullptr; };
  if (deadline) return shard.changed.wait_until(lock, *deadline, empty);
  shard.changed.wait(lock, empty);
  return true;
}

void InFlight::exclusive(const std::function<void()>& section) {
  ThreadWork::finish_all_of_this_thread();
  const std::lock_guard one_at_a_time(exclusive_mutex_);
  close();
  for (Shard& shard : shards_) wait_until_empty(shard, std::nullopt);
  section();
  open();
}

bool InFlight::exclusive_within(std::chrono::milliseconds patience, const std::function<void()>& section) {
  ThreadWork::finish_all_of_this_thread();
  const std::lock_guard one_at_a_time(exclusive_mutex_);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  close();
  const bool alone =
      std::ranges::all_of(shards_, [deadline](Shard& shard) { return wait_until_empty(shard, deadline); });
  if (alone) section();
  open();
  return alone;
}

InFlight::Abandoned InFlight::exclusive_abandoning(std::chrono::milliseconds grace,
                                                   const std::function<void()>& section) {
  ThreadWork::finish_all_of_this_thread();
  const std::lock_guard one_at_a_time(exclusive_mutex_);
  close();
  const auto deadline = std::chrono::steady_clock::now() + grace;
  std::vector<Slot*> slots;
  Abandoned abandoned;
  for (Shard& shard : shards_)
    if (!wait_until_empty(shard, deadline)) abandoned.awaited += abandon_in(shard, std::nullopt, slots);
  abandoned.requests = slots.size();
  section();
  open();
  return abandoned;
}

std::vector<Slot*> InFlight::abandon_queue(unsigned queue) {
  std::vector<Slot*> abandoned;
  abandon_in(shards_[queue % shards_.size()], queue, abandoned);
  return abandoned;
}

std::size_t InFlight::abandon_in(Shard& shard, std::optional<unsigned> queue, std::vector<Slot*>& abandoned) {
  std::size_t awaited = 0;
  std::vector<std::function<void(InterruptReason)>> handlers;  // destroyed without the lock
  for (bool remaining = true; remaining;) {
    remaining = false;
    {
      const std::lock_guard lock(shard.mutex);
      Slot* next = nullptr;
      for (Slot* slot = shard.first; slot != nullptr; slot = next) {
        next = slot->next_;
        if (queue && slot->queue != *queue) continue;
        handlers.push_back(std::exchange(slot->on_interrupt_, nullptr));
        Slot* const previous = slot->previous_;
        const bool can_reply = slot->can_reply;
        // Nothing of the slot may be touched once it is abandoned. One that is just being answered leaves by
        // itself, and soon.
        if (!slot->abandon()) {
          remaining = true;
          continue;
        }
        abandoned.push_back(slot);
        awaited += can_reply ? 1 : 0;
        if (next != nullptr) next->previous_ = previous;
        (previous != nullptr ? previous->next_ : shard.first) = next;
      }
      if (shard.closed && shard.first == nullptr) shard.changed.notify_all();
    }
    if (remaining) std::this_thread::yield();
  }
  return awaited;
}

template <class Matches>
std::size_t InFlight::interrupt_in(Shard& shard, InterruptReason reason, const Matches& matches,
                                   Handlers& handlers) {
  std::size_t found = 0;
  const std::lock_guard lock(shard.mutex);
  for (Slot* slot = shard.first; slot != nullptr; slot = slot->next_) {
    if (!matches(*slot)) continue;
    ++found;
    slot->interrupt_reason_ = reason;
    slot->interrupted_.store(true, std::memory_order_relaxed);  // SAFETY: see ReplyBase::interrupted
    if (slot->on_interrupt_) handlers.push_back(std::exchange(slot->on_interrupt_, nullptr));
  }
  return found;
}

bool InFlight::interrupt(RequestId unique, Handlers& handlers) {
  const auto matches = [unique](const Slot& slot) { return slot.unique_ == unique; };
  return std::ranges::any_of(shards_, [&](Shard& shard) {
    return interrupt_in(shard, InterruptReason::interrupted, matches, handlers) != 0;
  });
}

void InFlight::interrupt_queue(std::optional<unsigned> queue) {
  const auto matches = [queue](const Slot& slot) { return !queue || slot.queue == *queue; };
  for (Shard& shard : shards_) {
    Handlers handlers;
    interrupt_in(shard, InterruptReason::stopping, matches, handlers);
    for (const auto& handler : handlers) handler(InterruptReason::stopping);
  }
}

std::optional<InterruptReason> InFlight::set_interrupt_handler(
    Slot& slot, std::function<void(InterruptReason)>& handler) {
  Shard& shard = shard_of(slot);
  const std::lock_guard lock(shard.mutex);
  // SAFETY: relaxed, the flag is written under this lock.
  if (slot.interrupted_.load(std::memory_order_relaxed)) return slot.interrupt_reason_;
  slot.on_interrupt_.swap(handler);
  return std::nullopt;
}

}  // namespace fusewire
