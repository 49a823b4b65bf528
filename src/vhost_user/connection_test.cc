#include "vhost_user/connection.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <thread>

#include "fusewire/bytes.h"

namespace fusewire::vhost_user {
namespace {

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer.reset(ends[0]);
    here = std::make_unique<Connection>(UniqueFd(ends[1]), stop.get());
  }

  // Sends raw bytes with `fds` copies of a descriptor.
  void send_raw(std::span<const std::byte> bytes, std::size_t fds = 0) {
    std::vector<int> descriptors(fds, stop.get());
    std::vector<char> control(CMSG_SPACE(sizeof(int) * fds) + 1);
    iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr parts{};
    parts.msg_iov = &vector;
    parts.msg_iovlen = 1;
    if (fds != 0) {
      parts.msg_control = control.data();
      parts.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
      cmsghdr* rights = CMSG_FIRSTHDR(&parts);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int) * fds);
      std::memcpy(CMSG_DATA(rights), descriptors.data(), sizeof(int) * fds);
    }
    ASSERT_EQ(sendmsg(peer.get(), &parts, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  static std::vector<std::byte> message_bytes(std::uint32_t request, std::string_view payload) {
    const Header header{request, kVersion, static_cast<std::uint32_t>(payload.size())};
    std::vector<std::byte> bytes(sizeof(header) + payload.size());
    ByteWriter writer(bytes);
    writer.write_object(header);
    writer.write(as_bytes(payload));
    return bytes;
  }

  UniqueFd stop{eventfd(0, EFD_CLOEXEC)};
  UniqueFd peer;
  std::unique_ptr<Connection> here;
  Message message;
};

TEST_F(ConnectionTest, Send_ArrivesWholeWithItsDescriptors) {
  Connection there(std::move(peer));
  const std::array fds{stop.get(), stop.get(), stop.get()};
  ASSERT_EQ(there.send(7, kFlagNeedReply, as_bytes("payload"), fds), Connection::Io::done);
  ASSERT_EQ(there.send(8, 0, {}), Connection::Io::done);

  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(message.header.request, 7u);
  EXPECT_EQ(message.header.flags, kVersion | kFlagNeedReply);
  EXPECT_TRUE(message.needs_reply());
  EXPECT_EQ(as_text(message.payload), "payload");
  ASSERT_EQ(message.fds.size(), 3u);
  const std::uint64_t one = 1;
  EXPECT_EQ(write(message.fds[2].get(), &one, 8), 8) << "the same event";
  std::uint64_t count = 0;
  EXPECT_EQ(read(stop.get(), &count, 8), 8);

  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(message.header.request, 8u);
  EXPECT_TRUE(message.payload.empty());
  EXPECT_TRUE(message.fds.empty()) << "the old ones are closed";
}

TEST_F(ConnectionTest, Receive_ByteByByte_IsOneMessage) {
  std::jthread sender([&] {
    for (const std::byte& byte : message_bytes(9, "slow")) send_raw({&byte, 1});
  });
  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(message.header.request, 9u);
  EXPECT_EQ(as_text(message.payload), "slow");
}

TEST_F(ConnectionTest, Receive_TwoMessagesInOneWrite_AreTwo) {
  auto both = message_bytes(1, "a");
  const auto second = message_bytes(2, "bc");
  both.insert(both.end(), second.begin(), second.end());
  send_raw(both);
  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(as_text(message.payload), "a");
  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(as_text(message.payload), "bc");
}

TEST_F(ConnectionTest, Receive_PeerGone_IsClosedOnlyBetweenMessages) {
  const auto bytes = message_bytes(1, "payload");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer.reset(ends[0]);
    Connection connection{UniqueFd(ends[1])};
    if (size != 0) send_raw(std::span(bytes).first(size));
    peer.reset();
    EXPECT_EQ(connection.receive(message), size == 0 ? Connection::Io::closed : Connection::Io::failed)
        << size;
    EXPECT_EQ(connection.error().empty(), size == 0);
  }
}

TEST_F(ConnectionTest, Receive_StopEvent_InterruptsEveryWait) {
  const auto bytes = message_bytes(1, "payload");
  const std::uint64_t one = 1;
  ASSERT_EQ(write(stop.get(), &one, 8), 8);
  EXPECT_EQ(here->receive(message), Connection::Io::stopped);
  send_raw(std::span(bytes).first(14));
  EXPECT_EQ(here->receive(message), Connection::Io::stopped);
}

TEST_F(ConnectionTest, Receive_AsManyDescriptorsAsAllowed_AreTaken) {
  send_raw(message_bytes(1, "x"), kMaxFds);
  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(message.fds.size(), kMaxFds);
}

TEST_F(ConnectionTest, Receive_MoreDescriptorsThanAllowed_FailsAndClosesThem) {
  const std::size_t before = open_descriptors();
  send_raw(message_bytes(1, "x"), kMaxFds + 1);
  EXPECT_EQ(here->receive(message), Connection::Io::failed);
  message.fds.clear();
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(ConnectionTest, Receive_DescriptorsInSeveralParts_CountTogether) {
  const auto bytes = message_bytes(1, "abc");
  send_raw(std::span(bytes).first(12), kMaxFds);
  send_raw(std::span(bytes).subspan(12), 1);
  EXPECT_EQ(here->receive(message), Connection::Io::failed);
}

TEST_F(ConnectionTest, Receive_WrongVersionOrSize_Fails) {
  for (const Header& header : {Header{1, 0, 0}, Header{1, 2, 0}, Header{1, 3, 0},
                               Header{1, kVersion, kMaxPayload + 1}, Header{1, kVersion, 0xffffffff}}) {
    send_raw(bytes_of(header));
    EXPECT_EQ(here->receive(message), Connection::Io::failed);
    EXPECT_FALSE(here->error().empty());
  }
}

TEST_F(ConnectionTest, Receive_LongestPayload_IsTaken) {
  send_raw(message_bytes(1, std::string(kMaxPayload, 'x')));
  ASSERT_EQ(here->receive(message), Connection::Io::done);
  EXPECT_EQ(message.payload.size(), kMaxPayload);
}

TEST_F(ConnectionTest, Send_PeerThatDoesNotRead_CanBeStopped) {
  const std::vector<std::byte> payload(kMaxPayload);
  Connection::Io sent = Connection::Io::done;
  std::jthread sender([&] {
    while ((sent = here->send(1, 0, payload)) == Connection::Io::done) {
    }
  });
  const std::uint64_t one = 1;
  ASSERT_EQ(write(stop.get(), &one, 8), 8);
  sender.join();
  EXPECT_EQ(sent, Connection::Io::stopped);
}

TEST_F(ConnectionTest, Send_PeerGone_IsClosed) {
  peer.reset();
  EXPECT_EQ(here->send(1, 0, {}), Connection::Io::closed);
}

TEST(Message, As_ShortPayload_IsZeroBeyond) {
  Message message;
  message.payload = {std::byte{1}, std::byte{2}};
  EXPECT_EQ(message.as<U64>().value, 0x201u);
  EXPECT_FALSE(message.take_fd());
}

}  // namespace
}  // namespace fusewire::vhost_user
