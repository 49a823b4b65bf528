#include "io/ring.h"

#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace fusewire::io {
namespace {

thread_local Ring* ring_of_this_thread = nullptr;

// Linux 6.1 and later: completions are worked on when the thread asks for them, and do not interrupt it
// meanwhile. The flag in the ring says that there are some.
constexpr unsigned kWorkWhenAsked =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;

// `done` may start another operation.
void finish(Ring::Done& done, int result) {
  try {
    done(result);
  } catch (const std::bad_alloc&) {
    static log::RateLimit limit;
    log::warn_limited(limit, "out of memory after an operation of io_uring; one request failed");
  }
}

}  // namespace

Result<std::unique_ptr<Ring>> Ring::create(unsigned entries) {
  FUSEWIRE_CHECK(ring_of_this_thread == nullptr);
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno();
  std::unique_ptr<Ring> ring(new Ring(entries, std::move(event)));
  int error = io_uring_queue_init(entries, &ring->ring_, kWorkWhenAsked);
  if (error == -EINVAL) error = io_uring_queue_init(entries, &ring->ring_, 0);
  if (error != 0) {
    ring->ring_.ring_fd = -1;
    return fail(-error);
  }
  ring_of_this_thread = ring.get();
  error = io_uring_register_eventfd(&ring->ring_, ring->event_.get());
  if (error != 0) return fail(-error);
  return ring;
}

Ring* Ring::of_this_thread() { return ring_of_this_thread; }

Ring::~Ring() {
  FUSEWIRE_CHECK(in_flight_ == 0);
  if (ring_.ring_fd < 0) return;
  FUSEWIRE_CHECK(ring_of_this_thread == this);
  ring_of_this_thread = nullptr;
  io_uring_queue_exit(&ring_);
}

void Ring::read(int fd, std::span<const iovec> to, std::uint64_t offset, Done done) {
  FUSEWIRE_CHECK(has_room());
  auto kept = std::make_unique<Done>(std::move(done));
  // The submission queue holds as many as may be in flight.
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  FUSEWIRE_CHECK(entry != nullptr);
  io_uring_prep_readv(entry, fd, to.data(), static_cast<unsigned>(to.size()), offset);
  io_uring_sqe_set_data(entry, kept.release());  // take_completions() takes it back
  ++in_flight_;
}

void Ring::write(int fd, std::span<const iovec> from, std::uint64_t offset, int flags, Done done) {
  FUSEWIRE_CHECK(has_room());
  auto kept = std::make_unique<Done>(std::move(done));
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  FUSEWIRE_CHECK(entry != nullptr);
  io_uring_prep_writev2(entry, fd, from.data(), static_cast<unsigned>(from.size()), offset, flags);
  io_uring_sqe_set_data(entry, kept.release());  // take_completions() takes it back
  ++in_flight_;
}

bool Ring::ready() const {
  if (in_flight_ == 0) return false;
  // SAFETY: relaxed: the kernel sets the flag, and turn() makes the system call that orders the rest.
  const unsigned flags = std::atomic_ref(*ring_.sq.kflags).load(std::memory_order_relaxed);
  return io_uring_cq_ready(&ring_) != 0 || io_uring_sq_ready(&ring_) != 0 || (flags & IORING_SQ_TASKRUN) != 0;
}

bool Ring::turn() {
  if (!ready()) return false;
  // EAGAIN and EBUSY: the kernel is short of memory; what it did not take stays in the queue, and ready().
  if (io_uring_sq_ready(&ring_) != 0) {
    io_uring_submit_and_get_events(&ring_);
  } else if (io_uring_cq_ready(&ring_) == 0) {
    io_uring_get_events(&ring_);
  }
  return take_completions();
}

bool Ring::take_completions() {
  bool any = false;
  for (io_uring_cqe* completion = nullptr; io_uring_peek_cqe(&ring_, &completion) == 0; any = true) {
    const std::unique_ptr<Done> done(static_cast<Done*>(io_uring_cqe_get_data(completion)));
    const int result = completion->res;
    io_uring_cqe_seen(&ring_, completion);
    --in_flight_;
    finish(*done, result);
  }
  return any;
}

void Ring::finish_all() {
  while (in_flight_ != 0) {
    io_uring_submit_and_wait(&ring_, 1);
    take_completions();
  }
}

}  // namespace fusewire::io
