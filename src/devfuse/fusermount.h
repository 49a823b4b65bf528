// fusermount3(1), the set-uid helper through which users without privileges mount and unmount. It mounts, and
// hands the open /dev/fuse back over the socket that _FUSE_COMMFD names.
//
// Blocking; for start-up and the end. The messages of a failed fusermount3 go to our standard error.
#pragma once

#include <sys/types.h>

#include <expected>
#include <string>
#include <utility>

#include "fusewire/unique_fd.h"

namespace fusewire::devfuse {

// A fusermount3 that stays (auto_unmount) and unmounts when nobody has the other end of its socket open any
// more: this process and all it has forked.
class FusermountKeeper {
 public:
  FusermountKeeper() = default;
  FusermountKeeper(pid_t pid, UniqueFd socket);
  FusermountKeeper(FusermountKeeper&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        process_(std::move(other.process_)),
        socket_(std::move(other.socket_)) {}
  FusermountKeeper& operator=(FusermountKeeper&&) = delete;
  // Lets it unmount and waits for it, if it is this process's child.
  ~FusermountKeeper();
  // For when there is nothing left to unmount, which it would complain about: it ends.
  void dismiss();

 private:
  void await_end();

  pid_t pid_ = -1;
  UniqueFd process_;  // pidfd_open(2)
  UniqueFd socket_;
};

struct Fusermounted {
  UniqueFd fuse;  // /dev/fuse
  FusermountKeeper keeper;
};

// Mounts on `mountpoint` with a list of mount options. `keeps`: auto_unmount is among them.
std::expected<Fusermounted, std::string> fusermount_mount(const std::string& mountpoint,
                                                          const std::string& options, bool keeps);

// Unmounts; `lazy`: even if it is in use.
std::expected<void, std::string> fusermount_unmount(const std::string& mountpoint, bool lazy);

}  // namespace fusewire::devfuse
