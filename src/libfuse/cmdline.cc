// fuse_parse_cmdline, in its versions, and the texts about options and versions.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <string>

#include "devfuse/mount.h"
#include "fuse3/fuse_lowlevel.h"
#include "fusewire/wire.h"
#include "libfuse/loop_config.h"
#include "libfuse/socket_options.h"
#include "libfuse/symver.h"

namespace {

using fusewire::libfuse::kDefaultMaxIdleThreads;
using fusewire::libfuse::kDefaultMaxThreads;
using fusewire::libfuse::kSocketOptions;
using fusewire::libfuse::socket_from_environment;

// What is parsed into: the caller's structure first, so that rows' offsets are those of its members.
struct CommandLine {
  fuse_cmdline_opts opts;
  int serves_socket;  // a socket option was seen
};

#define ROW(text, member) {text, offsetof(CommandLine, member), 1}

const fuse_opt kRows[] = {
    ROW("-h", opts.show_help),
    ROW("--help", opts.show_help),
    ROW("-V", opts.show_version),
    ROW("--version", opts.show_version),
    ROW("-d", opts.debug),
    ROW("debug", opts.debug),
    ROW("-d", opts.foreground),
    ROW("debug", opts.foreground),
    FUSE_OPT_KEY("-d", FUSE_OPT_KEY_KEEP),
    FUSE_OPT_KEY("debug", FUSE_OPT_KEY_KEEP),
    ROW("-f", opts.foreground),
    ROW("-s", opts.singlethread),
    ROW("fsname=", opts.nodefault_subtype),
    FUSE_OPT_KEY("fsname=", FUSE_OPT_KEY_KEEP),
    ROW("subtype=", opts.nodefault_subtype),
    FUSE_OPT_KEY("subtype=", FUSE_OPT_KEY_KEEP),
    ROW("clone_fd", opts.clone_fd),
    {"max_idle_threads=%u", offsetof(CommandLine, opts.max_idle_threads), 0},
    {"max_threads=%u", offsetof(CommandLine, opts.max_threads), 0},
    ROW("--socket-path=", serves_socket),
    FUSE_OPT_KEY("--socket-path=", FUSE_OPT_KEY_KEEP),
    ROW("--fd=", serves_socket),
    FUSE_OPT_KEY("--fd=", FUSE_OPT_KEY_KEEP),
    FUSE_OPT_KEY("--thread-pool-size=", FUSE_OPT_KEY_KEEP),
    FUSE_OPT_END,
};

#undef ROW

// The first argument that is no option is the mountpoint. It is made absolute, since a daemon leaves its
// directory;
// "/dev/fd/N" is no place but a descriptor, and stays.
int take_mountpoint(void* data, const char* arg, int key, fuse_args*) {
  if (key != FUSE_OPT_KEY_NONOPT) return 1;
  auto& line = *static_cast<CommandLine*>(data);
  if (line.opts.mountpoint != nullptr) {
    fuse_log(FUSE_LOG_ERR, "fuse: '%s': there is a mountpoint already\n", arg);
    return -1;
  }
  const bool descriptor = fusewire::devfuse::inherited_descriptor(arg).has_value();
  line.opts.mountpoint = descriptor ? strdup(arg) : realpath(arg, nullptr);
  if (line.opts.mountpoint != nullptr) return 0;
  fuse_log(FUSE_LOG_ERR, "fuse: mountpoint '%s': %s\n", arg, strerrordesc_np(errno));
  return -1;
}

// The program's name tells what the mount is, in /proc/mounts, if nothing else does.
int add_default_subtype(fuse_args& args) {
  if (args.argc == 0 || args.argv[0] == nullptr) return 0;
  const char* slash = std::strrchr(args.argv[0], '/');
  const char* name = slash != nullptr ? slash + 1 : args.argv[0];
  if (*name == '\0') return 0;
  const std::string option = std::string("-osubtype=") + name;
  return fuse_opt_add_arg(&args, option.c_str());
}

// "--fd 5" becomes "--fd=5": the templates would take the value for the mountpoint. 0 or -1.
int join_socket_options(fuse_args& args) {
  fuse_args joined = FUSE_ARGS_INIT(0, nullptr);
  bool options = true;
  int error = 0;
  for (int i = 0; i < args.argc && error == 0; ++i) {
    std::string argument = args.argv[i];
    options = options && argument != "--";
    if (options && i + 1 < args.argc &&
        std::ranges::find(kSocketOptions, argument) != std::end(kSocketOptions))
      argument.append("=").append(args.argv[++i]);
    error = fuse_opt_add_arg(&joined, argument.c_str());
  }
  if (error != 0 || joined.argc == args.argc) {
    fuse_opt_free_args(&joined);
    return error;
  }
  fuse_opt_free_args(&args);
  args = joined;
  return 0;
}

int complete(CommandLine& line, fuse_args& args) {
  // Programs take no mountpoint for a mistake; where they need none there must be one that is not NULL.
  const bool serves_socket = line.serves_socket != 0 || socket_from_environment() != nullptr;
  if (line.opts.mountpoint == nullptr && serves_socket) {
    line.opts.mountpoint = strdup("");
    if (line.opts.mountpoint == nullptr) return -1;
  }
  return line.opts.nodefault_subtype != 0 ? 0 : add_default_subtype(args);
}

int parse(fuse_args& args, fuse_cmdline_opts& result) try {
  CommandLine line{};
  line.opts.max_idle_threads = kDefaultMaxIdleThreads;
  line.opts.max_threads = kDefaultMaxThreads;
  const bool parsed = join_socket_options(args) == 0 &&
                      fuse_opt_parse(&args, &line, kRows, take_mountpoint) == 0 && complete(line, args) == 0;
  if (!parsed) {
    std::free(line.opts.mountpoint);
    line.opts.mountpoint = nullptr;
  }
  result = line.opts;
  return parsed ? 0 : -1;
} catch (const std::bad_alloc&) {
  fuse_log(FUSE_LOG_ERR, "fuse: out of memory\n");
  return -1;
}

}  // namespace

extern "C" {

int fuse_parse_cmdline_30(fuse_args* args, fuse_cmdline_opts* opts);
int fuse_parse_cmdline_312(fuse_args* args, fuse_cmdline_opts* opts);

int fuse_parse_cmdline_312(fuse_args* args, fuse_cmdline_opts* opts) { return parse(*args, *opts); }

// For programs built before 3.12, whose structure ends with max_idle_threads.
int fuse_parse_cmdline_30(fuse_args* args, fuse_cmdline_opts* opts) {
  fuse_cmdline_opts whole{};
  const int result = parse(*args, whole);
  std::memcpy(opts, &whole, offsetof(fuse_cmdline_opts, max_threads));
  return result;
}

void fuse_cmdline_help() {
  std::fputs(
      "    -h   --help            show this text\n"
      "    -V   --version         show versions\n"
      "    -d   -o debug          show every request; implies -f\n"
      "    -f                     stay in the foreground\n"
      "    -s                     one thread only\n"
      "    -o clone_fd            a device descriptor for each thread\n"
      "    -o max_idle_threads=N  threads that may wait for requests (default: any number)\n"
      "    -o max_threads=N       threads in all (default: 10)\n",
      stdout);
}

void fuse_lowlevel_help() {
  std::fputs(
      "    -o allow_other         users other than the one who mounts may enter\n"
      "    -o allow_root          root may enter\n"
      "    -o auto_unmount        unmount when the process ends, however it does\n"
      "    -o io_uring            requests come over io_uring, a queue for each processor\n"
      "    -o io_uring_q_depth=N  requests that each of these serves at once (default: 8)\n"
      "    -o poll_us=N           wait awake for the next request, N microseconds at most (default: 50)\n"
      "    --socket-path=PATH     no mount: serve a virtual machine by vhost-user at PATH\n"
      "    --fd=N                 the same, at an inherited listening socket\n"
      "    --thread-pool-size=N   threads for its requests (default: 0)\n",
      stdout);
}

void fuse_lowlevel_version() {
  std::printf("FUSE protocol: %u.%u\n", FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION);
  // The helper prints its own line on our standard output, which must not overtake ours.
  std::fflush(stdout);
  const char* const argv[] = {"fusermount3", "-V", nullptr};
  pid_t pid = -1;
  // SAFETY: posix_spawn(3) does not write to its arguments, whatever its type says.
  if (posix_spawnp(&pid, argv[0], nullptr, nullptr, const_cast<char* const*>(argv), environ) != 0) return;
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // extern "C"

FUSEWIRE_SYMVER(fuse_parse_cmdline_30, "fuse_parse_cmdline@FUSE_3.0");
FUSEWIRE_SYMVER(fuse_parse_cmdline_312, "fuse_parse_cmdline@@FUSE_3.12");
