// -o options that change what is negotiated with the kernel: fuse_parse_conn_info_opts and
// fuse_apply_conn_info_opts.
#include <cstddef>
#include <cstdlib>

#include "fuse3/fuse_common.h"

// A number is given when its `set_` is not 0. Most capabilities have a switch to turn them on and one to turn
// them off, which wins; those of readdirplus are 1, 0, or kUntouched.
struct fuse_conn_info_opts {
  unsigned max_write, max_readahead, max_background, congestion_threshold, time_gran;
  int set_max_write, set_max_readahead, set_max_background, set_congestion_threshold, set_time_gran;
  int async_read, atomic_o_trunc, splice_write, splice_move, splice_read;
  int auto_inval_data, async_dio, writeback_cache;
  int sync_read, no_remote_posix_lock, no_remote_flock, no_splice_write, no_splice_move, no_splice_read;
  int no_auto_inval_data, no_async_dio, no_writeback_cache;
  int readdirplus, readdirplus_auto;
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
    SWITCH("sync_read", sync_read, 1),
    SWITCH("atomic_o_trunc", atomic_o_trunc, 1),
    SWITCH("no_remote_lock", no_remote_posix_lock, 1),
    SWITCH("no_remote_lock", no_remote_flock, 1),
    SWITCH("no_remote_flock", no_remote_flock, 1),
    SWITCH("no_remote_posix_lock", no_remote_posix_lock, 1),
    SWITCH("splice_write", splice_write, 1),
    SWITCH("no_splice_write", no_splice_write, 1),
    SWITCH("splice_move", splice_move, 1),
    SWITCH("no_splice_move", no_splice_move, 1),
    SWITCH("splice_read", splice_read, 1),
    SWITCH("no_splice_read", no_splice_read, 1),
    SWITCH("auto_inval_data", auto_inval_data, 1),
    SWITCH("no_auto_inval_data", no_auto_inval_data, 1),
    SWITCH("readdirplus=no", readdirplus, 0),
    SWITCH("readdirplus=yes", readdirplus, 1),
    SWITCH("readdirplus=yes", readdirplus_auto, 0),
    SWITCH("readdirplus=auto", readdirplus, 1),
    SWITCH("readdirplus=auto", readdirplus_auto, 1),
    SWITCH("async_dio", async_dio, 1),
    SWITCH("no_async_dio", no_async_dio, 1),
    SWITCH("writeback_cache", writeback_cache, 1),
    SWITCH("no_writeback_cache", no_writeback_cache, 1),
    FUSE_OPT_END,
};

#undef NUMBER
#undef SWITCH

using Member = int fuse_conn_info_opts::*;
using Opts = fuse_conn_info_opts;

// What turns a capability on, and what off; null: nothing.
constexpr struct {
  Member on;
  Member off;
  unsigned capability;
} kCapabilities[] = {
    {&Opts::async_read, &Opts::sync_read, FUSE_CAP_ASYNC_READ},
    {&Opts::atomic_o_trunc, nullptr, FUSE_CAP_ATOMIC_O_TRUNC},
    {nullptr, &Opts::no_remote_posix_lock, FUSE_CAP_POSIX_LOCKS},
    {nullptr, &Opts::no_remote_flock, FUSE_CAP_FLOCK_LOCKS},
    {&Opts::splice_write, &Opts::no_splice_write, FUSE_CAP_SPLICE_WRITE},
    {&Opts::splice_move, &Opts::no_splice_move, FUSE_CAP_SPLICE_MOVE},
    {&Opts::splice_read, &Opts::no_splice_read, FUSE_CAP_SPLICE_READ},
    {&Opts::auto_inval_data, &Opts::no_auto_inval_data, FUSE_CAP_AUTO_INVAL_DATA},
    {&Opts::async_dio, &Opts::no_async_dio, FUSE_CAP_ASYNC_DIO},
    {&Opts::writeback_cache, &Opts::no_writeback_cache, FUSE_CAP_WRITEBACK_CACHE},
};

// `want` and the low half of `want_ext` say the same, whichever the file system goes on to use.
void turn(fuse_conn_info& conn, unsigned capability, bool on) {
  conn.want = on ? conn.want | capability : conn.want & ~capability;
  conn.want_ext = on ? conn.want_ext | capability : conn.want_ext & ~uint64_t{capability};
}

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
  opts->readdirplus = kUntouched;
  opts->readdirplus_auto = kUntouched;
  if (fuse_opt_parse(args, opts, kRows, nullptr) != 0) {
    std::free(opts);
    return nullptr;
  }
  return opts;
}

void fuse_apply_conn_info_opts(fuse_conn_info_opts* opts, fuse_conn_info* conn) {
  apply_numbers(*opts, *conn);
  for (const auto& [on, off, capability] : kCapabilities) {
    if (on != nullptr && opts->*on != 0) turn(*conn, capability, true);
    if (off != nullptr && opts->*off != 0) turn(*conn, capability, false);
  }
  if (opts->readdirplus != kUntouched) turn(*conn, FUSE_CAP_READDIRPLUS, opts->readdirplus != 0);
  if (opts->readdirplus_auto != kUntouched)
    turn(*conn, FUSE_CAP_READDIRPLUS_AUTO, opts->readdirplus_auto != 0);
}

}  // extern "C"
