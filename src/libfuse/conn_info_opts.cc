// -o options that change what is negotiated with the kernel: fuse_parse_conn_info_opts and
// fuse_apply_conn_info_opts.
#include <cstddef>
#include <cstdlib>

#include "fuse3/fuse_common.h"

// A number is given when its `set_` is not 0; a capability is switched on by 1, off by 0, and left alone by
// kUntouched.
struct fuse_conn_info_opts {
  unsigned max_write, max_readahead, max_background, congestion_threshold, time_gran;
  int set_max_write, set_max_readahead, set_max_background, set_congestion_threshold, set_time_gran;
  int async_read, atomic_o_trunc, remote_posix_lock, remote_flock, splice_write, splice_move, splice_read;
  int auto_inval_data, readdirplus, readdirplus_auto, async_dio, writeback_cache;
};

namespace {

constexpr int kUntouched = -1;

#define NUMBER(name)                                     \
  {#name "=%u", offsetof(fuse_conn_info_opts, name), 0}, \
      {#name "=", offsetof(fuse_conn_info_opts, set_##name), 1}
#define SWITCH(text, name, value) {text, offsetof(fuse_conn_info_opts, name), value}

const fuse_opt kRows[] = {
    NUMBER(max_write),
    NUMBER(max_readahead),
    NUMBER(max_background),
    NUMBER(congestion_threshold),
    NUMBER(time_gran),
    SWITCH("async_read", async_read, 1),
    SWITCH("sync_read", async_read, 0),
    SWITCH("atomic_o_trunc", atomic_o_trunc, 1),
    SWITCH("no_remote_lock", remote_posix_lock, 0),
    SWITCH("no_remote_lock", remote_flock, 0),
    SWITCH("no_remote_flock", remote_flock, 0),
    SWITCH("no_remote_posix_lock", remote_posix_lock, 0),
    SWITCH("splice_write", splice_write, 1),
    SWITCH("no_splice_write", splice_write, 0),
    SWITCH("splice_move", splice_move, 1),
    SWITCH("no_splice_move", splice_move, 0),
    SWITCH("splice_read", splice_read, 1),
    SWITCH("no_splice_read", splice_read, 0),
    SWITCH("auto_inval_data", auto_inval_data, 1),
    SWITCH("no_auto_inval_data", auto_inval_data, 0),
    SWITCH("readdirplus=no", readdirplus, 0),
    SWITCH("readdirplus=yes", readdirplus, 1),
    SWITCH("readdirplus=yes", readdirplus_auto, 0),
    SWITCH("readdirplus=auto", readdirplus, 1),
    SWITCH("readdirplus=auto", readdirplus_auto, 1),
    SWITCH("async_dio", async_dio, 1),
    SWITCH("no_async_dio", async_dio, 0),
    SWITCH("writeback_cache", writeback_cache, 1),
    SWITCH("no_writeback_cache", writeback_cache, 0),
    FUSE_OPT_END,
};

#undef NUMBER
#undef SWITCH

// Which capability each switch is about.
constexpr struct {
  int fuse_conn_info_opts::* member;
  unsigned capability;
} kCapabilities[] = {
    {&fuse_conn_info_opts::async_read, FUSE_CAP_ASYNC_READ},
    {&fuse_conn_info_opts::atomic_o_trunc, FUSE_CAP_ATOMIC_O_TRUNC},
    {&fuse_conn_info_opts::remote_posix_lock, FUSE_CAP_POSIX_LOCKS},
    {&fuse_conn_info_opts::remote_flock, FUSE_CAP_FLOCK_LOCKS},
    {&fuse_conn_info_opts::splice_write, FUSE_CAP_SPLICE_WRITE},
    {&fuse_conn_info_opts::splice_move, FUSE_CAP_SPLICE_MOVE},
    {&fuse_conn_info_opts::splice_read, FUSE_CAP_SPLICE_READ},
    {&fuse_conn_info_opts::auto_inval_data, FUSE_CAP_AUTO_INVAL_DATA},
    {&fuse_conn_info_opts::readdirplus, FUSE_CAP_READDIRPLUS},
    {&fuse_conn_info_opts::readdirplus_auto, FUSE_CAP_READDIRPLUS_AUTO},
    {&fuse_conn_info_opts::async_dio, FUSE_CAP_ASYNC_DIO},
    {&fuse_conn_info_opts::writeback_cache, FUSE_CAP_WRITEBACK_CACHE},
};

void apply_numbers(const fuse_conn_info_opts& opts, fuse_conn_info& conn) {
  if (opts.set_max_write) conn.max_write = opts.max_write;
  if (opts.set_max_readahead) conn.max_readahead = opts.max_readahead;
  if (opts.set_max_background) conn.max_background = opts.max_background;
  if (opts.set_congestion_threshold) conn.congestion_threshold = opts.congestion_threshold;
  if (opts.set_time_gran && opts.time_gran != 0) conn.time_gran = opts.time_gran;
}

}  // namespace

extern "C" {

fuse_conn_info_opts* fuse_parse_conn_info_opts(fuse_args* args) {
  // From malloc: callers release it with free().
  auto* opts = static_cast<fuse_conn_info_opts*>(std::calloc(1, sizeof(fuse_conn_info_opts)));
  if (opts == nullptr) {
    fuse_log(FUSE_LOG_ERR, "fuse: out of memory while parsing options\n");
    return nullptr;
  }
  for (const auto& [member, capability] : kCapabilities) opts->*member = kUntouched;
  if (fuse_opt_parse(args, opts, kRows, nullptr) != 0) {
    std::free(opts);
    return nullptr;
  }
  return opts;
}

void fuse_apply_conn_info_opts(fuse_conn_info_opts* opts, fuse_conn_info* conn) {
  apply_numbers(*opts, *conn);
  // `want` and the low half of `want_ext` say the same, whichever the file system goes on to use.
  for (const auto& [member, capability] : kCapabilities) {
    if (opts->*member == kUntouched) continue;
    if (opts->*member != 0) {
      conn->want |= capability;
      conn->want_ext |= capability;
    } else {
      conn->want &= ~capability;
      conn->want_ext &= ~uint64_t{capability};
    }
  }
}

}  // extern "C"
