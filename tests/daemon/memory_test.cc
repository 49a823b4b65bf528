// Guest memory that comes and goes while requests are in flight.
#include <atomic>
#include <cstring>
#include <future>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class Memory : public DaemonTest {
 protected:
  void boot_with_file(unsigned queues) {
    data = pattern(300'000);
    write_host("file", data);
    boot({"--posix-lock"}, {.request_queues = queues, .queue = {.arena = 8 << 20}});
    node = *client().walk("file");
    handle = client().open(node)->fh;
  }
  std::string data;
  NodeId node;
  std::uint64_t handle = 0;
};

TEST_F(Memory, HotPlugUnderAWaitingLockAndAStreamOfReads) {
  boot_with_file(3);
  ASSERT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_WRLCK), 0);
  const auto waiting = client().start(Client::lock_request(FUSE_SETLKW, node, handle, 2, F_WRLCK, 0, 9));
  std::atomic<bool> done{false};
  auto stream = std::async(std::launch::async, [&] {
    int bad = 0;
    while (!done)
      bad += guest().queue(2).send(Client::read_request(node, handle, 0, 300'000), Cut::pages).text() != data;
    return bad;
  });

  guestmem::SharedMemory& more = guest().make_memory(4, 64 << 20);
  guest().plug(more);
  // Used for requests and replies,
  guest().queue(3).use_arena(more, 32 << 20);
  Client plugged(guest(), 3);
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(plugged.read(node, handle, 0, 300'000) == data);
    EXPECT_EQ(plugged.write(node, handle, 0, data), data.size());
  }
  // and with a request in flight in it, removed.
  const auto in_removed = plugged.start(Client::lock_request(FUSE_SETLKW, node, handle, 3, F_WRLCK, 20, 29));
  EXPECT_TRUE(plugged.read(node, handle, 0, 1).has_value());
  guest().unplug(more);
  done = true;
  EXPECT_EQ(stream.get(), 0);
  EXPECT_EQ(client().lock(FUSE_SETLK, node, handle, 1, F_UNLCK), 0);
  EXPECT_EQ(client().wait(waiting).error, 0);
  EXPECT_EQ(plugged.wait(in_removed).error, 0);
  expect_alive();
}

TEST_F(Memory, RequestsInRemovedMemory_AreReturnedEmpty) {
  boot_with_file(1);
  guestmem::SharedMemory& more = guest().make_memory(4, 16 << 20);
  guest().plug(more);
  guest().queue(1).use_arena(more, 8 << 20);
  EXPECT_TRUE(client().read(node, handle, 0, 1000).has_value());
  guest().unplug(more);
  const Answer answer = guest().queue(1).send(Client::read_request(node, handle, 0, 1000));
  EXPECT_FALSE(answer.replied);
  guest().plug(more);
  EXPECT_EQ(client().read(node, handle, 0, 1000), data.substr(0, 1000));
}

TEST_F(Memory, PluggedAgainAndAgain_LeavesNothingBehind) {
  boot_with_file(1);
  guestmem::SharedMemory& more = guest().make_memory(4, 16 << 20);
  guest().plug(more);
  guest().unplug(more);
  const auto descriptors = daemon().descriptors();
  for (int i = 0; i < 100; ++i) {
    guest().plug(more);
    EXPECT_TRUE(client().getattr(kRootNode).has_value());
    guest().unplug(more);
  }
  EXPECT_EQ(daemon().descriptors(), descriptors);
}

TEST_F(Memory, MaxMemSlots_CanAllBeUsed) {
  boot_with_file(1);
  const auto slots = guest().frontend().get_max_mem_slots();
  ASSERT_TRUE(slots.has_value());
  ASSERT_GE(*slots, 8u);
  const auto count = static_cast<unsigned>(std::min<std::uint64_t>(*slots, 64)) - 1;
  std::vector<guestmem::SharedMemory*> pieces;
  for (unsigned i = 0; i < count; ++i) {
    pieces.push_back(&guest().make_memory(4 + i, 1 << 20));
    guest().plug(*pieces.back());
  }
  guest().queue(1).use_arena(*pieces.back(), 1 << 20);
  EXPECT_EQ(client().read(node, handle, 0, 1000), data.substr(0, 1000));
  for (auto* piece : pieces) guest().unplug(*piece);
}

TEST_F(Memory, OverlapAndUnknownRegions_AreRefused) {
  boot_with_file(1);
  EXPECT_FALSE(guest().frontend().add_mem_reg(vhost_user::Frontend::share(guest().memory())).has_value());
  guestmem::SharedMemory& stranger = guest().make_memory(4, 1 << 20);
  EXPECT_FALSE(guest().frontend().rem_mem_reg(stranger.description()).has_value());
  auto beyond = vhost_user::Frontend::share(stranger);
  beyond.description.size = std::uint64_t{1} << 40;
  EXPECT_FALSE(guest().frontend().add_mem_reg(beyond).has_value());
  expect_alive();
}

TEST_F(Memory, TableSetAgainWhileRunning_HurtsNothing) {
  boot_with_file(2);
  std::atomic<bool> done{false};
  auto stream = std::async(std::launch::async, [&] {
    int bad = 0;
    while (!done) bad += guest().queue(2).send(Client::read_request(node, handle, 0, 300'000)).text() != data;
    return bad;
  });
  guestmem::SharedMemory& more = guest().make_memory(4, 16 << 20);
  for (int i = 0; i < 50; ++i) {
    const std::vector<vhost_user::Frontend::SharedRegion> both{vhost_user::Frontend::share(guest().memory()),
                                                               vhost_user::Frontend::share(more)};
    EXPECT_TRUE(guest().frontend().set_mem_table(std::span(both).first(1 + i % 2)).has_value());
  }
  done = true;
  EXPECT_EQ(stream.get(), 0);
  expect_alive();
}

TEST_F(Memory, BufferAcrossTwoRegions_IsOneBuffer) {
  boot_with_file(1);
  // Neighbours for the guest, apart on the host.
  guestmem::SharedMemory& low = guest().make_memory(4, 1 << 20);
  const guestmem::GuestAddress end(low.description().guest.get() + low.size());
  auto high = *guestmem::SharedMemory::create(end, 1 << 20);
  guest().plug(low);
  guest().plug(high);
  std::vector<std::byte> request = Client::read_request(node, handle, 0, 100'000).encode();
  std::memcpy(low.host(low.description().guest), request.data(), request.size());
  const virtio::GuestBuffer readable{low.description().guest, static_cast<std::uint32_t>(request.size())};
  const virtio::GuestBuffer writable{guestmem::GuestAddress(end.get() - 50'000), 100'016};
  const auto cookie = guest().queue(1).next_cookie();
  ASSERT_TRUE(guest().queue(1).driver().add({&readable, 1}, {&writable, 1}, cookie));
  guest().queue(1).kick();
  ASSERT_EQ(guest().queue(1).wait_used(cookie), 100'016u);
  std::string reply(as_text({low.host(writable.address), 50'000}));
  reply += as_text({high.host(end), 50'016});
  EXPECT_TRUE(reply.substr(sizeof(fuse_out_header)) == data.substr(0, 100'000));
}

}  // namespace
}  // namespace fusewire::tests
