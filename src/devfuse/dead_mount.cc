#include "devfuse/dead_mount.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "base/log.h"
#include "devfuse/fusermount.h"
#include "devfuse/mountinfo.h"
#include "fusewire/result.h"

namespace fusewire::devfuse {
namespace {

namespace fs = std::filesystem;

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

// The first entry of a folder of /proc for which `wanted` is true. Processes come and go meanwhile, and some
// are other users': what cannot be seen is left out.
template <class Wanted>
std::optional<fs::path> find_entry(const fs::path& folder, const Wanted& wanted) {
  std::error_code unseen;
  fs::directory_iterator entry(folder, unseen);
  for (; !unseen && entry != fs::directory_iterator(); entry.increment(unseen))
    if (wanted(entry->path())) return entry->path();
  return std::nullopt;
}

// Whether the process has the connection's /dev/fuse open.
bool has_open(const fs::path& process, const std::string& line_of_connection) {
  const auto found = find_entry(process / "fd", [&](const fs::path& descriptor) {
    std::error_code unseen;
    if (fs::read_symlink(descriptor, unseen) != "/dev/fuse") return false;
    std::ifstream info(process / "fdinfo" / descriptor.filename());
    for (std::string line; std::getline(info, line);)
      if (line == line_of_connection) return true;
    return false;
  });
  return found.has_value();
}

// A process that has the connection open; none where the kernel does not say so (before Linux 6.16), or it is
// another user's.
std::optional<std::string> server_of(std::uint32_t connection) {
  const std::string line = fmt::format("fuse_connection:\t{}", connection);
  const auto found = find_entry("/proc", [&line](const fs::path& process) {
    const std::string number = process.filename();
    return number.find_first_not_of("0123456789") == std::string::npos && has_open(process, line);
  });
  if (!found) return std::nullopt;
  return found->filename();
}

}  // namespace

std::expected<void, std::string> clear_dead_mount(const std::string& mountpoint) {
  struct stat status{};
  if (stat(mountpoint.c_str(), &status) == 0 || errno != ENOTCONN) return {};
  const std::string path = path_of(mountpoint);
  const auto found = path.empty() ? std::nullopt : find_mount_on(path);
  if (!found || !found->type.starts_with("fuse")) return {};
  const std::string owner = fmt::format("user_id={},", getuid());
  if ((found->options + ",").find(owner) == std::string::npos)
    return std::unexpected(
        fmt::format("cannot mount on {}: the process that served the file system there has died, and the "
                    "mount is another user's ({}): it has to be unmounted first",
                    mountpoint, found->options));
  if (const auto server = server_of(found->device_minor))
    return std::unexpected(
        fmt::format("cannot mount on {}: a file system is mounted there that process {} serves, though it "
                    "answers that it is not connected",
                    mountpoint, *server));
  log::info("{}: the process that served the file system there has died; unmounting what it left",
            mountpoint);
  if (geteuid() != 0) return fusermount_unmount(path, true);
  if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
    return std::unexpected(
        fmt::format("unmounting what is left on {}: {}", mountpoint, to_string(Errno{errno})));
  return {};
}

}  // namespace fusewire::devfuse
