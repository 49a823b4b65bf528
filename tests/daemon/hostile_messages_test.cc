// A front-end that breaks vhost-user's rules: the message is refused or the connection ends, and the same
// daemon serves the next front-end.
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

using vhost_user::Header;

class HostileMessages : public DaemonTest {
 protected:
  void start() { start_daemon({"--keep-listening", "--tag=x"}); }

  // Sends raw bytes on a new connection, with descriptors, and waits until the daemon has dealt with them: an
  // answer, or the end of the connection.
  void send_raw(std::span<const std::byte> bytes, const std::vector<int>& fds = {}) {
    const UniqueFd socket = daemon().connect();
    ASSERT_TRUE(static_cast<bool>(socket));
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    std::vector<std::byte> control(CMSG_SPACE(sizeof(int) * std::max<std::size_t>(fds.size(), 1)));
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    }
    (void)::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
    ::shutdown(socket.get(), SHUT_WR);
    char reply[4096];
    while (::recv(socket.get(), reply, sizeof reply, 0) > 0) {
    }
  }
  static std::vector<std::byte> message(std::uint32_t request, std::uint32_t flags, std::uint32_t size,
                                        std::span<const std::byte> payload = {}) {
    const Header header{request, flags, size};
    std::vector<std::byte> bytes(bytes_of(header).begin(), bytes_of(header).end());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
  }
  // Counted with a guest there: when the daemon has let go of one that left cannot be seen.
  std::size_t descriptors_while_serving() {
    boot();
    expect_alive();
    const std::size_t count = daemon().descriptors();
    leave();
    return count;
  }
  void expect_serves() {
    boot();
    expect_alive();
    leave();
  }
};

TEST_F(HostileMessages, BadHeaders_EndOnlyTheConnection) {
  start();
  send_raw(message(1, 0, 0));                                       // no version
  send_raw(message(1, 2, 0));                                       // another version
  send_raw(message(1, 1, 0xffff'ffff));                             // too long
  send_raw(message(1, 1, 100));                                     // ends in the middle
  send_raw(message(999, 1, 0));                                     // unknown
  send_raw(message(1, 1 | vhost_user::kFlagReply, 0));              // a reply
  send_raw(as_bytes("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));  // another protocol
  const auto whole = message(1, 1, 0);
  send_raw(std::span(whole).first(5));  // half a header
  expect_serves();
}

TEST_F(HostileMessages, EveryRequestWithRandomPayload_NeverEndsTheDaemon) {
  start();
  std::mt19937 random(42);
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  const auto before = descriptors_while_serving();
  for (int round = 0; round < (kSanitized ? 100 : 400); ++round) {
    // Several messages on one connection, so that later ones meet the state that earlier ones left.
    std::vector<std::byte> stream;
    for (int i = 0; i < 8; ++i) {
      const auto& infos = vhost_user::all_requests();
      const auto& info = infos[random() % infos.size()];
      const std::size_t size =
          random() % 4 == 0 ? random() % 300 : info.size.min + random() % (info.size.max - info.size.min + 1);
      std::vector<std::byte> payload(size);
      for (auto& byte : payload) byte = static_cast<std::byte>(random() % 3 == 0 ? random() : random() % 3);
      const std::uint32_t flags = 1 | (random() % 2 == 0 ? vhost_user::kFlagNeedReply : 0);
      const auto one =
          message(static_cast<std::uint32_t>(info.request), flags, static_cast<std::uint32_t>(size), payload);
      stream.insert(stream.end(), one.begin(), one.end());
    }
    std::vector<int> fds(random() % 4, event.get());
    send_raw(stream, fds);
    ASSERT_TRUE(daemon().running()) << daemon().log();
  }
  EXPECT_EQ(descriptors_while_serving(), before);
}

TEST_F(HostileMessages, TooManyDescriptors_AreClosed) {
  start();
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  const auto before = descriptors_while_serving();
  send_raw(message(1, 1, 0), std::vector<int>(253, event.get()));
  EXPECT_EQ(descriptors_while_serving(), before);
}

TEST_F(HostileMessages, RefusedRequests_LeaveTheConnectionUsable) {
  start();
  boot();
  auto& frontend = guest().frontend();
  EXPECT_FALSE(frontend.set_vring_num(1, 3).has_value());
  EXPECT_FALSE(frontend.set_vring_num(1, 65536).has_value());
  EXPECT_FALSE(frontend.set_vring_num(99, 128).has_value());
  EXPECT_FALSE(frontend.set_vring_enable(99, true).has_value());
  EXPECT_FALSE(frontend.set_vring_base(1, 5).has_value());  // while it runs
  EXPECT_FALSE(frontend.set_features(~std::uint64_t{0}).has_value());
  expect_alive();
  // An event is no log; the refusal of a request that has a reply of its own ends the connection.
  EXPECT_FALSE(frontend.set_log_base(4096, 0, guest().queue(1).kick_fd()).has_value());
  expect_serves();
}

TEST_F(HostileMessages, RingsOutsideOfMemory_AreRefused) {
  start();
  boot({}, {.start_rings = false});
  virtio::RingSetup ring = guest().queue(1).driver().setup();
  ring.used_user_addr = 0x1000;
  EXPECT_FALSE(
      guest().frontend().start_ring(1, ring, guest().queue(1).kick_fd(), guest().queue(1).call_fd()));
  ring = guest().queue(1).driver().setup();
  ring.desc_user_addr += 8;  // misaligned
  EXPECT_FALSE(
      guest().frontend().start_ring(1, ring, guest().queue(1).kick_fd(), guest().queue(1).call_fd()));
  guest().start_ring(1);
  guest().enable_ring(1);
  EXPECT_EQ(guest().initialize().error, 0);
}

TEST_F(HostileMessages, FrontEndThatVanishesInTheMiddle_IsReplaced) {
  start();
  for (int i = 0; i < 20; ++i) {
    boot();
    const auto ticket = client().start(make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}));
    (void)ticket;  // nobody waits for it
    leave();
  }
  expect_serves();
}

}  // namespace
}  // namespace fusewire::tests
