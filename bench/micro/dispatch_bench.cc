// What the protocol engine costs for one request, from Engine::submit() to Slot::done(): header and
// arguments copied and decoded, the file system called (one that answers at once), the reply written. Memory
// that stays in this processor's cache; no ring and no system call.
#include <benchmark/benchmark.h>

#include <array>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "fuse/engine.h"
#include "fuse/testing/harness.h"

namespace fusewire {
namespace {

using testing::Request;

class Instant final : public FileSystem {
 public:
  void lookup(Call<op::Lookup> call) override { std::move(call.reply).ok({}); }
  void getattr(Call<op::Getattr> call) override { std::move(call.reply).ok({}); }
  void read(Call<op::Read> call) override { std::move(call.reply).ok(call.in.size); }
  void write(Call<op::Write> call) override { std::move(call.reply).ok(call.in.size); }
};

// A request that is submitted again and again, cut like Linux's driver cuts it: header, the rest of the head,
// and the room for the reply.
class BenchSlot final : public Slot {
 public:
  explicit BenchSlot(const Request& from) : bytes_(from.encode()), room_(65536) {}

  void submit_to(Engine& engine) {
    parts_ = {iovec{bytes_.data(), sizeof(fuse_in_header)},
              iovec{bytes_.data() + sizeof(fuse_in_header), bytes_.size() - sizeof(fuse_in_header)}};
    room_part_ = {room_.data(), room_.size()};
    request = IoVecs(parts_);
    reply_room = IoVecs({&room_part_, 1});
    can_reply = true;
    engine.submit(*this);
  }
  int error() const { return error_; }

  int done(RequestId, int error, std::size_t) override {
    error_ = error;
    return 0;
  }
  void done_without_reply() override { error_ = 0; }

 private:
  std::vector<std::byte> bytes_, room_;
  std::array<iovec, 2> parts_{};
  iovec room_part_{};
  int error_ = -1;
};

void serve(benchmark::State& state, const Request& request, int expected) {
  Instant file_system;
  testing::Harness harness(file_system);
  FUSEWIRE_CHECK(harness.init().error == 0);
  BenchSlot slot(request);
  for (auto _ : state) slot.submit_to(harness.engine());
  FUSEWIRE_CHECK(slot.error() == expected);
}

void unknown_opcode(benchmark::State& state) { serve(state, Request(4090), ENOSYS); }
BENCHMARK(unknown_opcode);

void getattr(benchmark::State& state) { serve(state, Request(FUSE_GETATTR).arg(fuse_getattr_in{}), 0); }
BENCHMARK(getattr);

void lookup(benchmark::State& state) { serve(state, Request(FUSE_LOOKUP).name("a-usual-name.txt"), 0); }
BENCHMARK(lookup);

void read_4k(benchmark::State& state) {
  fuse_read_in in{};
  in.size = 4096;
  serve(state, Request(FUSE_READ).arg(in), 0);
}
BENCHMARK(read_4k);

void write_4k(benchmark::State& state) {
  fuse_write_in in{};
  in.size = 4096;
  serve(state, Request(FUSE_WRITE).arg(in).bytes(std::vector<std::byte>(4096)), 0);
}
BENCHMARK(write_4k);

}  // namespace
}  // namespace fusewire
