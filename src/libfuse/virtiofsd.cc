// virtiofsd_lowlevel.h: what differs there from fuse_lowlevel.h, over the same sessions and replies. That
// header and the other one cannot be included together, so that its structures are described here a second
// time; tests/libfuse/variant_fs.c is compiled with the header and uses each of them.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "libfuse/reply.h"
#include "libfuse/session.h"

using namespace fusewire::libfuse;

namespace {

// fuse_entry_param of the variant: its attr_flags stand right behind the plain one.
struct VariantEntry {
  fuse_entry_param plain;
  std::uint32_t attr_flags;
};

// fuse_lowlevel_ops of the variant: setxattr is of another type, and syncfs stands where later members of the
// plain one do.
constexpr std::size_t kPlainPart = offsetof(fuse_lowlevel_ops, tmpfile);
constexpr std::size_t kSetxattrAt = offsetof(fuse_lowlevel_ops, setxattr);

struct VariantCmdline {
  int foreground, debug, nodefault_subtype, show_version, show_help, print_capabilities, syslog, log_level;
  unsigned max_idle_threads;
  unsigned long rlimit_nofile;
};

#define ROW(text, member, value) {text, offsetof(VariantCmdline, member), value}

const fuse_opt kRows[] = {
    ROW("-h", show_help, 1),
    ROW("--help", show_help, 1),
    ROW("-V", show_version, 1),
    ROW("--version", show_version, 1),
    ROW("--print-capabilities", print_capabilities, 1),
    ROW("-d", debug, 1),
    ROW("debug", debug, 1),
    ROW("-d", foreground, 1),
    ROW("debug", foreground, 1),
    FUSE_OPT_KEY("-d", FUSE_OPT_KEY_KEEP),
    FUSE_OPT_KEY("debug", FUSE_OPT_KEY_KEEP),
    ROW("-f", foreground, 1),
    ROW("--daemonize", foreground, 0),
    ROW("fsname=", nodefault_subtype, 1),
    FUSE_OPT_KEY("fsname=", FUSE_OPT_KEY_KEEP),
    ROW("subtype=", nodefault_subtype, 1),
    FUSE_OPT_KEY("subtype=", FUSE_OPT_KEY_KEEP),
    ROW("max_idle_threads=%u", max_idle_threads, 0),
    ROW("--rlimit-nofile=%lu", rlimit_nofile, 0),
    ROW("--syslog", syslog, 1),
    ROW("log_level=debug", log_level, FUSE_LOG_DEBUG),
    ROW("log_level=info", log_level, FUSE_LOG_INFO),
    ROW("log_level=warn", log_level, FUSE_LOG_WARNING),
    ROW("log_level=err", log_level, FUSE_LOG_ERR),
    FUSE_OPT_END,
};

#undef ROW

int refuse_places(void*, const char* arg, int key, fuse_args*) {
  if (key != FUSE_OPT_KEY_NONOPT) return 1;
  fuse_log(FUSE_LOG_ERR, "fuse: '%s' is no option, and there is no mountpoint\n", arg);
  return -1;
}

// "-o vhost_user_socket=PATH" is an older name of "--socket-path=PATH". 0 or -1.
int rename_socket_option(fuse_args& args) {
  static const fuse_opt kSocket[] = {{"vhost_user_socket=%s", 0, 0}, FUSE_OPT_END};
  char* path = nullptr;
  int result = fuse_opt_parse(&args, static_cast<void*>(&path), kSocket, nullptr);
  if (result == 0 && path != nullptr)
    result = fuse_opt_add_arg(&args, (std::string("--socket-path=") + path).c_str());
  std::free(path);
  return result;
}

}  // namespace

extern "C" {

fuse_session* fuse_virtiofsd_session_new(fuse_args* args, const void* op, size_t op_size, void* userdata);
int fuse_virtiofsd_reply_entry(fuse_req_t req, const VariantEntry* e);
int fuse_virtiofsd_reply_create(fuse_req_t req, const VariantEntry* e, const fuse_file_info* fi);
size_t fuse_virtiofsd_add_direntry_plus(fuse_req_t req, char* buf, size_t bufsize, const char* name,
                                        const VariantEntry* e, off_t off);
int fuse_virtiofsd_parse_cmdline(fuse_args* args, VariantCmdline* opts);
void fuse_virtiofsd_cmdline_help();
int fuse_lowlevel_is_virtio(fuse_session* se);

fuse_session* fuse_virtiofsd_session_new(fuse_args* args, const void* op, size_t op_size,
                                         void* userdata) try {
  if (rename_socket_option(*args) != 0) return nullptr;
  const auto* table = static_cast<const std::byte*>(op);
  Operations plain{};
  VariantOperations variant;
  std::memcpy(static_cast<void*>(&plain), table, std::min(op_size, kPlainPart));
  plain.setxattr = nullptr;
  if (op_size >= kSetxattrAt + sizeof variant.setxattr)
    std::memcpy(&variant.setxattr, table + kSetxattrAt, sizeof variant.setxattr);
  if (op_size >= kPlainPart + sizeof variant.syncfs)
    std::memcpy(&variant.syncfs, table + kPlainPart, sizeof variant.syncfs);
  fuse_session* session = fuse_session_new(args, &plain, sizeof plain, userdata);
  if (session != nullptr) session->variant = variant;
  return session;
} catch (const std::bad_alloc&) {
  fuse_log(FUSE_LOG_ERR, "fuse: out of memory\n");
  return nullptr;
}

int fuse_virtiofsd_reply_entry(fuse_req_t req, const VariantEntry* e) {
  return answer_entry(req, e->plain, e->attr_flags);
}

int fuse_virtiofsd_reply_create(fuse_req_t req, const VariantEntry* e, const fuse_file_info* fi) {
  return answer_create(req, e->plain, *fi, e->attr_flags);
}

size_t fuse_virtiofsd_add_direntry_plus(fuse_req_t, char* buf, size_t bufsize, const char* name,
                                        const VariantEntry* e, off_t off) {
  static const VariantEntry kSizeOnly{};
  const VariantEntry& entry = e != nullptr ? *e : kSizeOnly;
  return add_direntry_plus(buf, bufsize, name, entry.plain, off, entry.attr_flags);
}

int fuse_virtiofsd_parse_cmdline(fuse_args* args, VariantCmdline* opts) {
  *opts = VariantCmdline{};
  opts->foreground = 1;
  opts->max_idle_threads = 10;
  return fuse_opt_parse(args, opts, kRows, refuse_places);
}

void fuse_virtiofsd_cmdline_help() {
  std::fputs(
      "    -h   --help                  show this text\n"
      "    -V   --version               show versions\n"
      "    --print-capabilities         describe this program to who starts it\n"
      "    --socket-path=PATH           serve the virtual machine that connects here\n"
      "    --fd=N                       the same, at an inherited listening socket\n"
      "    --thread-pool-size=N         threads for its requests (default: 0)\n"
      "    -d   -o debug                show every request; implies -f\n"
      "    -f                           stay in the foreground (default)\n"
      "    --daemonize                  go to the background\n"
      "    --syslog                     messages to the system log\n"
      "    -o log_level=LEVEL           err, warn, info or debug\n"
      "    -o max_idle_threads=N        threads that may wait for requests (default: 10)\n"
      "    --rlimit-nofile=N            limit of open files\n",
      stdout);
}

int fuse_lowlevel_is_virtio(fuse_session* se) { return se->serves_guest() ? 1 : 0; }

}  // extern "C"
