/* The low-level interface as QEMU's virtiofsd had it in tools/virtiofsd: for file systems written against
 * that. It is fuse_lowlevel.h (included from here; never include both) but for this:
 *   - struct fuse_entry_param has attr_flags; setxattr has setxattr_flags; there is syncfs; fuse_file_info
 * has kill_priv
 *   - a session has no mountpoint: fuse_session_mount(se) listens at --socket-path=PATH, -o
 * vhost_user_socket=PATH or
 *     --fd=N, and fuse_session_loop(se) serves the virtual machine that connects
 *   - fuse_buf_copy, fuse_reply_data and fuse_lowlevel_notify_store take no flags for splice(2)
 *   - other common options: struct fuse_cmdline_opts
 * FUSE_USE_VERSION is 31 there. The capabilities' numbers are those of fuse_common.h. */
#ifndef FUSE_VIRTIOFSD_LOWLEVEL_H_
#define FUSE_VIRTIOFSD_LOWLEVEL_H_

#ifdef FUSE_LOWLEVEL_H_
#error "fuse_lowlevel.h and virtiofsd_lowlevel.h are two versions of one interface"
#endif

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 31
#endif

/* Functions that see what differs are others than those of fuse_lowlevel.h. */
#define FUSEWIRE_VIRTIOFSD 1
#define fuse_session_new fuse_virtiofsd_session_new
#define fuse_reply_entry fuse_virtiofsd_reply_entry
#define fuse_reply_create fuse_virtiofsd_reply_create
#define fuse_add_direntry_plus fuse_virtiofsd_add_direntry_plus
#define fuse_parse_cmdline fuse_virtiofsd_parse_cmdline
#define fuse_cmdline_help fuse_virtiofsd_cmdline_help

#include "fuse_lowlevel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In `to_set`: clear set-user-id and set-group-id, as FUSE_CAP_HANDLE_KILLPRIV_V2 wants it. */
#define FUSE_SET_ATTR_KILL_SUIDGID (1 << 11)

/* In `setxattr_flags`: setting this ACL clears set-group-id. */
#ifndef FUSE_SETXATTR_ACL_KILL_SGID
#define FUSE_SETXATTR_ACL_KILL_SGID (1 << 0)
#endif

/* Never offered: what it brings has no place in this interface. */
#define FUSE_CAP_SECURITY_CTX (1 << 5)

struct fuse_cmdline_opts {
  int foreground;         /* 1 unless --daemonize */
  int debug;              /* -d, -o debug */
  int nodefault_subtype;  /* fsname= or subtype= was given */
  int show_version;       /* -V, --version */
  int show_help;          /* -h, --help */
  int print_capabilities; /* --print-capabilities */
  int syslog;             /* --syslog */
  int log_level;          /* -o log_level=err|warn|info|debug: FUSE_LOG_*; 0: not given */
  unsigned int max_idle_threads;
  unsigned long rlimit_nofile; /* --rlimit-nofile=N; 0: not given */
};

/* Takes those options from `args`; there is no mountpoint, and what is no option is refused. Returns 0; -1
 * after a message. */
int fuse_parse_cmdline(struct fuse_args* args, struct fuse_cmdline_opts* opts);

/* 1 if the session serves a virtual machine, else 0. */
int fuse_lowlevel_is_virtio(struct fuse_session* se);

#define fuse_session_mount(se) fuse_session_mount(se, NULL)
#define fuse_buf_copy(dst, src) fuse_buf_copy(dst, src, (enum fuse_buf_copy_flags)0)
#define fuse_reply_data(req, bufv) fuse_reply_data(req, bufv, (enum fuse_buf_copy_flags)0)
#define fuse_lowlevel_notify_store(se, ino, offset, bufv) \
  fuse_lowlevel_notify_store(se, ino, offset, bufv, (enum fuse_buf_copy_flags)0)

/* A cursor in memory that was received and is not trusted. */
struct fuse_mbuf_iter {
  void* mem;
  size_t size;
  size_t pos;
};

#define FUSE_MBUF_ITER_INIT(fbuf) ((struct fuse_mbuf_iter){(fbuf)->mem, (fbuf)->size, 0})

/* The next `len` bytes, which are then behind the cursor; NULL if there are fewer. */
static inline void* fuse_mbuf_iter_advance(struct fuse_mbuf_iter* iter, size_t len) {
  void* start = (char*)iter->mem + iter->pos;
  if (len > iter->size - iter->pos) return NULL;
  iter->pos += len;
  return start;
}

/* The text up to the next NUL, both of which are then behind the cursor; NULL if there is no NUL. */
static inline const char* fuse_mbuf_iter_advance_str(struct fuse_mbuf_iter* iter) {
  const char* start = (const char*)iter->mem + iter->pos;
  for (size_t end = iter->pos; end < iter->size; ++end)
    if (((const char*)iter->mem)[end] == '\0') {
      iter->pos = end + 1;
      return start;
    }
  return NULL;
}

#ifdef __cplusplus
}
#endif

#endif
