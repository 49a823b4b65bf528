// Connection: whole vhost-user messages, with their file descriptors, over one UNIX stream socket. Both sides
// use it.
//
// A peer that stalls in the middle of a message holds up only this connection, and not the end of the
// process: every wait also watches the stop descriptor. Used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fusewire/unique_fd.h"
#include "vhost_user/messages.h"

namespace fusewire::vhost_user {

// A message as it came; reusable. Descriptors that nobody takes are closed with it.
struct Message {
  Header header{};
  std::vector<std::byte> payload;
  std::vector<UniqueFd> fds;

  bool needs_reply() const { return (header.flags & kFlagNeedReply) != 0; }

  // The payload's beginning as a T; what the message does not have is zero.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  T as() const {
    T object{};
    const std::size_t size = payload.size() < sizeof(T) ? payload.size() : sizeof(T);
    if (size != 0) std::memcpy(&object, payload.data(), size);
    return object;
  }

  // Takes descriptor `index` out of the message; none when it is not there.
  UniqueFd take_fd(std::size_t index = 0) { return index < fds.size() ? std::move(fds[index]) : UniqueFd(); }
};

class Connection {
 public:
  enum class Io {
    done,
    closed,   // The peer closed the socket between two messages.
    stopped,  // The stop descriptor became readable.
    failed,   // See error(). The stream is out of step and of no more use.
  };

  // `stop_fd` is borrowed and polled for POLLIN; -1: none.
  explicit Connection(UniqueFd socket, int stop_fd = -1) : socket_(std::move(socket)), stop_fd_(stop_fd) {}

  // Waits for the next message and stores it in `message`. Fails on a wrong version, a payload above
  // kMaxPayload, more than kMaxFds descriptors, an end in mid-message, and on errors of the socket.
  Io receive(Message& message);

  // Sends a message; `fds` stay the caller's.
  Io send(std::uint32_t request, std::uint32_t flags, std::span<const std::byte> payload,
          std::span<const int> fds = {});

  // Closes the socket, so that the peer sees the end.
  void close() { socket_.reset(); }

  // Says what failed.
  const std::string& error() const { return error_; }
  int fd() const { return socket_.get(); }

 private:
  Io wait(short events);
  Io read_exactly(std::span<std::byte> to, std::vector<UniqueFd>& fds, bool at_boundary);
  Io fail(std::string error);

  UniqueFd socket_;
  int stop_fd_;
  std::string error_;
};

}  // namespace fusewire::vhost_user
