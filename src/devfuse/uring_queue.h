// UringQueue: the requests of one processor, over io_uring (fs/fuse/dev_uring.c). A thread with a ring takes
// them out of its entries, has the engine serve them, and sends the answers; one system call carries the
// answers that are ready and waits for the next requests.
//
// The kernel puts a request into the queue of the processor that it was made on. The thread stays on that
// processor, where it needs no other one to be woken.
//
// start() first, then serve() and pause() in turns, and close() at last, from one thread at a time that is
// not the queue's.
#pragma once

#include <liburing.h>
#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "devfuse/uring_entry.h"
#include "fuse/engine.h"
#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "io/busy_poll.h"

namespace fusewire::devfuse {

struct UringQueueSettings {
  int fuse_fd = -1;              // /dev/fuse, with the connection
  unsigned cpu = 0;              // the kernel's number for the queue
  unsigned number = 0;           // Slot::queue
  unsigned depth = 8;            // entries: the requests that are served at once
  std::size_t payload_room = 0;  // for the longest READ and WRITE, or reply
  std::optional<uid_t> only_user{};
  std::chrono::microseconds busy_poll{0};  // how long the thread waits awake; see io::BusyPoll
  // The kernel refuses the queue: the connection is of no use. Called once, from the queue's thread.
  std::function<void(Errno)> on_refusal;
};

class UringQueue {
 public:
  // `engine` must outlive the queue.
  UringQueue(Engine& engine, UringQueueSettings settings);
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;
  // No request may be on loan, but those that are given up.
  ~UringQueue();

  // Makes thread, ring and entries. Errors: those of io_uring_setup(2), EPERM and ENOSYS among them; ENOMEM.
  Result<void> start();
  // Has the thread serve requests. The first time, which is right after the answer to INIT, the kernel gets
  // the entries.
  void serve();
  // Has the thread serve no further requests; answers still go out, and what comes is kept for serve().
  // Returns when the thread is not inside Engine::submit any more. `end_waits`: what waits in handlers is to
  // end.
  void pause(bool end_waits);
  // How many requests are not answered, or their answers not sent yet.
  std::size_t lent() const { return lent_.load(); }
  // Ends the thread, and lets go of /dev/fuse. Answers that come later are not sent.
  void close();

  // For UringEntry: its answer is ready. From any thread.
  void answer(UringEntry& entry);

 private:
  enum class Phase : std::uint8_t { waiting, serving, paused, closed };
  // What a completion belongs to: an entry's index, or one of these.
  static constexpr std::uint64_t kWakeUp = UINT64_MAX;
  static constexpr std::uint64_t kFileSystemWork = UINT64_MAX - 1;

  Result<void> set_up();
  void enter(Phase phase);

  // On the queue's thread.
  void run();
  void wait();
  bool is_ready() const;
  void follow_phase();
  void join_connection();
  void look_for_completions();
  void on_completion(const io_uring_cqe& completion);
  void on_entry(std::size_t index, int result);
  void serve_entry(std::size_t index);
  void send_answers_of_others();
  void send_answer(UringEntry& entry);
  void take_back(UringEntry& entry);
  void command(UringEntry& entry, UringOperation operation);
  void watch(int fd, std::uint64_t data);

  Engine& engine_;
  const UringQueueSettings settings_;
  io_uring ring_{};
  UniqueFd wake_event_;  // written to wake the thread, never read
  std::thread thread_;
  std::atomic<Phase> phase_{Phase::waiting};
  std::atomic<std::size_t> lent_{0};

  // The thread's own, as long as there is one.
  std::vector<std::unique_ptr<UringEntry>> home_;  // null: on loan
  std::vector<std::size_t> kept_;                  // that came in a pause
  bool registered_ = false;
  std::unique_ptr<ThreadWork> work_;
  io::BusyPoll awake_;
  Phase reached_ = Phase::waiting;
  bool refused_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool paused_ = false;
  bool closed_ = false;
  std::vector<UringEntry*> answered_;  // by other threads
};

}  // namespace fusewire::devfuse
