// NotificationChannel: notifications by write(2) on /dev/fuse; the kernel knows them by fuse_out_header's
// unique 0 (fuse_notify in fs/fuse/dev.c). Its verdict is write's result.
//
// A notification may have to wait in the kernel for requests, and these for their answers. It ends when they
// are answered or the connection is aborted. It is the same for every channel of a mount; with requests over
// io_uring, too, they go this way.
#pragma once

#include "devfuse/channel.h"
#include "fusewire/notification_channel.h"

namespace fusewire::devfuse {

class NotificationChannel final : public fusewire::NotificationChannel {
 public:
  // `channel`: any one of the mount; it must outlive this.
  explicit NotificationChannel(const Channel& channel) : channel_(channel) {}

  // ENOTCONN when nothing is mounted any more; else what the kernel says.
  Result<void> send(std::span<const iovec> message) override;

 private:
  const Channel& channel_;
};

}  // namespace fusewire::devfuse
