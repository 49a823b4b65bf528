/* A file system with one file, "file", that is the file $BACKING_FILE: the kernel does its reading and writing
 * (FUSE_CAP_PASSTHROUGH). Requests to read and write, which must not come then, get EIO.
 */
#define FUSE_USE_VERSION 317
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kFile = 2 };

static int backing = -1;

static void init(void* userdata, struct fuse_conn_info* conn) {
  (void)userdata;
  if (!fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH)) exit(77);
  conn->max_backing_stack_depth = 0;
}

static int attributes(fuse_ino_t ino, struct stat* st) {
  if (ino == kFile) {
    if (fstat(backing, st) != 0) return errno;
  } else {
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFDIR | 0755;
    st->st_nlink = 2;
  }
  st->st_ino = ino;
  return 0;
}

static void getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)fi;
  struct stat st;
  const int error = attributes(ino, &st);
  if (error != 0) {
    fuse_reply_err(req, error);
  } else {
    fuse_reply_attr(req, &st, 0);
  }
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  struct fuse_entry_param entry;
  memset(&entry, 0, sizeof entry);
  entry.ino = kFile;
  if (parent != FUSE_ROOT_ID || strcmp(name, "file") != 0 || attributes(kFile, &entry.attr) != 0) {
    fuse_reply_err(req, ENOENT);
  } else {
    fuse_reply_entry(req, &entry);
  }
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)ino;
  fi->backing_id = fuse_passthrough_open(req, backing);
  if (fi->backing_id == 0) {
    fuse_reply_err(req, EIO);
    return;
  }
  fi->fh = (uint64_t)fi->backing_id;
  fuse_reply_open(req, fi);
}

static void release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info* fi) {
  (void)ino;
  fuse_reply_err(req, fuse_passthrough_close(req, (int)fi->fh) == 0 ? 0 : EIO);
}

static void read_file(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info* fi) {
  (void)ino, (void)size, (void)offset, (void)fi;
  fuse_reply_err(req, EIO);
}

static void write_file(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t offset,
                       struct fuse_file_info* fi) {
  (void)ino, (void)data, (void)size, (void)offset, (void)fi;
  fuse_reply_err(req, EIO);
}

int main(int argc, char* argv[]) {
  static const struct fuse_lowlevel_ops operations = {.init = init,
                                                      .lookup = lookup,
                                                      .getattr = getattr,
                                                      .open = open_file,
                                                      .read = read_file,
                                                      .write = write_file,
                                                      .release = release};
  struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
  struct fuse_cmdline_opts options;
  const char* path = getenv("BACKING_FILE");
  if (path == NULL || (backing = open(path, O_RDWR | O_CLOEXEC)) < 0) return 2;
  if (fuse_parse_cmdline(&args, &options) != 0 || options.mountpoint == NULL) return 2;
  struct fuse_session* session = fuse_session_new(&args, &operations, sizeof operations, NULL);
  if (session == NULL || fuse_session_mount(session, options.mountpoint) != 0) return 1;
  const int status = fuse_session_loop(session);
  fuse_session_unmount(session);
  fuse_session_destroy(session);
  free(options.mountpoint);
  fuse_opt_free_args(&args);
  close(backing);
  return status != 0;
}
