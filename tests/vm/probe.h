// guest-probe: what the guest script cannot do with busybox alone. One static program that runs in the guest
// on the share and on the host on its own file system; both runs have to print the same lines. So nothing
// that differs from run to run is printed: no times, inode or device numbers, no process ids.
//
// Single-threaded; every section forks for what needs a second process or another user.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

namespace probe {

// Prints one line, "<section>: <what>: <text as printf makes it>", and flushes it. Arguments are computed in
// no particular order: a call and the look at what it did belong in two lines.
[[gnu::format(printf, 2, 3)]] void say(const char* what, const char* format, ...);

// "ok" for a result that is not negative, else the name of errno, such as "ENOENT".
const char* outcome(long result);

// Ends the program with a message unless `held`: for steps that only prepare a check.
void must(bool held, const char* what);

// An owned descriptor. A failed open is allowed: it converts to -1, and `why()` says what errno was.
class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0644)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)), error_(fd_ < 0 ? errno_now() : 0) {}
  ~File() { close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  operator int() const { return fd_; }
  void close();
  const char* why() const;

 private:
  static int errno_now();
  int fd_;
  int error_;
};

// Makes (or replaces) a file with these bytes.
void put(const std::string& path, const std::string& bytes, mode_t mode = 0644);
// All bytes of a file, or "<errno name>".
std::string get(const std::string& path);
// Up to `size` bytes at `offset`.
std::string get_at(int fd, off_t offset, size_t size);
struct stat stat_of(const std::string& path);
struct stat stat_of(int fd);
// The permission bits with set-uid, set-gid and sticky.
unsigned mode_of(const std::string& path);

// Starts `body` in a child process; `wait_for` returns its exit status, or 128 + the signal that ended it.
pid_t start(const std::function<int()>& body);
int wait_for(pid_t child);
// Runs `body` in a child as this user, with exactly these groups. What it says is printed as usual.
void as_user(uid_t uid, gid_t gid, const std::vector<gid_t>& groups, const std::function<void()>& body);

// A one-way signal between processes: `raise` in one, `await` in the other. Made before the fork.
class Flag {
 public:
  Flag();
  void raise();
  void await();
  // Whether it was raised within this time.
  bool raised_within(int milliseconds);

 private:
  int ends_[2];
};

// The sections, each in a file probe_<name>.cc of its own; all work in the current directory, which is theirs
// alone.
void files();
void tmpfile();
void sparse();
void mapping();
void names();
void directories();
void permissions();
void xattrs();
void acls();
void locks();

// What scenarios of vm_test.py use; see probe_work.cc.
int fill(const char* path, unsigned long long size, unsigned long long seed);
int hammer(const char* directory, const char* stop_file);
int make_tree(const char* directory, unsigned files);
int use_counter(const std::string& path);
int poll_file(const std::string& path);

}  // namespace probe
