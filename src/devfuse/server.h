// Server: the threads that take requests from /dev/fuse, have the engine serve them, and send the answers.
//
// Begins with one thread, which is run()'s caller. Whenever a thread takes a request while no other one
// waits, one more is started, up to max_threads; they are kept, but for those above max_idle_threads that had
// nothing to do for a while. With clone_fd each thread has a channel of its own.
//
// While requests are served quickly, one thread waits for them, because each further one that a request wakes
// costs more than it helps. One other is the deputy: it looks every few milliseconds whether the first is
// held up or overrun, and joins it then. The rest sleep until they are called. When one of the last requests
// was long and had to wait for something (a disk, a lock, a server far away), all threads wait at the device,
// and a request wakes one of them.
//
// The end comes by stop(), or by the kernel: unmounted, or the connection aborted. Requests that are still
// being served then are waited for a while; those that are not answered even so are given up, and answering
// them later does nothing.
//
// With io_uring, where kernel and system have it, run()'s caller takes only what does not come that way, and
// the queues' threads the rest (uring_channel.h).
#pragma once

#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "devfuse/channel.h"
#include "devfuse/channel_slot.h"
#include "devfuse/mount_options.h"
#include "devfuse/uring_channel.h"
#include "fuse/engine.h"
#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::devfuse {

struct ServerOptions {
  unsigned max_threads = 10;
  unsigned max_idle_threads = UINT_MAX;
  bool clone_fd = false;
  bool splice = true;         // large parts of files as replies go through a pipe
  std::size_t max_write = 0;  // 0: as much as the kernel lets one request have
  // Requests of other users than this one and root are refused with EACCES (allow_root).
  std::optional<uid_t> only_user{};
  bool abort_error = true;            // the kernel is to tell an abort from an unmount (FUSE_ABORT_ERROR)
  bool io_uring = false;              // where it cannot be, one line in the log says why
  unsigned io_uring_queue_depth = 8;  // requests that one processor's queue serves at once
  // How long unanswered requests are waited for at the end.
  std::chrono::milliseconds grace{5000};
  // How long a thread waits awake for the next request while they come that fast; 0: not at all.
  std::chrono::microseconds busy_poll{50};
  // The end of run() is not the end of the file system: what is unanswered stays so, and run() may be called
  // again, after resume(). The end comes with the server's.
  bool resumable = false;
};

// Takes over what the mount options say of the server.
void choose(const MountOptions& wishes, ServerOptions& options);

class Server {
 public:
  // Why run() returned.
  enum class Ending {
    stopped,    // stop()
    unmounted,  // the kernel has no use for the connection any more
    aborted,    // somebody aborted the connection (/sys/fs/fuse/connections)
    refused,    // the file system does not start: see Engine::refusal(). Not with `resumable`
    failed,     // reading requests fails; see error()
  };

  // The most that one READ or WRITE can have on this kernel, in bytes.
  static std::size_t kernel_max_write();

  // `engine` must outlive the server, and gets to know what the transport is able to do. The channel may be
  // one without a mount yet; it is not used before run() or serve_init(). EINVAL without a thread; else what
  // the descriptors need.
  static Result<std::unique_ptr<Server>> create(Engine& engine, Channel first, const ServerOptions& options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  // run() must not be running. Closes the channels, with which the kernel's connection ends.
  ~Server();

  // Before run(), while mount(2) runs (sync_init.h): serves INIT, which is there to be read. Leaves no
  // thread.
  void serve_init();
  // Serves until the end, which is also the file system's: FileSystem::destroy has been called on return.
  // Once only. (Both: unless it is resumable.)
  Ending run();
  // Between two calls of run(): forgets that the last one was stopped; and takes new numbers of threads, and
  // clone_fd, from `options`.
  void resume();
  void set_threads(const ServerOptions& options);
  // Closes the kernel's connection while run() is not running, though requests may still be unanswered:
  // answering them does nothing any more.
  void disconnect();
  // For Ending::failed.
  Errno error() const { return Errno{error_.load()}; }
  // Makes run() end, now or as soon as it begins. From any thread; async-signal-safe.
  void stop();
  // Has calls that wait for something end their waits (ReplyBase::interrupted), those that are being served
  // now. From any thread but one inside a handler. run() does it by itself, but for the thread that called
  // it.
  void end_waits() { engine_.end_waits(std::nullopt); }

  // After run(): how many answers the kernel still waits for, of requests that were given up. What waits for
  // them in it (a notification that wants a page, say) goes on only when the connection is aborted.
  std::size_t awaited() const { return awaited_; }

  // The first channel, for notifications.
  const Channel& channel() const { return first_; }
  // How many threads read requests from /dev/fuse.
  std::size_t threads() const { return thread_count_.load(); }

 private:
  struct Worker;
  Server(Engine& engine, Channel first, const ServerOptions& options);

  Result<std::unique_ptr<Worker>> make_worker(unsigned number);
  // Makes the queues, before INIT. Where that fails, there are none.
  void prepare_uring();
  // After INIT: uses the queues, or lets them go, as the kernel wants it.
  void decide_on_uring();
  // In run(), where serve_init() has settled that there are queues; false: there cannot be, which ends it.
  bool join_uring();
  Engine::Transport transport() const;
  // How many requests are not answered.
  std::size_t lent() const;
  // Called with a request at hand: sees to it that somebody else is there for the next one. A sleeping thread
  // is called, or one more started, if there may be.
  void want_help();
  // With workers_mutex_. Whether there is a deputy now.
  bool call_sleeper();
  void start_thread();
  // A worker without a thread, an old one or a new one; with the lock.
  Result<Worker*> spare_worker();
  void serve(Worker& worker);
  // Takes one request into worker.slot; false when there is none. The end, if this is it, is set.
  bool receive(Worker& worker);
  // Serves what receive() took.
  void serve_received(Worker& worker);
  void submit(ChannelSlot& slot);
  // For a while, all threads wait at the device.
  void have_all_listen();
  bool all_listen() const { return all_listen_.load(std::memory_order_relaxed) != 0; }
  bool serve_one(Worker& worker);
  // Waits until there may be something to do, or the thread is one too many: at the device, or, when others
  // do, as the deputy, or asleep.
  void wait(Worker& worker);
  bool becomes_listener(Worker& worker);
  void listen(Worker& worker);
  void deputize(Worker& worker);
  void sleep(Worker& worker);
  // One wait of the three. What happened, but for requests, is done.
  bool has_requests_after(Worker& worker, int milliseconds);
  // In milliseconds, after which the thread may be one too many; -1: it is kept.
  int longest_sleep(const Worker& worker) const;
  // Whether this idle thread is one too many; it is counted out then.
  bool is_surplus(Worker& worker);
  // The file system's end. Requests that are not answered in time are given up.
  void finish();
  void read_failed(int error);
  void end(Ending why);
  bool ending() const { return ending_.load(std::memory_order_acquire); }

  Engine& engine_;
  const Channel first_;
  ServerOptions options_;
  UniqueFd stop_event_;  // written once, never read: it wakes all threads, and those to come
  std::atomic<bool> ending_{false};
  std::atomic<Ending> why_{Ending::stopped};
  std::atomic<int> error_{0};
  std::size_t awaited_ = 0;

  std::unique_ptr<UringChannel> uring_;
  bool uring_decided_ = true;  // for the only thread, while there is one
  bool joins_uring_ = false;   // INIT has said so before run()

  std::atomic<unsigned> listeners_{0};      // threads that wait at the device
  std::atomic<bool> has_deputy_{false};     // somebody is, or is called to be it
  std::atomic<unsigned> sleepers_{0};       // that can be called
  std::atomic<std::uint64_t> received_{0};  // requests
  // Counted down by requests: see submit().
  std::atomic<unsigned> measured_{0};    // since one took long, whether they wait for something is measured
  std::atomic<unsigned> all_listen_{0};  // since one waited for something, all threads wait at the device

  std::atomic<unsigned> others_{0};  // threads besides run()'s caller that have not ended yet
  std::atomic<unsigned> idle_{0};
  std::atomic<unsigned> thread_count_{0};
  std::mutex workers_mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace fusewire::devfuse
