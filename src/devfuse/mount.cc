#include "devfuse/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <charconv>
#include <memory>
#include <string_view>

#include "base/log.h"
#include "devfuse/dead_mount.h"
#include "devfuse/fusermount.h"
#include "devfuse/mountinfo.h"

namespace fusewire::devfuse {
namespace {

std::unexpected<std::string> failed(const std::string& what, int error) {
  return std::unexpected(fmt::format("{}: {}", what, to_string(Errno{error})));
}

std::expected<void, std::string> mount_as_root(const std::string& path, const MountOptions& options,
                                               const Channel& channel) {
  std::string type = options.block_device ? "fuseblk" : "fuse";
  if (!options.subtype.empty()) type += "." + options.subtype;
  const std::string& name = options.fsname.empty() ? options.subtype : options.fsname;
  const std::string source = name.empty() ? "fuse" : name;
  // The kernel wants the root to be of the mount point's type.
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return failed("cannot mount on " + path, errno);
  const std::string data = kernel_data(options, channel.fd(), status.st_mode, getuid(), getgid());
  if (::mount(source.c_str(), path.c_str(), type.c_str(), options.flags, data.c_str()) != 0)
    return failed(fmt::format("mounting on {} with {}", path, data), errno);
  return {};
}

}  // namespace

std::optional<int> inherited_descriptor(std::string_view mountpoint) {
  constexpr std::string_view kPrefix = "/dev/fd/";
  if (!mountpoint.starts_with(kPrefix)) return std::nullopt;
  mountpoint.remove_prefix(kPrefix.size());
  int fd = -1;
  const auto [end, error] = std::from_chars(mountpoint.data(), mountpoint.data() + mountpoint.size(), fd);
  if (error != std::errc() || end != mountpoint.data() + mountpoint.size() || fd < 0) return std::nullopt;
  return fd;
}

std::expected<Channel, std::string> adopt_inherited(int fd) {
  if (!Channel::is_device(fd)) return std::unexpected(fmt::format("/dev/fd/{} is not an open /dev/fuse", fd));
  auto adopted = Channel::adopt(UniqueFd(fd));
  if (!adopted) return failed(fmt::format("/dev/fd/{}", fd), adopted.error().value);
  return *std::move(adopted);
}

std::string cannot_open(Errno error) {
  const bool missing = error.value == ENOENT || error.value == ENODEV || error.value == ENXIO;
  return fmt::format("cannot open /dev/fuse: {}{}", to_string(error),
                     missing ? ": is the kernel's fuse module there?" : "");
}

Result<Mount::Identity> Mount::identify(const std::string& path) {
  constexpr unsigned kUniqueId = 0x4000;  // STATX_MNT_ID_UNIQUE, which has the id's place
  // Without a request to the file system, which may be one that no longer answers.
  constexpr int kFlags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  struct statx status{}, unique{};
  if (statx(AT_FDCWD, path.c_str(), kFlags, STATX_MNT_ID, &status) != 0 ||
      statx(AT_FDCWD, path.c_str(), kFlags, kUniqueId, &unique) != 0)
    return fail_errno();
  return Identity{.unique_id = (unique.stx_mask & kUniqueId) != 0 ? unique.stx_mnt_id : 0,
                  .mount_id = status.stx_mnt_id,
                  .device_major = status.stx_dev_major,
                  .device_minor = status.stx_dev_minor};
}

std::expected<std::string, std::string> Mount::resolve(const std::string& mountpoint) {
  const std::unique_ptr<char, decltype(&free)> path(realpath(mountpoint.c_str(), nullptr), &free);
  struct stat status{};
  if (!path || stat(path.get(), &status) != 0) return failed("cannot mount on " + mountpoint, errno);
  if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
    return std::unexpected(
        fmt::format("cannot mount on {}: it is neither a directory nor a regular file", mountpoint));
  }
  // This path stays what is below the new mount, and unmounting it would take the system's root away.
  if (std::string_view(path.get()) == "/")
    return std::unexpected(fmt::format("cannot mount on {}: it is the root directory", mountpoint));
  return std::string(path.get());
}

bool Mount::is_direct(const MountOptions& options) { return geteuid() == 0 && !options.auto_unmount; }

std::expected<std::string, std::string> Mount::clear_mountpoint(const std::string& mountpoint) {
  if (auto clear = clear_dead_mount(mountpoint); !clear) return std::unexpected(clear.error());
  return resolve(mountpoint);
}

std::expected<Mount::Made, std::string> Mount::create(const std::string& mountpoint,
                                                      const MountOptions& options) {
  if (is_direct(options)) {
    auto channel = Channel::open();
    if (!channel) return std::unexpected(cannot_open(channel.error()));
    auto mount = create_for(*channel, mountpoint, options, nullptr);
    if (!mount) return std::unexpected(std::move(mount.error()));
    return Made{*std::move(mount), *std::move(channel)};
  }
  auto path = clear_mountpoint(mountpoint);
  if (!path) return std::unexpected(path.error());
  auto mounted = fusermount_mount(*path, list_of(options), options.auto_unmount);
  if (!mounted) return std::unexpected(fmt::format("mounting on {}: {}", *path, mounted.error()));
  auto channel = Channel::adopt(std::move(mounted->fuse));
  if (!channel) return failed("/dev/fuse", channel.error().value);
  auto mount = take_charge(*std::move(path), true, std::move(mounted->keeper));
  if (!mount) return std::unexpected(std::move(mount.error()));
  return Made{*std::move(mount), *std::move(channel)};
}

std::expected<Mount, std::string> Mount::create_for(const Channel& channel, const std::string& mountpoint,
                                                    const MountOptions& options,
                                                    const ServeInit& serve_init) {
  auto path = clear_mountpoint(mountpoint);
  if (!path) return std::unexpected(path.error());
  {
    const SyncInit init(channel, serve_init);
    if (auto mounted = mount_as_root(*path, options, channel); !mounted)
      return std::unexpected(std::move(mounted.error()));
  }
  return take_charge(*std::move(path), false, {});
}

// Who it is cannot be asked for before; without it nothing is ours.
std::expected<Mount, std::string> Mount::take_charge(std::string path, bool by_fusermount,
                                                     FusermountKeeper keeper) {
  const auto identity = identify(path);
  if (!identity) return failed("looking at the new mount on " + path, identity.error().value);
  Mount mount(std::move(path), by_fusermount, std::move(keeper));
  mount.identity_ = *identity;
  return mount;
}

Mount::Mount(Mount&& other) noexcept
    : keeper_(std::move(other.keeper_)),
      mountpoint_(std::exchange(other.mountpoint_, std::string())),
      by_fusermount_(other.by_fusermount_),
      identity_(other.identity_) {}

Mount::~Mount() {
  if (auto done = unmount(Mode::lazy); !done) log::error("{}", done.error());
}

bool Mount::is_at(const std::string& path) const {
  const auto identity = identify(path);
  return identity && *identity == identity_;
}

std::optional<std::string> Mount::present_path() const {
  if (mountpoint_.empty()) return std::nullopt;
  if (is_at(mountpoint_)) return mountpoint_;
  // A directory above may have got another name. What has our number elsewhere may be a later mount.
  if (identity_.unique_id == 0) return std::nullopt;
  const auto entry = find_mount(identity_.mount_id);
  if (!entry || !is_at(entry->mountpoint)) return std::nullopt;
  return entry->mountpoint;
}

bool Mount::is_mounted() const { return present_path().has_value(); }

void Mount::write_back() const {
  const auto path = present_path();
  if (!path) return;
  const UniqueFd root(open(path->c_str(), O_RDONLY | O_CLOEXEC));
  if (!root || syncfs(root.get()) != 0)
    log::warn("writing back what is cached for {}: {}", *path, to_string(Errno{errno}));
}

Result<void> Mount::abort() const {
  const std::string path = fmt::format("/sys/fs/fuse/connections/{}/abort", identity_.device_minor);
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || write(file.get(), "1", 1) != 1) return fail_errno();
  return {};
}

std::expected<void, std::string> Mount::unmount(Mode mode) {
  const auto path = present_path();
  if (!path) {
    keeper_.dismiss();
    return {};
  }
  const bool lazy = mode == Mode::lazy;
  if (!by_fusermount_) {
    if (umount2(path->c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) != 0)
      return failed("unmounting " + *path, errno);
    return {};
  }
  if (auto done = fusermount_unmount(*path, lazy); !done) return done;
  // What it says of itself is unknown where the program ignores SIGCHLD.
  if (is_at(*path)) return std::unexpected("fusermount3 did not unmount " + *path);
  keeper_.dismiss();
  return {};
}

}  // namespace fusewire::devfuse
