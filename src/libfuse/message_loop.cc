#include "libfuse/message_loop.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "devfuse/only_user.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

// Until there is a message, or the session ends; false when it does not know: a signal came, say.
bool wait_for_message(const fuse_session& session, int fd) {
  std::array<pollfd, 2> watched{pollfd{fd, POLLIN, 0}, pollfd{session.end_event(), POLLIN, 0}};
  return poll(watched.data(), watched.size(), -1) > 0;
}

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
int receive(fuse_session& session, std::span<std::byte> room) {
  const int fd = session.channel.fd();
  while (!session.ended()) {
    // A program's function may wait, and then nothing would wake it at the end.
    if (!wait_for_message(session, fd)) {
      if (errno == EINTR) continue;
      return ended_by(session, errno);
    }
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

void process(fuse_session& session, MessageSlot* slot, std::span<std::byte> message) {
  slot->begin(session.channel.fd(), message);
  fuse_in_header in{};
  std::memcpy(&in, message.data(), std::min(message.size(), sizeof in));
  if (session.options.mount.allow_root && devfuse::is_refused(in, session.owner)) {
    slot->done(RequestId{in.unique}, EACCES, 0);
  } else {
    session.engine->submit(*slot);
  }
  slot->unref();
}

// Threads that take turns in receiving. Whoever has a message starts one more thread if none waits.
class Crew {
 public:
  Crew(fuse_session& session, unsigned threads) : session_(session), most_(std::max(threads, 1U)) {}

  int run() {
    work();
    // Nobody starts threads after the end.
    std::vector<std::thread> others;
    {
      const std::lock_guard lock(mutex_);
      others.swap(others_);
    }
    for (std::thread& thread : others) thread.join();
    return result_;
  }

 private:
  void work() {
    while (serve_one()) {
    }
    session_.end(0);
  }

  bool serve_one() {
    MessageSlot* slot = session_.slots.take();
    const std::span<std::byte> room = slot->room();
    ++idle_;
    int size = 0;
    {
      // A program's own source need not keep the messages of two readers apart.
      const std::lock_guard turn(turn_);
      size = receive(session_, room);
    }
    --idle_;
    if (size <= 0) {
      session_.slots.give_back(slot);
      const std::lock_guard lock(mutex_);
      if (size < 0) result_ = size;
      return false;
    }
    want_thread();
    process(session_, slot, room.first(static_cast<std::size_t>(size)));
    return true;
  }

  void want_thread() {
    if (idle_ != 0 || most_ == 1) return;
    const std::lock_guard lock(mutex_);
    if (others_.size() + 1 >= most_ || session_.ended()) return;
    try {
      others_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      fuse_log(FUSE_LOG_ERR, "fuse: no further thread could be started: %s\n", error.what());
    }
  }

  fuse_session& session_;
  const unsigned most_;
  std::mutex turn_;
  std::atomic<unsigned> idle_{0};
  std::mutex mutex_;
  std::vector<std::thread> others_;
  int result_ = 0;
};

}  // namespace

int fusewire::libfuse::serve_messages(fuse_session& session, unsigned threads) {
  return Crew(session, threads).run();
}

extern "C" {

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
  const bool waits = (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  if (waits && !wait_for_message(*se, fd)) return -errno;
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
  process(*se, slot, message);
}

}  // extern "C"
