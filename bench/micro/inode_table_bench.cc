// The inode table: what a request pays to find its inode, and what a known inode costs in memory. The inodes
// are made up, but for one file: the table looks at numbers and handles only.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <vector>

#include "passthrough/inode_table.h"

namespace fusewire::passthrough {
namespace {

constexpr std::uint64_t kFirstNumber = 1000;

struct Known {
  // Enters `count` inodes, by handle; the first ones by descriptor, as far as `held` says.
  explicit Known(std::uint64_t count, std::uint64_t held = 0) {
    const UniqueFd file(::open("/", O_PATH | O_CLOEXEC));
    const auto found = stat_of(file.get());
    if (!found) std::abort();
    stat = *found;
    nodes.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) nodes.push_back(enter(i, i < held));
  }

  // With a handle of the kind that ext4 has.
  NodeId enter(std::uint64_t index, bool with_descriptor) {
    struct statx of = stat;
    of.stx_ino = kFirstNumber + index;
    InodeTable::Reach reach{.mount = mounts.of(of.stx_mnt_id), .path_fd = {}, .handle = {}};
    if (with_descriptor) {
      reach.path_fd = UniqueFd(::open("/", O_PATH | O_CLOEXEC));
    } else {
      reach.handle.emplace(std::uint8_t{1}, std::as_bytes(std::span(&of.stx_ino, 1)));
    }
    const auto acquired = table.acquire(of, reach);
    if (!acquired || !acquired->inode) std::abort();
    return acquired->inode->node();
  }
  Identity identity(std::uint64_t index) const {
    Identity identity = identity_of(stat);
    identity.ino = kFirstNumber + index;
    return identity;
  }

  MountTable mounts;
  InodeTable table;
  struct statx stat{};
  std::vector<NodeId> nodes;
};

std::unique_ptr<Known> known;  // by all threads of a benchmark

void set_up(const benchmark::State& state) {
  const auto count = static_cast<std::uint64_t>(state.range(0));
  known = std::make_unique<Known>(count, std::min<std::uint64_t>(count, 500));
}
void tear_down(const benchmark::State&) { known.reset(); }

// A different inode each time; `limit` of them, each thread from a place of its own.
class Walk {
 public:
  Walk(const benchmark::State& state, std::uint64_t limit)
      : limit_(limit), at_(static_cast<std::uint64_t>(state.thread_index()) * 7919) {}
  std::uint64_t next() { return (at_ += 104729) % limit_; }

 private:
  std::uint64_t limit_;
  std::uint64_t at_;
};

// What every request begins with: the inode of its node id, held and let go of.
void Find(benchmark::State& state) {
  Walk walk(state, known->nodes.size());
  for (auto _ : state) benchmark::DoNotOptimize(known->table.find(known->nodes[walk.next()]));
}
// The same for one inode that all threads use, such as the directory they work in.
void FindTheSame(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(known->table.find(known->nodes[0]));
}
// A lookup that finds an inode that has its descriptor.
void FindKnown(benchmark::State& state) {
  Walk walk(state, std::min<std::uint64_t>(known->nodes.size(), 500));
  for (auto _ : state)
    benchmark::DoNotOptimize(known->table.find_known(known->identity(walk.next()), known->table.now()));
}
// An inode that comes and goes.
void AcquireAndForget(benchmark::State& state) {
  std::uint64_t index = known->nodes.size() + static_cast<std::uint64_t>(state.thread_index()) * 1'000'000;
  for (auto _ : state) known->table.forget(known->enter(++index, false), 1);
}

BENCHMARK(Find)->Arg(1000)->Arg(1'000'000)->Threads(1)->Threads(2)->Setup(set_up)->Teardown(tear_down);
BENCHMARK(FindTheSame)->Arg(1000)->Threads(1)->Threads(2)->Setup(set_up)->Teardown(tear_down);
BENCHMARK(FindKnown)->Arg(1000)->Threads(1)->Threads(2)->Setup(set_up)->Teardown(tear_down);
BENCHMARK(AcquireAndForget)->Arg(1000)->Threads(1)->Threads(2)->Setup(set_up)->Teardown(tear_down);

// Resident bytes of this process.
std::size_t resident() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0;
  std::size_t pages = 0;
  statm >> size >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// Bytes of memory for each of a million known inodes: the table and all that belongs to it.
void MemoryOfAMillion(benchmark::State& state) {
  constexpr std::uint64_t kMillion = 1'000'000;
  for (auto _ : state) {
    Known many(0);
    ::malloc_trim(0);
    const std::size_t before = resident();
    for (std::uint64_t i = 0; i < kMillion; ++i) benchmark::DoNotOptimize(many.enter(i, false));
    state.counters["bytes_per_inode"] = static_cast<double>(resident() - before) / kMillion;
    const auto nodes = many.table.size();
    many.table.clear();
    ::malloc_trim(0);
    state.counters["left_after_clear"] =
        static_cast<double>(resident() - before) / static_cast<double>(nodes);
  }
}
BENCHMARK(MemoryOfAMillion)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fusewire::passthrough
