// The device: queues side by side, stopping and starting, memory that changes, INIT while others are busy.
#include "virtiofs/device.h"

#include <linux/virtio_fs.h>
#include <sched.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>

#include "virtiofs/device_rig_test.h"

namespace fusewire::virtiofs {
namespace {

using guestmem::GuestAddress;

TEST(Device, Tag_IsInTheConfigurationSpace) {
  HeldFs fs;
  const auto device = Device::create(fs, {.request_queues = 5, .tag = "share"});
  ASSERT_TRUE(device.has_value());
  virtio_fs_config config{};
  ASSERT_EQ((*device)->config().size(), sizeof config);
  std::memcpy(&config, (*device)->config().data(), sizeof config);
  EXPECT_STREQ(reinterpret_cast<const char*>(config.tag), "share");
  EXPECT_EQ(config.num_request_queues, 5u);
  EXPECT_EQ((*device)->queue_count(), 6u);
}

TEST(Device, NoTag_NoConfigurationSpace) {
  HeldFs fs;
  EXPECT_TRUE((*Device::create(fs, {}))->config().empty());
}

TEST(Device, TagLimit_Is36Bytes) {
  HeldFs fs;
  EXPECT_TRUE(Device::create(fs, {.tag = std::string(36, 't')}).has_value());
  const auto too_long = Device::create(fs, {.tag = std::string(37, 't')});
  ASSERT_FALSE(too_long.has_value());
  EXPECT_EQ(too_long.error(), Errno{EINVAL});
}

TEST(Device, BlockedRequestQueue_DoesNotHoldUpTheOthers) {
  Rig rig({.request_queues = 2});
  const auto blocked = rig.queue(1).start(read_request(HeldFs::kBlocking, 0, 8));
  rig.fs.wait_blocked();
  EXPECT_FALSE(rig.queue(0).send(Request(FUSE_FORGET).arg(fuse_forget_in{.nlookup = 1}).room(-1)).replied);
  EXPECT_EQ(rig.queue(0).send(getattr_request()).error, 0);
  EXPECT_EQ(rig.queue(2).send(getattr_request()).error, 0);
  rig.fs.release_blocked();
  EXPECT_TRUE(is_content(rig.queue(1).wait(blocked), 0, 8));
}

TEST(Device, InitWhileOtherQueuesAreBusy_RunsAloneAndAllGoOn) {
  Rig rig({.request_queues = 3});
  std::vector<std::future<int>> busy;
  std::atomic<bool> done{false};
  for (unsigned index : {2u, 3u})
    busy.push_back(std::async(std::launch::async, [&rig, &done, index] {
      int errors = 0;
      for (int i = 0; i < 50 || !done; ++i) errors += rig.queue(index).send(getattr_request()).error != 0;
      return errors;
    }));
  const int before = rig.fs.inits;
  for (int i = 0; i < 50; ++i) EXPECT_EQ(rig.queue(1).send(init_request()).error, 0);
  done = true;
  // Between destroy and init nothing gets in, so nobody sees the gap.
  for (auto& errors : busy) EXPECT_EQ(errors.get(), 0);
  EXPECT_EQ(rig.fs.inits, before + 50);
  EXPECT_EQ(rig.fs.destroys, before + 49);
}

TEST(Device, InitWithAWaitingLock_EndsTheWait) {
  Rig rig({.request_queues = 2});
  const auto lock = rig.queue(2).start(lock_request());
  rig.fs.wait_waiting(1);
  EXPECT_EQ(rig.queue(1).send(init_request()).error, 0);
  EXPECT_EQ(rig.queue(2).wait(lock).error, ENOLCK);
}

TEST(Device, StopWithAWaitingLock_AnswersEnolck) {
  Rig rig;
  const auto lock = rig.queue(1).start(lock_request());
  rig.fs.wait_waiting(1);
  rig.stop(1);
  const Answer answer = rig.queue(1).take_now(lock);
  EXPECT_EQ(answer.error, ENOLCK);
}

TEST(Device, Interrupt_EndsAWaitOfAnotherQueue) {
  Rig rig;
  const Request waiting = lock_request();
  const auto lock = rig.queue(1).start(waiting);
  rig.fs.wait_waiting(1);
  const Answer interrupt =
      rig.queue(0).send(Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = waiting.unique()}).room(0));
  EXPECT_FALSE(interrupt.replied);
  EXPECT_EQ(rig.queue(1).wait(lock).error, EINTR);
}

TEST(Device, StopWithAnUnmatchedInterrupt_AnswersIt) {
  Rig rig;
  const auto interrupt =
      rig.queue(0).start(Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = 77'777}).room(0));
  // It is kept for a request to come, so only stopping ends it.
  while (rig.device->stop_queue(0) == 0) ASSERT_TRUE(rig.start(0));
  const Answer answer = rig.queue(0).take_now(interrupt);
  EXPECT_EQ(answer.error, EAGAIN);
}

class DeviceOnEitherRing : public EitherRing {};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, DeviceOnEitherRing, ::testing::Bool(), ring_kind_name);

TEST_P(DeviceOnEitherRing, Stop_WaitsForAnswersFromOtherThreads) {
  Rig rig(options());
  std::vector<GuestQueue::Ticket> tickets;
  tickets.reserve(10);
  for (int i = 0; i < 10; ++i) tickets.push_back(rig.queue(1).start(read_request(HeldFs::kParked, 2, 5000)));
  rig.fs.wait_parked(10);
  auto stopped = std::async(std::launch::async, [&] { rig.stop(1); });
  while (auto call = rig.fs.take_parked()) HeldFs::fill(std::move(*call));
  stopped.get();
  for (const auto ticket : tickets) {
    const Answer answer = rig.queue(1).take_now(ticket);
    EXPECT_TRUE(is_content(answer, 2, 5000));
  }
}

TEST_P(DeviceOnEitherRing, StopAndStart_GoesOnWhereItStood) {
  Rig rig(options({.queue = {.size = 8}}));
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 3; ++i) EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
    rig.stop(1);
    EXPECT_EQ(rig.base[1], rig.queue(1).driver().drained_base());
    // Offered while it is stopped.
    const auto ticket = rig.queue(1).start(getattr_request());
    ASSERT_TRUE(rig.start(1));
    EXPECT_EQ(rig.queue(1).wait(ticket).error, 0);
  }
}

TEST_P(DeviceOnEitherRing, IndexesWrap) {
  Rig rig(options({.queue = {.size = 4, .initial_index = 0xfff0}}));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
}

TEST(Device, Reset_KeepsTheSessionButDisablesTheQueues) {
  Rig rig({.request_queues = 2});
  const auto waiting = rig.queue(2).start(lock_request());
  rig.fs.wait_waiting(1);
  rig.device->reset();
  EXPECT_EQ(rig.queue(2).take_now(waiting).error, ENOLCK);
  EXPECT_EQ(rig.fs.destroys, 0);

  rig.base[1] = rig.queue(1).driver().drained_base();
  ASSERT_TRUE(rig.start(1));
  const auto ticket = rig.queue(1).start(getattr_request());
  rig.settle(1);
  EXPECT_FALSE(rig.queue(1).take(ticket).has_value());
  rig.device->set_queue_enabled(1, true);
  EXPECT_EQ(rig.queue(1).wait(ticket).error, 0);
}

TEST(Device, Disconnect_ForgetsTheGuest) {
  Rig rig;
  rig.device->disconnect();
  EXPECT_EQ(rig.fs.destroys, 1);
  // No memory: nothing can start.
  EXPECT_FALSE(rig.start(1));
  rig.device->set_features(rig.queue(1).options().accepted(rig.device->features()));
  rig.device->set_memory(rig.map);
  rig.base[1] = rig.queue(1).driver().drained_base();
  ASSERT_TRUE(rig.start(1));
  rig.device->set_queue_enabled(1, true);
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, EIO);
  EXPECT_EQ(rig.queue(1).send(init_request()).error, 0);
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
}

TEST(Device, MemoryAddedWhileARequestIsInFlight_IsUsedByTheNext) {
  Rig rig;
  const auto in_flight = rig.queue(1).start(read_request(HeldFs::kParked, 9, 20'000), Cut::pages);
  rig.fs.wait_parked(1);
  auto more = *guestmem::SharedMemory::create(GuestAddress(std::uint64_t{1} << 32), 8 << 20);
  const auto region = guestmem::MemoryRegion::map(more.description(), more.fd());
  ASSERT_TRUE(region.has_value());
  rig.device->set_memory(*rig.map->with(*region));
  rig.fs.answer_parked();
  EXPECT_TRUE(is_content(rig.queue(1).wait(in_flight), 9, 20'000));

  rig.queue(1).use_arena(more, 4 << 20);
  for (const Cut cut : testing::kAllCuts)
    EXPECT_TRUE(is_content(rig.queue(1).send(read_request(HeldFs::kAtOnce, 4, 50'000), cut), 4, 50'000));
}

TEST(Device, MemoryRemovedWhileARequestUsesIt_LivesUntilTheAnswer) {
  Rig rig;
  auto more = *guestmem::SharedMemory::create(GuestAddress(std::uint64_t{1} << 32), 8 << 20);
  std::weak_ptr<const guestmem::MemoryRegion> watched;
  {
    const auto region = guestmem::MemoryRegion::map(more.description(), more.fd());
    ASSERT_TRUE(region.has_value());
    watched = *region;
    rig.device->set_memory(*rig.map->with(*region));
  }
  rig.queue(1).use_arena(more, 4 << 20);
  EXPECT_TRUE(is_content(rig.queue(1).send(read_request(HeldFs::kAtOnce, 1, 100)), 1, 100));
  const auto in_flight = rig.queue(1).start(read_request(HeldFs::kParked, 9, 20'000), Cut::pages);
  rig.fs.wait_parked(1);
  rig.device->set_memory(rig.map);
  EXPECT_FALSE(watched.expired());
  rig.fs.answer_parked();
  EXPECT_TRUE(is_content(rig.queue(1).wait(in_flight), 9, 20'000));
  rig.stop(1);
  EXPECT_TRUE(watched.expired());
}

TEST(Device, MemoryWithoutTheRing_BreaksItAndNothingElse) {
  Rig rig({.request_queues = 2});
  auto other = *guestmem::SharedMemory::create(GuestAddress(std::uint64_t{1} << 32), 1 << 20);
  const auto lock = rig.queue(1).start(lock_request());
  rig.fs.wait_waiting(1);
  rig.device->set_memory(map_of({&other}));
  EXPECT_TRUE(testing::wait_event(rig.queue(1).error_fd()));
  EXPECT_TRUE(testing::wait_event(rig.queue(2).error_fd()));
  rig.stop(1);
  EXPECT_EQ(rig.queue(1).take_now(lock).error, ENOLCK);

  rig.device->set_memory(rig.map);
  ASSERT_TRUE(rig.start(1));
  EXPECT_EQ(rig.queue(1).send(getattr_request()).error, 0);
}

TEST_P(DeviceOnEitherRing, MemoryChangesUnderAStreamOfRequests_HurtNone) {
  Rig rig(options({.request_queues = 2}));
  std::atomic<bool> done{false};
  std::vector<std::future<int>> streams;
  for (unsigned index : {1u, 2u})
    streams.push_back(std::async(std::launch::async, [&rig, &done, index] {
      int bad = 0;
      for (int i = 0; i < 20 || !done; ++i)
        bad += !is_content(rig.queue(index).send(read_request(HeldFs::kAtOnce, 5, 30'000), Cut::pages), 5,
                           30'000);
      return bad;
    }));
  auto more = *guestmem::SharedMemory::create(GuestAddress(std::uint64_t{1} << 32), 8 << 20);
  for (int i = 0; i < 100; ++i) {
    const auto region = guestmem::MemoryRegion::map(more.description(), more.fd());
    ASSERT_TRUE(region.has_value());
    rig.device->set_memory(*rig.map->with(*region));
    rig.device->set_memory(map_of({&rig.memory}));  // mapped again, at another place
  }
  rig.device->set_memory(rig.map);
  done = true;
  for (auto& bad : streams) EXPECT_EQ(bad.get(), 0);
}

// The CPUs that the thread called `name` may run on.
cpu_set_t cpus_of_thread(const std::string& name) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm");
    std::string is;
    std::getline(comm, is);
    if (is != name) continue;
    EXPECT_EQ(sched_getaffinity(std::stoi(task.path().filename()), sizeof set, &set), 0);
  }
  return set;
}

TEST(Device, QueueCpus_KeepTheRequestQueuesThere_AndNotHiprio) {
  cpu_set_t usable;
  ASSERT_EQ(sched_getaffinity(0, sizeof usable, &usable), 0);
  unsigned last = 0;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &usable)) last = cpu;
  Rig rig({.request_queues = 2, .queue_cpus = {last}});
  ASSERT_EQ(rig.queue(2).send(getattr_request()).error, 0);

  for (const char* worker : {"fsq1", "fsq2"}) {
    const cpu_set_t set = cpus_of_thread(worker);
    EXPECT_EQ(CPU_COUNT(&set), 1) << worker;
    EXPECT_TRUE(CPU_ISSET(last, &set)) << worker;
  }
  const cpu_set_t hiprio = cpus_of_thread("fsq0");
  EXPECT_TRUE(CPU_EQUAL(&hiprio, &usable));
}

}  // namespace
}  // namespace fusewire::virtiofs
