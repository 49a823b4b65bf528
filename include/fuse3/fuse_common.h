/* What the low-level and the path-based interface share: open files, capabilities, connections, buffers,
 * signals. Applications include fuse_lowlevel.h, which includes this. Functions return 0 or a count on
 * success unless said otherwise; those documented "or -errno" return a negated error number. */
#ifndef FUSE_COMMON_H_
#define FUSE_COMMON_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fuse_log.h"
#include "fuse_opt.h"
#include "libfuse_config.h"

#define FUSE_MAKE_VERSION(maj, min) ((maj) * 100 + (min))
#define FUSE_VERSION FUSE_MAKE_VERSION(FUSE_MAJOR_VERSION, FUSE_MINOR_VERSION)

#if !defined(FUSE_USE_VERSION) || FUSE_USE_VERSION < 30
#error "Define FUSE_USE_VERSION as the interface that this source was written for: 30 or newer, such as 314."
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that a program was compiled with; see fuse_session_new_versioned(). */
struct libfuse_version {
  uint32_t major;
  uint32_t minor;
  uint32_t hotfix;
  uint32_t padding;
};

/* An open file or directory, as a request names it. open, create and opendir fill parts of it in, and pass it
 * to fuse_reply_open() or fuse_reply_create(); later requests on the same open file bring `fh` back. */
struct fuse_file_info {
  /* open(2) flags, in open, create, opendir and release. In write and read: the flags now in force. */
  int flags;

  /* In write: the data come from the page cache. Then the caller's ids are not known and `fh` may be the one
   * of another writer of the same file. */
  unsigned int writepage : 1;

  /* Set by open and create: no page cache for this file; each read and write is a request. */
  unsigned int direct_io : 1;

  /* Set by open: pages cached before this open stay valid. Set by opendir together with cache_readdir: so do
   * cached entries. */
  unsigned int keep_cache : 1;

  /* In release: a flush of `lock_owner`'s locks is part of it. */
  unsigned int flush : 1;

  /* Set by open and create: lseek(2) fails on this file. */
  unsigned int nonseekable : 1;

  /* In release: drop the flock(2) locks of `lock_owner`. */
  unsigned int flock_release : 1;

  /* Set by opendir: the kernel may keep the entries that it reads. */
  unsigned int cache_readdir : 1;

  /* Set by open and create: close(2) need not send flush. */
  unsigned int noflush : 1;

  /* Set by open and create along with direct_io: the kernel may send writes to one file side by side. */
  unsigned int parallel_direct_writes : 1;

  unsigned int padding : 22;

  /* In open, create and write with FUSE_CAP_HANDLE_KILLPRIV_V2: clear set-user-id, and set-group-id where the
   * group may execute. (Not in libfuse 3.) */
  unsigned int kill_priv : 1;

  unsigned int padding2 : 32;
  unsigned int padding3 : 32;

  /* The file system's name for the open file. Set by open, create and opendir; returned in all that follows.
   */
  uint64_t fh;

  /* Who holds the lock, in locking operations, flush and release. An opaque number. */
  uint64_t lock_owner;

  /* In poll: the events that the caller waits for. */
  uint32_t poll_events;

  /* Set by open and create: what fuse_passthrough_open() returned, or 0. Looked at only after the file system
   * asked for FUSE_CAP_PASSTHROUGH, because in programs older than the field its place is padding. */
  int32_t backing_id;
};

/* How fuse_session_loop_mt() is to run. Up to interface 31x this was an open structure, since 312 it is
 * reached through fuse_loop_cfg_*() only; the first is then called fuse_loop_config_v1. */
#if FUSE_USE_VERSION < FUSE_MAKE_VERSION(3, 12)
struct fuse_loop_config_v1;
struct fuse_loop_config {
#else
struct fuse_loop_config_v1 {
#endif
  /* Non-zero: each thread reads from a device descriptor of its own. */
  int clone_fd;

  /* How many threads may wait for requests before one of them ends. */
  unsigned int max_idle_threads;
};

/* ---- Capabilities: what a kernel offers (`capable`) and a file system asks for (`want`) ----
 * "Default" tells whether the library asks for it when the kernel offers it and the file system does not
 * object. */

/* Several reads of one open file may be under way at once, in any order. Default: on. */
#define FUSE_CAP_ASYNC_READ (1 << 0)
/* fcntl(2) locks come to the file system. Default: on with getlk and setlk. */
#define FUSE_CAP_POSIX_LOCKS (1 << 1)
/* O_TRUNC comes with open instead of as a setattr before it. Default: on. */
#define FUSE_CAP_ATOMIC_O_TRUNC (1 << 3)
/* lookup understands "." and "..", which exporting by NFS needs. Default: off. */
#define FUSE_CAP_EXPORT_SUPPORT (1 << 4)
/* The kernel does not apply the umask to new files; it comes in fuse_ctx. Default: off. */
#define FUSE_CAP_DONT_MASK (1 << 6)
/* Replies may be spliced to the device. Default: off. */
#define FUSE_CAP_SPLICE_WRITE (1 << 7)
/* Splicing may move pages instead of copying them. Default: off. */
#define FUSE_CAP_SPLICE_MOVE (1 << 8)
/* Requests may be spliced from the device. Default: on with write_buf. */
#define FUSE_CAP_SPLICE_READ (1 << 9)
/* flock(2) locks come to the file system. Default: on with flock. */
#define FUSE_CAP_FLOCK_LOCKS (1 << 10)
/* ioctl(2) on directories. Default: on. */
#define FUSE_CAP_IOCTL_DIR (1 << 11)
/* Cached pages are dropped when a file's attributes come back changed. Default: on. */
#define FUSE_CAP_AUTO_INVAL_DATA (1 << 12)
/* Directories are read along with their entries' attributes. Default: on with readdirplus. */
#define FUSE_CAP_READDIRPLUS (1 << 13)
/* The kernel decides each time whether readdir or readdirplus is the better one. Default: on with both. */
#define FUSE_CAP_READDIRPLUS_AUTO (1 << 14)
/* Several direct I/O requests of one open file at once. Default: on. */
#define FUSE_CAP_ASYNC_DIO (1 << 15)
/* The page cache holds written data back. The kernel then keeps size and times of files. Default: off. */
#define FUSE_CAP_WRITEBACK_CACHE (1 << 16)
/* Offered only: ENOSYS from open means success, for this and all later opens. */
#define FUSE_CAP_NO_OPEN_SUPPORT (1 << 17)
/* lookup and readdir of one directory may run at once. Default: on. */
#define FUSE_CAP_PARALLEL_DIROPS (1 << 18)
/* The kernel checks POSIX ACLs, and the file system keeps them. Implies default_permissions. Default: off. */
#define FUSE_CAP_POSIX_ACL (1 << 19)
/* The file system clears set-user-id and set-group-id bits on write, truncation and chown. Default: on. */
#define FUSE_CAP_HANDLE_KILLPRIV (1 << 20)
/* The same by finer rules, and capabilities in extended attributes too; the kernel says when. Default: off.
 */
#define FUSE_CAP_HANDLE_KILLPRIV_V2 (1 << 21)
/* Offered only: attributes may be flagged as those of a mount point. (Not in libfuse 3.) */
#define FUSE_CAP_SUBMOUNTS (1 << 22)
/* The kernel keeps the targets of symbolic links. Default: off. */
#define FUSE_CAP_CACHE_SYMLINKS (1 << 23)
/* Offered only: ENOSYS from opendir means success, for this and all later ones. */
#define FUSE_CAP_NO_OPENDIR_SUPPORT (1 << 24)
/* Cached pages are dropped only when the file system says so. FUSE_CAP_AUTO_INVAL_DATA beats it. Default:
 * off. */
#define FUSE_CAP_EXPLICIT_INVAL_DATA (1 << 25)
/* Offered only: fuse_lowlevel_notify_expire_entry() works. */
#define FUSE_CAP_EXPIRE_ONLY (1 << 26)
/* setxattr carries flags beyond those of setxattr(2). Default: off. */
#define FUSE_CAP_SETXATTR_EXT (1 << 27)
/* mmap(2) with MAP_SHARED of files opened with direct_io. Default: off. */
#define FUSE_CAP_DIRECT_IO_ALLOW_MMAP (1 << 28)
/* Reads and writes may go to a backing file without a request. Default: off. */
#define FUSE_CAP_PASSTHROUGH (1 << 29)
/* The file system cannot be exported by file handle, and the kernel should refuse it. Default: off. */
#define FUSE_CAP_NO_EXPORT_SUPPORT (1 << 30)
/* Requests come through io_uring. In capable_ext, and on whatever the file system says, where the mount
 * option io_uring was given and the kernel has it. */
#define FUSE_CAP_OVER_IO_URING (1UL << 31)

/* ---- ioctl ---- */

#define FUSE_IOCTL_COMPAT (1 << 0)       /* a 32-bit caller of a 64-bit kernel */
#define FUSE_IOCTL_UNRESTRICTED (1 << 1) /* any memory of the caller may be asked for, with a retry */
#define FUSE_IOCTL_RETRY (1 << 2)        /* a second try with the wanted memory */
#define FUSE_IOCTL_DIR (1 << 4)          /* on a directory */

/* Limit of the number of input and output vectors of a retry, taken together. */
#define FUSE_IOCTL_MAX_IOV 256

/* ---- Connection ---- */

/* Values of fuse_conn_info.max_backing_stack_depth: another stacked file system may lie over this one, or
 * under its backing files. */
#define FUSE_BACKING_STACKED_UNDER (0)
#define FUSE_BACKING_STACKED_OVER (1)

/* What init may look at and change. Numbers may be lowered; what is higher than the kernel takes is cut. */
struct fuse_conn_info {
  unsigned proto_major; /* of the kernel's protocol, read only */
  unsigned proto_minor;
  unsigned max_write;            /* bytes in one write */
  unsigned max_read;             /* bytes in one read; must equal the mount option max_read; 0: no limit */
  unsigned max_readahead;        /* bytes that the kernel reads ahead */
  unsigned capable;              /* FUSE_CAP_*, read only */
  unsigned want;                 /* FUSE_CAP_* */
  unsigned max_background;       /* asynchronous requests that may wait at once; 0: the kernel's choice */
  unsigned congestion_threshold; /* of them, how many make the connection "congested"; 0: three quarters */
  unsigned time_gran;            /* of time stamps in nanoseconds, a power of ten; 0: 1 */

  /* What came after 3.14, in what was reserved then. */
  unsigned max_backing_stack_depth; /* with FUSE_CAP_PASSTHROUGH: FUSE_BACKING_STACKED_* */
  unsigned no_interrupt : 1;        /* set: requests are never told that they were interrupted */
  unsigned padding : 31;
  uint64_t capable_ext;     /* all of `capable` and what does not fit in it */
  uint64_t want_ext;        /* the same for `want`; changed with fuse_set_feature_flag() */
  uint16_t request_timeout; /* seconds after which the kernel gives a connection up; 0: never */
  uint16_t reserved[31];
};

/* In init: asks for the capabilities in `flag`. True if the kernel offers them all; else none is asked for.
 */
bool fuse_set_feature_flag(struct fuse_conn_info* conn, uint64_t flag);
/* In init: does not ask for them, even if they are on by default. */
void fuse_unset_feature_flag(struct fuse_conn_info* conn, uint64_t flag);
/* True if the kernel offers any of them. */
bool fuse_get_feature_flag(struct fuse_conn_info* conn, uint64_t flag);

struct fuse_session;
struct fuse_pollhandle;
struct fuse_conn_info_opts;

/* Takes from `args` the -o options that change a connection:
 *   max_write=N max_readahead=N max_background=N congestion_threshold=N time_gran=N
 *   async_read sync_read atomic_o_trunc no_remote_lock no_remote_flock no_remote_posix_lock
 *   [no_]splice_write [no_]splice_move [no_]splice_read [no_]auto_inval_data [no_]async_dio
 *   [no_]writeback_cache readdirplus=no|yes|auto
 * Where a list both turns something on and off, it is off. Returns what they say, for free(3) by the caller;
 * NULL after a message about a malformed one, or out of memory. */
struct fuse_conn_info_opts* fuse_parse_conn_info_opts(struct fuse_args* args);

/* In init: carries out what was parsed. What was not given stays as it is. */
void fuse_apply_conn_info_opts(struct fuse_conn_info_opts* opts, struct fuse_conn_info* conn);

/* Unless `foreground`: continues in a child that leads a session of its own, stands in "/" and has its
 * standard streams on /dev/null; the caller's process waits until the child is that far and exits with status
 * 0. Only the calling thread continues, so no thread may have been started before. (The process that called
 * ends with status 1 if the child does not get there.) With `foreground` it only goes to "/". Returns 0; or
 * -1 with errno, in the process that called. */
int fuse_daemonize(int foreground);

/* FUSE_VERSION of the library that runs. */
int fuse_version(void);
/* Its version as text, in static memory. */
const char* fuse_pkgversion(void);

/* Gives back what poll received. NULL is allowed. */
void fuse_pollhandle_destroy(struct fuse_pollhandle* ph);

/* ---- Buffers ---- */

enum fuse_buf_flags {
  FUSE_BUF_IS_FD = (1 << 1),   /* `fd`, not `mem` */
  FUSE_BUF_FD_SEEK = (1 << 2), /* at `pos`, with `fd`'s own position neither used nor moved */
  FUSE_BUF_FD_RETRY = (1 << 3) /* a short transfer goes on until `size`, end of file or an error */
};

enum fuse_buf_copy_flags {
  FUSE_BUF_NO_SPLICE = (1 << 1),      /* between descriptors: read and write */
  FUSE_BUF_FORCE_SPLICE = (1 << 2),   /* between descriptors: splice(2), or fail with -EINVAL */
  FUSE_BUF_SPLICE_MOVE = (1 << 3),    /* SPLICE_F_MOVE */
  FUSE_BUF_SPLICE_NONBLOCK = (1 << 4) /* SPLICE_F_NONBLOCK */
};

/* A stretch of data in memory or in a file. */
struct fuse_buf {
  size_t size;               /* bytes; SIZE_MAX as the destination of a copy: no limit */
  enum fuse_buf_flags flags; /* several may be or'ed */
  void* mem;                 /* without FUSE_BUF_IS_FD */
  int fd;                    /* with it */
  off_t pos;                 /* with FUSE_BUF_FD_SEEK */
};

/* A series of stretches, and how far it has been used up. Holds `count` members: allocate more than the
 * declared one behind it. */
struct fuse_bufvec {
  size_t count; /* of members */
  size_t idx;   /* the current one */
  size_t off;   /* bytes of it that are done */
  struct fuse_buf buf[1];
};

/* A value: one stretch of memory of the given size whose address is still to be set. */
#ifdef __cplusplus
#define FUSE_BUFVEC_INIT(size__) \
  (fuse_bufvec{1, 0, 0, {{(size__), static_cast<enum fuse_buf_flags>(0), NULL, -1, 0}}})
#else
#define FUSE_BUFVEC_INIT(size__) \
  ((struct fuse_bufvec){1, 0, 0, {{(size__), (enum fuse_buf_flags)0, NULL, -1, 0}}})
#endif

/* Bytes in all members together, whatever `idx` and `off` say; SIZE_MAX if that is more than a size_t holds.
 */
size_t fuse_buf_size(const struct fuse_bufvec* bufv);

/* Copies from where `src` stands to where `dst` stands and moves both on. Ends when either is used up, when a
 * descriptor gives end of file, or at the first transfer that is short without FUSE_BUF_FD_RETRY. `dst` ==
 * `src` counts the bytes and copies nothing. Memory may not overlap unless it is the same. Returns the bytes
 * copied; or -errno if the first transfer failed. */
ssize_t fuse_buf_copy(struct fuse_bufvec* dst, struct fuse_bufvec* src, enum fuse_buf_copy_flags flags);

/* ---- Signals ---- */

/* SIGHUP, SIGINT and SIGTERM end the session's loop from now on, and SIGPIPE does nothing. Signals for which
 * the program has a disposition of its own keep it. One session at a time per process. Returns 0; -1 with
 * errno. */
int fuse_set_signal_handlers(struct fuse_session* se);

/* Signals that tell of a defect (SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV) write a backtrace to
 * standard error from now on, and then take their default action. Returns 0; -1 with errno. */
int fuse_set_fail_signal_handlers(struct fuse_session* se);

/* Brings the default dispositions back for the signals that the two functions above changed. `se` must be the
 * session that they were given. */
void fuse_remove_signal_handlers(struct fuse_session* se);

/* ---- Configuration of loops ---- */

/* A configuration with the defaults: at most 10 threads, none of which ends for being idle, one descriptor
 * for all. NULL when there is no memory. */
struct fuse_loop_config* fuse_loop_cfg_create(void);
/* Frees it. NULL is allowed. */
void fuse_loop_cfg_destroy(struct fuse_loop_config* config);
/* Threads that may be idle; more end. Values above 100000 are refused with a message. */
void fuse_loop_cfg_set_idle_threads(struct fuse_loop_config* config, unsigned int value);
/* Threads that may be started. */
void fuse_loop_cfg_set_max_threads(struct fuse_loop_config* config, unsigned int value);
/* Non-zero: a device descriptor per thread. */
void fuse_loop_cfg_set_clone_fd(struct fuse_loop_config* config, unsigned int value);
/* Takes over what the older structure says. */
void fuse_loop_cfg_convert(struct fuse_loop_config* config, struct fuse_loop_config_v1* v1_conf);

#ifdef __cplusplus
}
static_assert(sizeof(off_t) == 8, "compile with -D_FILE_OFFSET_BITS=64");
#else
_Static_assert(sizeof(off_t) == 8, "compile with -D_FILE_OFFSET_BITS=64");
#endif

#endif
