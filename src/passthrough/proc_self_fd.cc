#include "passthrough/proc_self_fd.h"

#include <fcntl.h>

#include <charconv>

namespace fusewire::passthrough {

Result<ProcSelfFd> ProcSelfFd::open() {
  UniqueFd directory(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail_errno();
  return ProcSelfFd(std::move(directory));
}

ProcSelfFd::Name::Name(int fd) {
  // 12 characters hold every int and a NUL, which the array is full of.
  std::to_chars(text_.data(), text_.data() + text_.size() - 1, fd);
}

Result<UniqueFd> ProcSelfFd::reopen(int fd, int flags) const {
  const Name name(fd);
  UniqueFd opened(::openat(directory_.get(), name.c_str(), (flags & ~O_NOFOLLOW) | O_CLOEXEC));
  if (!opened) return fail_errno();
  return opened;
}

}  // namespace fusewire::passthrough
