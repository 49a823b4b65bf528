// Ring handling: what it costs the device to take a batch of chains off a ring and to return it, for split
// and packed rings, direct and indirect chains. One iteration is one batch, items are chains.
//
// Only the device's half of each turn is timed; the driver's half, which has to run in between, is not. Both
// run on one processor with everything in its caches: this is the cost of the instructions, without what it
// costs to bring a guest's cache lines over.
#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <vector>

#include "base/check.h"
#include "guestmem/shared_memory.h"
#include "virtio/device_queue.h"
#include "virtio/driver_queue.h"

namespace fusewire::virtio {
namespace {

constexpr unsigned kRingSize = 256;
constexpr unsigned kBatch = 32;
constexpr guestmem::GuestAddress kGuestBase{0x100000};

// A guest's memory with one ring in it, and both its sides.
class Ring {
 public:
  explicit Ring(const DriverOptions& options)
      : memory_(*guestmem::SharedMemory::create(
            kGuestBase, (std::size_t{1} << 20) + DriverQueue::memory_size(kRingSize, options))),
        map_(*guestmem::MemoryMap::create(
            {*guestmem::MemoryRegion::map(memory_.description(), memory_.fd())})),
        driver_(allocate(DriverQueue::memory_size(kRingSize, options)), kRingSize, options),
        device_(*DeviceQueue::create(driver_.setup(), map_,
                                     {.event_idx = options.event_idx,
                                      .indirect = options.indirect_entries != 0,
                                      .packed = options.packed})) {}

  // A batch of chains with that many buffers, half of them readable.
  void offer_batch(unsigned buffers) {
    const std::vector<GuestBuffer> half(buffers / 2, {kGuestBase, 64});
    for (std::uint64_t i = 0; i < kBatch; ++i) FUSEWIRE_CHECK(driver_.stage(half, half, i));
    driver_.publish();
  }
  void serve_batch() {
    for (unsigned i = 0; i < kBatch; ++i) {
      FUSEWIRE_CHECK(device_.pop(chain_, *map_) == Pop::chain);
      benchmark::DoNotOptimize(chain_.writable.data());
      device_.push_used(chain_.id, 64);
    }
    device_.publish();
    benchmark::DoNotOptimize(device_.needs_signal());
  }
  void take_batch() {
    for (unsigned i = 0; i < kBatch; ++i) FUSEWIRE_CHECK(driver_.poll_used().has_value());
  }

 private:
  guestmem::SharedMemory::Piece allocate(std::size_t size) {
    const auto piece = memory_.allocate(size, 4096);
    FUSEWIRE_CHECK(piece.has_value());
    return *piece;
  }

  guestmem::SharedMemory memory_;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  DriverQueue driver_;
  DeviceQueue device_;
  Chain chain_;
};

void serve(benchmark::State& state, bool packed, unsigned buffers, bool indirect) {
  Ring ring({.event_idx = true, .indirect_entries = indirect ? buffers : 0, .packed = packed});
  for (auto _ : state) {
    ring.offer_batch(buffers);
    const auto begin = std::chrono::steady_clock::now();
    ring.serve_batch();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(spent.count());
    ring.take_batch();
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}

BENCHMARK_CAPTURE(serve, split_direct_2, false, 2, false)->UseManualTime();
BENCHMARK_CAPTURE(serve, packed_direct_2, true, 2, false)->UseManualTime();
BENCHMARK_CAPTURE(serve, split_indirect_4, false, 4, true)->UseManualTime();
BENCHMARK_CAPTURE(serve, packed_indirect_4, true, 4, true)->UseManualTime();

}  // namespace
}  // namespace fusewire::virtio
