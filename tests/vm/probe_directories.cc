// Reading folders: completeness while entries come and go, positions, types.
#include <dirent.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "probe.h"

namespace probe {
namespace {

std::string numbered(const char* prefix, int number) { return prefix + std::to_string(number); }

void make_files(const std::string& folder, const char* prefix, int count) {
  must(::mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST, folder.c_str());
  for (int i = 0; i < count; ++i) {
    File file(folder + "/" + numbered(prefix, i), O_WRONLY | O_CREAT | O_EXCL);
    must(file >= 0, "create");
  }
}

bool is_dot(const char* name) { return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0; }

// How often each name is read from here to the end.
std::map<std::string, int> read_rest(DIR* folder) {
  std::map<std::string, int> seen;
  while (const struct dirent* entry = ::readdir(folder)) ++seen[entry->d_name];
  return seen;
}

size_t repeated(const std::map<std::string, int>& seen) {
  return static_cast<size_t>(std::ranges::count_if(seen, [](const auto& item) { return item.second > 1; }));
}

void big_folder() {
  // Fewer only for a peer that needs a descriptor for each, where there are not that many.
  const char* wanted = std::getenv("PROBE_BIG_FOLDER");
  int files = wanted != nullptr ? std::atoi(wanted) : 20000;
  make_files("big", "entry-", files);
  DIR* folder = ::opendir("big");
  must(folder != nullptr, "opendir");
  std::map<std::string, int> seen = read_rest(folder);
  bool dots = seen["."] == 1 && seen[".."] == 1;
  say("a big folder", "%zu names, %zu repeated, dots %d", seen.size() - 2, repeated(seen), dots);

  // Every second one that comes by is removed on the spot: the others must all still come by, once.
  ::rewinddir(folder);
  seen.clear();
  int read = 0, removed = 0;
  while (const struct dirent* entry = ::readdir(folder)) {
    if (is_dot(entry->d_name)) continue;
    ++seen[entry->d_name];
    if (read++ % 2 == 0 && ::unlinkat(::dirfd(folder), entry->d_name, 0) == 0) ++removed;
  }
  say("removing every second one while reading", "%zu names, %zu repeated, %d removed", seen.size(),
      repeated(seen), removed);
  ::rewinddir(folder);
  seen = read_rest(folder);
  say("what is left", "%zu names, %zu repeated", seen.size() - 2, repeated(seen));
  ::rewinddir(folder);
  while (const struct dirent* entry = ::readdir(folder)) {
    if (!is_dot(entry->d_name)) must(::unlinkat(::dirfd(folder), entry->d_name, 0) == 0, "unlink");
  }
  ::closedir(folder);
  say("rmdir after emptying it while reading", "%s", outcome(::rmdir("big")));
}

void positions() {
  constexpr int kFiles = 3000;
  make_files("positions", "old-", kFiles);
  DIR* folder = ::opendir("positions");
  must(folder != nullptr, "opendir");
  struct Mark {
    long position;
    size_t index;
  };
  std::vector<std::string> order;
  std::vector<Mark> marks;
  for (;;) {
    long position = ::telldir(folder);
    const struct dirent* entry = ::readdir(folder);
    if (entry == nullptr) break;
    if (is_dot(entry->d_name)) continue;
    if (order.size() % 250 == 100) marks.push_back({position, order.size()});
    order.emplace_back(entry->d_name);
  }
  say("marks", "%zu in %zu entries", marks.size(), order.size());

  // From each mark on: everything that came after it then, and nothing that came before.
  auto check = [&](const char* what) {
    std::set<std::string> existing;
    for (const std::string& name : order) {
      if (::faccessat(::dirfd(folder), name.c_str(), F_OK, 0) == 0) existing.insert(name);
    }
    size_t lost = 0, surplus = 0;
    for (const Mark& mark : marks) {
      ::seekdir(folder, mark.position);
      std::map<std::string, int> seen = read_rest(folder);
      for (size_t i = 0; i < order.size(); ++i) {
        if (!existing.contains(order[i])) continue;
        int times = seen.contains(order[i]) ? seen[order[i]] : 0;
        if (i >= mark.index && times != 1) ++lost;
        if (i < mark.index && times != 0) ++surplus;
      }
    }
    say(what, "%zu lost, %zu from before", lost, surplus);
  };
  check("seekdir to each mark");
  make_files("positions", "new-", 300);
  for (size_t i = 0; i < order.size(); i += 3) {
    must(::unlink(("positions/" + order[i]).c_str()) == 0, "unlink");
  }
  check("... after entries came and went");
  ::rewinddir(folder);
  std::map<std::string, int> seen = read_rest(folder);
  say("rewinddir shows the new state", "%zu names, %zu repeated", seen.size() - 2, repeated(seen));
  ::closedir(folder);
}

struct KernelEntry {
  ino64_t inode;
  off64_t offset;
  unsigned short length;
  unsigned char type;
  char name[1];
};

// Reads with a buffer that holds only a few entries, seeking back to each one's own offset before the next
// read.
void small_buffers() {
  make_files("small", "a-rather-long-name-for-an-entry-", 100);
  File folder("small", O_RDONLY | O_DIRECTORY);
  std::map<std::string, int> seen;
  alignas(8) char buffer[120];
  for (int rounds = 0; rounds < 1000; ++rounds) {
    long count = ::syscall(SYS_getdents64, static_cast<int>(folder), buffer, sizeof(buffer));
    if (count <= 0) {
      say("the last small read", "%s", count == 0 ? "end" : outcome(count));
      break;
    }
    const auto* entry = reinterpret_cast<const KernelEntry*>(buffer);
    ++seen[entry->name];
    must(::lseek(folder, entry->offset, SEEK_SET) == entry->offset, "lseek");
  }
  say("reading by small buffers and offsets", "%zu names, %zu repeated", seen.size(), repeated(seen));
  say("a buffer too small for one entry", "%s",
      outcome(::lseek(folder, 0, SEEK_SET) == 0
                  ? ::syscall(SYS_getdents64, static_cast<int>(folder), buffer, 8)
                  : -1));
}

void types() {
  must(::mkdir("types", 0755) == 0 && ::mkdir("types/folder", 0755) == 0, "mkdir");
  put("types/file", "");
  must(::symlink("file", "types/symlink") == 0, "symlink");
  must(::mknod("types/fifo", S_IFIFO | 0600, 0) == 0, "mknod");
  must(::mknod("types/device", S_IFCHR | 0600, 0) == 0, "mknod");
  DIR* folder = ::opendir("types");
  must(folder != nullptr, "opendir");
  std::set<std::string> lines;
  while (const struct dirent* entry = ::readdir(folder)) {
    struct stat st = stat_of(std::string("types/") + entry->d_name);
    bool same_inode = entry->d_ino == st.st_ino || std::strcmp(entry->d_name, "..") == 0;
    bool same_type = entry->d_type == IFTODT(st.st_mode);
    lines.insert(std::string(entry->d_name) + " type " + std::to_string(same_type) + " inode " +
                 std::to_string(same_inode));
  }
  ::closedir(folder);
  for (const std::string& line : lines) say("readdir agrees with stat", "%s", line.c_str());
}

void removed_folder() {
  must(::mkdir("removed", 0755) == 0, "mkdir");
  DIR* folder = ::opendir("removed");
  must(folder != nullptr && ::rmdir("removed") == 0, "rmdir");
  errno = 0;
  const struct dirent* entry = ::readdir(folder);
  say("read a removed folder", "%s", entry != nullptr ? "an entry" : outcome(errno == 0 ? 0 : -1));
  ::closedir(folder);
}

}  // namespace

void directories() {
  big_folder();
  positions();
  small_buffers();
  types();
  removed_folder();
}

}  // namespace probe
