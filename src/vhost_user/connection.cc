#include "vhost_user/connection.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/check.h"
#include "fusewire/bytes.h"
#include "fusewire/result.h"

namespace fusewire::vhost_user {
namespace {

// Room for the control message that carries kMaxFds descriptors, aligned for its header.
struct ControlBuffer {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> bytes{};
};

// Takes every descriptor out of a received message into `fds`, so that each is owned whatever comes next.
void take_fds(msghdr& message, std::vector<UniqueFd>& fds) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Connection::Io Connection::fail(std::string error) {
  error_ = std::move(error);
  return Io::failed;
}

// Waits until the socket is ready for `events` (or in error, which the next system call will report).
Connection::Io Connection::wait(short events) {
  std::array<pollfd, 2> watched{pollfd{socket_.get(), events, 0}, pollfd{stop_fd_, POLLIN, 0}};
  for (;;) {
    // poll(2) skips negative descriptors, so that no stop descriptor is no special case.
    if (poll(watched.data(), watched.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return fail("poll: " + to_string(Errno{errno}));
    }
    if (watched[1].revents != 0) return Io::stopped;
    if (watched[0].revents != 0) return Io::done;
  }
}

// Fills `to`. `at_boundary`: it begins a message, before which the peer may go away.
Connection::Io Connection::read_exactly(std::span<std::byte> to, std::vector<UniqueFd>& fds,
                                        bool at_boundary) {
  while (!to.empty()) {
    if (const Io ready = wait(POLLIN); ready != Io::done) return ready;
    iovec vector{to.data(), to.size()};
    ControlBuffer control;
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t got = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      // A peer that dies with our replies unread resets the connection; for us it has just gone.
      if (errno == ECONNRESET && at_boundary) return Io::closed;
      return fail("recvmsg: " + to_string(Errno{errno}));
    }
    take_fds(message, fds);
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds.size() > kMaxFds)
      return fail(fmt::format("a message with more than {} file descriptors, or we have none left", kMaxFds));
    if (got == 0) return at_boundary ? Io::closed : fail("the peer went away in the middle of a message");
    at_boundary = false;
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return Io::done;
}

Connection::Io Connection::receive(Message& message) {
  message.payload.clear();
  message.fds.clear();
  if (const Io read = read_exactly(writable_bytes_of(message.header), message.fds, true); read != Io::done)
    return read;
  const Header& header = message.header;
  if ((header.flags & kVersionMask) != kVersion)
    return fail(fmt::format("{} with protocol version {}", request_name(header.request),
                            header.flags & kVersionMask));
  if (header.size > kMaxPayload)
    return fail(fmt::format("{} with {} bytes of payload", request_name(header.request), header.size));
  message.payload.resize(header.size);
  return read_exactly(message.payload, message.fds, false);
}

Connection::Io Connection::send(std::uint32_t request, std::uint32_t flags,
                                std::span<const std::byte> payload, std::span<const int> fds) {
  FUSEWIRE_CHECK(payload.size() <= kMaxPayload && fds.size() <= kMaxFds);
  const Header header{request, flags | kVersion, static_cast<std::uint32_t>(payload.size())};
  std::array<std::byte, sizeof(Header) + kMaxPayload> bytes;
  ByteWriter writer(bytes);
  writer.write_object(header);
  writer.write(payload);
  std::span<const std::byte> rest = std::span(bytes).first(writer.written());

  ControlBuffer control;
  while (!rest.empty()) {
    // SAFETY: sendmsg(2) only reads through the pointer.
    iovec vector{const_cast<std::byte*>(rest.data()), rest.size()};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.bytes.data();
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
    }
    const ssize_t sent = sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        if (const Io ready = wait(POLLOUT); ready != Io::done) return ready;
        continue;
      }
      if (errno == EPIPE || errno == ECONNRESET) return Io::closed;
      return fail("sendmsg: " + to_string(Errno{errno}));
    }
    fds = {};  // They went with the first byte.
    rest = rest.subspan(static_cast<std::size_t>(sent));
  }
  return Io::done;
}

}  // namespace fusewire::vhost_user
