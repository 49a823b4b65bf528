// BackingChannel: backing files by ioctl(2) on /dev/fuse (FUSE_DEV_IOC_BACKING_OPEN and _CLOSE,
// fs/fuse/backing.c). They are the same for every channel of a mount.
#pragma once

#include "devfuse/channel.h"
#include "fusewire/backing_channel.h"

namespace fusewire::devfuse {

class BackingChannel final : public fusewire::BackingChannel {
 public:
  // `channel`: any one of the mount; it must outlive this.
  explicit BackingChannel(const Channel& channel) : channel_(channel) {}

  Result<std::uint32_t> open(int fd) override;
  Result<void> close(std::uint32_t id) override;

 private:
  const Channel& channel_;
};

}  // namespace fusewire::devfuse
