#include "passthrough/passthrough.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <thread>

#include "base/log.h"
#include "io/worker_pool.h"
#include "passthrough/credentials.h"
#include "passthrough/lock_table.h"
#include "passthrough/open_directory.h"

namespace fusewire::passthrough {
namespace {

using Seconds = std::chrono::duration<double>;

Seconds timeout_of(const Config& config) {
  if (config.timeout) return *config.timeout;
  switch (config.cache) {
    case CachePolicy::never:
      return Seconds(0);
    case CachePolicy::automatic:
      return Seconds(1);
    case CachePolicy::metadata:
    case CachePolicy::always:
      return std::chrono::hours(24);
  }
  return Seconds(0);
}

// The kernel's own limit for these is far above; a fraction of the whole must not round up to a second.
std::uint64_t whole_seconds(Seconds timeout) {
  constexpr double kMost = 1e9;
  return static_cast<std::uint64_t>(std::clamp(timeout.count(), 0.0, kMost));
}
std::uint32_t nanoseconds(Seconds timeout) {
  const double fraction = timeout.count() - static_cast<double>(whole_seconds(timeout));
  return static_cast<std::uint32_t>(std::clamp(fraction * 1e9, 0.0, 999'999'999.0));
}

// Descriptors with lower numbers are for the guest. The others are the daemon's, which must go on when the
// guest has taken all it can get: it receives memory regions and eventfds with their descriptors, and opens
// inodes for a moment.
int descriptor_limit() {
  constexpr rlim_t kReserve = 128;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t all = std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max());
  return static_cast<int>(all - std::min(kReserve, all / 4));
}

std::unexpected<std::string> refuse(std::string text) { return std::unexpected(std::move(text)); }

std::expected<UniqueFd, std::string> open_shared_directory(const std::string& path) {
  UniqueFd root(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root)
    return refuse(fmt::format("cannot open the shared directory '{}': {}", path, to_string(Errno{errno})));
  if (::faccessat(root.get(), ".", R_OK | X_OK, AT_EACCESS) != 0)
    return refuse(
        fmt::format("the shared directory '{}' is not readable: {}", path, to_string(Errno{errno})));
  return root;
}

// On a thread that is thrown away: this one's umask is not ours to change.
Result<void> try_own_umask() {
  Result<void> outcome;
  std::thread([&outcome] {
    if (const auto scope = ScopedUmask::set(0); !scope) outcome = fail(scope.error());
  }).join();
  return outcome;
}

}  // namespace

std::expected<std::unique_ptr<PassthroughFs>, std::string> PassthroughFs::create(Config config) {
  if (config.posix_acl && !config.xattr)
    return refuse("POSIX ACLs need extended attributes: turn on xattr too");
  if (config.backing_files && config.writeback)
    return refuse("the kernel has no writeback cache for files that it reads and writes itself");
  auto root = open_shared_directory(config.shared_directory);
  if (!root) return refuse(std::move(root.error()));
  auto proc = ProcSelfFd::open();
  if (!proc)
    return refuse(fmt::format("cannot open /proc/self/fd (is /proc mounted?): {}", to_string(proc.error())));
  if (const auto possible = try_own_umask(); !possible)
    return refuse(
        fmt::format("cannot give a thread its own umask (unshare): {}", to_string(possible.error())));
  std::unique_ptr<const SecurityLabels> labels;
  if (config.security_label) {
    auto opened = SecurityLabels::open();
    if (!opened) return refuse(fmt::format("cannot open /proc: {}", to_string(opened.error())));
    labels = std::make_unique<const SecurityLabels>(std::move(*opened));
  }
  auto fs = std::unique_ptr<PassthroughFs>(
      new PassthroughFs(std::move(config), std::move(*proc), std::move(*root), std::move(labels)));
  if (auto settled = fs->settle_file_handles(); !settled) return refuse(std::move(settled.error()));
  return fs;
}

std::expected<void, std::string> PassthroughFs::settle_file_handles() {
  if (config_.file_handles == FileHandleMode::never) return {};
  const auto works = try_file_handles();
  if (!works && config_.file_handles == FileHandleMode::mandatory)
    return refuse(fmt::format(
        "file handles do not work for '{}': {} (the file system must support them, and the daemon "
        "needs CAP_DAC_READ_SEARCH)",
        config_.shared_directory, to_string(works.error())));
  // In automatic mode each mount has its own say: file systems mounted below may have handles that last.
  if (works || config_.file_handles == FileHandleMode::automatic) file_handles_ = config_.file_handles;
  if (file_handles_ == FileHandleMode::automatic)
    descriptors_.set_budget(static_cast<std::size_t>(std::max(descriptor_limit_ / 2, 1)));
  if (!works)
    log::write(config_.file_handles == FileHandleMode::automatic ? log::Level::info : log::Level::warn,
               fmt::format("file handles do not work for '{}' ({}): every inode that the guest knows takes a "
                           "descriptor, of which there are {}",
                           config_.shared_directory, to_string(works.error()), descriptor_limit_));
  return {};
}

// Tries whether inodes of this share can be found again by file handle. Its mount is held by the shared
// directory: held by the first file that the guest happens to look up, that file would live on after it was
// removed.
Result<void> PassthroughFs::try_file_handles() {
  const auto stat = stat_of(root_.get());
  if (!stat) return fail(stat.error());
  root_mount_ = mounts_.of(stat->stx_mnt_id);
  if (config_.file_handles == FileHandleMode::automatic)
    return mounts_.hold_for_good(*root_mount_, root_.get(), S_IFDIR, proc_);
  const auto handle = HostHandle::of(root_.get());
  if (!handle) return fail(handle.error());
  if (const auto held = mounts_.hold(*root_mount_, root_.get(), S_IFDIR, proc_); !held)
    return fail(held.error());
  const auto opened = handle->open(root_mount_->fd(), O_PATH);
  if (!opened) return fail(opened.error());
  return {};
}

PassthroughFs::PassthroughFs(Config config, ProcSelfFd proc, UniqueFd root,
                             std::unique_ptr<const SecurityLabels> labels)
    : config_(std::move(config)),
      proc_(std::move(proc)),
      root_(std::move(root)),
      labels_(std::move(labels)),
      timeout_s_(whole_seconds(timeout_of(config_))),
      timeout_ns_(nanoseconds(timeout_of(config_))),
      descriptor_limit_(descriptor_limit()),
      descriptors_(inodes_, mounts_, proc_, descriptor_limit_),
      locks_(std::make_unique<LockTable>()),
      pool_(std::make_unique<io::WorkerPool>(config_.thread_pool_size)) {}

PassthroughFs::~PassthroughFs() = default;

void PassthroughFs::destroy() {
  locks_->clear();
  files_.clear();
  directories_.clear();
  inodes_.clear();
  negotiated_ = {};
}

Result<InodePtr> PassthroughFs::inode(NodeId node) const {
  auto found = inodes_.find(node);
  if (!found) return fail(ESTALE);
  return found;
}

Result<ReachedInode> PassthroughFs::reach(NodeId node) {
  auto found = inode(node);
  if (!found) return fail(found.error());
  auto fd = descriptors_.path_fd(*found);
  if (!fd) return fail(fd.error());
  return ReachedInode{.inode = std::move(*found), .fd = std::move(*fd)};
}

Result<std::shared_ptr<OpenFile>> PassthroughFs::file(std::uint64_t handle) const {
  auto found = files_.find(FileHandle{handle});
  if (!found) return fail(EBADF);
  return found;
}

Result<std::shared_ptr<OpenDirectory>> PassthroughFs::directory(std::uint64_t handle) const {
  auto found = directories_.find(FileHandle{handle});
  if (!found) return fail(EBADF);
  return found;
}

Result<void> PassthroughFs::check_writable() const {
  if (config_.readonly) return fail(EROFS);
  return {};
}

}  // namespace fusewire::passthrough
