// ProcSelfFd: /proc/self/fd, through which a descriptor that was opened with O_PATH is opened again for real.
//
// The directory is opened once, so that it stays usable after a sandbox has hidden /proc. It belongs to the
// process that opened it: after fork(2), a child that goes on serving needs one of its own. Thread-safe.
#pragma once

#include <array>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::passthrough {

class ProcSelfFd {
 public:
  // Errors: those of open(2), when /proc is not mounted.
  static Result<ProcSelfFd> open();

  // The directory itself, for the *at calls that take "a path of the file" and no descriptor.
  int directory() const { return directory_.get(); }

  // The name of `fd` in that directory. Resolving it ends at the very inode behind `fd` and follows nothing
  // further.
  class Name {
   public:
    explicit Name(int fd);
    const char* c_str() const { return text_.data(); }

   private:
    std::array<char, 12> text_{};
  };

  // Opens the inode behind `fd` anew with `flags` (O_CLOEXEC is added, O_NOFOLLOW taken away: the name is a
  // link). The caller must know that the inode is a regular file or a directory, or pass O_PATH: anything
  // else could act on a device.
  Result<UniqueFd> reopen(int fd, int flags) const;

 private:
  explicit ProcSelfFd(UniqueFd directory) : directory_(std::move(directory)) {}
  UniqueFd directory_;
};

}  // namespace fusewire::passthrough
