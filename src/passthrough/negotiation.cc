// INIT: which of the kernel's capabilities a shared directory wants, by its Config.
#include <fcntl.h>
#include <time.h>

#include "base/log.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

// Node ids start anew with each daemon, so that a guest's NFS client may hold one of an earlier life. The
// generation, which no two lives share for 49 days, makes that one stale.
std::uint32_t new_generation() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto milliseconds =
      static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
  const auto generation = static_cast<std::uint32_t>(milliseconds);
  return generation != 0 ? generation : 1;  // 0 is the root's
}

// What costs nothing and is always right for a directory of the host.
void want_basics(Negotiation& negotiation) {
  for (const Cap cap : {Cap::async_read, Cap::big_writes, Cap::max_pages, Cap::init_ext, Cap::parallel_dirops,
                        Cap::async_dio, Cap::export_support, Cap::create_supp_group})
    negotiation.want(cap);
}

void want_caching(const Config& config, Negotiation& negotiation) {
  // With `always` the guest is the only one to change the files, and its cache is never wrong.
  if (config.cache != CachePolicy::always) negotiation.want(Cap::auto_inval_data);
  if (config.cache != CachePolicy::never) negotiation.want(Cap::cache_symlinks);
  if (config.readdirplus && config.cache != CachePolicy::never) {
    negotiation.want(Cap::do_readdirplus);
    negotiation.want(Cap::readdirplus_auto);
  }
  if (config.allow_mmap && !negotiation.want(Cap::direct_io_allow_mmap))
    log::warn(
        "the guest's kernel has no shared mappings of files that it does not cache "
        "(FUSE_DIRECT_IO_ALLOW_MMAP)");
}

}  // namespace

Result<void> PassthroughFs::init(Negotiation& negotiation) {
  auto root = UniqueFd(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
  if (!root) return fail_errno();
  const auto stat = stat_of(root.get());
  if (!stat) return fail(stat.error());

  negotiated_ = {};
  negotiated_.generation = new_generation();
  want_basics(negotiation);
  want_caching(config_, negotiation);
  if (config_.posix_lock) negotiation.want(Cap::posix_locks);
  if (config_.flock) negotiation.want(Cap::flock_locks);
  if (config_.announce_submounts) negotiated_.submounts = negotiation.want(Cap::submounts);
  if (config_.backing_files) {
    auto backing = negotiation.want_backing_files();
    if (backing) {
      negotiated_.backing_files = *std::move(backing);
    } else {
      log::info("the kernel reads and writes no files itself here (FUSE_PASSTHROUGH)");
    }
  }
  // Without killpriv_v2 the kernel clears set-user-ID bits itself, but not when O_TRUNC is a matter of OPEN.
  if (config_.killpriv_v2) negotiated_.killpriv_v2 = negotiation.want(Cap::handle_killpriv_v2);
  if (negotiated_.killpriv_v2) negotiation.want(Cap::atomic_o_trunc);
  if (config_.writeback) {
    negotiated_.writeback = negotiation.want(Cap::writeback_cache);
    if (!negotiated_.writeback) log::warn("the guest's kernel has no writeback cache (FUSE_WRITEBACK_CACHE)");
  }
  if (config_.posix_acl) {
    negotiation.require(Cap::posix_acl, "--posix-acl");
    negotiation.require(Cap::setxattr_ext, "--posix-acl");
    negotiated_.dont_mask = negotiation.require(Cap::dont_mask, "--posix-acl");
  }
  if (config_.security_label)
    negotiated_.security_ctx = negotiation.require(Cap::security_ctx, "--security-label");
  if (!negotiation.missing().empty()) return {};  // the session refuses the kernel, with that text

  return inodes_.insert_root(
      *stat, {.mount = mounts_.of(stat->stx_mnt_id), .path_fd = std::move(root), .handle = {}});
}

}  // namespace fusewire::passthrough
