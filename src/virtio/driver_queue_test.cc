// Both sides of the ring against each other: sizes, wrapping indexes, direct and indirect, and a device that
// lies.
#include "virtio/driver_queue.h"

#include <random>

#include "virtio/queue_fixture_test.h"

namespace fusewire::virtio {
namespace {

class EitherDriver : public testing::TestWithParam<bool> {
 protected:
  static DriverOptions options(DriverOptions made = {}) {
    made.packed = GetParam();
    return made;
  }
};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, EitherDriver, testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Packed" : "Split"; });

TEST_P(EitherDriver, Add_WithoutFreeDescriptors_DoesNothing) {
  Ring ring(4, options());
  const GuestBuffer byte = ring.buffer(1);
  ASSERT_TRUE(ring.driver.add({{byte, byte, byte}}, {}, 1));
  EXPECT_FALSE(ring.driver.add({{byte, byte}}, {}, 2));
  EXPECT_EQ(ring.driver.free_descriptors(), 1u);
  EXPECT_TRUE(ring.driver.add({{byte}}, {}, 3));
  EXPECT_EQ(ring.driver.outstanding(), 2u);
}

TEST_P(EitherDriver, Stage_IsSeenAtPublish) {
  Ring ring(4, options());
  for (std::uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(ring.driver.stage({{ring.buffer(1)}}, {}, i));
    EXPECT_FALSE(ring.device.has_available());
  }
  ring.driver.publish();
  Chain chain;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::chain);
  EXPECT_EQ(ring.device.pop(chain, *ring.map), Pop::nothing);
}

TEST_P(EitherDriver, Add_MoreBuffersThanIndirectEntries_GoesDirect) {
  Ring ring(8, options({.indirect_entries = 2}));
  const GuestBuffer byte = ring.buffer(1);
  ASSERT_TRUE(ring.driver.add({{byte, byte, byte}}, {}, 1));
  EXPECT_EQ(ring.driver.free_descriptors(), 5u);
  ASSERT_TRUE(ring.driver.add({{byte}}, {{byte}}, 1));
  EXPECT_EQ(ring.driver.free_descriptors(), 4u);
}

TEST(PackedDriverQueue, PollUsed_ChainTheDeviceDidNotHave_Breaks) {
  for (const std::uint16_t id : {std::uint16_t{1}, std::uint16_t{4}, std::uint16_t{0xffff}}) {
    Ring ring(4, {.packed = true});
    ASSERT_TRUE(ring.driver.add({{ring.buffer(1)}}, {}, 1));  // Id 0.
    ring.driver.packed().write_descriptor(
        0, {.addr = 0, .len = 0, .id = id, .flags = kPackedAvail | kPackedUsed});
    EXPECT_TRUE(ring.driver.has_used());
    EXPECT_FALSE(ring.driver.poll_used());
    EXPECT_TRUE(ring.driver.broken());
  }
}

TEST(SplitDriverQueue, PollUsed_ChainTheDeviceDidNotHave_Breaks) {
  for (std::uint32_t id : {1u, 4u, 0xffffffffu}) {
    Ring ring(4);
    ASSERT_TRUE(ring.driver.add({{ring.buffer(1)}}, {}, 1));  // Head 0.
    const auto used = ring.memory.host(ring.driver.setup().log_guest_addr);
    const vring_used_elem element{id, 0};
    const std::uint16_t index = 1;
    std::memcpy(used + 4, &element, sizeof(element));
    std::memcpy(used + 2, &index, sizeof(index));
    EXPECT_FALSE(ring.driver.poll_used());
    EXPECT_TRUE(ring.driver.broken());
  }
}

struct Shape {
  unsigned size;
  bool event_idx;
  unsigned indirect;
  bool packed = false;
};
void PrintTo(const Shape& shape, std::ostream* out) {
  *out << (shape.packed ? "packed, " : "") << "size " << shape.size
       << (shape.event_idx ? ", event index" : "") << (shape.indirect ? ", indirect" : "");
}
class BothSides : public testing::TestWithParam<Shape> {};

// Pushes more than 65,536 chains through, in random batches and returned out of order, so that both indexes
// wrap at 16 bits and at the ring's size; each chain carries its number and gets it back.
TEST_P(BothSides, Chains_SurviveWrapAroundAndReordering) {
  const auto [size, event_idx, indirect, packed] = GetParam();
  std::mt19937 random(size + event_idx * 2 + (indirect != 0));
  Ring ring(size,
            {.event_idx = event_idx, .indirect_entries = indirect, .initial_index = 65000, .packed = packed});
  const unsigned per_chain = indirect != 0 ? 1 : 2;
  const unsigned slots = size / per_chain;
  // One request and one reply word for each chain that can be in flight.
  const auto words = taken(ring.memory.allocate(std::size_t{slots} * 16));
  const auto request = [&](std::uint64_t slot) {
    return GuestBuffer{guestmem::GuestAddress(words.guest.get() + slot * 16), 8};
  };
  const auto answer = [&](std::uint64_t slot) {
    return GuestBuffer{guestmem::GuestAddress(words.guest.get() + slot * 16 + 8), 8};
  };
  std::vector<std::uint64_t> free_slots;
  free_slots.reserve(slots);
  for (unsigned i = 0; i < slots; ++i) free_slots.push_back(i);

  struct InFlight {
    ChainId id;
    void* reply;
    std::uint64_t number;
  };
  std::vector<InFlight> in_flight;
  std::vector<std::uint64_t> expected(slots);
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  Chain chain;
  constexpr std::uint64_t kChains = 80000;
  while (received < kChains) {
    const auto burst = std::uniform_int_distribution<std::uint64_t>(1, size)(random);
    for (std::uint64_t i = 0; i < burst && sent < kChains && !free_slots.empty(); ++i) {
      const std::uint64_t slot = free_slots.back();
      const std::uint64_t number = sent * 0x9e3779b97f4a7c15u;
      std::memcpy(words.host + slot * 16, &number, 8);
      if (!ring.driver.stage({{request(slot)}}, {{answer(slot)}}, slot)) break;
      free_slots.pop_back();
      expected[slot] = number;
      ++sent;
    }
    ring.driver.publish();
    (void)ring.driver.kick_needed();

    for (Pop popped; (popped = ring.device.pop(chain, *ring.map)) != Pop::nothing;) {
      ASSERT_EQ(popped, Pop::chain);
      ASSERT_EQ(chain.readable_size, 8u);
      ASSERT_EQ(chain.writable_size, 8u);
      std::uint64_t number = 0;
      std::memcpy(&number, chain.readable[0].iov_base, 8);
      in_flight.push_back({chain.id, chain.writable[0].iov_base, number});
    }
    std::ranges::shuffle(in_flight, random);
    const auto done = std::uniform_int_distribution<std::size_t>(0, in_flight.size())(random);
    for (std::size_t i = 0; i < done; ++i) {
      const InFlight& one = in_flight.back();
      std::memcpy(one.reply, &one.number, 8);
      ring.device.push_used(one.id, 8);
      in_flight.pop_back();
    }
    ring.device.publish();
    (void)ring.device.needs_signal();

    while (const auto used = ring.driver.poll_used()) {
      std::uint64_t number = 0;
      std::memcpy(&number, words.host + used->cookie * 16 + 8, 8);
      ASSERT_EQ(number, expected[used->cookie]);
      ASSERT_EQ(used->length, 8u);
      free_slots.push_back(used->cookie);
      ++received;
    }
    ASSERT_FALSE(ring.driver.broken());
  }
  EXPECT_EQ(ring.driver.free_descriptors(), size);
  EXPECT_EQ(ring.device.base(), ring.driver.drained_base());
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (bool event_idx : {false, true})
    for (unsigned indirect : {0u, 2u}) {
      for (unsigned size = 4; size <= 32768; size *= 2) all.push_back({size, event_idx, indirect});
      for (unsigned size : {2u, 3u, 4u, 100u, 128u, 1000u, 32767u, 32768u})
        all.push_back({size, event_idx, indirect, true});
    }
  return all;
}
INSTANTIATE_TEST_SUITE_P(AllSizes, BothSides, testing::ValuesIn(shapes()));

}  // namespace
}  // namespace fusewire::virtio
