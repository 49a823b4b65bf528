// Several queues at once, rings that stop and start, kicks that come early, and what the device offers.
#include <linux/virtio_fs.h>

#include <atomic>
#include <cstring>
#include <future>
#include <thread>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

using Queues = DaemonTest;

Request getattr_request() {
  return std::move(make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}).room(sizeof(fuse_attr_out)));
}

TEST_F(Queues, FourQueuesAtOnce_KeepTheirDataApart) {
  constexpr unsigned kQueues = 4;
  constexpr std::size_t kPiece = 100'000;
  constexpr unsigned kPieces = kSanitized ? 20 : 100;
  boot({}, {.request_queues = kQueues, .queue = {.arena = 8 << 20}});
  const auto created = client().create(kRootNode, "shared");
  ASSERT_TRUE(created.has_value());
  const NodeId shared{created->entry.nodeid};
  const std::uint64_t shared_handle = created->open.fh;

  // Each program has a file of its own, and all write into parts of one.
  const auto program = [&](unsigned queue) {
    Client own(guest(), queue);
    const auto file = own.create(kRootNode, "own" + std::to_string(queue));
    if (!file) return false;
    const NodeId node{file->entry.nodeid};
    bool good = true;
    for (unsigned i = 0; i < kPieces && good; ++i) {
      const std::string data = pattern(kPiece, queue * 1000 + i);
      const std::uint64_t shared_offset = (std::uint64_t{i} * kQueues + queue - 1) * kPiece;
      good = own.write(node, file->open.fh, i * kPiece, data) == kPiece &&
             own.write(shared, shared_handle, shared_offset, data) == kPiece &&
             own.read(node, file->open.fh, i * kPiece, kPiece) == data &&
             own.read(shared, shared_handle, shared_offset, kPiece) == data;
    }
    return good && own.release(node, file->open.fh) == 0;
  };
  std::vector<std::future<bool>> programs;
  for (unsigned queue = 1; queue <= kQueues; ++queue)
    programs.push_back(std::async(std::launch::async, program, queue));
  for (auto& good : programs) EXPECT_TRUE(good.get());

  const std::string all = read_host("shared");
  ASSERT_EQ(all.size(), kPiece * kPieces * kQueues);
  for (unsigned queue = 1; queue <= kQueues; ++queue) {
    const std::string own = read_host("own" + std::to_string(queue));
    for (unsigned i = 0; i < kPieces; ++i) {
      const std::string data = pattern(kPiece, queue * 1000 + i);
      EXPECT_TRUE(own.compare(i * kPiece, kPiece, data) == 0);
      EXPECT_TRUE(all.compare((i * kQueues + queue - 1) * kPiece, kPiece, data) == 0);
    }
  }
}

TEST_F(Queues, ManyRequestsInFlightOnEachQueue_AreAllAnsweredRight) {
  boot({}, {.request_queues = 3, .queue = {.arena = 16 << 20}});
  const std::string data = pattern(1 << 20);
  write_host("file", data);
  const NodeId node = *client().walk("file");
  const std::uint64_t handle = client().open(node)->fh;
  const auto program = [&](unsigned queue) {
    int bad = 0;
    for (int round = 0; round < 5; ++round) {
      std::vector<std::pair<GuestQueue::Ticket, std::size_t>> reads;
      for (std::size_t i = 0; i < 60; ++i) {
        const std::size_t offset = (i * 7919 + std::size_t{queue} * 104'729) % (data.size() - 50'000);
        reads.emplace_back(guest().queue(queue).stage(Client::read_request(node, handle, offset, 50'000)),
                           offset);
      }
      guest().queue(queue).publish();
      for (const auto& [ticket, offset] : reads)
        bad += guest().queue(queue).wait(ticket).text() != std::string_view(data).substr(offset, 50'000);
    }
    return bad;
  };
  std::vector<std::future<int>> programs;
  for (unsigned queue = 1; queue <= 3; ++queue)
    programs.push_back(std::async(std::launch::async, program, queue));
  for (auto& bad : programs) EXPECT_EQ(bad.get(), 0);
}

TEST_F(Queues, NumRequestQueues_IsWhatTheDeviceHas) {
  boot({"--tag=myfs"}, {.request_queues = 5});
  EXPECT_EQ(guest().frontend().get_queue_num(), 6u);
  const auto config = guest().frontend().get_config(0, sizeof(virtio_fs_config));
  ASSERT_TRUE(config.has_value()) << config.error();
  virtio_fs_config fields{};
  std::memcpy(&fields, config->data(), sizeof fields);
  EXPECT_STREQ(reinterpret_cast<const char*>(fields.tag), "myfs");
  EXPECT_EQ(fields.num_request_queues, 5u);
  EXPECT_FALSE(guest().frontend().set_config(0, as_bytes("x")).has_value());
  expect_alive();
}

TEST_F(Queues, WithoutTag_ConfigIsNotOffered) {
  boot();
  EXPECT_EQ(guest().frontend().offered_protocol_features() & bit(vhost_user::ProtocolFeature::config), 0u);
  EXPECT_FALSE(guest().frontend().get_config(0, 4).has_value());
}

TEST_F(Queues, KickBeforeEnable_IsNotLost) {
  boot({}, {.start_rings = false});
  guest().start_ring(1);
  fuse_init_in in{};
  in.major = kMajor;
  in.minor = kMinor;
  const auto ticket = client().start(make_request(FUSE_INIT, NodeId{0}, in).room(sizeof(fuse_init_out)));
  guest().queue(1).kick();
  // An acknowledged message: the daemon has had every occasion to look at the ring.
  EXPECT_TRUE(guest().frontend().get_queue_num().has_value());
  EXPECT_FALSE(guest().queue(1).take(ticket).has_value());
  guest().enable_ring(1);
  EXPECT_EQ(client().wait(ticket).error, 0);
}

TEST_F(Queues, KickBeforeStart_IsNotLost) {
  boot({}, {.start_rings = false});
  const auto ticket = client().start(getattr_request());
  guest().queue(1).kick();
  guest().enable_ring(1);
  guest().start_ring(1);
  EXPECT_EQ(client().wait(ticket).error, EIO);  // no INIT yet
}

// What concerns split and packed rings alike.
class StoppedRings : public Queues, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(SplitAndPacked, StoppedRings, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Packed" : "Split"; });

TEST_P(StoppedRings, StopAndStart_GoesOnAtTheSameBase) {
  boot({}, {.queue = {.size = 8, .initial_index = 0xfff0, .packed = GetParam()}});
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(client().getattr(kRootNode).has_value());
    EXPECT_EQ(guest().stop_ring(1), guest().queue(1).driver().drained_base());
    const auto ticket = client().start(getattr_request());
    guest().start_ring(1);
    EXPECT_EQ(client().wait(ticket).error, 0);
  }
}

TEST_F(Queues, StopWithAWaitingLock_AnswersEnolck) {
  write_host("file", "x");
  boot({"--posix-lock"}, {.request_queues = 2});
  const NodeId node = *client().walk("file");
  const std::uint64_t handle = client().open(node)->fh;
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK), 0);
  for (int round = 0; round < 10; ++round) {
    const auto waiting = client().start(Client::lock_request(FUSE_SETLKW, node, handle, 2, F_WRLCK));
    const auto read = client().start(Client::read_request(node, handle, 0, 1));
    // In every other round the ring stops once more, at any point: before the two are taken or after.
    if (round % 2 != 0) {
      (void)guest().stop_ring(1);
      guest().start_ring(1);
    }
    EXPECT_EQ(client().wait(read).text(), "x");  // and so the lock has been tried
    (void)guest().stop_ring(1);
    guest().start_ring(1);
    EXPECT_EQ(client().wait(waiting).error, ENOLCK);
  }
  // The session and its locks are still there.
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 2, F_WRLCK), EAGAIN);
}

TEST_P(StoppedRings, StopUnderLoad_LosesNothing) {
  const std::string data = pattern(200'000);
  write_host("file", data);
  boot({}, {.request_queues = 2, .queue = {.arena = 16 << 20, .packed = GetParam()}});
  const NodeId node = *client().walk("file");
  const std::uint64_t handle = client().open(node)->fh;
  std::atomic<bool> done{false};
  auto program = std::async(std::launch::async, [&] {
    int bad = 0;
    while (!done) {
      std::vector<GuestQueue::Ticket> reads;
      reads.reserve(20);
      for (int i = 0; i < 20; ++i)
        reads.push_back(guest().queue(2).start(Client::read_request(node, handle, 0, 200'000)));
      for (const auto ticket : reads) bad += guest().queue(2).wait(ticket).text() != data;
    }
    return bad;
  });
  for (int round = 0; round < 30; ++round) {
    (void)guest().stop_ring(2);
    guest().start_ring(2);
  }
  done = true;
  EXPECT_EQ(program.get(), 0);
}

TEST_F(Queues, DisabledRing_WaitsUntilItIsEnabled) {
  boot();
  guest().enable_ring(1, false);
  const auto ticket = client().start(getattr_request());
  EXPECT_TRUE(guest().frontend().get_queue_num().has_value());
  EXPECT_FALSE(guest().queue(1).take(ticket).has_value());
  guest().enable_ring(1);
  EXPECT_EQ(client().wait(ticket).error, 0);
}

TEST_P(StoppedRings, ResetDevice_StopsTheRingsAndKeepsTheSession) {
  boot({}, {.queue = {.packed = GetParam()}});
  EXPECT_TRUE(guest().frontend().reset_device().has_value());
  guest().set_base(1, guest().queue(1).driver().drained_base());
  const auto ticket = client().start(getattr_request());
  guest().queue(1).kick();
  EXPECT_TRUE(guest().frontend().get_queue_num().has_value());
  EXPECT_FALSE(guest().queue(1).take(ticket).has_value());
  guest().start_ring(1);
  guest().enable_ring(1);
  EXPECT_EQ(client().wait(ticket).error, 0);
}

}  // namespace
}  // namespace fusewire::tests
