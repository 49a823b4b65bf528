// Ring: reads and writes that go on while the thread does something else, by io_uring. Several are started,
// and several completions taken, with one system call, and no other thread has to be woken: a third of what a
// read by a pool thread costs (docs/benchmarks.md).
//
// Belongs to the thread that created it, and is used by no other. What it is given to do when an operation is
// over runs on that thread too, out of turn() or finish_all().
#pragma once

#include <liburing.h>
#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::io {

class Ring {
 public:
  // Gets what preadv(2) or pwritev2(2) would have returned, or a negative errno.
  using Done = std::move_only_function<void(int result)>;

  // A ring for this thread with room for `entries` operations at once. Errors: those of io_uring_setup(2):
  // ENOSYS and EPERM where the system does not have it or does not permit it.
  static Result<std::unique_ptr<Ring>> create(unsigned entries);
  // The ring that this thread has created, or null.
  static Ring* of_this_thread();
  // Nothing may be in flight. On the ring's thread.
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Whether one more operation can be started.
  bool has_room() const { return in_flight_ < entries_; }
  // Starts a read with the next turn(). There must be room. The descriptor, and the memory of the parts, must
  // stay until it is done, the list itself (at most UIO_MAXIOV parts) until the next turn().
  void read(int fd, std::span<const iovec> to, std::uint64_t offset, Done done);

  // The same for a write. `flags` are those of pwritev2(2), RWF_*.
  void write(int fd, std::span<const iovec> from, std::uint64_t offset, int flags, Done done);

  // Starts what was asked for and finishes what is over; whether there was any of the latter. Never waits.
  bool turn();
  // Whether turn() would have something to do.
  bool ready() const;
  // Waits until nothing is in flight any more.
  void finish_all();
  // An event that is signalled when ready() becomes true: for a thread that sleeps in epoll_wait(2), watched
  // edge-triggered. (The ring's own descriptor does not become readable for work that waits to be asked for.)
  int event_fd() const { return event_.get(); }

 private:
  Ring(unsigned entries, UniqueFd event) : entries_(entries), event_(std::move(event)) {}
  bool take_completions();

  const unsigned entries_;
  unsigned in_flight_ = 0;
  UniqueFd event_;
  io_uring ring_{};
};

}  // namespace fusewire::io
