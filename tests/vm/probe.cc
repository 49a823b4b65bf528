#include "probe.h"

#include <grp.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace probe {
namespace {
const char* current_section = "probe";
}  // namespace

void say(const char* what, const char* format, ...) {
  std::printf("%s: %s: ", current_section, what);
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
  std::fflush(stdout);
}

const char* outcome(long result) {
  if (result >= 0) return "ok";
  const char* name = strerrorname_np(errno);
  return name != nullptr ? name : "unknown errno";
}

void must(bool held, const char* what) {
  if (held) return;
  std::printf("%s: CANNOT PREPARE: %s: %s\n", current_section, what, std::strerror(errno));
  std::fflush(stdout);
  _exit(3);
}

int File::errno_now() { return errno; }

void File::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

const char* File::why() const {
  errno = error_;
  return outcome(error_ == 0 ? 0 : -1);
}

void put(const std::string& path, const std::string& bytes, mode_t mode) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  must(file >= 0, path.c_str());
  must(::write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), path.c_str());
}

std::string get(const std::string& path) {
  File file(path, O_RDONLY);
  if (file < 0) return std::string("<") + file.why() + ">";
  return get_at(file, 0, 1 << 20);
}

std::string get_at(int fd, off_t offset, size_t size) {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    ssize_t count = ::pread(fd, bytes.data() + done, size - done, offset + static_cast<off_t>(done));
    if (count < 0) return std::string("<") + outcome(count) + ">";
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

struct stat stat_of(const std::string& path) {
  struct stat st;
  must(::lstat(path.c_str(), &st) == 0, path.c_str());
  return st;
}

struct stat stat_of(int fd) {
  struct stat st;
  must(::fstat(fd, &st) == 0, "fstat");
  return st;
}

unsigned mode_of(const std::string& path) { return stat_of(path).st_mode & 07777; }

pid_t start(const std::function<int()>& body) {
  std::fflush(stdout);
  pid_t child = ::fork();
  must(child >= 0, "fork");
  if (child == 0) {
    int status = body();
    std::fflush(stdout);
    _exit(status);
  }
  return child;
}

int wait_for(pid_t child) {
  int status = 0;
  must(::waitpid(child, &status, 0) == child, "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void as_user(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, const std::function<void()>& body) {
  int status = wait_for(start([&] {
    must(::setgroups(groups.size(), groups.data()) == 0, "setgroups");
    must(::setresgid(gid, gid, gid) == 0, "setresgid");
    must(::setresuid(uid, uid, uid) == 0, "setresuid");
    body();
    return 0;
  }));
  if (status != 0) say("child", "ended with status %d", status);
}

Flag::Flag() { must(::pipe(ends_) == 0, "pipe"); }

void Flag::raise() { must(::write(ends_[1], "x", 1) == 1, "raise"); }

void Flag::await() {
  char byte;
  must(::read(ends_[0], &byte, 1) == 1, "await");
}

bool Flag::raised_within(int milliseconds) {
  struct pollfd wanted = {ends_[0], POLLIN, 0};
  if (::poll(&wanted, 1, milliseconds) != 1) return false;
  await();
  return true;
}

}  // namespace probe

namespace {

struct Section {
  const char* name;
  void (*run)();
};

constexpr Section kSections[] = {
    {"files", probe::files},
    {"tmpfile", probe::tmpfile},
    {"sparse", probe::sparse},
    {"mapping", probe::mapping},
    {"names", probe::names},
    {"directories", probe::directories},
    {"permissions", probe::permissions},
    {"xattrs", probe::xattrs},
    {"acls", probe::acls},
    {"locks", probe::locks},
};

// Runs one section in a new folder of its name below the current one.
int run_section(const Section& section) {
  probe::current_section = section.name;
  ::umask(022);
  probe::must(::mkdir(section.name, 0755) == 0, section.name);
  probe::must(::chdir(section.name) == 0, section.name);
  section.run();
  probe::must(::chdir("..") == 0, "..");
  return 0;
}

// as UID GID COMMAND ARGUMENT...: runs a command as another user with no other groups; busybox's su wants
// accounts.
int run_as(char** arguments) {
  gid_t gid = static_cast<gid_t>(std::strtoul(arguments[1], nullptr, 10));
  uid_t uid = static_cast<uid_t>(std::strtoul(arguments[0], nullptr, 10));
  if (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 || ::setresuid(uid, uid, uid) != 0) {
    std::perror("guest-probe as");
    return 126;
  }
  ::execvp(arguments[2], arguments + 2);
  std::perror(arguments[2]);
  return 127;
}

int usage() {
  std::fputs(
      "usage: guest-probe section NAME...        run these sections in the current directory\n"
      "       guest-probe sections               list them\n"
      "       guest-probe as UID GID COMMAND...  run a command as another user\n"
      "       guest-probe fill FILE SIZE SEED    write SIZE bytes made from SEED\n"
      "       guest-probe hammer DIR STOP_FILE   write and verify until STOP_FILE exists\n"
      "       guest-probe make-tree DIR FILES    make a tree of so many small files\n"
      "       guest-probe counter FILE           the commands of examples/ioctl.cc\n"
      "       guest-probe poll FILE              poll for input, without waiting\n"
      "       guest-probe true                   succeed\n",
      stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "section" && argc > 2) {
    for (int i = 2; i < argc; ++i) {
      const auto* section = std::ranges::find_if(
          kSections, [&](const Section& candidate) { return std::strcmp(candidate.name, argv[i]) == 0; });
      if (section == std::end(kSections)) return usage();
      run_section(*section);
    }
    return 0;
  }
  if (verb == "sections") {
    for (const Section& section : kSections) std::puts(section.name);
    return 0;
  }
  if (verb == "as" && argc > 4) return run_as(argv + 2);
  if (verb == "fill" && argc == 5)
    return probe::fill(argv[2], std::strtoull(argv[3], nullptr, 10), std::strtoull(argv[4], nullptr, 10));
  if (verb == "hammer" && argc == 4) return probe::hammer(argv[2], argv[3]);
  if (verb == "make-tree" && argc == 4)
    return probe::make_tree(argv[2], static_cast<unsigned>(std::strtoul(argv[3], nullptr, 10)));
  if (verb == "counter" && argc == 3) return probe::use_counter(argv[2]);
  if (verb == "poll" && argc == 3) return probe::poll_file(argv[2]);
  if (verb == "true") return 0;
  return usage();
}
