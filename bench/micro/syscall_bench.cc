// What the system calls cost that the daemon cannot do without, alone and in the same process: the limit that
// docs/benchmarks.md puts beside the daemon's figures. Works in a directory of its own below /dev/shm, or
// below the directory that the environment's TMPDIR names.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/check.h"
#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 4096;

// A directory with a file `small` and a file `large` of kPages pages.
class Tree {
 public:
  Tree() {
    const char* given = std::getenv("TMPDIR");
    std::string name = std::string(given != nullptr ? given : "/dev/shm") + "/fusewire-bench-XXXXXX";
    FUSEWIRE_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::ofstream(path_ / "small") << "x";
    std::ofstream(path_ / "large") << std::string(kPages * kPage, 'x');
    directory_ = UniqueFd(::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    small_ = UniqueFd(::openat(directory_.get(), "small", O_PATH | O_CLOEXEC));
    large_ = UniqueFd(::openat(directory_.get(), "large", O_RDWR | O_CLOEXEC));
    FUSEWIRE_CHECK(directory_ && small_ && large_);
  }
  ~Tree() { std::filesystem::remove_all(path_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  int directory() const { return directory_.get(); }
  int small() const { return small_.get(); }
  int large() const { return large_.get(); }

 private:
  std::filesystem::path path_;
  UniqueFd directory_, small_, large_;
};

// Pages of the large file in an order that no readahead follows.
off_t next_page(std::uint32_t& state) {
  state = state * 1664525 + 1013904223;
  return static_cast<off_t>((state >> 12) % kPages * kPage);
}

void getppid_(benchmark::State& state) {
  for (auto _ : state) ::syscall(SYS_getppid);
}
BENCHMARK(getppid_)->Name("getppid");

void statx_descriptor(benchmark::State& state) {
  const Tree tree;
  struct statx stat;
  for (auto _ : state) ::statx(tree.small(), "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stat);
}
BENCHMARK(statx_descriptor)->Name("statx of a descriptor (GETATTR)");

void statx_name(benchmark::State& state) {
  const Tree tree;
  struct statx stat;
  for (auto _ : state)
    ::statx(tree.directory(), "small", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_MNT_ID, &stat);
}
BENCHMARK(statx_name)->Name("statx by name (LOOKUP hit)");

void read_page(benchmark::State& state) {
  const Tree tree;
  alignas(kPage) static std::array<char, kPage> page;
  const iovec part{page.data(), page.size()};
  std::uint32_t order = 1;
  for (auto _ : state) ::preadv2(tree.large(), &part, 1, next_page(order), RWF_NOWAIT);
}
BENCHMARK(read_page)->Name("preadv2 of 4 KiB (READ)");

void write_page(benchmark::State& state) {
  const Tree tree;
  alignas(kPage) static std::array<char, kPage> page;
  const iovec part{page.data(), page.size()};
  std::uint32_t order = 1;
  for (auto _ : state) ::pwritev2(tree.large(), &part, 1, next_page(order), 0);
}
BENCHMARK(write_page)->Name("pwritev2 of 4 KiB (WRITE)");

void create_and_unlink(benchmark::State& state) {
  const Tree tree;
  for (auto _ : state) {
    const UniqueFd file(::openat(tree.directory(), "new", O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644));
    ::unlinkat(tree.directory(), "new", 0);
  }
}
BENCHMARK(create_and_unlink)->Name("openat, unlinkat, close (CREATE and UNLINK)");

void signal_nobody(benchmark::State& state) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const std::uint64_t one = 1;
  for (auto _ : state) benchmark::DoNotOptimize(::write(event.get(), &one, sizeof one));
}
BENCHMARK(signal_nobody)->Name("write to an eventfd that nobody waits for (signal)");

}  // namespace
}  // namespace fusewire
