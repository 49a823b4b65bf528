#include "fusewire/negotiate.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace fusewire {
namespace {

struct CapName {
  Cap cap;
  std::string_view name;
};

constexpr CapName kNames[] = {
    {Cap::async_read, "FUSE_ASYNC_READ"},
    {Cap::posix_locks, "FUSE_POSIX_LOCKS"},
    {Cap::file_ops, "FUSE_FILE_OPS"},
    {Cap::atomic_o_trunc, "FUSE_ATOMIC_O_TRUNC"},
    {Cap::export_support, "FUSE_EXPORT_SUPPORT"},
    {Cap::big_writes, "FUSE_BIG_WRITES"},
    {Cap::dont_mask, "FUSE_DONT_MASK"},
    {Cap::splice_write, "FUSE_SPLICE_WRITE"},
    {Cap::splice_move, "FUSE_SPLICE_MOVE"},
    {Cap::splice_read, "FUSE_SPLICE_READ"},
    {Cap::flock_locks, "FUSE_FLOCK_LOCKS"},
    {Cap::ioctl_dir, "FUSE_HAS_IOCTL_DIR"},
    {Cap::auto_inval_data, "FUSE_AUTO_INVAL_DATA"},
    {Cap::do_readdirplus, "FUSE_DO_READDIRPLUS"},
    {Cap::readdirplus_auto, "FUSE_READDIRPLUS_AUTO"},
    {Cap::async_dio, "FUSE_ASYNC_DIO"},
    {Cap::writeback_cache, "FUSE_WRITEBACK_CACHE"},
    {Cap::no_open_support, "FUSE_NO_OPEN_SUPPORT"},
    {Cap::parallel_dirops, "FUSE_PARALLEL_DIROPS"},
    {Cap::handle_killpriv, "FUSE_HANDLE_KILLPRIV"},
    {Cap::posix_acl, "FUSE_POSIX_ACL"},
    {Cap::abort_error, "FUSE_ABORT_ERROR"},
    {Cap::max_pages, "FUSE_MAX_PAGES"},
    {Cap::cache_symlinks, "FUSE_CACHE_SYMLINKS"},
    {Cap::no_opendir_support, "FUSE_NO_OPENDIR_SUPPORT"},
    {Cap::explicit_inval_data, "FUSE_EXPLICIT_INVAL_DATA"},
    {Cap::map_alignment, "FUSE_MAP_ALIGNMENT"},
    {Cap::submounts, "FUSE_SUBMOUNTS"},
    {Cap::handle_killpriv_v2, "FUSE_HANDLE_KILLPRIV_V2"},
    {Cap::setxattr_ext, "FUSE_SETXATTR_EXT"},
    {Cap::init_ext, "FUSE_INIT_EXT"},
    {Cap::security_ctx, "FUSE_SECURITY_CTX"},
    {Cap::has_inode_dax, "FUSE_HAS_INODE_DAX"},
    {Cap::create_supp_group, "FUSE_CREATE_SUPP_GROUP"},
    {Cap::has_expire_only, "FUSE_HAS_EXPIRE_ONLY"},
    {Cap::direct_io_allow_mmap, "FUSE_DIRECT_IO_ALLOW_MMAP"},
    {Cap::passthrough, "FUSE_PASSTHROUGH"},
    {Cap::no_export_support, "FUSE_NO_EXPORT_SUPPORT"},
    {Cap::has_resend, "FUSE_HAS_RESEND"},
    {Cap::allow_idmap, "FUSE_ALLOW_IDMAP"},
    {Cap::over_io_uring, "FUSE_OVER_IO_URING"},
    {Cap::request_timeout, "FUSE_REQUEST_TIMEOUT"},
};

constexpr std::uint64_t bit(Cap cap) { return static_cast<std::uint64_t>(cap); }

std::uint64_t offered_by(const fuse_init_in& in) {
  std::uint64_t offered = in.flags;
  if (offered & bit(Cap::init_ext)) offered |= std::uint64_t{in.flags2} << 32;
  return offered;
}

}  // namespace

std::string_view name_of(Cap cap) {
  const auto* found = std::ranges::find(kNames, cap, &CapName::cap);
  return found == std::end(kNames) ? "unknown capability" : found->name;
}

Negotiation::Negotiation(const fuse_init_in& in)
    : max_readahead(in.max_readahead), kernel_minor_(in.minor), offered_(offered_by(in)) {
  // What the engine itself needs: flags2, and requests of more than 32 pages.
  want(Cap::init_ext);
  want(Cap::max_pages);
  want(Cap::big_writes);
}

bool Negotiation::want(Cap cap) {
  if (!offered(cap)) return false;
  if (cap == Cap::passthrough && enabled(Cap::writeback_cache)) return false;
  if (cap == Cap::writeback_cache && enabled(Cap::passthrough)) return false;
  enabled_ |= bit(cap);
  return true;
}

bool Negotiation::require(Cap cap, std::string_view purpose) {
  if (want(cap)) return true;
  if (!missing_.empty()) missing_ += "; ";
  missing_ += fmt::format("{} needs {}, which the kernel (FUSE 7.{}) does not offer", purpose, name_of(cap),
                          kernel_minor_);
  return false;
}

Result<std::shared_ptr<BackingFiles>> Negotiation::want_backing_files() {
  if (!want(Cap::passthrough)) return fail(EOPNOTSUPP);
  return backing_files_;
}

fuse_init_out Negotiation::reply() const {
  const auto page_size = static_cast<std::uint32_t>(sysconf(_SC_PAGESIZE));
  fuse_init_out out{};
  out.major = kMajor;
  out.minor = std::min(kernel_minor_, kMinor);
  out.max_readahead = max_readahead;
  out.flags = static_cast<std::uint32_t>(enabled_);
  out.flags2 = static_cast<std::uint32_t>(enabled_ >> 32);
  out.max_background = max_background;
  out.congestion_threshold = congestion_threshold;
  // Without FUSE_MAX_PAGES the kernel stops at 32 pages whatever we say.
  out.max_write = enabled(Cap::max_pages) ? max_write : std::min(max_write, 32 * page_size);
  out.time_gran = time_granularity_ns;
  // The installed header ends before these two: max_stack_depth is the word behind flags2, request_timeout
  // the half word behind that.
  if (enabled(Cap::passthrough)) out.unused[0] = max_stack_depth;
  if (enabled(Cap::request_timeout))
    std::memcpy(&out.unused[1], &request_timeout_s, sizeof request_timeout_s);
  if (enabled(Cap::max_pages))
    out.max_pages = static_cast<std::uint16_t>(
        std::clamp<std::uint32_t>(max_write / page_size + (max_write % page_size != 0), 1, UINT16_MAX));
  return out;
}

}  // namespace fusewire
