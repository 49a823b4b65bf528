// One queue: batches, signals, kicks, answers from other threads, malformed and broken rings, the dirty log.
#include "virtiofs/queue_worker.h"

#include <sys/eventfd.h>

#include "virtiofs/device_rig_test.h"

namespace fusewire::virtiofs {
namespace {

using guestmem::GuestAddress;

vring_desc descriptor(std::uint64_t address, std::uint32_t length, unsigned flags = 0, unsigned next = 0) {
  vring_desc made{};
  made.addr = address;
  made.len = length;
  made.flags = static_cast<std::uint16_t>(flags);
  made.next = static_cast<std::uint16_t>(next);
  return made;
}

// How often the event was signalled since it was last read.
std::uint64_t signals(int event) {
  std::uint64_t counter = 0;
  return ::read(event, &counter, sizeof counter) == sizeof counter ? counter : 0;
}

struct Shape {
  unsigned ring;
  bool event_idx;
  unsigned indirect;
  bool packed = false;
};
class EveryShape : public ::testing::TestWithParam<std::tuple<Shape, Cut>> {
 protected:
  RigOptions options() const {
    const auto& [shape, cut] = GetParam();
    RigOptions made;
    made.queue = {.size = shape.ring,
                  .event_idx = shape.event_idx,
                  .indirect_entries = shape.indirect,
                  .packed = shape.packed};
    return made;
  }
  Cut cut() const { return std::get<1>(GetParam()); }
};

TEST_P(EveryShape, ReadsAndWrites_ArriveWhole) {
  Rig rig(options());
  std::vector<std::byte> data(70'000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = HeldFs::content(i * 3);
  for (std::uint32_t size : {1u, 4096u, 70'000u}) {
    EXPECT_TRUE(is_content(rig.queue(1).send(read_request(HeldFs::kAtOnce, size, size), cut()), size, size));
    fuse_write_in in{};
    in.size = size;
    const auto bytes = std::span(data).first(size);
    const Answer answer =
        rig.queue(1).send(Request(FUSE_WRITE).arg(in).bytes(bytes).room(sizeof(fuse_write_out)), cut());
    EXPECT_EQ(answer.as<fuse_write_out>().size, size);
    EXPECT_THAT(rig.fs.written(), ::testing::ElementsAreArray(bytes));
  }
}

TEST_P(EveryShape, RequestsBeyondTheRingsSize_AreAllAnswered) {
  Rig rig(options());
  std::vector<GuestQueue::Ticket> tickets;
  tickets.reserve(300);
  for (unsigned i = 0; i < 300; ++i) tickets.push_back(rig.queue(1).start(getattr_request(100 + i), cut()));
  for (unsigned i = 0; i < tickets.size(); ++i)
    EXPECT_EQ(rig.queue(1).wait(tickets[i]).as<fuse_attr_out>().attr.ino, 100 + i);
}

std::string shape_name(const ::testing::TestParamInfo<EveryShape::ParamType>& tested) {
  const auto& [shape, cut] = tested.param;
  return std::string(shape.packed ? "Packed" : "Ring") + std::to_string(shape.ring) +
         (shape.event_idx ? "Event" : "Flags") + (shape.indirect != 0 ? "Indirect" : "Direct") + name_of(cut);
}

INSTANTIATE_TEST_SUITE_P(
    QueueWorker, EveryShape,
    ::testing::Combine(::testing::Values(Shape{4, true, 0}, Shape{4, false, 64}, Shape{128, true, 0},
                                         Shape{128, false, 0}, Shape{128, true, 128}, Shape{1024, true, 16},
                                         Shape{5, true, 0, true}, Shape{5, false, 64, true},
                                         Shape{128, true, 128, true}, Shape{1000, true, 16, true}),
                       ::testing::ValuesIn(testing::kAllCuts)),
    shape_name);

class WorkerOnEitherRing : public EitherRing {};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, WorkerOnEitherRing, ::testing::Bool(), ring_kind_name);

TEST_P(WorkerOnEitherRing, Batch_IsPublishedWithOneSignal) {
  Rig rig(options({.queue = {.event_idx = false}}));
  rig.settle(1);
  (void)signals(rig.queue(1).call_fd());
  std::vector<GuestQueue::Ticket> tickets;
  tickets.reserve(32);
  for (unsigned i = 0; i < 32; ++i) tickets.push_back(rig.queue(1).stage(getattr_request()));
  rig.queue(1).publish();
  for (const auto ticket : tickets) {
    while (!rig.queue(1).take(ticket)) std::this_thread::yield();
  }
  rig.settle(1);
  EXPECT_EQ(signals(rig.queue(1).call_fd()), 1u);
}

TEST_P(WorkerOnEitherRing, SignalsNotWanted_AreNotSent) {
  Rig rig(options({.queue = {.event_idx = false}}));
  rig.queue(1).driver().disable_interrupts();
  rig.settle(1);
  (void)signals(rig.queue(1).call_fd());
  const auto ticket = rig.queue(1).start(getattr_request());
  while (!rig.queue(1).take(ticket)) std::this_thread::yield();
  rig.settle(1);
  EXPECT_EQ(signals(rig.queue(1).call_fd()), 0u);
}

TEST_P(WorkerOnEitherRing, AnswersFromOtherThreads_ComeBackWhole) {
  Rig rig(options());
  constexpr unsigned kRequests = 400;
  std::atomic<bool> done{false};
  std::vector<std::thread> answerers;
  answerers.reserve(4);
  for (int i = 0; i < 4; ++i)
    answerers.emplace_back([&] {
      while (!done) {
        if (auto call = rig.fs.take_parked()) {
          HeldFs::fill(std::move(*call));
        } else {
          std::this_thread::yield();
        }
      }
    });
  std::vector<GuestQueue::Ticket> tickets;
  tickets.reserve(kRequests);
  for (unsigned i = 0; i < kRequests; ++i)
    tickets.push_back(rig.queue(1).start(read_request(HeldFs::kParked, i, 5000)));
  for (unsigned i = 0; i < kRequests; ++i) EXPECT_TRUE(is_content(rig.queue(1).wait(tickets[i]), i, 5000));
  done = true;
  for (std::thread& thread : answerers) thread.join();
}

TEST(QueueWorker, AnswersAsTheDeviceEnds_TouchNothingThatIsGone) {
  for (int round = 0; round < 100; ++round) {
    auto rig = std::make_unique<Rig>();
    std::vector<GuestQueue::Ticket> tickets;
    tickets.reserve(4);
    for (int i = 0; i < 4; ++i) tickets.push_back(rig->queue(1).start(read_request(HeldFs::kParked, 0, 8)));
    rig->fs.wait_parked(4);
    std::thread answerer([fs = &rig->fs] {
      while (auto call = fs->take_parked()) HeldFs::fill(std::move(*call));
    });
    rig->device.reset();
    for (const auto ticket : tickets) {
      const Answer answer = rig->queue(1).take_now(ticket);
      EXPECT_TRUE(is_content(answer, 0, 8));
    }
    answerer.join();
  }
}

TEST(QueueWorker, Forget_IsReturnedWithoutBytes) {
  Rig rig;
  const Answer answer =
      rig.queue(0).send(Request(FUSE_FORGET, NodeId{7}).arg(fuse_forget_in{.nlookup = 3}).room(-1));
  EXPECT_FALSE(answer.replied);
  EXPECT_EQ(rig.fs.forgotten, 3u);
}

TEST(QueueWorker, NoRoomForAReply_ReturnsTheChainEmpty) {
  Rig rig;
  EXPECT_FALSE(rig.queue(1).send(getattr_request().room(-1)).replied);
  EXPECT_EQ(rig.queue(1).send(getattr_request().room(8)).error, EINVAL);
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
}

TEST(QueueWorker, MalformedChain_IsReturnedWithLengthZero) {
  Rig rig;
  auto& driver = rig.queue(1).driver().split();
  const auto taken = driver.take_descriptors(3);
  const std::uint64_t outside = 0x10;  // no such memory
  const vring_desc malformed[] = {
      descriptor(outside, 64),
      descriptor(rig.memory.description().guest.get(), 64, VRING_DESC_F_NEXT, taken[0]),  // a circle
      descriptor(rig.memory.description().guest.get(), 64, VRING_DESC_F_NEXT, 9999),
      descriptor(rig.memory.description().guest.get(), 32, VRING_DESC_F_INDIRECT),  // not negotiated
  };
  for (const vring_desc& first : malformed) {
    driver.write_descriptor(taken[0], first);
    const auto cookie = rig.queue(1).next_cookie();
    driver.offer_raw(taken[0], cookie);
    rig.queue(1).publish();
    EXPECT_EQ(rig.queue(1).wait_used(cookie), 0u);
    EXPECT_EQ(rig.queue(1).send(getattr_request(5)).as<fuse_attr_out>().attr.ino, 5u);
  }
}

TEST(QueueWorker, MalformedPackedChain_IsReturnedWithLengthZero) {
  Rig rig({.queue = {.packed = true}});
  const std::uint64_t inside = rig.memory.description().guest.get();
  const auto make = [](std::uint64_t address, std::uint32_t length, unsigned flags) {
    return vring_packed_desc{
        .addr = address, .len = length, .id = 0, .flags = static_cast<std::uint16_t>(flags)};
  };
  const std::vector<vring_packed_desc> malformed[] = {
      {make(0x10, 64, 0)},  // no such memory
      {make(inside, 64, VRING_DESC_F_NEXT), make(0x10, 64, VRING_DESC_F_NEXT), make(inside, 64, 0)},
      {make(inside, 64, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT), make(inside, 64, 0)},
      {make(inside, 32, VRING_DESC_F_INDIRECT)},  // not negotiated
  };
  for (int turn = 0; turn < 40; ++turn) {
    const auto cookie = rig.queue(1).next_cookie();
    rig.queue(1).driver().packed().offer_raw(malformed[turn % std::size(malformed)], cookie);
    rig.queue(1).publish();
    EXPECT_EQ(rig.queue(1).wait_used(cookie), 0u);
    EXPECT_EQ(rig.queue(1).send(getattr_request(5)).as<fuse_attr_out>().attr.ino, 5u);
  }
}

TEST(QueueWorker, BrokenPackedRing_SignalsTheErrorEventAndReturnsWhatIsInFlight) {
  Rig rig({.queue = {.packed = true}});
  const auto ticket = rig.queue(1).start(read_request(HeldFs::kParked, 1, 100));
  rig.fs.wait_parked(1);
  auto& driver = rig.queue(1).driver().packed();
  // A chain that never ends.
  const std::vector<vring_packed_desc> endless(driver.free_descriptors(),
                                               {.addr = 0, .len = 0, .id = 0, .flags = VRING_DESC_F_NEXT});
  driver.offer_raw(endless, rig.queue(1).next_cookie());
  rig.queue(1).kick();
  ASSERT_TRUE(testing::wait_event(rig.queue(1).error_fd()));
  rig.fs.answer_parked();
  EXPECT_TRUE(is_content(rig.queue(1).wait(ticket), 1, 100));
}

TEST(QueueWorker, BrokenRing_SignalsTheErrorEventOnceAndRestarts) {
  Rig rig;
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
  auto& driver = rig.queue(1).driver().split();
  const std::uint16_t good = driver.available_index();
  driver.set_available_index(static_cast<std::uint16_t>(good + 1000));  // more than the ring has
  rig.queue(1).kick();
  ASSERT_TRUE(testing::wait_event(rig.queue(1).error_fd()));
  driver.set_available_index(good);
  rig.queue(1).kick();
  rig.stop(1);
  EXPECT_EQ(signals(rig.queue(1).error_fd()), 0u);
  EXPECT_EQ(rig.base[1], good);

  ASSERT_TRUE(rig.start(1));
  EXPECT_EQ(rig.queue(1).send(getattr_request(9)).as<fuse_attr_out>().attr.ino, 9u);
}

TEST(QueueWorker, BrokenRing_StillReturnsWhatIsInFlight) {
  Rig rig;
  const auto ticket = rig.queue(1).start(read_request(HeldFs::kParked, 1, 100));
  rig.fs.wait_parked(1);
  rig.queue(1).driver().split().set_available_index(
      static_cast<std::uint16_t>(rig.queue(1).driver().split().available_index() + 1000));
  rig.queue(1).kick();
  ASSERT_TRUE(testing::wait_event(rig.queue(1).error_fd()));
  rig.fs.answer_parked();
  EXPECT_TRUE(is_content(rig.queue(1).wait(ticket), 1, 100));
}

TEST_P(WorkerOnEitherRing, KickBeforeEnable_IsNotLost) {
  Rig rig(options({.start = false}));
  ASSERT_TRUE(rig.start(1));
  const auto ticket = rig.queue(1).start(init_request());
  rig.queue(1).kick();
  rig.settle(1);  // so that the worker has certainly seen the kick
  EXPECT_FALSE(rig.queue(1).take(ticket).has_value());
  rig.device->set_queue_enabled(1, true);
  EXPECT_EQ(rig.queue(1).wait(ticket).error, 0);
}

TEST(QueueWorker, KickBeforeStart_IsNotLost) {
  Rig rig({.start = false});
  const auto ticket = rig.queue(1).start(init_request());
  rig.device->set_queue_enabled(1, true);
  ASSERT_TRUE(rig.start(1));
  EXPECT_EQ(rig.queue(1).wait(ticket).error, 0);
}

TEST_P(WorkerOnEitherRing, RingWithoutKickEvent_IsPolled) {
  Rig rig(options({.start = false}));
  ASSERT_TRUE(rig.start(1, false));
  rig.device->set_queue_enabled(1, true);
  EXPECT_EQ(rig.queue(1).send(init_request()).error, 0);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
}

TEST(QueueWorker, CallEventThatComesLate_TellsOfWhatWasDone) {
  Rig rig({.start = false});
  ASSERT_TRUE(rig.start(1));
  rig.device->set_queue_call(1, UniqueFd());
  rig.device->set_queue_enabled(1, true);
  (void)signals(rig.queue(1).call_fd());
  const auto ticket = rig.queue(1).start(init_request());
  while (!rig.queue(1).driver().has_used()) std::this_thread::yield();
  EXPECT_EQ(signals(rig.queue(1).call_fd()), 0u);
  rig.device->set_queue_call(1, Rig::share(rig.queue(1).call_fd()));
  EXPECT_TRUE(testing::wait_event(rig.queue(1).call_fd()));
  EXPECT_EQ(rig.queue(1).wait(ticket).error, 0);
}

TEST(QueueWorker, DisabledRing_TakesNothingUntilEnabledAgain) {
  Rig rig;
  rig.device->set_queue_enabled(1, false);
  const auto ticket = rig.queue(1).start(getattr_request());
  rig.queue(1).kick();
  rig.settle(1);
  EXPECT_FALSE(rig.queue(1).take(ticket).has_value());
  rig.device->set_queue_enabled(1, true);
  EXPECT_EQ(rig.queue(1).wait(ticket).error, 0);
}

TEST_P(WorkerOnEitherRing, DirtyLog_HasEveryPageThatWasWritten) {
  Rig rig(options({.queue = {.arena = 8 << 20}}));
  constexpr std::uint64_t kPage = guestmem::DirtyLog::kPageSize;
  const std::uint64_t first = rig.memory.description().guest.get() / kPage;
  const std::uint64_t pages = rig.memory.size() / kPage;
  auto log_memory = *guestmem::SharedMemory::create(GuestAddress(0), (first + pages) / 8 + kPage);
  auto log = guestmem::DirtyLog::map(log_memory.fd(), log_memory.size(), 0);
  ASSERT_TRUE(log.has_value());
  virtio::RingSetup ring = rig.queue(1).driver().setup();
  ring.log_used = true;
  rig.device->set_queue_logging(1, ring);
  rig.device->set_dirty_log(*log);

  const std::byte* memory = rig.memory.host(rig.memory.description().guest);
  std::vector<std::byte> before;
  for (const Cut cut : testing::kAllCuts) {
    const auto ticket = rig.queue(1).stage(read_request(HeldFs::kParked, 3, 100'000), cut);
    rig.queue(1).driver().disable_interrupts();
    before.assign(memory, memory + rig.memory.size());
    rig.queue(1).publish();
    rig.fs.wait_parked(1);
    rig.fs.answer_parked();
    while (!rig.queue(1).driver().has_used()) std::this_thread::yield();
    rig.stop(1);  // the worker is still: what it wrote is logged
    std::size_t changed = 0;
    for (std::uint64_t page = 0; page < pages; ++page) {
      if (std::memcmp(memory + page * kPage, before.data() + page * kPage, kPage) == 0) continue;
      const std::uint64_t bit = first + page;
      const auto bits = log_memory.host(GuestAddress(bit / 8));
      const bool marked = ((*bits >> (bit % 8)) & std::byte{1}) != std::byte{0};
      // Its own index, which the driver moved on between the copy and the end.
      const bool drivers_own =
          page == (rig.queue(1).driver().setup().avail_user_addr - rig.memory.description().user) / kPage;
      EXPECT_TRUE(marked || drivers_own) << "page " << page << ", " << name_of(cut);
      ++changed;
    }
    EXPECT_GE(changed, 100'000 / kPage);
    std::memset(log_memory.host(GuestAddress(0)), 0, log_memory.size());
    EXPECT_TRUE(is_content(rig.queue(1).wait(ticket), 3, 100'000));
    ASSERT_TRUE(rig.start(1));
    rig.device->set_queue_logging(1, ring);
  }
}

// A READ that a test's own indirect table cuts into as many ranges as a chain may have.
struct LongestChain {
  explicit LongestChain(Rig& rig) : ring(rig.queue(1)) {
    const auto request = read_request(HeldFs::kParked, 0, 1000).encode();
    const auto table = testing::allocate_from(rig.memory, kEntries * sizeof(vring_desc));
    const auto bytes = testing::allocate_from(rig.memory, 4096);
    std::memcpy(bytes.host, request.data(), request.size());
    for (std::size_t i = 0; i < kEntries; ++i) {
      const unsigned flags = (i == 0 ? 0 : VRING_DESC_F_WRITE) | (i + 1 < kEntries ? VRING_DESC_F_NEXT : 0);
      const auto length = i == 0 ? static_cast<std::uint32_t>(request.size()) : 1;
      const auto address = bytes.guest.get() + (i == 0 ? 0 : 2048);
      const auto entry = descriptor(address, length, flags, static_cast<unsigned>(i + 1));
      std::memcpy(table.host + i * sizeof entry, &entry, sizeof entry);
    }
    heads = ring.driver().split().take_descriptors(64);
    for (const std::uint16_t head : heads)
      ring.driver().split().write_descriptor(
          head, descriptor(table.guest.get(), kEntries * sizeof(vring_desc), VRING_DESC_F_INDIRECT));
  }
  static constexpr std::size_t kEntries = 32768;
  GuestQueue& ring;
  std::vector<std::uint16_t> heads;
};

TEST(QueueWorker, LongestChainsInFlight_AreBoundedAndAllServed) {
  RigOptions options;
  options.queue = {.indirect_entries = 16};
  options.spare_memory = 1 << 20;
  Rig rig(options);
  LongestChain chain(rig);
  for (std::size_t i = 0; i < chain.heads.size(); ++i)
    chain.ring.driver().split().offer_raw(chain.heads[i], 1000 + i);
  chain.ring.kick();
  rig.fs.wait_parked(32);
  rig.settle(1);
  EXPECT_EQ(rig.fs.parked(), 32u);
  EXPECT_EQ(rig.queue(0).send(getattr_request()).error, 0);
  for (std::size_t answered = 0; answered < chain.heads.size(); ++answered) {
    rig.fs.wait_parked(1);
    rig.fs.answer_parked();
  }
  for (std::size_t i = 0; i < chain.heads.size(); ++i)
    EXPECT_EQ(chain.ring.wait_used(1000 + i), sizeof(fuse_out_header) + 1000);
}

TEST(QueueWorker, RingOutsideOfMemory_DoesNotStart) {
  Rig rig({.start = false});
  virtio::RingSetup ring = rig.queue(1).driver().setup();
  ring.used_user_addr += std::uint64_t{1} << 40;
  EXPECT_FALSE(rig.device->start_queue(1, ring, UniqueFd()).has_value());
  EXPECT_TRUE(rig.start(1));
}

TEST(QueueWorker, KickThatCannotBeWaitedFor_DoesNotStart) {
  Rig rig({.start = false});
  UniqueFd file(::dup(rig.memory.fd().get()));
  EXPECT_FALSE(rig.device->start_queue(1, rig.queue(1).driver().setup(), std::move(file)).has_value());
  EXPECT_TRUE(rig.start(1));
}

}  // namespace
}  // namespace fusewire::virtiofs
