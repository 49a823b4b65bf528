// Opening, reading, writing, truncating, copying and timestamps of ordinary files.
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "probe.h"

namespace probe {
namespace {

void opening() {
  {
    File first("new", O_RDWR | O_CREAT | O_EXCL, 0640);
    say("create with O_EXCL", "%s mode %o", first.why(), mode_of("new"));
    File second("new", O_RDWR | O_CREAT | O_EXCL);
    say("create with O_EXCL again", "%s", second.why());
  }
  say("open what is missing", "%s", File("missing", O_RDONLY).why());
  must(::mkdir("folder", 0755) == 0, "mkdir");
  say("open a folder for writing", "%s", File("folder", O_WRONLY).why());
  say("open a folder with O_CREAT", "%s", File("folder", O_RDWR | O_CREAT).why());
  say("O_DIRECTORY on a file", "%s", File("new", O_RDONLY | O_DIRECTORY).why());
  say("a file as a folder", "%s", File("new/below", O_RDONLY).why());
  must(::symlink("new", "link") == 0, "symlink");
  say("O_NOFOLLOW on a symlink", "%s", File("link", O_RDONLY | O_NOFOLLOW).why());
  say("O_CREAT|O_EXCL on a symlink", "%s", File("link", O_RDWR | O_CREAT | O_EXCL).why());
  must(::symlink("made-through-link", "dangling") == 0, "symlink");
  say("O_CREAT through a dangling symlink", "%s", File("dangling", O_RDWR | O_CREAT).why());
  say("... made its target", "%s", outcome(::access("made-through-link", F_OK)));

  put("full", "0123456789");
  {
    File file("full", O_WRONLY | O_TRUNC);
  }
  say("O_TRUNC", "size %lld", static_cast<long long>(stat_of("full").st_size));

  for (mode_t mask : {0, 022, 077}) {
    ::umask(mask);
    File file("masked", O_RDWR | O_CREAT, 0666);
    char what[32];
    snprintf(what, sizeof(what), "create with umask %03o", mask);
    say(what, "mode %o", mode_of("masked"));
    must(::unlink("masked") == 0, "unlink");
  }
  ::umask(022);
  {
    File file("special", O_RDWR | O_CREAT, 06755);
  }
  say("create with set-id bits", "mode %o", mode_of("special"));
  {
    File file("unreadable", O_RDWR | O_CREAT | O_EXCL, 0);
    say("create with mode 0 for writing", "%s", file.why());
  }
}

void reading_and_writing() {
  File file("data", O_RDWR | O_CREAT);
  must(file >= 0, "data");
  say("write", "%zd", ::write(file, "hello", 5));
  say("write past the end", "%zd", ::pwrite(file, "world", 5, 10000));
  say("size", "%lld", static_cast<long long>(stat_of(file).st_size));
  std::string gap = get_at(file, 5, 9995);
  say("gap is zeros", "%d", gap == std::string(9995, '\0'));
  say("read at the end", "%zu bytes", get_at(file, 10005, 10).size());
  say("read across the end", "%s", get_at(file, 10000, 100).c_str());
  say("read far past the end", "%zu bytes", get_at(file, 1 << 30, 10).size());

  char one[] = "ab", two[] = "cde";
  struct iovec pieces[] = {{one, 2}, {two, 3}};
  say("pwritev", "%zd", ::pwritev(file, pieces, 2, 4094));
  say("... reads back", "%s", get_at(file, 4094, 5).c_str());

  say("shrink", "%s", outcome(::ftruncate(file, 3)));
  say("grow", "%s", outcome(::ftruncate(file, 6)));
  say("... new part is zeros", "%d", get_at(file, 0, 100) == std::string("hel\0\0\0", 6));
  say("truncate by name", "%s", outcome(::truncate("data", 1)));
  say("... then", "size %lld", static_cast<long long>(stat_of("data").st_size));
  say("truncate a folder", "%s", outcome(::truncate("folder", 0)));
  say("truncate to a negative size", "%s", outcome(::ftruncate(file, -1)));

  File first("log", O_WRONLY | O_CREAT | O_APPEND);
  File second("log", O_WRONLY | O_APPEND);
  for (int i = 0; i < 3; ++i) {
    must(::write(first, "one ", 4) == 4 && ::write(second, "two ", 4) == 4, "append");
  }
  must(::pwrite(first, "end", 3, 0) == 3, "pwrite");  // Linux appends here too, whatever the offset.
  say("two writers with O_APPEND", "%s", get("log").c_str());

  std::string big(3 << 20, 'x');
  for (size_t i = 0; i < big.size(); i += 1000) big[i] = static_cast<char>('a' + i / 1000 % 26);
  File large("large", O_RDWR | O_CREAT);
  say("one write of 3 MiB", "%zd", ::write(large, big.data(), big.size()));
  say("... reads back", "%d", get_at(large, 0, big.size()) == big);
  say("... reads back from the middle", "%d",
      get_at(large, 1234567, 1 << 20) == big.substr(1234567, 1 << 20));

  say("write at 2^62", "%s", outcome(::pwrite(file, "x", 1, 1LL << 62)));
}

void direct() {
  constexpr size_t kSize = 16384;
  void* memory = std::aligned_alloc(4096, kSize);
  must(memory != nullptr, "memory");
  std::memset(memory, 'd', kSize);
  File file("direct", O_RDWR | O_CREAT | O_DIRECT);
  say("open with O_DIRECT", "%s", file.why());
  say("O_DIRECT write", "%zd", ::pwrite(file, memory, kSize, 0));
  std::memset(memory, 0, kSize);
  say("O_DIRECT read", "%zd", ::pread(file, memory, kSize, 4096));
  say("... is what was written", "%d",
      std::memcmp(memory, std::string(kSize - 4096, 'd').data(), kSize - 4096) == 0);
  say("a plain read agrees", "%d", get("direct") == std::string(kSize, 'd'));
  put("direct", std::string(kSize, 'e'));
  say("O_DIRECT read after a plain write", "%zd", ::pread(file, memory, kSize, 0));
  say("... sees it", "%d", std::memcmp(memory, std::string(kSize, 'e').data(), kSize) == 0);
  std::free(memory);
}

void unlinked() {
  File file("gone", O_RDWR | O_CREAT);
  must(::write(file, "before", 6) == 6, "write");
  say("unlink while open", "%s", outcome(::unlink("gone")));
  say("links left", "%ju", static_cast<uintmax_t>(stat_of(file).st_nlink));
  say("write to it", "%zd", ::pwrite(file, "AFTER", 5, 6));
  say("read from it", "%s", get_at(file, 0, 100).c_str());
  say("truncate it", "%s", outcome(::ftruncate(file, 3)));
  say("... then", "size %lld", static_cast<long long>(stat_of(file).st_size));
  say("chmod it", "%s", outcome(::fchmod(file, 0600)));
  say("... then", "mode %o", stat_of(file).st_mode & 07777);
  say("chown it", "%s", outcome(::fchown(file, 1000, 1000)));
  say("... then", "uid %u", stat_of(file).st_uid);
  say("sync it", "%s", outcome(::fsync(file)));
  put("gone", "another");
  say("a new file of that name is another", "%s", get("gone").c_str());
  say("... and the old one stays", "%s", get_at(file, 0, 100).c_str());

  put("replaced", "old");
  File old("replaced", O_RDONLY);
  put("replacement", "new");
  must(::rename("replacement", "replaced") == 0, "rename");
  say("read what a rename replaced", "%s", get_at(old, 0, 10).c_str());
}

void copying() {
  std::string bytes(300000, 'c');
  for (size_t i = 0; i < bytes.size(); i += 7) bytes[i] = static_cast<char>('A' + i % 26);
  put("source", bytes);
  File source("source", O_RDONLY);
  File target("target", O_RDWR | O_CREAT);
  off64_t from = 0, to = 0;
  size_t left = bytes.size();
  while (left > 0) {
    ssize_t count = ::copy_file_range(source, &from, target, &to, left, 0);
    if (count <= 0) {
      say("copy_file_range", "%s", count == 0 ? "ended early" : outcome(count));
      break;
    }
    left -= static_cast<size_t>(count);
  }
  say("copy_file_range of a file", "%d", get_at(target, 0, bytes.size() + 1) == bytes);
  from = 1000;
  to = 50;
  say("copy_file_range of a part", "%zd", ::copy_file_range(source, &from, target, &to, 500, 0));
  say("... came out right", "%d", get_at(target, 50, 500) == bytes.substr(1000, 500));
  say("... moved the offsets", "%lld %lld", static_cast<long long>(from), static_cast<long long>(to));
  from = static_cast<off64_t>(bytes.size());
  say("copy_file_range at the end", "%zd", ::copy_file_range(source, &from, target, nullptr, 500, 0));
  from = 0;
  to = 100;
  say("copy_file_range onto itself", "%s", outcome(::copy_file_range(target, &from, target, &to, 500, 0)));
  from = 0;
  to = 400000;
  say("copy_file_range past the end of the target", "%zd",
      ::copy_file_range(source, &from, target, &to, 500, 0));
  say("... size", "%lld", static_cast<long long>(stat_of(target).st_size));

  File sent("sent", O_RDWR | O_CREAT);
  off_t offset = 0;
  say("sendfile", "%zd", ::sendfile(sent, source, &offset, 65536));
  say("... came out right", "%d", get_at(sent, 0, 70000) == bytes.substr(0, 65536));
  int ends[2];
  must(::pipe(ends) == 0, "pipe");
  offset = 10;
  say("splice from a file", "%zd", ::splice(source, &offset, ends[1], nullptr, 4096, 0));
  offset = 0;
  say("splice to a file", "%zd", ::splice(ends[0], nullptr, sent, &offset, 4096, 0));
  say("... came out right", "%d", get_at(sent, 0, 4096) == bytes.substr(10, 4096));
  ::close(ends[0]);
  ::close(ends[1]);
}

bool same(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool later(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

// Longer than the clock tick that kernels round timestamps to.
void let_a_tick_pass() { ::usleep(30000); }

void times() {
  put("timed", "x");
  struct timespec wanted[2] = {{1000000001, 123456789}, {1000000002, 987654321}};
  say("set times", "%s", outcome(::utimensat(AT_FDCWD, "timed", wanted, 0)));
  struct stat st = stat_of("timed");
  say("... to the nanosecond", "atime %d mtime %d", same(st.st_atim, wanted[0]), same(st.st_mtim, wanted[1]));
  struct timespec partly[2] = {{0, UTIME_OMIT}, {-5, 0}};
  say("set mtime only, before 1970", "%s", outcome(::utimensat(AT_FDCWD, "timed", partly, 0)));
  st = stat_of("timed");
  say("... left atime alone", "atime %d mtime %lld", same(st.st_atim, wanted[0]),
      static_cast<long long>(st.st_mtim.tv_sec));

  struct stat before = stat_of("timed");
  let_a_tick_pass();
  must(::chmod("timed", 0600) == 0, "chmod");
  struct stat after = stat_of("timed");
  say("chmod", "mtime moved %d, ctime moved %d", !same(before.st_mtim, after.st_mtim),
      later(after.st_ctim, before.st_ctim));
  before = after;
  let_a_tick_pass();
  put("timed", "y");
  after = stat_of("timed");
  say("write", "mtime moved %d, ctime moved %d", later(after.st_mtim, before.st_mtim),
      later(after.st_ctim, before.st_ctim));

  must(::mkdir("parent", 0755) == 0, "mkdir");
  before = stat_of("parent");
  let_a_tick_pass();
  put("parent/child", "");
  after = stat_of("parent");
  say("making a file moves its folder's mtime", "%d", later(after.st_mtim, before.st_mtim));
  before = after;
  let_a_tick_pass();
  must(::unlink("parent/child") == 0, "unlink");
  after = stat_of("parent");
  say("removing it does too", "%d", later(after.st_mtim, before.st_mtim));
  before = stat_of("timed");
  let_a_tick_pass();
  must(::link("timed", "timed-too") == 0, "link");
  after = stat_of("timed");
  say("a hard link", "ctime moved %d, links %ju", later(after.st_ctim, before.st_ctim),
      static_cast<uintmax_t>(after.st_nlink));

  must(::symlink("timed", "timed-link") == 0, "symlink");
  say("set a symlink's own times", "%s",
      outcome(::utimensat(AT_FDCWD, "timed-link", wanted, AT_SYMLINK_NOFOLLOW)));
  say("... mtime", "%lld", static_cast<long long>(stat_of("timed-link").st_mtim.tv_sec));
}

// FUSE carries the birth time since Linux 6.6; a guest before that cannot ask for it.
bool kernel_asks_for_btime() {
  struct utsname name;
  must(::uname(&name) == 0, "uname");
  char* rest = nullptr;
  long major = std::strtol(name.release, &rest, 10);
  long minor = std::strtol(rest + 1, nullptr, 10);
  return major > 6 || (major == 6 && minor >= 6);
}

void information() {
  struct statx stx = {};
  say("statx", "%s", outcome(::statx(AT_FDCWD, "data", 0, STATX_BASIC_STATS | STATX_BTIME, &stx)));
  say("... basic fields", "%d", (stx.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
  bool btime = (stx.stx_mask & STATX_BTIME) != 0 && stx.stx_btime.tv_sec != 0;
  say("... birth time where the kernel can ask for it", "%d", btime || !kernel_asks_for_btime());
  say("statx of what is missing", "%s", outcome(::statx(AT_FDCWD, "missing", 0, STATX_SIZE, &stx)));

  struct statfs fs;
  say("statfs", "%s", outcome(::statfs(".", &fs)));
  say("... is sane", "bsize %d, free <= total %d, files %d, namelen %ld", fs.f_bsize >= 512,
      fs.f_bfree <= fs.f_blocks && fs.f_bavail <= fs.f_bfree, fs.f_ffree <= fs.f_files,
      static_cast<long>(fs.f_namelen));

  File file("data", O_RDWR);
  File folder(".", O_RDONLY | O_DIRECTORY);
  say("fsync", "%s", outcome(::fsync(file)));
  say("fdatasync", "%s", outcome(::fdatasync(file)));
  say("fsync of a folder", "%s", outcome(::fsync(folder)));
  say("syncfs", "%s", outcome(::syncfs(file)));
  say("posix_fadvise", "%d", ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
}

void executing() {
  std::string self;
  {
    File file("/proc/self/exe", O_RDONLY);
    self = get_at(file, 0, 64 << 20);
  }
  put("program", self, 0755);
  auto run = [] {
    return wait_for(start([] {
      ::execl("./program", "program", "true", nullptr);
      return errno == EACCES ? 126 : 127;
    }));
  };
  say("run a program", "status %d", run());
  must(::chmod("program", 0644) == 0, "chmod");
  say("run a program that is not executable", "status %d", run());
  must(::chmod("program", 0755) == 0, "chmod");
  File writer("program", O_RDWR);
  say("run a program that is open for writing", "status %d", run());
}

}  // namespace

void files() {
  opening();
  reading_and_writing();
  direct();
  unlinked();
  copying();
  times();
  information();
  executing();
}

// Apart from the other files, because a virtio-fs server may lack it altogether.
void tmpfile() {
  {
    File file(".", O_TMPFILE | O_RDWR, 0640);
    say("open with O_TMPFILE", "%s", file.why());
    if (file < 0) return;
    say("links", "%ju", static_cast<uintmax_t>(stat_of(file).st_nlink));
    say("mode", "%o", stat_of(file).st_mode & 07777);
    say("write", "%zd", ::write(file, "secret", 6));
    std::string path = "/proc/self/fd/" + std::to_string(static_cast<int>(file));
    say("give it a name", "%s",
        outcome(::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, "named", AT_SYMLINK_FOLLOW)));
    say("read it by name", "%s", get("named").c_str());
    say("links now", "%ju", static_cast<uintmax_t>(stat_of(file).st_nlink));
  }
  {
    File file(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    say("with O_EXCL", "%s", file.why());
    std::string path = "/proc/self/fd/" + std::to_string(static_cast<int>(file));
    say("... it can have no name", "%s",
        outcome(::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, "named-too", AT_SYMLINK_FOLLOW)));
  }
  say("on a file", "%s", File("named", O_TMPFILE | O_RDWR, 0600).why());
  say("read-only", "%s", File(".", O_TMPFILE | O_RDONLY, 0600).why());
  must(::chmod(".", 0777) == 0, "chmod");
  as_user(1000, 1001, {}, [] {
    File file(".", O_TMPFILE | O_RDWR, 0666);
    say("as another user", "%s uid %u gid %u mode %o", file.why(), stat_of(file).st_uid, stat_of(file).st_gid,
        stat_of(file).st_mode & 07777);
  });
}

}  // namespace probe
