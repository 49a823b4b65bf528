// The arguments of fuse_session_new.
#pragma once

#include <expected>
#include <optional>
#include <string>

#include "devfuse/mount_options.h"
#include "libfuse/api.h"

namespace fusewire::libfuse {

struct SessionOptions {
  bool debug = false;
  devfuse::MountOptions mount;
  // Serve a virtual machine instead of a mount: the socket's path (or FUSEWIRE_SOCKET in the environment), or
  // a listening descriptor.
  std::string socket_path;
  int socket_fd = -1;
  // Threads to which calls that may block are handed while a virtual machine is served; 0: none.
  unsigned thread_pool_size = 0;

  bool serves_guest() const { return !socket_path.empty() || socket_fd >= 0; }
};

// The error names the option that is unknown or has a bad value.
std::expected<SessionOptions, std::string> parse_session_options(const fuse_args& args);

}  // namespace fusewire::libfuse
