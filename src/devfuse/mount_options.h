// MountOptions: the -o options of a FUSE mount, as mount.fuse(8) documents them. Plain data, made by one
// thread.
#pragma once

#include <sys/mount.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace fusewire::devfuse {

struct MountOptions {
  // MS_* of mount(2). Set-id programs and device nodes mean nothing on a mount unless asked for ("suid",
  // "dev").
  unsigned long flags = MS_NOSUID | MS_NODEV;
  bool allow_other = false;
  bool allow_root = false;    // allow_other for the kernel; whoever serves refuses the others (server.h)
  bool auto_unmount = false;  // fusermount3 stays, and unmounts when we have gone
  bool block_device = false;  // the type is fuseblk, fsname the device
  std::optional<std::uint32_t> block_size;
  bool default_permissions = false;
  std::optional<std::uint32_t> max_read;
  std::string fsname;   // the first column of /proc/mounts
  std::string subtype;  // the type there is fuse.SUBTYPE; empty: fuse
  // For whoever serves (server.h), not for the kernel.
  bool io_uring = false;
  std::optional<std::uint32_t> io_uring_queue_depth;
  std::optional<std::chrono::microseconds> busy_poll;
  // SELinux's context= and its kin, joined with commas, for the kernel.
  std::string security;
};

// Applies a comma-separated list, "ro,fsname=x". A comma belongs to a value behind a backslash or between
// double quotes. Later options win. The error names the option that is unknown, has a bad value, or is not
// for users.
std::expected<void, std::string> apply(std::string_view list, MountOptions& options);

// `text` with a backslash in front of what would end an option in a list.
std::string escaped(std::string_view text);

// The options as fusermount3 takes them; never empty.
std::string list_of(const MountOptions& options);

// The last argument of mount(2). `root_mode`: the mount point's st_mode.
std::string kernel_data(const MountOptions& options, int fd, mode_t root_mode, uid_t uid, gid_t gid);

}  // namespace fusewire::devfuse
