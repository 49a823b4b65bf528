#include "devfuse/dead_mount.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/log.h"
#include "devfuse/fusermount.h"
#include "fusewire/result.h"

namespace fusewire::devfuse {
namespace {

// The absolute path, for which the last component is not looked at.
std::string path_of(std::string mountpoint) {
  while (mountpoint.size() > 1 && mountpoint.back() == '/') mountpoint.pop_back();
  const std::size_t slash = mountpoint.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : mountpoint.substr(0, slash + 1);
  const std::unique_ptr<char, decltype(&free)> real(realpath(folder.c_str(), nullptr), &free);
  if (!real) return {};
  std::string path = real.get();
  if (path.back() != '/') path += '/';
  return path + (slash == std::string::npos ? mountpoint : mountpoint.substr(slash + 1));
}

// A path as /proc/self/mountinfo writes it (proc_pid_mountinfo(5)).
std::string as_written(const std::string& path) {
  std::string written;
  for (const char letter : path) {
    if (letter == ' ' || letter == '\t' || letter == '\n' || letter == '\\') {
      written += fmt::format("\\{:03o}", static_cast<unsigned>(letter));
    } else {
      written += letter;
    }
  }
  return written;
}

struct Found {
  std::string type;
  std::string options;  // of the file system
};

// The topmost mount on `path`.
Found find_mount(const std::string& path) {
  const std::string wanted = as_written(path);
  std::ifstream table("/proc/self/mountinfo");
  Found found;
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::string field, mountpoint, source;
    for (int i = 0; i < 5; ++i) fields >> mountpoint;
    if (mountpoint != wanted) continue;
    while (fields >> field && field != "-") {
    }
    fields >> found.type >> source >> found.options;
  }
  return found;
}

}  // namespace

std::expected<void, std::string> clear_dead_mount(const std::string& mountpoint) {
  struct stat status{};
  if (stat(mountpoint.c_str(), &status) == 0 || errno != ENOTCONN) return {};
  const std::string path = path_of(mountpoint);
  const Found found = path.empty() ? Found{} : find_mount(path);
  if (!found.type.starts_with("fuse")) return {};
  const std::string owner = fmt::format("user_id={},", getuid());
  if ((found.options + ",").find(owner) == std::string::npos)
    return std::unexpected(
        fmt::format("cannot mount on {}: the process that served the file system there has died, and the "
                    "mount is another "
                    "user's ({}): it has to be unmounted first",
                    mountpoint, found.options));
  log::info("{}: the process that served the file system there has died; unmounting what it left",
            mountpoint);
  if (geteuid() != 0) return fusermount_unmount(path, true);
  if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
    return std::unexpected(
        fmt::format("unmounting what is left on {}: {}", mountpoint, to_string(Errno{errno})));
  return {};
}

}  // namespace fusewire::devfuse
