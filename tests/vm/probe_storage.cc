// Holes, preallocation and memory maps.
#include <sys/mman.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "probe.h"

namespace probe {
namespace {

constexpr off_t kMiB = 1 << 20;

void show_layout(const char* what, int fd) {
  // Alternates between asking for data and for a hole until the end, in MiB: block sizes differ, islands of
  // data do not.
  std::string layout;
  off_t position = 0;
  for (int i = 0; i < 20; ++i) {
    off_t data = ::lseek(fd, position, SEEK_DATA);
    if (data < 0) {
      layout += std::string(" ") + outcome(data);
      break;
    }
    off_t hole = ::lseek(fd, data, SEEK_HOLE);
    layout += " " + std::to_string(data / kMiB) + "-" + std::to_string(hole / kMiB);
    position = hole;
  }
  say(what, "data at%s", layout.c_str());
}

}  // namespace

void sparse() {
  File file("islands", O_RDWR | O_CREAT);
  must(file >= 0, "islands");
  std::string island(kMiB, 's');
  for (off_t at : {2, 5}) {
    must(::pwrite(file, island.data(), island.size(), at * kMiB) == kMiB, "pwrite");
  }
  must(::ftruncate(file, 8 * kMiB) == 0, "ftruncate");
  show_layout("two islands", file);
  say("SEEK_HOLE in data", "%lld", static_cast<long long>(::lseek(file, 2 * kMiB + 5, SEEK_HOLE)));
  say("SEEK_DATA past the end", "%s", outcome(::lseek(file, 9 * kMiB, SEEK_DATA)));
  say("SEEK_HOLE past the end", "%s", outcome(::lseek(file, 9 * kMiB, SEEK_HOLE)));
  must(::fsync(file) == 0, "fsync");
  say("takes less room than its size", "%d", stat_of(file).st_blocks * 512 < 4 * kMiB);

  say("punch a hole", "%s",
      outcome(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * kMiB, kMiB)));
  show_layout("one island", file);
  say("the hole reads as zeros", "%d", get_at(file, 5 * kMiB, kMiB) == std::string(kMiB, '\0'));
  say("punch without KEEP_SIZE", "%s", outcome(::fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, kMiB)));

  say("zero a range", "%s", outcome(::fallocate(file, FALLOC_FL_ZERO_RANGE, 2 * kMiB, 4096)));
  say("... reads as zeros", "%d", get_at(file, 2 * kMiB, 4097) == std::string(4096, '\0') + "s");
  say("zero a range past the end", "%s", outcome(::fallocate(file, FALLOC_FL_ZERO_RANGE, 8 * kMiB, kMiB)));
  say("... then", "size %lld", static_cast<long long>(stat_of(file).st_size / kMiB));

  File room("room", O_RDWR | O_CREAT);
  say("fallocate", "%s", outcome(::fallocate(room, 0, 0, kMiB)));
  say("... then", "size %lld", static_cast<long long>(stat_of(room).st_size));
  must(::fsync(room) == 0, "fsync");
  say("... takes that room", "%d", stat_of(room).st_blocks * 512 >= kMiB);
  say("fallocate with KEEP_SIZE", "%s", outcome(::fallocate(room, FALLOC_FL_KEEP_SIZE, kMiB, kMiB)));
  say("... then", "size %lld", static_cast<long long>(stat_of(room).st_size));
  say("fallocate of nothing", "%s", outcome(::fallocate(room, 0, 0, 0)));
  say("fallocate of a negative offset", "%s", outcome(::fallocate(room, 0, -1, 10)));
  File reader("room", O_RDONLY);
  say("fallocate on a reader", "%s", outcome(::fallocate(reader, 0, 0, 10)));
}

void mapping() {
  constexpr size_t kSize = 256 << 10;
  put("mapped", std::string(kSize, 'm'));
  File file("mapped", O_RDWR);

  void* mapped = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  say("map shared", "%s", outcome(mapped == MAP_FAILED ? -1 : 0));
  if (mapped == MAP_FAILED) return;
  char* shared = static_cast<char*>(mapped);
  say("map shows the file", "%d", std::string(shared, kSize) == std::string(kSize, 'm'));
  std::memcpy(shared + 70000, "through the map", 15);
  say("read sees what the map wrote", "%s", get_at(file, 70000, 15).c_str());
  say("msync", "%s", outcome(::msync(shared, kSize, MS_SYNC)));
  must(::pwrite(file, "by write", 8, 100000) == 8, "pwrite");
  say("map sees what write wrote", "%s", std::string(shared + 100000, 8).c_str());

  char* own = static_cast<char*>(::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
  must(own != MAP_FAILED, "map private");
  std::memcpy(own, "mine", 4);
  say("a private map stays private", "%s", get_at(file, 0, 4).c_str());
  ::munmap(own, kSize);

  int status = wait_for(start([&] {
    std::memcpy(shared + 10, "child", 5);
    return 0;
  }));
  say("another process writes through the map", "status %d, %s", status, std::string(shared + 10, 5).c_str());

  // The map outlives its descriptor.
  file.close();
  std::memcpy(shared, "after close", 11);
  say("write through the map after close", "%s", get_at(File("mapped", O_RDONLY), 0, 11).c_str());
  must(::truncate("mapped", 4096) == 0, "truncate");
  status = wait_for(start([&] {
    volatile char byte = shared[kSize - 1];
    return byte == 0 ? 1 : 2;
  }));
  say("touch the map past the end of the file", "%s", status == 128 + SIGBUS ? "SIGBUS" : "no SIGBUS");
  ::munmap(shared, kSize);
  say("the file keeps its new size", "%lld", static_cast<long long>(stat_of("mapped").st_size));

  File reader("mapped", O_RDONLY);
  say("map a reader for writing", "%s",
      outcome(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0) == MAP_FAILED ? -1 : 0));

  File grown("grown", O_RDWR | O_CREAT);
  must(::ftruncate(grown, 65536) == 0, "ftruncate");
  char* hole = static_cast<char*>(::mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, grown, 0));
  must(hole != MAP_FAILED, "map a hole");
  hole[40000] = 'h';
  must(::munmap(hole, 65536) == 0, "munmap");
  must(::fsync(grown) == 0, "fsync");
  std::string bytes = get_at(grown, 0, 65536);
  say("write into a hole through a map", "%c, rest zero %d", bytes[40000],
      bytes.find_first_not_of('\0') == 40000);
}

}  // namespace probe
