#include "virtiofs/queue_worker.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/event_fd.h"
#include "base/log.h"
#include "io/epoll.h"
#include "io/thread.h"
#include "virtiofs/notification_channel.h"

namespace fusewire::virtiofs {
namespace {

// A turn ends after this many chains, or after this many bytes moved, so that early answers do not wait for
// late ones.
constexpr int kBatchChains = 64;
constexpr std::size_t kBatchBytes = std::size_t{256} * 1024;

// A guest can make every chain of a large ring as long as can be. With this many ranges in flight (Linux gets
// nowhere near), which is about 32 MiB for us to remember, further chains wait until some have come back.
constexpr std::size_t kMaxRangesInFlight = std::size_t{1} << 20;

// How often a ring without a kick event is looked at.
constexpr int kPollMilliseconds = 1;

// Which worker this thread is, to tell completions on the spot from those of other threads.
thread_local const QueueWorker* current_worker = nullptr;

}  // namespace

// ---- any thread ----

void QueueWorker::wake_up() {
  // SAFETY: both sides are sequentially consistent: either we see that the worker sleeps, or it sees, after
  // it said so, what we left for it (sleep()).
  if (sleeping_.exchange(false)) signal_event(wake_);
}

void QueueWorker::complete(QueueSlot& slot) {
  if (current_worker == this) return finish(slot);
  // With the slot pushed, the queue may be stopped and this worker destroyed, were it not for the count.
  completing_.fetch_add(1);
  completed_.push(slot);
  wake_up();
  completing_.fetch_sub(1);
}

// ---- the worker's thread ----

void QueueWorker::run() {
  current_worker = this;
  if (cpu_)
    if (const auto stays = io::stay_on_cpu(*cpu_); !stays)
      log::warn("queue {} cannot stay on CPU {}: {}", queue_index_, *cpu_, to_string(stays.error()));
  // The high-priority queue has nothing that waits.
  auto work = queue_index_ == 0 ? nullptr : engine_.thread_work();
  if (work != nullptr && !io::watch(epoll_, work->event_fd(), EPOLLIN | EPOLLET)) work.reset();
  work_ = work.get();
  pthread_setname_np(pthread_self(), fmt::format("fsq{}", queue_index_).c_str());
  busy_poll_.starts();
  for (;;) {
    run_tasks();
    if (exit_) break;
    if (!take_turn() && !poll()) sleep();
  }
  busy_poll_.ends();
}

void QueueWorker::run_tasks() {
  if (!has_tasks_.load()) return;
  std::vector<const std::function<void()>*> tasks;
  {
    const std::lock_guard lock(tasks_mutex_);
    tasks = tasks_;
    has_tasks_.store(false);
  }
  for (const auto* task : tasks) (*task)();
  const std::lock_guard lock(tasks_mutex_);
  std::erase_if(tasks_, [&](const auto* task) { return std::ranges::find(tasks, task) != tasks.end(); });
  task_done_.notify_all();
}

// Returns whether there was anything to do.
bool QueueWorker::take_turn() {
  bool busy = false;
  completed_.drain([&](QueueSlot& slot) {
    finish(slot);
    busy = true;
  });
  busy |= notifications_ != nullptr ? send_notifications() : serve_batch();
  if (work_ != nullptr) busy |= work_->turn();
  publish(true);
  return busy;
}

bool QueueWorker::serve_batch() {
  virtio::DeviceQueue* const queue = serving_queue();
  if (queue == nullptr) return false;
  queue->disable_kicks();
  batch_bytes_ = 0;
  int served = 0;
  while (served < kBatchChains && batch_bytes_ < kBatchBytes) {
    const Group group = pop_group(*queue);
    for (std::size_t i = 0; i < group.chains; ++i) {
      // From here on the slot is another thread's, or already back in finish().
      engine_.submit(*group.slots[i]);
    }
    served += group.popped;
    if (group.popped < kGroupChains) break;  // there is nothing more to pop now
    publish(event_idx_);
  }
  return served != 0;
}

// Chains that are popped together are on their way into the cache while the first is served.
QueueWorker::Group QueueWorker::pop_group(virtio::DeviceQueue& queue) {
  Group group;
  for (; group.popped < kGroupChains; ++group.popped) {
    if (ranges_in_flight_ >= kMaxRangesInFlight) return group;  // finish() brings us back
    QueueSlot& slot = free_slot();
    switch (queue.pop(slot.chain(), *map_)) {
      case virtio::Pop::nothing:
        return group;
      case virtio::Pop::malformed: {
        static log::RateLimit limit;
        log::warn_limited(limit, "queue {}: a malformed descriptor chain", queue_index_);
        queue.push_used(slot.chain().id, 0);
        break;
      }
      case virtio::Pop::broken:
        ring_broken();
        return group;
      case virtio::Pop::chain:
        free_.pop_back();
        ++in_flight_;
        ranges_in_flight_ += slot.range_count();
        batch_bytes_ += slot.chain().readable_size;
        slot.prepare(map_);
        slot.prefetch();
        group.slots[group.chains++] = &slot;
        break;
    }
  }
  return group;
}

void QueueWorker::return_chain(const QueueSlot& slot) {
  FUSEWIRE_CHECK(queue_.has_value());  // stop() waits for all slots before it takes the queue away
  if (log_ && slot.used_length() != 0) {
    // The room behind an error may have been filled in part before it came.
    const bool has_body = slot.used_length() > sizeof(fuse_out_header);
    log_->mark_written(*slot.map(), slot.chain().writable,
                       has_body ? slot.used_length() : slot.chain().writable_size);
  }
  queue_->push_used(slot.chain().id, slot.used_length());
}

void QueueWorker::finish(QueueSlot& slot) {
  return_chain(slot);
  batch_bytes_ += slot.used_length();
  if (slot.map() != map_) slot.drop_map();
  ranges_in_flight_ -= slot.range_count();
  slot.release_excess();
  free_.push_back(&slot);
  if (--in_flight_ != 0 || accepting_) return;
  const std::lock_guard lock(tasks_mutex_);
  drained_ = true;
  drain_ended_.notify_all();
}

// A chain whose memory is lent stays the device's: returned, its pages would become another request's, while
// the file system may yet fill them with data for this one, or write to a file what it finds there.
void QueueWorker::give_up_unanswered() {
  const std::vector<Slot*> unanswered = engine_.abandon_queue(queue_index_);
  std::size_t kept = 0;
  for (const Slot* each : unanswered) {
    // Whatever comes by this queue is in our slots.
    const auto place = std::ranges::find(slab_, each, &std::unique_ptr<QueueSlot>::get);
    FUSEWIRE_CHECK(place != slab_.end());
    QueueSlot& slot = *place->release();  // let_go() frees it
    slab_.erase(place);
    if (slot.end_given_up()) {
      return_chain(slot);
    } else {
      ++kept;
    }
    ranges_in_flight_ -= slot.range_count();
    --in_flight_;
    slot.let_go();
  }
  if (unanswered.empty()) return;
  log::warn(
      "queue {}: {} requests that nobody answered are given up, {} of them without an answer to the guest",
      queue_index_, unanswered.size(), kept);
}

void QueueWorker::publish(bool may_signal) {
  if (!queue_) return;
  queue_->publish();
  if (may_signal && queue_->needs_signal()) signal_event(call_);
}

virtio::DeviceQueue* QueueWorker::serving_queue() {
  return queue_ && accepting_ && enabled_ ? &*queue_ : nullptr;
}

virtio::DeviceQueue* QueueWorker::wanted_queue() {
  return notifications_ == nullptr || notifications_->waiting() ? serving_queue() : nullptr;
}

bool QueueWorker::poll() {
  // A notification is nothing that a guest waits for.
  const virtio::DeviceQueue* const queue = notifications_ == nullptr ? serving_queue() : nullptr;
  return queue != nullptr && busy_poll_.wait([this, queue] {
    return queue->has_available() || has_tasks_.load(std::memory_order_relaxed) || !completed_.empty() ||
           work_ready();
  });
}

void QueueWorker::sleep() {
  sleeping_.store(true);
  virtio::DeviceQueue* const wanted = wanted_queue();
  // A chain that came just now may bring no kick.
  if (has_tasks_.load() || !completed_.empty() || work_ready() ||
      (wanted != nullptr && wanted->enable_kicks())) {
    sleeping_.store(false);
    return;
  }
  const bool poll_ring = wanted != nullptr && !kick_;
  busy_poll_.falls_asleep();
  std::array<epoll_event, 3> events;
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), events.size(), poll_ring ? kPollMilliseconds : -1);
  sleeping_.store(false);
  busy_poll_.woke_up();
  for (int i = 0; i < count; ++i) {
    if (events[static_cast<std::size_t>(i)].data.fd != wake_.get()) continue;
    std::uint64_t counter = 0;
    // EAGAIN cannot be: the event is level-triggered and only we read it.
    FUSEWIRE_CHECK(::read(wake_.get(), &counter, sizeof counter) == sizeof counter || errno == EINTR);
  }
}

void QueueWorker::ring_broken() {
  if (broken_reported_) return;
  broken_reported_ = true;
  accepting_ = false;
  log::error("queue {}: the ring is broken, no further request is taken from it", queue_index_);
  signal_event(error_);
}

QueueSlot& QueueWorker::free_slot() {
  if (free_.empty()) {
    slab_.push_back(std::make_unique<QueueSlot>(*this, queue_index_));
    free_.push_back(slab_.back().get());
  }
  return *free_.back();
}

}  // namespace fusewire::virtiofs
