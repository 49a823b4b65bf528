// The mounts that this process sees: /proc/self/mountinfo (proc_pid_mountinfo(5)).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fusewire::devfuse {

struct MountEntry {
  std::uint64_t id = 0;            // statx(2)'s stx_mnt_id
  std::uint32_t device_minor = 0;  // of a FUSE mount: its connection's number, too
  std::string mountpoint;
  std::string type;
  std::string options;  // the file system's own
};

// The topmost mount on an absolute path without symbolic links.
std::optional<MountEntry> find_mount_on(const std::string& path);
// The mount `id`, wherever it is now.
std::optional<MountEntry> find_mount(std::uint64_t id);

}  // namespace fusewire::devfuse
