// Workload: what one driver thread sends, request by request, and what it makes of the replies. Adding one is
// a class and a line in workload_table.cc.
//
// A slot carries one operation at a time, which is one request or several, one after the other. A workload is
// made, used and dropped by one thread's turn of the loop (drive()); its prepare() and finish() run on the
// main thread, with no request of the loop in flight.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "virtiofs-bench/client.h"
#include "virtiofs-bench/slot.h"
#include "virtiofs-bench/tree.h"

namespace fusewire::bench {

// A small generator, the same numbers in every run (xorshift64*, Vigna 2016).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL | 1) {}
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }
  // 0 to `end` - 1; `end` below 2^32.
  std::uint64_t below(std::uint64_t end) { return ((next() >> 32) * end) >> 32; }

 private:
  std::uint64_t state_;
};

// What READDIRPLUS asks for: the buffer of glibc's readdir(3), which Linux passes on since 6.16.
inline constexpr std::size_t kReaddirBytes = std::size_t{32} << 10;

// What a reply brought.
struct Progress {
  bool finished = true;  // the slot's operation ends here; its next request begins another
  std::uint32_t operations = 1;
  std::uint64_t bytes = 0;
};

class Workload {
 public:
  virtual ~Workload() = default;
  // What has to be there before the first request: open files.
  virtual Expected<void> prepare(Client&) { return {}; }
  // Writes the next request of the slot's operation. False: there is nothing more to send for this slot.
  virtual bool next(Slot& slot) = 0;
  // Looks at a reply whose form is right. Failure: the server gave a wrong one, in words.
  virtual Expected<Progress> check(Slot& slot) = 0;
  // Undoes prepare().
  virtual Expected<void> finish(Client&) { return {}; }
};

// What a workload is made for.
struct Part {
  const Tree& tree;
  Forgets& forgets;
  unsigned thread = 0;  // of `threads`, each with `depth` slots
  unsigned threads = 1;
  unsigned depth = 1;
  std::size_t readdir_bytes = kReaddirBytes;
};

struct WorkloadKind {
  std::string_view name;
  std::string_view summary;
  std::string_view unit;       // what an operation is
  std::size_t data_bytes = 0;  // of each slot: the most that one of its requests or replies carries
  std::unique_ptr<Workload> (*make)(const Part&);
};
std::span<const WorkloadKind> workload_kinds();
// nullptr: there is none of that name.
const WorkloadKind* find_workload(std::string_view name);

}  // namespace fusewire::bench
