/* Prints sizes and offsets of every public structure: compiled against our headers and against
 * libfuse3-dev's, it must print the same. Structures that a size goes with (fuse_lowlevel_ops,
 * fuse_custom_io) may have grown at the end. */
#include <fuse_lowlevel.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define SIZE_ONLY(type) printf("sizeof " #type " %zu\n", sizeof(struct type))
#define SIZE(type) printf("sizeof " #type " %zu align %zu\n", sizeof(struct type), _Alignof(struct type))
#define FIELD(type, member) \
  printf(#type "." #member " %zu+%zu\n", offsetof(struct type, member), sizeof(((struct type*)0)->member))
#define OP(member) FIELD(fuse_lowlevel_ops, member)
/* The place of a bit-field: the bytes of an object in which nothing else is set. */
#define BITS(type, member)                                                            \
  do {                                                                                \
    union {                                                                           \
      struct type object;                                                             \
      unsigned char bytes[sizeof(struct type)];                                       \
    } u;                                                                              \
    memset(&u, 0, sizeof u);                                                          \
    u.object.member = 1;                                                              \
    printf(#type "." #member " ");                                                    \
    for (size_t i = 0; i < sizeof u.bytes; ++i) printf("%02x", (unsigned)u.bytes[i]); \
    printf("\n");                                                                     \
  } while (0)

static void operations(void) {
  OP(init);
  OP(destroy);
  OP(lookup);
  OP(forget);
  OP(getattr);
  OP(setattr);
  OP(readlink);
  OP(mknod);
  OP(mkdir);
  OP(unlink);
  OP(rmdir);
  OP(symlink);
  OP(rename);
  OP(link);
  OP(open);
  OP(read);
  OP(write);
  OP(flush);
  OP(release);
  OP(fsync);
  OP(opendir);
  OP(readdir);
  OP(releasedir);
  OP(fsyncdir);
  OP(statfs);
  OP(setxattr);
  OP(getxattr);
  OP(listxattr);
  OP(removexattr);
  OP(access);
  OP(create);
  OP(getlk);
  OP(setlk);
  OP(bmap);
  OP(ioctl);
  OP(poll);
  OP(write_buf);
  OP(retrieve_reply);
  OP(forget_multi);
  OP(flock);
  OP(fallocate);
  OP(readdirplus);
  OP(copy_file_range);
  OP(lseek);
}

static void connection(void) {
  /* Only the library makes these; later members need 8 bytes of alignment. */
  SIZE_ONLY(fuse_conn_info);
  FIELD(fuse_conn_info, proto_major);
  FIELD(fuse_conn_info, proto_minor);
  FIELD(fuse_conn_info, max_write);
  FIELD(fuse_conn_info, max_read);
  FIELD(fuse_conn_info, max_readahead);
  FIELD(fuse_conn_info, capable);
  FIELD(fuse_conn_info, want);
  FIELD(fuse_conn_info, max_background);
  FIELD(fuse_conn_info, congestion_threshold);
  FIELD(fuse_conn_info, time_gran);
}

static void file_info(void) {
  SIZE(fuse_file_info);
  FIELD(fuse_file_info, flags);
  BITS(fuse_file_info, writepage);
  BITS(fuse_file_info, direct_io);
  BITS(fuse_file_info, keep_cache);
  BITS(fuse_file_info, flush);
  BITS(fuse_file_info, nonseekable);
  BITS(fuse_file_info, flock_release);
  BITS(fuse_file_info, cache_readdir);
  BITS(fuse_file_info, noflush);
  FIELD(fuse_file_info, fh);
  FIELD(fuse_file_info, lock_owner);
  FIELD(fuse_file_info, poll_events);
}

static void entries(void) {
  SIZE(fuse_entry_param);
  FIELD(fuse_entry_param, ino);
  FIELD(fuse_entry_param, generation);
  FIELD(fuse_entry_param, attr);
  FIELD(fuse_entry_param, attr_timeout);
  FIELD(fuse_entry_param, entry_timeout);
  SIZE(fuse_ctx);
  FIELD(fuse_ctx, uid);
  FIELD(fuse_ctx, gid);
  FIELD(fuse_ctx, pid);
  FIELD(fuse_ctx, umask);
  SIZE(fuse_forget_data);
  FIELD(fuse_forget_data, ino);
  FIELD(fuse_forget_data, nlookup);
}

static void buffers(void) {
  SIZE(fuse_buf);
  FIELD(fuse_buf, size);
  FIELD(fuse_buf, flags);
  FIELD(fuse_buf, mem);
  FIELD(fuse_buf, fd);
  FIELD(fuse_buf, pos);
  SIZE(fuse_bufvec);
  FIELD(fuse_bufvec, count);
  FIELD(fuse_bufvec, idx);
  FIELD(fuse_bufvec, off);
  FIELD(fuse_bufvec, buf);
  const struct fuse_bufvec initial = FUSE_BUFVEC_INIT(9);
  printf("FUSE_BUFVEC_INIT %zu %zu %zu %zu %d %d %d\n", initial.count, initial.idx, initial.off,
         initial.buf[0].size, (int)initial.buf[0].flags, initial.buf[0].mem == NULL, initial.buf[0].fd);
}

static void options(void) {
  SIZE(fuse_opt);
  FIELD(fuse_opt, templ);
  FIELD(fuse_opt, offset);
  FIELD(fuse_opt, value);
  SIZE(fuse_args);
  FIELD(fuse_args, argc);
  FIELD(fuse_args, argv);
  FIELD(fuse_args, allocated);
  const struct fuse_opt rows[] = {FUSE_OPT_KEY("x", 5), FUSE_OPT_END};
  printf("FUSE_OPT_KEY %lu %d %d\n", rows[0].offset, rows[0].value, rows[1].templ == NULL);
  SIZE(fuse_cmdline_opts);
  FIELD(fuse_cmdline_opts, singlethread);
  FIELD(fuse_cmdline_opts, foreground);
  FIELD(fuse_cmdline_opts, debug);
  FIELD(fuse_cmdline_opts, nodefault_subtype);
  FIELD(fuse_cmdline_opts, mountpoint);
  FIELD(fuse_cmdline_opts, show_version);
  FIELD(fuse_cmdline_opts, show_help);
  FIELD(fuse_cmdline_opts, clone_fd);
  FIELD(fuse_cmdline_opts, max_idle_threads);
  FIELD(fuse_cmdline_opts, max_threads);
}

static void loops(void) {
#if FUSE_USE_VERSION < 312
#define fuse_loop_config_v1 fuse_loop_config
#endif
  SIZE(fuse_loop_config_v1);
  FIELD(fuse_loop_config_v1, clone_fd);
  FIELD(fuse_loop_config_v1, max_idle_threads);
  FIELD(fuse_custom_io, writev);
  FIELD(fuse_custom_io, read);
  FIELD(fuse_custom_io, splice_receive);
  FIELD(fuse_custom_io, splice_send);
}

int main(void) {
  operations();
  connection();
  file_info();
  entries();
  buffers();
  options();
  loops();
  return 0;
}
