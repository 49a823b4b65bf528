#include "devfuse/backing_channel.h"

#include <linux/fuse.h>
#include <sys/ioctl.h>

namespace fusewire::devfuse {
namespace {

// struct fuse_backing_map and its commands (7.40), which the installed header does not have yet.
struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
static_assert(sizeof(BackingMap) == 16);
constexpr unsigned long kBackingOpen = _IOW(FUSE_DEV_IOC_MAGIC, 1, BackingMap);
constexpr unsigned long kBackingClose = _IOW(FUSE_DEV_IOC_MAGIC, 2, std::uint32_t);

}  // namespace

Result<std::uint32_t> BackingChannel::open(int fd) {
  const BackingMap map{.fd = fd, .flags = 0, .padding = 0};
  const int id = ioctl(channel_.fd(), kBackingOpen, &map);
  if (id <= 0) return id < 0 ? fail_errno() : fail(EPROTO);
  return static_cast<std::uint32_t>(id);
}

Result<void> BackingChannel::close(std::uint32_t id) {
  if (ioctl(channel_.fd(), kBackingClose, &id) != 0) return fail_errno();
  return {};
}

}  // namespace fusewire::devfuse
