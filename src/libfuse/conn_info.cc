#include "libfuse/conn_info.h"

#include <fmt/core.h>

#include <algorithm>

namespace fusewire::libfuse {
namespace {

struct CapRow {
  unsigned c_bit;  // FUSE_CAP_*
  Cap cap;
};

constexpr CapRow kCaps[] = {
    {FUSE_CAP_ASYNC_READ, Cap::async_read},
    {FUSE_CAP_POSIX_LOCKS, Cap::posix_locks},
    {FUSE_CAP_ATOMIC_O_TRUNC, Cap::atomic_o_trunc},
    {FUSE_CAP_EXPORT_SUPPORT, Cap::export_support},
    {FUSE_CAP_DONT_MASK, Cap::dont_mask},
    {FUSE_CAP_SPLICE_WRITE, Cap::splice_write},
    {FUSE_CAP_SPLICE_MOVE, Cap::splice_move},
    {FUSE_CAP_SPLICE_READ, Cap::splice_read},
    {FUSE_CAP_FLOCK_LOCKS, Cap::flock_locks},
    {FUSE_CAP_IOCTL_DIR, Cap::ioctl_dir},
    {FUSE_CAP_AUTO_INVAL_DATA, Cap::auto_inval_data},
    {FUSE_CAP_READDIRPLUS, Cap::do_readdirplus},
    {FUSE_CAP_READDIRPLUS_AUTO, Cap::readdirplus_auto},
    {FUSE_CAP_ASYNC_DIO, Cap::async_dio},
    {FUSE_CAP_WRITEBACK_CACHE, Cap::writeback_cache},
    {FUSE_CAP_NO_OPEN_SUPPORT, Cap::no_open_support},
    {FUSE_CAP_PARALLEL_DIROPS, Cap::parallel_dirops},
    {FUSE_CAP_POSIX_ACL, Cap::posix_acl},
    {FUSE_CAP_HANDLE_KILLPRIV, Cap::handle_killpriv},
    {FUSE_CAP_CACHE_SYMLINKS, Cap::cache_symlinks},
    {FUSE_CAP_NO_OPENDIR_SUPPORT, Cap::no_opendir_support},
    {FUSE_CAP_EXPLICIT_INVAL_DATA, Cap::explicit_inval_data},
    {FUSE_CAP_EXPIRE_ONLY, Cap::has_expire_only},
    {FUSE_CAP_HANDLE_KILLPRIV_V2, Cap::handle_killpriv_v2},
    {FUSE_CAP_SUBMOUNTS, Cap::submounts},
    {FUSE_CAP_SETXATTR_EXT, Cap::setxattr_ext},
    {FUSE_CAP_DIRECT_IO_ALLOW_MMAP, Cap::direct_io_allow_mmap},
    {FUSE_CAP_NO_EXPORT_SUPPORT, Cap::no_export_support},
    {FUSE_CAP_PASSTHROUGH, Cap::passthrough},
    {FUSE_CAP_OVER_IO_URING, Cap::over_io_uring},
};

// Programs older than `want_ext` change `want`, newer ones either: the file system's wishes are those of the
// two that it changed.
std::expected<std::uint64_t, std::string> wanted(const fuse_conn_info& conn, const fuse_conn_info& defaults) {
  if (conn.want == defaults.want) return conn.want_ext;
  const std::uint64_t high = conn.want_ext & ~std::uint64_t{0xffff'ffff};
  const auto low = static_cast<std::uint32_t>(conn.want_ext);
  if (low != defaults.want && low != conn.want)
    return std::unexpected("the file system changed both want and want_ext, and not alike");
  return high | conn.want;
}

constexpr std::uint32_t kMaxWrite = 1 << 20;
constexpr std::uint32_t kLeastWrite = 4096;

}  // namespace

fuse_conn_info offered_connection(const Negotiation& negotiation, std::uint32_t max_read) {
  fuse_conn_info conn{};
  conn.proto_major = kMajor;
  conn.proto_minor = negotiation.kernel_minor();
  for (const CapRow& row : kCaps)
    if (negotiation.offered(row.cap)) conn.capable |= row.c_bit;
  conn.capable_ext = conn.capable;
  conn.max_write = negotiation.offered(Cap::max_pages) ? kMaxWrite : 32 * 4096;
  conn.max_read = max_read;
  conn.max_readahead = negotiation.max_readahead;
  conn.time_gran = 1;
  return conn;
}

void set_defaults(fuse_conn_info& conn, const Operations& operations) {
  const auto want = [&conn](unsigned bit, bool condition = true) {
    if (condition) conn.want |= conn.capable & bit;
  };
  const bool plus = operations.readdirplus != nullptr;
  want(FUSE_CAP_ASYNC_READ);
  want(FUSE_CAP_AUTO_INVAL_DATA);
  want(FUSE_CAP_HANDLE_KILLPRIV);
  want(FUSE_CAP_ASYNC_DIO);
  want(FUSE_CAP_IOCTL_DIR);
  want(FUSE_CAP_ATOMIC_O_TRUNC);
  want(FUSE_CAP_PARALLEL_DIROPS);
  want(FUSE_CAP_SPLICE_READ, operations.write_buf != nullptr);
  want(FUSE_CAP_POSIX_LOCKS, operations.getlk != nullptr && operations.setlk != nullptr);
  want(FUSE_CAP_FLOCK_LOCKS, operations.flock != nullptr);
  want(FUSE_CAP_OVER_IO_URING);
  want(FUSE_CAP_READDIRPLUS, plus);
  want(FUSE_CAP_READDIRPLUS_AUTO, plus && operations.readdir != nullptr);
  conn.want_ext = conn.want;
}

std::expected<void, std::string> accept_connection(fuse_conn_info& conn, const fuse_conn_info& defaults,
                                                   Negotiation& negotiation) {
  const auto all = wanted(conn, defaults);
  if (!all) return std::unexpected(all.error());
  if (const std::uint64_t missing = *all & ~conn.capable_ext; missing != 0)
    return std::unexpected(fmt::format(
        "the file system requested capabilities {:#x} that the kernel does not support, aborting", missing));
  for (const CapRow& row : kCaps)
    if ((*all & row.c_bit) != 0) negotiation.want(row.cap);
  conn.want_ext = *all;
  conn.want = static_cast<unsigned>(*all);
  conn.max_write = std::clamp(conn.max_write, kLeastWrite, kMaxWrite);
  conn.max_background = std::min(conn.max_background, 0xffffU);
  if (conn.congestion_threshold == 0) conn.congestion_threshold = conn.max_background * 3 / 4;
  conn.congestion_threshold = std::min(conn.congestion_threshold, conn.max_background);
  negotiation.max_write = conn.max_write;
  negotiation.max_readahead = std::min<std::uint32_t>(conn.max_readahead, negotiation.max_readahead);
  negotiation.max_background = static_cast<std::uint16_t>(conn.max_background);
  negotiation.congestion_threshold = static_cast<std::uint16_t>(conn.congestion_threshold);
  negotiation.time_granularity_ns = conn.time_gran;
  // The kernel counts this file system too.
  negotiation.max_stack_depth = conn.max_backing_stack_depth + 1;
  if (conn.request_timeout != 0 && negotiation.want(Cap::request_timeout))
    negotiation.request_timeout_s = conn.request_timeout;
  return {};
}

}  // namespace fusewire::libfuse

extern "C" {

bool fuse_set_feature_flag(struct fuse_conn_info* conn, uint64_t flag) {
  if ((conn->capable_ext & flag) != flag) return false;
  conn->want_ext |= flag;
  conn->want |= static_cast<unsigned>(flag);
  return true;
}

void fuse_unset_feature_flag(struct fuse_conn_info* conn, uint64_t flag) {
  conn->want_ext &= ~flag;
  conn->want &= ~static_cast<unsigned>(flag);
}

bool fuse_get_feature_flag(struct fuse_conn_info* conn, uint64_t flag) {
  return (conn->capable_ext & flag) != 0;
}

}  // extern "C"
