// NotificationChannel: how a transport carries a message to the kernel that answers no request. A transport
// that can implements it and hands it to Engine::set_notification_channel.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "fusewire/result.h"

namespace fusewire {

class NotificationChannel {
 public:
  virtual ~NotificationChannel() = default;

  // The longest message that send() takes, fuse_out_header included. The default is what one system call can
  // carry (the kernel's MAX_RW_COUNT).
  virtual std::size_t max_size() const { return 0x7fff'f000; }

  // Sends one whole message, in at most UIO_MAXIOV pieces: fuse_out_header{len, error = code, unique = 0} and
  // what the code asks for. From any thread, and from several at once. Returns the kernel's verdict where the
  // transport learns it; ENOTCONN when the kernel has gone, EAGAIN when it has no room and one may try again.
  virtual Result<void> send(std::span<const iovec> message) = 0;
};

}  // namespace fusewire
