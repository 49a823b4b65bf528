// fusermount3(1), the set-uid helper through which users without privileges mount and unmount. It mounts, and
// hands the open /dev/fuse back over the socket that _FUSE_COMMFD names.
//
// Blocking; for start-up and the end. The messages of a failed fusermount3 go to our standard error.
#pragma once

#include <expected>
#include <string>

#include "fusewire/unique_fd.h"

namespace fusewire::devfuse {

// Mounts on `mountpoint` with a list of mount options. The result is /dev/fuse.
std::expected<UniqueFd, std::string> fusermount_mount(const std::string& mountpoint,
                                                      const std::string& options);

// Unmounts; `lazy`: even if it is in use.
std::expected<void, std::string> fusermount_unmount(const std::string& mountpoint, bool lazy);

}  // namespace fusewire::devfuse
