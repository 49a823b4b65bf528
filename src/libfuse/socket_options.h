// Where a program is to serve a virtual machine instead of this host: the options that fuse_parse_cmdline
// lets pass and fuse_session_new carries out, and the variable that stands in for them where a program's own
// parser refuses them.
#pragma once

#include <cstdlib>
#include <string_view>

namespace fusewire::libfuse {

// Each has a value: "--fd=5" or "--fd 5".
inline constexpr std::string_view kSocketOptions[] = {"--socket-path", "--fd", "--thread-pool-size"};

// The path in FUSEWIRE_SOCKET; NULL if it is not set, or empty.
inline const char* socket_from_environment() {
  const char* path = std::getenv("FUSEWIRE_SOCKET");
  return path != nullptr && *path != '\0' ? path : nullptr;
}

}  // namespace fusewire::libfuse
