#include "devfuse/channel.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/major.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace fusewire::devfuse {

Result<Channel> Channel::open() {
  UniqueFd fd(::open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno();
  return Channel(std::move(fd));
}

bool Channel::is_device(int fd) {
  constexpr unsigned kMinor = 229;  // FUSE_MINOR of linux/miscdevice.h
  struct stat status{};
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(MISC_MAJOR, kMinor);
}

Result<Channel> Channel::adopt(UniqueFd fd) {
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) < 0) return fail_errno();
  if (fcntl(fd.get(), F_SETFD, FD_CLOEXEC) < 0) return fail_errno();
  return Channel(std::move(fd));
}

bool Channel::is_connected() const {
  pollfd watched{fd_.get(), 0, 0};
  return poll(&watched, 1, 0) == 0;  // POLLERR otherwise
}

Result<Channel> Channel::clone() const {
  auto made = open();
  if (!made) return made;
  std::uint32_t original = static_cast<std::uint32_t>(fd_.get());
  if (ioctl(made->fd(), FUSE_DEV_IOC_CLONE, &original) != 0) return fail_errno();
  return made;
}

Result<std::size_t> Channel::read(std::span<std::byte> room) const {
  for (;;) {
    const ssize_t got = ::read(fd_.get(), room.data(), room.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    // ENOENT: the request was aborted while it was copied; the next one is as good.
    if (errno != EINTR && errno != ENOENT) return fail_errno();
  }
}

Result<void> Channel::write(std::span<const iovec> reply) const {
  while (::writev(fd_.get(), reply.data(), static_cast<int>(reply.size())) < 0)
    if (errno != EINTR) return fail_errno();
  return {};
}

}  // namespace fusewire::devfuse
