// Names and the tree: links, symlinks, renames, special files, limits.
#include <linux/fs.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <climits>
#include <cstring>

#include "probe.h"

namespace probe {
namespace {

const char* rename_with(const char* from, const char* to, unsigned flags) {
  return outcome(::renameat2(AT_FDCWD, from, AT_FDCWD, to, flags));
}

unsigned links(const std::string& path) { return static_cast<unsigned>(stat_of(path).st_nlink); }

void renames() {
  put("a", "A");
  put("b", "B");
  must(::mkdir("empty", 0755) == 0 && ::mkdir("full", 0755) == 0 && ::mkdir("full/sub", 0755) == 0, "mkdir");

  say("NOREPLACE onto a file", "%s", rename_with("a", "b", RENAME_NOREPLACE));
  say("NOREPLACE to a new name", "%s", rename_with("a", "c", RENAME_NOREPLACE));
  say("EXCHANGE", "%s", rename_with("b", "c", RENAME_EXCHANGE));
  say("... then", "b=%s c=%s", get("b").c_str(), get("c").c_str());
  say("EXCHANGE a file and a folder", "%s", rename_with("b", "full", RENAME_EXCHANGE));
  say("... full=", "%s, b/sub %s", get("full").c_str(), outcome(::access("b/sub", F_OK)));
  say("... and back", "%s", rename_with("b", "full", RENAME_EXCHANGE));
  say("EXCHANGE with what is missing", "%s", rename_with("b", "missing", RENAME_EXCHANGE));
  say("EXCHANGE with NOREPLACE", "%s", rename_with("b", "c", RENAME_EXCHANGE | RENAME_NOREPLACE));
  say("EXCHANGE a folder and its parent", "%s", rename_with("full/sub", "full", RENAME_EXCHANGE));
  say("WHITEOUT", "%s", rename_with("b", "moved", RENAME_WHITEOUT));
  struct stat st;
  if (::lstat("b", &st) == 0) {
    say("... leaves a whiteout", "character device %d, number %u:%u", S_ISCHR(st.st_mode), major(st.st_rdev),
        minor(st.st_rdev));
  }

  say("a file over a folder", "%s", rename_with("c", "empty", 0));
  say("a folder over a file", "%s", rename_with("empty", "c", 0));
  say("a folder over a full one", "%s", rename_with("empty", "full", 0));
  say("a folder over an empty one", "%s", rename_with("full", "empty", 0));
  say("... moved what was in it", "%s", outcome(::access("empty/sub", F_OK)));
  say("a folder into its own subfolder", "%s", rename_with("empty", "empty/sub/x", 0));
  say("to itself", "%s", rename_with("c", "c", 0));
  say("what is missing", "%s", rename_with("missing", "d", 0));
  say("to a missing folder", "%s", rename_with("c", "missing/d", 0));
  say("to '..'", "%s", rename_with("c", "empty/..", 0));

  put("same", "S");
  must(::link("same", "same-too") == 0, "link");
  say("over another link of the same file", "%s", rename_with("same", "same-too", 0));
  say("... then", "links %u", links("same"));

  unsigned before = links(".");
  must(::mkdir("one", 0755) == 0 && ::mkdir("two", 0755) == 0 && ::mkdir("one/child", 0755) == 0, "mkdir");
  say("two folders more", "links +%u", links(".") - before);
  say("a folder into another folder", "%s", rename_with("one/child", "two/child", 0));
  say("... then", "links %u %u", links("one"), links("two"));
  put("one/file", "1");
  say("a file into another folder", "%s", rename_with("one/file", "two/file", 0));
  say("... then", "%s", get("two/file").c_str());

  // An open folder follows its rename.
  File folder("two", O_RDONLY | O_DIRECTORY);
  must(::rename("two", "three") == 0, "rename");
  say("a name below an open folder that was renamed", "%s", outcome(::faccessat(folder, "file", F_OK, 0)));
}

void hard_links() {
  put("first", "1");
  say("link", "%s", outcome(::link("first", "second")));
  say("... then", "links %u", links("first"));
  say("same inode", "%d", stat_of("first").st_ino == stat_of("second").st_ino);
  say("link onto a name that is taken", "%s", outcome(::link("first", "second")));
  say("link to a folder", "%s", outcome(::link("three", "three-too")));
  must(::symlink("first", "symbolic") == 0, "symlink");
  say("link to a symlink itself", "%s", outcome(::link("symbolic", "symbolic-too")));
  say("... then", "links %u", links("symbolic"));
  say("link following a symlink", "%s",
      outcome(::linkat(AT_FDCWD, "symbolic", AT_FDCWD, "third", AT_SYMLINK_FOLLOW)));
  say("... then", "links %u", links("first"));
  put("second", "changed");
  say("one name shows what another wrote", "%s", get("third").c_str());
  must(::unlink("first") == 0, "unlink");
  say("unlink one of three", "links %u, %s", links("second"), get("second").c_str());
}

void removals() {
  must(::mkdir("dir", 0755) == 0, "mkdir");
  put("dir/file", "");
  say("unlink a folder", "%s", outcome(::unlink("dir")));
  say("rmdir a full folder", "%s", outcome(::rmdir("dir")));
  say("rmdir a file", "%s", outcome(::rmdir("dir/file")));
  say("rmdir '.'", "%s", outcome(::rmdir("dir/.")));
  say("rmdir '..'", "%s", outcome(::rmdir("dir/..")));
  say("mkdir what is there", "%s", outcome(::mkdir("dir", 0755)));
  say("mkdir '.'", "%s", outcome(::mkdir("dir/.", 0755)));
  must(::unlink("dir/file") == 0, "unlink");
  File folder("dir", O_RDONLY | O_DIRECTORY);
  say("rmdir an open folder", "%s", outcome(::rmdir("dir")));
  say("make a file in it afterwards", "%s", outcome(::openat(folder, "late", O_CREAT | O_WRONLY, 0644)));
  say("unlink what is missing", "%s", outcome(::unlink("missing")));
}

void limits() {
  std::string longest(255, 'n');
  put(longest, "255");
  say("a name of 255 bytes", "%s", get(longest).c_str());
  say("a name of 256 bytes", "%s", File(longest + "n", O_CREAT | O_WRONLY).why());
  say("mkdir of such a name", "%s", outcome(::mkdir((longest + "n").c_str(), 0755)));
  say("rename to such a name", "%s", rename_with(longest.c_str(), (longest + "n").c_str(), 0));
  say("symlink of such a name", "%s", outcome(::symlink("x", (longest + "n").c_str())));
  say("a path of 4096 bytes", "%s", outcome(::access(std::string(PATH_MAX, '/').c_str(), F_OK)));
  std::string target(PATH_MAX - 1, 't');
  say("a symlink to 4095 bytes", "%s", outcome(::symlink(target.c_str(), "long-link")));
  std::string read_back(PATH_MAX + 1, '\0');
  ssize_t length = ::readlink("long-link", read_back.data(), read_back.size());
  say("... reads back", "%zd, same %d", length, read_back.compare(0, target.size(), target) == 0);
  say("an empty symlink", "%s", outcome(::symlink("", "empty-link")));
  must(::symlink("loop-b", "loop-a") == 0 && ::symlink("loop-a", "loop-b") == 0, "symlink");
  say("a loop of symlinks", "%s", File("loop-a", O_RDONLY).why());
  say("readlink on a file", "%s", outcome(::readlink(longest.c_str(), read_back.data(), 10)));

  for (const char* odd : {"with space", "-dash", "new\nline", "\xff\xfe not UTF-8", "\xc3\xa4\xc3\xb6",
                          "back\\slash", "...", "..name", "*", "semi;colon", "\"quoted\""}) {
    put(odd, odd);
    say("an odd name", "%d", get(odd) == odd && ::unlink(odd) == 0);
  }

  // Deep enough that a server which kept whole paths would run into PATH_MAX.
  int depth = 0;
  File top(".", O_RDONLY | O_DIRECTORY);
  std::string part(200, 'd');
  while (depth < 40 && ::mkdir(part.c_str(), 0755) == 0 && ::chdir(part.c_str()) == 0) ++depth;
  put("bottom", "deep");
  say("a tree deeper than PATH_MAX", "%d levels, %s", depth, get("bottom").c_str());
  say("... renames at its bottom", "%s", rename_with("bottom", "floor", 0));
  must(::fchdir(top) == 0, "fchdir");
}

void special_files() {
  struct Node {
    const char* name;
    mode_t type;
    dev_t device;
  };
  for (const Node& node :
       {Node{"fifo", S_IFIFO, 0}, Node{"socket", S_IFSOCK, 0}, Node{"null", S_IFCHR, makedev(1, 3)},
        Node{"disk", S_IFBLK, makedev(259, 70000)}, Node{"plain", S_IFREG, 0}}) {
    const char* made = outcome(::mknod(node.name, node.type | 0640, node.device));
    struct stat st = stat_of(node.name);
    say("mknod", "%s: %s, type %o, mode %o, number %u:%u, size %lld", node.name, made, st.st_mode & S_IFMT,
        st.st_mode & 07777, major(st.st_rdev), minor(st.st_rdev), static_cast<long long>(st.st_size));
  }

  pid_t writer = start([] {
    File fifo("fifo", O_WRONLY);
    return ::write(fifo, "through the fifo", 16) == 16 ? 0 : 1;
  });
  File fifo("fifo", O_RDONLY);
  char bytes[100] = {};
  ssize_t count = ::read(fifo, bytes, sizeof(bytes) - 1);
  say("a fifo between two processes", "%zd %s, writer %d", count, bytes, wait_for(writer));

  struct sockaddr_un address = {AF_UNIX, "listening"};
  int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  say("bind a socket", "%s",
      outcome(::bind(listener, reinterpret_cast<struct sockaddr*>(&address), sizeof(address))));
  say("... listen", "%s", outcome(::listen(listener, 1)));
  pid_t client = start([&] {
    int connection = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(connection, reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0) return 1;
    return ::write(connection, "hello", 5) == 5 ? 0 : 2;
  });
  int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  std::memset(bytes, 0, sizeof(bytes));
  count = ::read(connection, bytes, sizeof(bytes) - 1);
  say("... a client reaches it", "%zd %s, client %d", count, bytes, wait_for(client));
  say("... its type", "%o", stat_of("listening").st_mode & S_IFMT);
  ::close(connection);
  ::close(listener);
  say("open a socket", "%s", File("listening", O_RDONLY).why());
}

}  // namespace

void names() {
  renames();
  hard_links();
  removals();
  limits();
  special_files();
}

}  // namespace probe
