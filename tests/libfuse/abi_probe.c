/* Calls functions of which there is more than one version, and such as take structures that the caller lays
 * out. Compiled against Debian's headers and linked to Debian's library, it must print the same over ours. */
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum fuse_log_level level, const char* format, va_list arguments) {
  (void)level;
  (void)format;
  (void)arguments;
}

static void command_line(void) {
  struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
  const char* const given[] = {"/usr/bin/probe", "-f", "-s", "-o", "clone_fd,max_idle_threads=3,allow_other",
                               "/dev/../tmp"};
  for (size_t i = 0; i < sizeof given / sizeof given[0]; ++i) fuse_opt_add_arg(&args, given[i]);
  struct fuse_cmdline_opts opts;
  memset(&opts, 0, sizeof opts);
  printf("parse %d ", fuse_parse_cmdline(&args, &opts));
  printf("%d %d %d %d %s %d %d %u\n", opts.singlethread, opts.foreground, opts.debug, opts.nodefault_subtype,
         opts.mountpoint, opts.show_help, opts.clone_fd, opts.max_idle_threads);
  for (int i = 0; i < args.argc; ++i) printf("left %s\n", args.argv[i]);
  free(opts.mountpoint);
  fuse_opt_free_args(&args);
}

static void buffers(void) {
  char from[] = "abcdef", to[8] = "";
  struct fuse_bufvec source = FUSE_BUFVEC_INIT(6), target = FUSE_BUFVEC_INIT(4);
  source.buf[0].mem = from;
  target.buf[0].mem = to;
  printf("copy %d ", (int)fuse_buf_copy(&target, &source, (enum fuse_buf_copy_flags)0));
  printf("%s %zu %zu\n", to, fuse_buf_size(&source), source.off);
}

static void connection(void) {
  struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
  fuse_opt_add_arg(&args, "probe");
  fuse_opt_add_arg(&args, "-omax_write=4096,no_splice_read,writeback_cache,other");
  struct fuse_conn_info_opts* opts = fuse_parse_conn_info_opts(&args);
  struct fuse_conn_info conn;
  memset(&conn, 0, sizeof conn);
  conn.want = FUSE_CAP_SPLICE_READ | FUSE_CAP_ASYNC_READ;
  fuse_apply_conn_info_opts(opts, &conn);
  printf("conn %u %x\n", conn.max_write, conn.want);
  for (int i = 0; i < args.argc; ++i) printf("left %s\n", args.argv[i]);
  free(opts);
  fuse_opt_free_args(&args);
}

static void sessions(void) {
  struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
  fuse_opt_add_arg(&args, "probe");
  struct fuse_lowlevel_ops ops;
  memset(&ops, 0, sizeof ops);
  struct fuse_session* session = fuse_session_new(&args, &ops, sizeof ops, NULL);
  printf("session %d fd %d exited %d", session != NULL, fuse_session_fd(session),
         fuse_session_exited(session));
  fuse_session_exit(session);
  printf(" %d", fuse_session_exited(session));
  fuse_session_reset(session);
  printf(" %d\n", fuse_session_exited(session));
  struct fuse_custom_io io;
  memset(&io, 0, sizeof io);
  printf("custom io %d\n", fuse_session_custom_io(session, &io, 0) < 0);
  fuse_session_destroy(session);
  fuse_opt_add_arg(&args, "--unheard-of");
  printf("unknown option %d\n", fuse_session_new(&args, &ops, sizeof ops, NULL) != NULL);
  fuse_opt_free_args(&args);
}

int main(void) {
  fuse_set_log_func(quiet);
  command_line();
  buffers();
  connection();
  sessions();
  return 0;
}
