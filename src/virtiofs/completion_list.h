// CompletionList: requests that other threads have answered, on their way back to the queue's worker, which
// alone writes the used ring. Lock-free, any number of producers, one consumer.
#pragma once

#include <atomic>

#include "virtiofs/queue_slot.h"

namespace fusewire::virtiofs {

class CompletionList {
 public:
  void push(QueueSlot& slot) {
    QueueSlot* first = first_.load(std::memory_order_relaxed);
    do {
      slot.next_completed_ = first;
      // SAFETY: the default order is sequentially consistent, which orders the push before the pusher's look
      // at whether the worker sleeps (QueueWorker::complete).
    } while (!first_.compare_exchange_weak(first, &slot));
  }
  bool empty() const { return first_.load() == nullptr; }

  // Calls `take(QueueSlot&)` for all that were pushed, the latest first. `take` may reuse the slot.
  template <class Take>
  void drain(const Take& take) {
    if (empty()) return;
    QueueSlot* slot = first_.exchange(nullptr);
    while (slot != nullptr) {
      QueueSlot* next = slot->next_completed_;
      take(*slot);
      slot = next;
    }
  }

 private:
  std::atomic<QueueSlot*> first_{nullptr};
};

}  // namespace fusewire::virtiofs
