/* A file system written against virtiofsd_lowlevel.h, as one of QEMU's virtiofsd would be. It keeps one file,
 * "file", and an empty directory, "sub", that it says is a mount point; what it is asked to change it writes
 * down, and the file's content is that record, a line for each request. variant_test.cc drives it over its
 * socket. */
#include <errno.h>
#include <fuse3/virtiofsd_lowlevel.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOT = FUSE_ROOT_ID, FILE_INO, SUB, CREATED };

static char record[8192];
static size_t recorded;
static struct fuse_session* session;

static void note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(record + recorded, sizeof record - recorded, format, arguments);
  va_end(arguments);
  if (n > 0 && (size_t)n < sizeof record - recorded) recorded += (size_t)n;
}

static struct stat attributes(fuse_ino_t ino) {
  struct stat st;
  memset(&st, 0, sizeof st);
  st.st_ino = ino;
  st.st_nlink = 1;
  st.st_mode = ino == ROOT || ino == SUB ? S_IFDIR | 0755 : S_IFREG | 0644;
  if (ino == FILE_INO) st.st_size = (off_t)sizeof record;
  return st;
}

static struct fuse_entry_param entry(fuse_ino_t ino) {
  struct fuse_entry_param e;
  memset(&e, 0, sizeof e);
  e.ino = ino;
  e.attr = attributes(ino);
  e.attr_timeout = 1.5;
  e.entry_timeout = 2.5;
  if (ino == SUB) e.attr_flags = FUSE_ATTR_SUBMOUNT;
  return e;
}

static void init(void* userdata, struct fuse_conn_info* conn) {
  note("init %s submounts %d secctx %d\n", (const char*)userdata, (conn->capable & FUSE_CAP_SUBMOUNTS) != 0,
       (conn->capable & FUSE_CAP_SECURITY_CTX) != 0);
  conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
  conn->want |= conn->capable & (FUSE_CAP_SETXATTR_EXT | FUSE_CAP_HANDLE_KILLPRIV_V2 | FUSE_CAP_SUBMOUNTS);
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  fuse_ino_t ino = 0;
  if (parent == ROOT && strcmp(name, "file") == 0) ino = FILE_INO;
  if (parent == ROOT && strcmp(name, "sub") == 0) ino = SUB;
  if (ino == 0) {
    fuse_reply_err(req, ENOENT);
    return;
  }
  const struct fuse_entry_param e = entry(ino);
  fuse_reply_entry(req, &e);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup) {
  (void)ino;
  (void)nlookup;
  fuse_reply_none(req);
}

static void get_attributes(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)fi;
  const struct stat st = attributes(ino);
  fuse_reply_attr(req, &st, 1.0);
}

static void set_attributes(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                           struct fuse_file_info* fi) {
  (void)attr;
  (void)fi;
  note("setattr size %d kill %d\n", (to_set & FUSE_SET_ATTR_SIZE) != 0,
       (to_set & FUSE_SET_ATTR_KILL_SUIDGID) != 0);
  const struct stat st = attributes(ino);
  fuse_reply_attr(req, &st, 1.0);
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)ino;
  note("open kill %d\n", (int)fi->kill_priv);
  fi->fh = 77;
  fi->direct_io = 1;
  fuse_reply_open(req, fi);
}

static void read_file(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info* fi) {
  (void)ino;
  (void)fi;
  const size_t at = (size_t)off < recorded ? (size_t)off : recorded;
  struct fuse_bufvec answer = FUSE_BUFVEC_INIT(recorded - at < size ? recorded - at : size);
  answer.buf[0].mem = record + at;
  fuse_reply_data(req, &answer);
}

static void write_file(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec* in, off_t off,
                       struct fuse_file_info* fi) {
  (void)ino;
  (void)off;
  char text[64];
  struct fuse_bufvec out = FUSE_BUFVEC_INIT(sizeof text);
  out.buf[0].mem = text;
  const ssize_t n = fuse_buf_copy(&out, in);
  if (n < 0) {
    fuse_reply_err(req, (int)-n);
    return;
  }
  note("write '%.*s' kill %d\n", (int)n, text, (int)fi->kill_priv);
  fuse_reply_write(req, (size_t)n);
}

static void set_xattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                      int flags, uint32_t setxattr_flags) {
  (void)ino;
  note("setxattr %s=%.*s flags %d kill_sgid %d\n", name, (int)size, value, flags,
       (setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0);
  fuse_reply_err(req, 0);
}

static void create_file(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                        struct fuse_file_info* fi) {
  (void)parent;
  (void)mode;
  note("create %s kill %d\n", name, (int)fi->kill_priv);
  struct fuse_entry_param e = entry(CREATED);
  e.attr_flags = FUSE_ATTR_SUBMOUNT;
  fi->fh = 78;
  fuse_reply_create(req, &e, fi);
}

static void read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info* fi) {
  (void)fi;
  static const char* const names[] = {"file", "sub"};
  char buffer[1024];
  size_t used = 0;
  for (size_t i = (size_t)off; ino == ROOT && i < 2; ++i) {
    const struct fuse_entry_param e = entry(FILE_INO + i);
    const size_t room = (size < sizeof buffer ? size : sizeof buffer) - used;
    const size_t needed = fuse_add_direntry_plus(req, buffer + used, room, names[i], &e, (off_t)i + 1);
    if (needed > room) break;
    used += needed;
  }
  fuse_reply_buf(req, buffer, used);
}

static void sync_all(fuse_req_t req, fuse_ino_t ino) {
  struct fuse_bufvec data = FUSE_BUFVEC_INIT(1);
  data.buf[0].mem = record;
  /* This guest takes no notifications. */
  const int stored = fuse_lowlevel_notify_store(session, FILE_INO, 0, &data);
  note("syncfs %d virtio %d store %s\n", (int)ino, fuse_lowlevel_is_virtio(session), strerror(-stored));
  fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {
    .init = init,
    .lookup = lookup,
    .forget = forget,
    .getattr = get_attributes,
    .setattr = set_attributes,
    .open = open_file,
    .read = read_file,
    .write_buf = write_file,
    .setxattr = set_xattr,
    .create = create_file,
    .readdirplus = read_directory,
    .syncfs = sync_all,
};

/* The cursor over untrusted memory. */
static int iterate(void) {
  char text[] = "ab\0cd";
  struct fuse_buf buf;
  memset(&buf, 0, sizeof buf);
  buf.mem = text;
  buf.size = 5;
  const struct fuse_buf* source = &buf;
  struct fuse_mbuf_iter iter = FUSE_MBUF_ITER_INIT(source);
  const char* word = fuse_mbuf_iter_advance_str(&iter);
  if (word == NULL || strcmp(word, "ab") != 0) return 1;
  if (fuse_mbuf_iter_advance_str(&iter) != NULL) return 2; /* no NUL any more */
  if (fuse_mbuf_iter_advance(&iter, 3) != NULL) return 3;  /* not that many */
  return fuse_mbuf_iter_advance(&iter, 2) == text + 3 ? 0 : 4;
}

static int serve(struct fuse_args* args, const struct fuse_cmdline_opts* opts) {
  static char userdata[] = "mine";
  session = fuse_session_new(args, &operations, sizeof operations, userdata);
  if (session == NULL) return 1;
  int status = 1;
  if (fuse_set_signal_handlers(session) == 0) {
    if (fuse_session_mount(session) == 0) {
      status = fuse_daemonize(opts->foreground) == 0 && fuse_session_loop(session) >= 0 ? 0 : 1;
      fuse_session_unmount(session);
    }
    fuse_remove_signal_handlers(session);
  }
  fuse_session_destroy(session);
  return status;
}

int main(int argc, char* argv[]) {
  struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
  struct fuse_cmdline_opts opts;
  int status = 0;
  if (fuse_parse_cmdline(&args, &opts) != 0) {
    status = 2;
  } else if (opts.show_help) {
    fuse_cmdline_help();
  } else {
    printf("foreground %d debug %d capabilities %d syslog %d level %d idle %u nofile %lu iterate %d\n",
           opts.foreground, opts.debug, opts.print_capabilities, opts.syslog, opts.log_level,
           opts.max_idle_threads, opts.rlimit_nofile, iterate());
    fflush(stdout);
    if (!opts.print_capabilities) status = serve(&args, &opts);
  }
  fuse_opt_free_args(&args);
  return status;
}
