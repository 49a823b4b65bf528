// fuse_session_loop and its kin: messages in, one at a time or in several threads.
//
// The end of the session wakes whoever waits, through the session's end_event().

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "devfuse/only_user.h"
#include "libfuse/loop_config.h"
#include "libfuse/session.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

// Waits for a message or the end of the session, for one thread. Of several threads that wait for one device
// the kernel wakes one a message.
class Waiter {
 public:
  Waiter(const fuse_session& session, int fd) : fd_(fd), end_event_(session.end_event()) {
    if (!session.device) return;
    epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
    if (!watch(fd_, EPOLLIN | EPOLLEXCLUSIVE) || !watch(end_event_, EPOLLIN)) epoll_.reset();
  }
  void wait() const {
    if (epoll_) {
      epoll_event event{};
      epoll_wait(epoll_.get(), &event, 1, -1);
      return;
    }
    std::array<pollfd, 2> watched{pollfd{fd_, POLLIN, 0}, pollfd{end_event_, POLLIN, 0}};
    poll(watched.data(), watched.size(), -1);
  }

 private:
  bool watch(int fd, std::uint32_t events) const {
    epoll_event event{};
    event.events = events;
    return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }

  const int fd_;
  const int end_event_;
  UniqueFd epoll_;
};

// What a read that failed means: 0 the session is over, else -errno.
int ended_by(fuse_session& session, int error) {
  if (error != ENODEV) {
    if (error != EINTR && error != EAGAIN)
      fuse_log(FUSE_LOG_ERR, "fuse: reading a request: %s\n", to_string(Errno{error}).c_str());
    return -error;
  }
  session.end(0);
  return 0;
}

// Reads one message into `room`, waiting for it. Its size; 0 the session is over; -errno.
int receive(fuse_session& session, const Waiter& waiter, int fd, std::span<std::byte> room) {
  while (!session.ended()) {
    // Without O_NONBLOCK, and from a program's own source, reading must not come before there is something.
    waiter.wait();
    if (session.ended()) break;
    const auto size = session.channel.read(fd, room);
    if (size && *size < sizeof(fuse_in_header)) return *size == 0 ? 0 : -EIO;
    if (size) return static_cast<int>(*size);
    // ENOENT: the request was interrupted before it got here.
    if (size.error().value == EAGAIN || size.error().value == ENOENT || size.error().value == EINTR) continue;
    return ended_by(session, size.error().value);
  }
  return 0;
}

void process(fuse_session& session, MessageSlot* slot, int fd, std::span<std::byte> message) {
  slot->begin(fd, message);
  fuse_in_header in{};
  std::memcpy(&in, message.data(), std::min(message.size(), sizeof in));
  if (session.options.mount.allow_root && devfuse::is_refused(in, session.owner)) {
    slot->done(RequestId{in.unique}, EACCES, 0);
  } else {
    session.engine->submit(*slot);
  }
  slot->unref();
}

// O_NONBLOCK while a loop of ours runs: a message that is gone when it is read must not hold up the end.
class NonBlocking {
 public:
  explicit NonBlocking(const fuse_session& session) : fd_(session.device ? session.channel.fd() : -1) {
    if (fd_ < 0) return;
    flags_ = fcntl(fd_, F_GETFL);
    fcntl(fd_, F_SETFL, flags_ | O_NONBLOCK);
  }
  NonBlocking(const NonBlocking&) = delete;
  NonBlocking& operator=(const NonBlocking&) = delete;
  ~NonBlocking() {
    if (fd_ >= 0) fcntl(fd_, F_SETFL, flags_);
  }

 private:
  const int fd_;
  int flags_ = 0;
};

// What a loop returns, and the session ready for another one.
int finish(fuse_session& session, int result) {
  if (session.error() != 0) result = session.error();
  session.reset();
  return result;
}

// Several threads in one session.
class Crew {
 public:
  Crew(fuse_session& session, const fuse_loop_config& config)
      : session_(session),
        clone_fd_(config.clone_fd != 0 && session.device.has_value()),
        max_threads_(std::max(config.max_threads, 1U)),
        max_idle_(std::max(config.max_idle_threads, 1U)) {}

  int run() {
    std::unique_lock lock(mutex_);
    if (const int error = add_thread(); error != 0) return -error;
    changed_.wait(lock, [this] { return threads_ == 0; });
    for (std::thread& thread : started_) thread.join();
    return result_;
  }

 private:
  // With the lock.
  int add_thread() {
    try {
      started_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      return error.code().value();
    }
    ++threads_;
    ++idle_;
    return 0;
  }

  void work() {
    // Replies must go where the request came from; a thread that has no clone uses the session's own.
    std::optional<devfuse::Channel> own;
    if (clone_fd_) {
      if (auto cloned = session_.device->clone()) own.emplace(*std::move(cloned));
    }
    const int fd = own ? own->fd() : session_.channel.fd();
    const Waiter waiter(session_, fd);
    int result = 0;
    while (!session_.ended()) {
      MessageSlot* slot = session_.slots.take();
      const std::span<std::byte> room = slot->room();
      result = receive_in_turn(waiter, fd, room);
      if (result <= 0) {
        session_.slots.give_back(slot);
        break;
      }
      if (!become_busy()) {
        fuse_log(FUSE_LOG_ERR, "fuse: no further thread could be started\n");
      }
      process(session_, slot, fd, room.first(static_cast<std::size_t>(result)));
      if (!become_idle()) return leave(0);
    }
    session_.end(0);
    leave(result < 0 ? result : 0);
  }

  // A program's own source need not keep the messages of two readers apart.
  int receive_in_turn(const Waiter& waiter, int fd, std::span<std::byte> room) {
    if (!session_.channel.is_custom()) return receive(session_, waiter, fd, room);
    const std::lock_guard turn(reader_);
    return receive(session_, waiter, fd, room);
  }

  // Leaves somebody to wait for the next message, if there may be one more.
  bool become_busy() {
    const std::lock_guard lock(mutex_);
    --idle_;
    return idle_ != 0 || threads_ >= max_threads_ || session_.ended() || add_thread() == 0;
  }
  // False when there are idle threads enough.
  bool become_idle() {
    const std::lock_guard lock(mutex_);
    ++idle_;
    return idle_ <= max_idle_;
  }
  void leave(int result) {
    const std::lock_guard lock(mutex_);
    if (result != 0) result_ = result;
    --idle_;
    if (--threads_ == 0) changed_.notify_all();
  }

  fuse_session& session_;
  const bool clone_fd_;
  const unsigned max_threads_;
  const unsigned max_idle_;
  std::mutex reader_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> started_;
  unsigned threads_ = 0;
  unsigned idle_ = 0;
  int result_ = 0;
};

int loop_mt(fuse_session& session, const fuse_loop_config& config) {
  if (session.serves_guest()) return finish(session, serve_guest(session, true));
  const NonBlocking mode(session);
  return finish(session, Crew(session, config).run());
}

}  // namespace

extern "C" {

int fuse_session_loop(struct fuse_session* se) {
  if (se->serves_guest()) return finish(*se, serve_guest(*se, false));
  const NonBlocking mode(*se);
  const Waiter waiter(*se, se->channel.fd());
  int result = 0;
  while (!se->ended()) {
    MessageSlot* slot = se->slots.take();
    const std::span<std::byte> room = slot->room();
    result = receive(*se, waiter, se->channel.fd(), room);
    if (result <= 0) {
      se->slots.give_back(slot);
      break;
    }
    process(*se, slot, se->channel.fd(), room.first(static_cast<std::size_t>(result)));
  }
  return finish(*se, std::min(result, 0));
}

int fuse_session_receive_buf(struct fuse_session* se, struct fuse_buf* buf) {
  if (se->serves_guest()) {
    fuse_log(FUSE_LOG_ERR, "fuse: a virtual machine is served by fuse_session_loop only\n");
    return -EOPNOTSUPP;
  }
  const int fd = se->channel.fd();
  if (buf->mem == nullptr) {
    buf->mem = std::malloc(fuse_session::kMessageSize);
    if (buf->mem == nullptr) return -ENOMEM;
  }
  buf->flags = static_cast<fuse_buf_flags>(0);
  // A program that made the descriptor non-blocking waits by itself.
  if ((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0) Waiter(*se, fd).wait();
  if (se->ended()) return 0;
  const auto size = se->channel.read(fd, {static_cast<std::byte*>(buf->mem), fuse_session::kMessageSize});
  if (!size) return size.error().value == ENOENT ? -EINTR : ended_by(*se, size.error().value);
  if (*size < sizeof(fuse_in_header)) {
    fuse_log(FUSE_LOG_ERR, "fuse: a request of %zu bytes\n", *size);
    return -EIO;
  }
  buf->size = *size;
  return static_cast<int>(*size);
}

void fuse_session_process_buf(struct fuse_session* se, const struct fuse_buf* buf) {
  if (se->engine == nullptr) return;
  MessageSlot* slot = se->slots.take();
  const std::span<std::byte> room = slot->room();
  std::span<std::byte> message{static_cast<std::byte*>(buf->mem), buf->size};
  if ((buf->flags & FUSE_BUF_IS_FD) != 0) {
    fuse_bufvec from = FUSE_BUFVEC_INIT(buf->size);
    from.buf[0] = *buf;
    fuse_bufvec to = FUSE_BUFVEC_INIT(std::min(buf->size, room.size()));
    to.buf[0].mem = room.data();
    const ssize_t copied = fuse_buf_copy(&to, &from, static_cast<fuse_buf_copy_flags>(0));
    if (copied < 0) {
      fuse_log(FUSE_LOG_ERR, "fuse: reading a request from a pipe failed\n");
      return se->slots.give_back(slot);
    }
    message = room.first(static_cast<std::size_t>(copied));
  }
  process(*se, slot, se->channel.fd(), message);
}

int fuse_session_loop_mt_312(struct fuse_session* se, struct fuse_loop_config* config) {
  return loop_mt(*se, config != nullptr ? *config : kDefaultLoopConfig);
}

int fuse_session_loop_mt_32(struct fuse_session* se, struct fuse_loop_config_v1* v1) {
  fuse_loop_config config = kDefaultLoopConfig;
  if (v1 != nullptr) fuse_loop_cfg_convert(&config, v1);
  return loop_mt(*se, config);
}

int fuse_session_loop_mt_31(struct fuse_session* se, int clone_fd) {
  fuse_loop_config config = kDefaultLoopConfig;
  config.clone_fd = clone_fd;
  return loop_mt(*se, config);
}

}  // extern "C"
