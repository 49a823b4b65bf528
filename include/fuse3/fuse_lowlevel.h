/* The low-level interface: a file system is a table of functions, one for each kind of request, that name
 * files by number. Each function gets a request handle and answers it, there or later and from any thread,
 * with one of the fuse_reply_*() functions. The same table is served to this host's kernel
 * (fuse_session_mount()) or to the kernel of a virtual machine (option --socket-path=PATH or --fd=N, or
 * FUSEWIRE_SOCKET=PATH in the environment).
 *
 * Define FUSE_USE_VERSION first: 30 to 318, the interface that the source was written for. */
#ifndef FUSE_LOWLEVEL_H_
#define FUSE_LOWLEVEL_H_

#ifndef FUSE_USE_VERSION
#error "Define FUSE_USE_VERSION as the interface that this source was written for: 30 or newer, such as 314."
#endif

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <utime.h>

#include "fuse_common.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The number of the root directory. All others are the file system's choice. */
#define FUSE_ROOT_ID 1

typedef uint64_t fuse_ino_t;

/* A request that waits for its answer. Valid until it is answered, and dead from then on. */
typedef struct fuse_req* fuse_req_t;

/* A connection to one kernel. */
struct fuse_session;

struct statx;

/* A name and the file that it leads to. Each one given to the kernel, unless `ino` is 0, adds one to the
 * file's lookup count, which forget takes back. */
struct fuse_entry_param {
  /* The file. 0 in an answer to lookup: there is none of that name, and that may be remembered. */
  fuse_ino_t ino;
  /* With NFS export, `ino` and `generation` together never name two files in the file system's life. */
  uint64_t generation;
  /* st_ino is what users see, `ino` what requests use. */
  struct stat attr;
  /* Seconds for which the kernel may use the attributes, and the name, without asking again. */
  double attr_timeout;
  double entry_timeout;
#ifdef FUSEWIRE_VIRTIOFSD
  /* FUSE_ATTR_* of <linux/fuse.h>. */
  uint32_t attr_flags;
#endif
};

/* Who made a request. Ids are 0 where the caller is unknown in the server's namespaces. */
struct fuse_ctx {
  uid_t uid;
  gid_t gid;
  pid_t pid; /* the thread */
  mode_t umask;
};

struct fuse_forget_data {
  fuse_ino_t ino;
  uint64_t nlookup;
};

/* Functions to use instead of system calls on the connection's descriptor. Each behaves like the call that it
 * is named after: a count, or -1 with errno. read and writev are required. */
struct fuse_custom_io {
  /* Sends one whole message. */
  ssize_t (*writev)(int fd, struct iovec* iov, int count, void* userdata);
  /* Receives one whole message. */
  ssize_t (*read)(int fd, void* buf, size_t buf_len, void* userdata);
  /* The same from and to a pipe; NULL: not possible. */
  ssize_t (*splice_receive)(int fdin, off_t* offin, int fdout, off_t* offout, size_t len, unsigned int flags,
                            void* userdata);
  ssize_t (*splice_send)(int fdin, off_t* offin, int fdout, off_t* offout, size_t len, unsigned int flags,
                         void* userdata);
  /* Since 317: another descriptor for the same connection, or -1; NULL: there is none. */
  int (*clone_fd)(int master_fd);
};

enum fuse_expire_flags {
  FUSE_LL_EXPIRE_ONLY = (1 << 0),
};

/* What setattr is to set. */
#define FUSE_SET_ATTR_MODE (1 << 0)
#define FUSE_SET_ATTR_UID (1 << 1)
#define FUSE_SET_ATTR_GID (1 << 2)
#define FUSE_SET_ATTR_SIZE (1 << 3)
#define FUSE_SET_ATTR_ATIME (1 << 4)
#define FUSE_SET_ATTR_MTIME (1 << 5)
#define FUSE_SET_ATTR_ATIME_NOW (1 << 7)
#define FUSE_SET_ATTR_MTIME_NOW (1 << 8)
#define FUSE_SET_ATTR_FORCE (1 << 9)
#define FUSE_SET_ATTR_CTIME (1 << 10)
#define FUSE_SET_ATTR_KILL_SUID (1 << 11)
#define FUSE_SET_ATTR_KILL_SGID (1 << 12)
#define FUSE_SET_ATTR_FILE (1 << 13)
#define FUSE_SET_ATTR_KILL_PRIV (1 << 14)
#define FUSE_SET_ATTR_OPEN (1 << 15)
#define FUSE_SET_ATTR_TIMES_SET (1 << 16)
#define FUSE_SET_ATTR_TOUCH (1 << 17)

/* ---- The table of operations ----
 * A member that is NULL answers ENOSYS, unless its comment says otherwise. Any operation may be answered with
 * fuse_reply_err(); the comment names what else it may be answered with. Pointers that an operation receives
 * die when it returns, but the handle lives until it is answered.
 *
 * The kernel remembers ENOSYS: it does not send that operation again, and the caller gets what the comment
 * says. */
struct fuse_lowlevel_ops {
  /* The connection begins; `conn` may be inspected and changed. No answer. NULL: defaults. */
  void (*init)(void* userdata, struct fuse_conn_info* conn);

  /* The connection ended; the kernel may be gone. No answer. */
  void (*destroy)(void* userdata);

  /* Finds `name` in `parent`. Answer: entry. */
  void (*lookup)(fuse_req_t req, fuse_ino_t parent, const char* name);

  /* The kernel gives `nlookup` of the file's lookups back; at 0 it never names the number again unless it is
   * given it again. A file that was removed must stay usable until then. At an unmount forgets may be
   * missing. Answer: none. */
  void (*forget)(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);

  /* `fi` is NULL, or the open file of the caller. Answer: attr. */
  void (*getattr)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi);

  /* Sets the members of `attr` that `to_set` (FUSE_SET_ATTR_*) names. `fi` is NULL, or the open file given to
   * ftruncate(2). Answer: attr. */
  void (*setattr)(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, struct fuse_file_info* fi);

  /* Answer: readlink. */
  void (*readlink)(fuse_req_t req, fuse_ino_t ino);

  /* Makes a file that is no directory nor link; `rdev` counts for devices. Answer: entry. */
  void (*mknod)(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev);

  /* Answer: entry. */
  void (*mkdir)(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode);

  /* Removes a name of a file. Answer: err. */
  void (*unlink)(fuse_req_t req, fuse_ino_t parent, const char* name);

  /* Removes an empty directory. Answer: err. */
  void (*rmdir)(fuse_req_t req, fuse_ino_t parent, const char* name);

  /* Makes a symbolic link that says `link`. Answer: entry. */
  void (*symlink)(fuse_req_t req, const char* link, fuse_ino_t parent, const char* name);

  /* `flags` are those of renameat2(2). Answer: err. ENOSYS with flags: the caller gets EINVAL. */
  void (*rename)(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t newparent,
                 const char* newname, unsigned int flags);

  /* Gives a file another name. Answer: entry. */
  void (*link)(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char* newname);

  /* fi->flags has no O_CREAT, O_EXCL or O_NOCTTY. With FUSE_CAP_WRITEBACK_CACHE a file opened for writing is
   * read too, and O_APPEND is the kernel's affair. Answer: open. NULL: every open succeeds, with fh 0.
   * ENOSYS, if the kernel offers FUSE_CAP_NO_OPEN_SUPPORT: the same, and neither open nor release are sent
   * again. */
  void (*open)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi);

  /* Up to `size` bytes; fewer mean the end of the file, unless it was opened with direct_io. Answer: buf,
   * data, iov. */
  void (*read)(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info* fi);

  /* Answer: write, with `size` unless the file was opened with direct_io. */
  void (*write)(fuse_req_t req, fuse_ino_t ino, const char* buf, size_t size, off_t off,
                struct fuse_file_info* fi);

  /* A descriptor of the open file is closed; may come often or never. Drops the locks of fi->lock_owner.
   * Answer: err, which close(2) returns. ENOSYS: success. */
  void (*flush)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi);

  /* The open file is gone: once for each open. Answer: err, which nobody sees. NULL: success. */
  void (*release)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi);

  /* `datasync`: data only. Answer: err. ENOSYS: success. */
  void (*fsync)(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info* fi);

  /* Answer: open. NULL: success. ENOSYS with FUSE_CAP_NO_OPENDIR_SUPPORT: as for open. */
  void (*opendir)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi);

  /* Entries made by fuse_add_direntry(), from the one after `off`, at most `size` bytes; none at the end.
   * Answer: buf, data, iov. */
  void (*readdir)(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info* fi);

  /* As release. NULL: success. */
  void (*releasedir)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi);

  /* As fsync. */
  void (*fsyncdir)(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info* fi);

  /* `ino` is 0 if unknown. Answer: statfs. NULL: names of 255 bytes, blocks of 512, and nothing else. */
  void (*statfs)(fuse_req_t req, fuse_ino_t ino);

  /* `flags` are those of setxattr(2). Answer: err. ENOSYS, here and in the next three: EOPNOTSUPP. */
#ifdef FUSEWIRE_VIRTIOFSD
  /* setxattr_flags: FUSE_SETXATTR_* of <linux/fuse.h>, 0 without FUSE_CAP_SETXATTR_EXT. */
  void (*setxattr)(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                   int flags, uint32_t setxattr_flags);
#else
  void (*setxattr)(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                   int flags);
#endif

  /* `size` 0 asks for the size. Answer: xattr then, else buf, data; or ERANGE if it is longer. */
  void (*getxattr)(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size);

  /* The names, each with its NUL. Answer: as for getxattr. */
  void (*listxattr)(fuse_req_t req, fuse_ino_t ino, size_t size);

  /* Answer: err. */
  void (*removexattr)(fuse_req_t req, fuse_ino_t ino, const char* name);

  /* access(2) and chdir(2); not sent with default_permissions. Answer: err. ENOSYS: success. */
  void (*access)(fuse_req_t req, fuse_ino_t ino, int mask);

  /* Makes a file if need be, and opens it. Answer: create. ENOSYS: the kernel sends mknod and open instead.
   */
  void (*create)(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, struct fuse_file_info* fi);

  /* Looks for a lock in the way of `lock`; fi has the owner. Answer: lock. */
  void (*getlk)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi, struct flock* lock);

  /* Sets, or with F_UNLCK removes, a lock; with `sleep` waits for it, and must then mind interrupts. l_pid is
   * the caller's. Answer: err. */
  void (*setlk)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi, struct flock* lock, int sleep);

  /* The place of a file's block on its device (mount option blkdev). Answer: bmap. */
  void (*bmap)(fuse_req_t req, fuse_ino_t ino, size_t blocksize, uint64_t idx);

  /* `arg` is an address in the caller's memory. in_buf holds what was read of it, out_bufsz is the room for
   * an answer; without FUSE_IOCTL_UNRESTRICTED in `flags` both follow from `cmd`. Answer: ioctl, ioctl_iov,
   * ioctl_retry. */
#if FUSE_USE_VERSION < 35
  void (*ioctl)(fuse_req_t req, fuse_ino_t ino, int cmd, void* arg, struct fuse_file_info* fi, unsigned flags,
                const void* in_buf, size_t in_bufsz, size_t out_bufsz);
#else
  void (*ioctl)(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void* arg, struct fuse_file_info* fi,
                unsigned flags, const void* in_buf, size_t in_bufsz, size_t out_bufsz);
#endif

  /* Which of fi->poll_events are true now. `ph`, unless NULL, is the operation's: to be told of by
   * fuse_lowlevel_notify_poll() at the next change, then given back with fuse_pollhandle_destroy(). Answer:
   * poll. ENOSYS: always ready. */
  void (*poll)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi, struct fuse_pollhandle* ph);

  /* In place of write, if not NULL: the data may lie in a pipe. Copy it with fuse_buf_copy(). Answer: write.
   */
  void (*write_buf)(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec* bufv, off_t off,
                    struct fuse_file_info* fi);

  /* What fuse_lowlevel_notify_retrieve() asked for; may be less. Answer: none. */
  void (*retrieve_reply)(fuse_req_t req, void* cookie, fuse_ino_t ino, off_t offset,
                         struct fuse_bufvec* bufv);

  /* Many forgets at once. NULL: forget, for each. Answer: none. */
  void (*forget_multi)(fuse_req_t req, size_t count, struct fuse_forget_data* forgets);

  /* `op` is that of flock(2), and must mind interrupts without LOCK_NB. Answer: err. */
  void (*flock)(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi, int op);

  /* As fallocate(2). Answer: err. ENOSYS: EOPNOTSUPP. */
  void (*fallocate)(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                    struct fuse_file_info* fi);

  /* As readdir, with fuse_add_direntry_plus(). Every entry except "." and ".." counts as a lookup. */
  void (*readdirplus)(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info* fi);

  /* Answer: write. ENOSYS: the caller gets EOPNOTSUPP or the kernel copies. */
  void (*copy_file_range)(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info* fi_in,
                          fuse_ino_t ino_out, off_t off_out, struct fuse_file_info* fi_out, size_t len,
                          int flags);

  /* SEEK_DATA and SEEK_HOLE. Answer: lseek. ENOSYS: the file is one piece of data. */
  void (*lseek)(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info* fi);

#ifdef FUSEWIRE_VIRTIOFSD
  /* Writes everything of the file system to its storage. Answer: err. */
  void (*syncfs)(fuse_req_t req, fuse_ino_t ino);
#else
  /* Members from here on came after 3.14. */

  /* Makes and opens a file without a name in directory `parent`. Answer: create. ENOSYS: EOPNOTSUPP. */
  void (*tmpfile)(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info* fi);

  /* statx(2) with its `flags` and `mask`; `fi` may be NULL. Answer: statx. ENOSYS: getattr is sent instead.
   */
  void (*statx)(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info* fi);
#endif
};

/* ---- Replies ----
 * Each answers `req` and ends its life, whatever it returns: 0 when the answer was delivered, else -errno.
 * -ENOENT means that nobody waited any more: the request was interrupted. What a delivered answer would have
 * established (a lookup, an open file) does then not exist. Arguments stay the caller's. */

/* `err` is a positive error number, or 0 for success. All but forget, forget_multi and retrieve_reply. */
int fuse_reply_err(fuse_req_t req, int err);

/* Nothing is sent. forget, forget_multi, retrieve_reply. */
void fuse_reply_none(fuse_req_t req);

/* lookup, mknod, mkdir, symlink, link. */
int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param* e);

/* create, tmpfile. Uses of `fi`: fh and what open may set. */
int fuse_reply_create(fuse_req_t req, const struct fuse_entry_param* e, const struct fuse_file_info* fi);

/* getattr, setattr. */
int fuse_reply_attr(fuse_req_t req, const struct stat* attr, double attr_timeout);

/* readlink. */
int fuse_reply_readlink(fuse_req_t req, const char* link);

/* open, opendir. */
int fuse_reply_open(fuse_req_t req, const struct fuse_file_info* fi);

/* write, write_buf, copy_file_range. */
int fuse_reply_write(fuse_req_t req, size_t count);

/* read, readdir, readdirplus, getxattr, listxattr. `buf` may be NULL if `size` is 0. */
int fuse_reply_buf(fuse_req_t req, const char* buf, size_t size);

/* As fuse_reply_buf(), from memory and files, without a copy where the transport can. A file that ends early
 * makes the answer shorter. */
int fuse_reply_data(fuse_req_t req, struct fuse_bufvec* bufv, enum fuse_buf_copy_flags flags);

/* As fuse_reply_buf(), from several places. */
int fuse_reply_iov(fuse_req_t req, const struct iovec* iov, int count);

/* statfs. */
int fuse_reply_statfs(fuse_req_t req, const struct statvfs* stbuf);

/* getxattr and listxattr that asked for a size. */
int fuse_reply_xattr(fuse_req_t req, size_t count);

/* getlk. F_UNLCK: nothing is in the way. */
int fuse_reply_lock(fuse_req_t req, const struct flock* lock);

/* bmap. */
int fuse_reply_bmap(fuse_req_t req, uint64_t idx);

/* Put one entry at `buf`, if the `bufsize` bytes there are enough, and return its size either way: an entry
 * that is larger than what is left was not written. `buf` NULL (bufsize 0) asks for the size. `off` is what a
 * later readdir gets to continue after this entry. Of `stbuf`, st_ino and the type in st_mode count. */
size_t fuse_add_direntry(fuse_req_t req, char* buf, size_t bufsize, const char* name,
                         const struct stat* stbuf, off_t off);
size_t fuse_add_direntry_plus(fuse_req_t req, char* buf, size_t bufsize, const char* name,
                              const struct fuse_entry_param* e, off_t off);

/* ioctl with FUSE_IOCTL_UNRESTRICTED: the kernel shall send it again with this memory of the caller. */
int fuse_reply_ioctl_retry(fuse_req_t req, const struct iovec* in_iov, size_t in_count,
                           const struct iovec* out_iov, size_t out_count);

/* ioctl: `result` is what ioctl(2) returns. */
int fuse_reply_ioctl(fuse_req_t req, int result, const void* buf, size_t size);
int fuse_reply_ioctl_iov(fuse_req_t req, int result, const struct iovec* iov, int count);

/* poll. */
int fuse_reply_poll(fuse_req_t req, unsigned revents);

/* lseek. */
int fuse_reply_lseek(fuse_req_t req, off_t off);

/* statx. `flags` is 0. */
int fuse_reply_statx(fuse_req_t req, int flags, struct statx* statx, double attr_timeout);

/* In open and create with FUSE_CAP_PASSTHROUGH: makes the file behind `fd` known to the kernel, which then
 * keeps it. Returns its number, above 0, for fuse_file_info.backing_id; 0 on failure, after a message. */
int fuse_passthrough_open(fuse_req_t req, int fd);

/* Forgets that number; open files keep their file. Returns 0, or -1 with errno. */
int fuse_passthrough_close(fuse_req_t req, int backing_id);

/* ---- Notifications ----
 * Messages to the kernel that nobody asked for. They may be sent from any thread, from inside an operation
 * too: they are then queued, and 0 means that. Else 0 means that the kernel took it. -ENOSYS: this kernel, or
 * this virtual machine, has no such message. */

/* Wakes those who poll. */
int fuse_lowlevel_notify_poll(struct fuse_pollhandle* ph);

/* Drops cached pages from `off` on, `len` bytes or all for 0, and the attributes; only those if `off` is
 * negative. Dirty pages are written first, which means requests. */
int fuse_lowlevel_notify_inval_inode(struct fuse_session* se, fuse_ino_t ino, off_t off, off_t len);

/* Drops a cached name, and the attributes of `parent`. -ENOENT: it was not cached. */
int fuse_lowlevel_notify_inval_entry(struct fuse_session* se, fuse_ino_t parent, const char* name,
                                     size_t namelen);

/* Makes the kernel ask for a name at the next use, without dropping it as inval_entry would. Needs
 * FUSE_CAP_EXPIRE_ONLY. `flags` is FUSE_LL_EXPIRE_ONLY; 0 is inval_entry. Sources written for later
 * interfaces leave it out. */
int fuse_lowlevel_notify_expire_entry(struct fuse_session* se, fuse_ino_t parent, const char* name,
                                      size_t namelen, enum fuse_expire_flags flags);

/* As inval_entry, and tells those who watch with inotify(7), if the name leads to `child`, that it was
 * removed. */
int fuse_lowlevel_notify_delete(struct fuse_session* se, fuse_ino_t parent, fuse_ino_t child,
                                const char* name, size_t namelen);

/* Puts data into the page cache, as if it had been read; grows the file if need be. */
int fuse_lowlevel_notify_store(struct fuse_session* se, fuse_ino_t ino, off_t offset,
                               struct fuse_bufvec* bufv, enum fuse_buf_copy_flags flags);

/* Asks for data from the page cache, which retrieve_reply brings with `cookie`. */
int fuse_lowlevel_notify_retrieve(struct fuse_session* se, fuse_ino_t ino, size_t size, off_t offset,
                                  void* cookie);

/* Makes every cached name be asked for at its next use. */
int fuse_lowlevel_notify_increment_epoch(struct fuse_session* se);

/* Lets go of files that nobody uses; forgets follow. */
int fuse_lowlevel_notify_prune(struct fuse_session* se, fuse_ino_t* nodeids, uint32_t count);

/* ---- About a request ---- */

/* What fuse_session_new() was given. */
void* fuse_req_userdata(fuse_req_t req);

/* Who asks; valid as long as the request. */
const struct fuse_ctx* fuse_req_ctx(fuse_req_t req);

/* Stores up to `size` supplementary groups of the caller and returns how many there are, which may be more;
 * -errno on failure, -ENOSYS where they cannot be known. Read from /proc, so that it is no proof. */
int fuse_req_getgroups(fuse_req_t req, int size, gid_t list[]);

/* Called when a request is interrupted. The request is not answered by that. */
typedef void (*fuse_interrupt_func_t)(fuse_req_t req, void* data);

/* Registers `func`, or none for NULL. If the interrupt was there first, it is called from in here. Once this
 * returns, the function that was there before does not run any more. */
void fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void* data);

/* 1 if the request was interrupted, else 0. */
int fuse_req_interrupted(fuse_req_t req);

/* True if it came by io_uring, or in a virtual machine's memory: its payload may be written in place. */
bool fuse_req_is_uring(fuse_req_t req);

/* The room for the answer's data, to be written in place and answered with fuse_reply_buf(req, *payload, n).
 * `mr` may be NULL and receives NULL. Returns 0; -EINVAL if the request has none in one piece. */
int fuse_req_get_payload(fuse_req_t req, char** payload, size_t* payload_sz, void** mr);

/* ---- Texts on standard output ---- */

/* Versions of the protocol and of what mounts. */
void fuse_lowlevel_version(void);
/* Options of fuse_session_new(), the more useful ones. */
void fuse_lowlevel_help(void);
/* Options of fuse_parse_cmdline(). */
void fuse_cmdline_help(void);

/* ---- Command lines ---- */

#ifndef FUSEWIRE_VIRTIOFSD
struct fuse_cmdline_opts {
  int singlethread;      /* -s */
  int foreground;        /* -f, and -d */
  int debug;             /* -d, -o debug */
  int nodefault_subtype; /* not set by an option */
  char* mountpoint;      /* absolute, for free(3); NULL: none was given */
  int show_version;      /* -V, --version */
  int show_help;         /* -h, --help */
  int clone_fd;          /* -o clone_fd */
  unsigned int max_idle_threads;
  unsigned int max_threads;
};

/* Takes common options and the mountpoint from `args`. If neither fsname= nor subtype= is given, the
 * program's name becomes the subtype. Options that it does not know stay for fuse_session_new().
 * --socket-path=PATH, --fd=N and
 * --thread-pool-size=N are among what it leaves there; with one of the first two, or FUSEWIRE_SOCKET in the
 * environment, `mountpoint` is "" if none is given. Returns 0; -1 after a message. */
int fuse_parse_cmdline(struct fuse_args* args, struct fuse_cmdline_opts* opts);
#endif

/* ---- Sessions ---- */

/* Makes a session. `args` is a program's name, which is ignored, and options: those of mount.fuse3(8), -d,
 * and
 * --socket-path=PATH, --fd=N (a listening socket) or --thread-pool-size=N. `op_size` is sizeof(struct
 * fuse_lowlevel_ops): members behind it count as NULL. `op` is copied. NULL after a message, for an unknown
 * option too. */
struct fuse_session* fuse_session_new(struct fuse_args* args, const struct fuse_lowlevel_ops* op,
                                      size_t op_size, void* userdata);

/* The same, told what the program was compiled with; `version` is FUSE_MAJOR_VERSION, FUSE_MINOR_VERSION and
 * FUSE_HOTFIX_VERSION. NULL is allowed. */
struct fuse_session* fuse_session_new_versioned(struct fuse_args* args, const struct fuse_lowlevel_ops* op,
                                                size_t op_size, struct libfuse_version* version,
                                                void* userdata);

/* In place of fuse_session_mount(): speaks over `fd`, which becomes the session's, with the functions in
 * `io`, which is copied; where a virtual machine is served, it listens as fuse_session_mount() does, and `io`
 * is of no use. Returns 0; -errno, or EINVAL without read or writev. Since 317 with sizeof(struct
 * fuse_custom_io). */
int fuse_session_custom_io_30(struct fuse_session* se, const struct fuse_custom_io* io, int fd);
int fuse_session_custom_io_317(struct fuse_session* se, const struct fuse_custom_io* io, size_t op_size,
                               int fd);
#if FUSE_USE_VERSION < FUSE_MAKE_VERSION(3, 17)
int fuse_session_custom_io(struct fuse_session* se, const struct fuse_custom_io* io, int fd);
#else
#define fuse_session_custom_io(se, io, op_size, fd) fuse_session_custom_io_317(se, io, op_size, fd)
#endif

/* Mounts at `mountpoint`, or takes /dev/fd/N for a device that is open and mounted. For a session with a
 * socket it waits for nothing and ignores the argument. Returns 0; -1 after a message. */
int fuse_session_mount(struct fuse_session* se, const char* mountpoint);

/* Serves requests in this thread until the session ends: 0 if it was unmounted or, for a socket, the peer is
 * gone; the number of a signal that fuse_set_signal_handlers() caught; -errno. */
int fuse_session_loop(struct fuse_session* se);

/* The same with several threads. Returns when all have ended. Up to interface 31 the second argument is
 * `clone_fd`, then the open structure, since 312 the one from fuse_loop_cfg_create(), or NULL. */
#if FUSE_USE_VERSION < 32
int fuse_session_loop_mt_31(struct fuse_session* se, int clone_fd);
#define fuse_session_loop_mt(se, clone_fd) fuse_session_loop_mt_31(se, clone_fd)
#elif FUSE_USE_VERSION < FUSE_MAKE_VERSION(3, 12)
int fuse_session_loop_mt_32(struct fuse_session* se, struct fuse_loop_config* config);
#define fuse_session_loop_mt(se, config) fuse_session_loop_mt_32(se, config)
#else
int fuse_session_loop_mt(struct fuse_session* se, struct fuse_loop_config* config);
#endif

/* Ends the loop, in whatever thread it runs, at once. Async-signal-safe. */
void fuse_session_exit(struct fuse_session* se);

/* Takes that back, after the loop has ended. */
void fuse_session_reset(struct fuse_session* se);

/* 1 once the session is to end, else 0. */
int fuse_session_exited(struct fuse_session* se);

/* Unmounts, if this session's mount is still there. */
void fuse_session_unmount(struct fuse_session* se);

/* Calls destroy if init was called and destroy was not, and frees the session. No loop may run. */
void fuse_session_destroy(struct fuse_session* se);

/* ---- Loops of one's own ---- */

/* A descriptor that is readable when a request is there; the session's own. -1 before the mount. */
int fuse_session_fd(struct fuse_session* se);

/* Carries a request out. `buf` stays the caller's and may be used again at once. */
void fuse_session_process_buf(struct fuse_session* se, const struct fuse_buf* buf);

/* Receives a request, into memory or a pipe. If buf->mem is NULL it is allocated, for free(3) by the caller
 * when all is over. Returns its size; 0 when the session ended; -errno, where -EINTR asks for another try. */
int fuse_session_receive_buf(struct fuse_session* se, struct fuse_buf* buf);

/* Later sources call this one without `flags`. */
static inline int fuse_lowlevel_notify_expire_entry_4_(struct fuse_session* se, fuse_ino_t parent,
                                                       const char* name, size_t namelen) {
  return fuse_lowlevel_notify_expire_entry(se, parent, name, namelen, FUSE_LL_EXPIRE_ONLY);
}
#define FUSE_SIXTH_ARGUMENT_(a, b, c, d, e, f, ...) f
#define fuse_lowlevel_notify_expire_entry(...)                                                               \
  FUSE_SIXTH_ARGUMENT_(__VA_ARGS__, fuse_lowlevel_notify_expire_entry, fuse_lowlevel_notify_expire_entry_4_, \
                       0)                                                                                    \
  (__VA_ARGS__)

#ifdef __cplusplus
}
#endif

#endif
