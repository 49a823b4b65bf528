// QueueWorker: the thread of one virtqueue. It takes chains off the ring, has the engine serve them, and
// returns them, also those that other threads have answered: only this thread touches the ring.
//
// One turn: take what was completed elsewhere, pop and serve a batch, publish the used ring once, signal the
// driver at most once. When a turn finds nothing to do, the worker sleeps in epoll_wait(2) until a kick, a
// completion or a task.
//
// The control thread changes a worker's state by tasks that run on the worker's thread between two turns, so
// that the state needs no locks. Its side is in queue_worker_control.cc.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fuse/engine.h"
#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "guestmem/dirty_log.h"
#include "guestmem/memory_map.h"
#include "io/busy_poll.h"
#include "virtio/device_queue.h"
#include "virtiofs/completion_list.h"
#include "virtiofs/queue_slot.h"

namespace fusewire::virtiofs {

class NotificationChannel;

struct WorkerOptions {
  std::chrono::microseconds poll{0};  // see io::BusyPoll
  std::optional<unsigned> cpu;        // the only one that the thread runs on
};

class QueueWorker {
 public:
  // `engine` must outlive the worker. The thread starts with the first start(). An error leaves no worker.
  static Result<std::unique_ptr<QueueWorker>> create(Engine& engine, unsigned queue_index,
                                                     const WorkerOptions& options = {});
  // The queue must be stopped.
  ~QueueWorker();
  QueueWorker(const QueueWorker&) = delete;
  QueueWorker& operator=(const QueueWorker&) = delete;

  // All of these: from the control thread. They return when the change is in effect.

  // With `notifications`, which must live until stop(), the queue carries those and no requests.
  Result<void> start(const virtio::RingSetup& ring, virtio::QueueOptions options, UniqueFd kick,
                     NotificationChannel* notifications = nullptr);
  // Ends the queue's waits (Engine::end_waits), waits for its requests in flight, and returns where the
  // ring goes on (RingSetup::base). What is not answered at `deadline` is given up: its chain goes back to
  // the driver with EIO, or, where the file system has been lent the chain's memory, never.
  using Deadline = std::chrono::steady_clock::time_point;
  std::uint32_t stop(Deadline deadline);
  bool running() const { return started_; }
  void set_memory(std::shared_ptr<const guestmem::MemoryMap> map);
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log);
  void set_logging(const virtio::RingSetup& ring);
  void set_enabled(bool enabled);
  void set_call(UniqueFd call);
  void set_error(UniqueFd error);

  // From any thread: `slot` is done. It goes back to the driver in this worker's current or next turn.
  void complete(QueueSlot& slot);
  // From any thread: has the worker take a turn.
  void wake_up();

 private:
  QueueWorker(Engine& engine, unsigned queue_index, const WorkerOptions& options, UniqueFd epoll,
              UniqueFd wake)
      : engine_(engine),
        queue_index_(queue_index),
        cpu_(options.cpu),
        epoll_(std::move(epoll)),
        wake_(std::move(wake)),
        busy_poll_(options.poll) {}

  // Chains that are popped before the first of them is served. The driver sees their answers before the next
  // are popped, so that it works on the first while we work on the next: more at a time would wake a sleeping
  // driver less often, but leave one of the two waiting for the other (docs/benchmarks.md).
  static constexpr int kGroupChains = 4;
  struct Group {
    std::array<QueueSlot*, kGroupChains> slots;
    std::size_t chains = 0;
    int popped = 0;  // with the malformed ones; fewer than kGroupChains: there is nothing more to pop now
  };

  // Runs `task` on the worker's thread (on this one while there is no thread) and waits for its end.
  void run_on_worker(const std::function<void()>& task);
  // Waits until no request is in flight; false when there are some, even at the deadline.
  bool wait_drained(std::optional<Deadline> deadline);

  // The worker's thread.
  void run();
  void run_tasks();
  bool take_turn();
  bool serve_batch();
  Group pop_group(virtio::DeviceQueue& queue);
  bool send_notifications();
  bool fill_buffer(QueueSlot& slot, std::span<const iovec> message, std::size_t size);
  void finish(QueueSlot& slot);
  // Returns the slot's chain to the driver.
  void return_chain(const QueueSlot& slot);
  void give_up_unanswered();
  // Shows the driver what was finished, and signals it if it asks for that. In the middle of a turn it may be
  // signalled only if it says (by the event index) that it sleeps; else one signal for the turn must do.
  void publish(bool may_signal);
  // The queue while it is served, else null.
  virtio::DeviceQueue* serving_queue();
  // The queue if a chain of the driver's would be taken now, else null.
  virtio::DeviceQueue* wanted_queue();
  bool work_ready() const { return work_ != nullptr && work_->ready(); }
  bool poll();
  void sleep();
  void ring_broken();
  QueueSlot& free_slot();

  Engine& engine_;
  const unsigned queue_index_;
  const std::optional<unsigned> cpu_;
  UniqueFd epoll_;
  UniqueFd wake_;  // eventfd: a task or a completion is there
  std::thread thread_;
  bool started_ = false;  // control thread's view

  std::mutex tasks_mutex_;
  std::condition_variable task_done_;
  std::vector<const std::function<void()>*> tasks_;
  // Under tasks_mutex_: what wait_drained() waits for.
  std::condition_variable drain_ended_;
  bool drained_ = false;
  std::atomic<bool> has_tasks_{false};
  std::atomic<bool> sleeping_{false};
  CompletionList completed_;
  std::atomic<int> completing_{0};  // threads inside complete()

  // The worker's own.
  bool exit_ = false;
  ThreadWork* work_ = nullptr;  // what the file system has going on in this thread
  bool enabled_ = false;
  bool broken_reported_ = false;
  io::BusyPoll busy_poll_;
  std::optional<virtio::DeviceQueue> queue_;
  NotificationChannel* notifications_ = nullptr;  // what this queue carries instead of requests
  bool event_idx_ = false;
  bool accepting_ = false;  // false while the queue is being stopped
  UniqueFd kick_, call_, error_;
  std::shared_ptr<const guestmem::MemoryMap> map_ = guestmem::MemoryMap::empty();
  std::shared_ptr<guestmem::DirtyLog> log_;
  std::vector<std::unique_ptr<QueueSlot>> slab_;
  std::vector<QueueSlot*> free_;
  std::size_t in_flight_ = 0;
  std::size_t ranges_in_flight_ = 0;  // of all their chains
  std::size_t batch_bytes_ = 0;       // moved by the requests of this batch
};

}  // namespace fusewire::virtiofs
