/* A file system that is one regular file, mounted on a file: 4096 bytes in memory. */
#define FUSE_USE_VERSION 34

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char content[4096] = "one file\n";

static struct stat attributes(void) {
  struct stat attr;
  memset(&attr, 0, sizeof attr);
  attr.st_ino = FUSE_ROOT_ID;
  attr.st_mode = S_IFREG | 0644;
  attr.st_nlink = 1;
  attr.st_size = sizeof content;
  return attr;
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)ino, (void)fi;
  const struct stat attr = attributes();
  fuse_reply_attr(req, &attr, 1.0);
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set,
                       struct fuse_file_info* fi) {
  (void)attr;
  if (to_set & FUSE_SET_ATTR_SIZE)
    fuse_reply_err(req, EPERM);
  else
    do_getattr(req, ino, fi);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)ino;
  fuse_reply_open(req, fi);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info* fi) {
  (void)ino, (void)fi;
  const size_t at = off < (off_t)sizeof content ? (size_t)off : sizeof content;
  fuse_reply_buf(req, content + at, size < sizeof content - at ? size : sizeof content - at);
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t off,
                     struct fuse_file_info* fi) {
  (void)ino, (void)fi;
  if ((size_t)off > sizeof content || size > sizeof content - (size_t)off) {
    fuse_reply_err(req, EFBIG);
    return;
  }
  memcpy(content + off, data, size);
  fuse_reply_write(req, size);
}

int main(int argc, char* argv[]) {
  struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
  const struct fuse_lowlevel_ops ops = {
      .getattr = do_getattr, .setattr = do_setattr, .open = do_open, .read = do_read, .write = do_write};
  struct fuse_cmdline_opts opts;
  if (fuse_parse_cmdline(&args, &opts) != 0) return 1;
  struct fuse_session* session = fuse_session_new(&args, &ops, sizeof ops, NULL);
  if (session == NULL || fuse_set_signal_handlers(session) != 0) return 1;
  if (fuse_session_mount(session, opts.mountpoint) != 0) return 1;
  const int result = fuse_session_loop(session);
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  free(opts.mountpoint);
  fuse_opt_free_args(&args);
  return result == 0 ? 0 : 1;
}
