// Load for the scenarios of vm_test.py: big files, many files, and work that notices lost or wrong data.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "probe.h"

namespace probe {
namespace {

// A xorshift generator: fast enough that an emulated processor is not what is measured.
void scramble(std::vector<uint64_t>& words, uint64_t& state) {
  for (uint64_t& word : words) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    word = state;
  }
}

int complain(const char* what, unsigned long round) {
  std::printf("hammer: round %lu: %s: %s\n", round, what, std::strerror(errno));
  return 1;
}

}  // namespace

int fill(const char* path, unsigned long long size, unsigned long long seed) {
  File file(path, O_WRONLY | O_CREAT | O_TRUNC);
  must(file >= 0, path);
  std::vector<uint64_t> words((1 << 20) / sizeof(uint64_t));
  uint64_t state = seed * 2 + 1;
  while (size > 0) {
    scramble(words, state);
    size_t count = std::min<size_t>(size, words.size() * sizeof(uint64_t));
    must(::write(file, words.data(), count) == static_cast<ssize_t>(count), "write");
    size -= count;
  }
  must(::fsync(file) == 0, "fsync");
  return 0;
}

// Writes blocks, reads them back past the page cache, makes and removes names, until `stop_file` (not on the
// share) exists. Any error or wrong byte ends it with status 1; the last line counts the rounds, so that a
// caller sees progress.
int hammer(const char* directory, const char* stop_file) {
  must(::chdir(directory) == 0, directory);
  std::vector<uint64_t> words(65536 / sizeof(uint64_t));
  uint64_t state = 88172645463325252ULL;
  unsigned long round = 0;
  File file("hammered", O_RDWR | O_CREAT | O_TRUNC);
  must(file >= 0, "hammered");
  while (::access(stop_file, F_OK) != 0) {
    scramble(words, state);
    auto offset = static_cast<off_t>(round % 64 * 65536);
    if (::pwrite(file, words.data(), 65536, offset) != 65536) return complain("write", round);
    if (::fsync(file) != 0) return complain("fsync", round);
    ::posix_fadvise(file, offset, 65536, POSIX_FADV_DONTNEED);
    std::string back = get_at(file, offset, 65536);
    if (back.size() != 65536 || std::memcmp(back.data(), words.data(), 65536) != 0) {
      std::printf("hammer: round %lu: read other bytes than were written\n", round);
      return 1;
    }
    std::string name = "name-" + std::to_string(round);
    if (::mkdir(name.c_str(), 0755) != 0) return complain("mkdir", round);
    if (::rename(name.c_str(), "renamed") != 0) return complain("rename", round);
    if (::rmdir("renamed") != 0) return complain("rmdir", round);
    ++round;
    // The caller watches this file, in the guest's own memory, to see that work goes on.
    std::string progress = std::string(stop_file) + ".rounds";
    put(progress, std::to_string(round) + "\n");
  }
  std::printf("hammer: %lu rounds without a fault\n", round);
  return 0;
}

int make_tree(const char* directory, unsigned files) {
  must(::mkdir(directory, 0755) == 0 && ::chdir(directory) == 0, directory);
  for (unsigned i = 0; i < files; ++i) {
    std::string folder = "folder-" + std::to_string(i / 200);
    if (i % 200 == 0) must(::mkdir(folder.c_str(), 0755) == 0, folder.c_str());
    put(folder + "/file-" + std::to_string(i), "small\n");
  }
  return 0;
}

}  // namespace probe
