// What is left of a FUSE mount whose process has died: every access gives ENOTCONN, also that of the next
// process which wants to mount there.
#pragma once

#include <expected>
#include <string>

namespace fusewire::devfuse {

// Unmounts such a mount from `mountpoint` if this user made it. The error says whose it is, or who serves one
// that only answers as if it were dead, as far as the kernel tells (Linux 6.16). Anything else, also a mount
// point that does not exist, is left as it is, without an error.
std::expected<void, std::string> clear_dead_mount(const std::string& mountpoint);

}  // namespace fusewire::devfuse
