// A front-end that breaks the protocol: every request of the table, cut short, too long, with the wrong
// descriptors and with nonsense in it. The process lives; the front-end is told, or the connection ends.
#include <dirent.h>

#include <random>

#include "vhost_user/backend_fixture_test.h"

namespace fusewire::vhost_user {
namespace {

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

class Malformed : public BackendTest {
 protected:
  Malformed() { device.set_config("config"); }

  // Sends a broken message and expects that it does no good: with REPLY_ACK it is refused and the connection
  // lives (if the request has no reply that could be taken for success), without it the connection ends.
  void expect_refused(std::uint32_t number, std::span<const std::byte> payload, std::span<const int> fds,
                      const std::string& what) {
    SCOPED_TRACE(fmt::format("{}: {}", request_name(number), what));
    const RequestInfo* info = find_request(number);
    const bool can_say_no =
        info == nullptr || info->reply == ReplyKind::none || info->reply == ReplyKind::status;
    if (!acking_) {
      ASSERT_TRUE(front->negotiate(virtio::kVersion1));
      acking_ = true;
    }
    device.take_notes();
    send_raw(number, kFlagNeedReply, payload, fds);
    Message reply;
    if (can_say_no) {
      ASSERT_EQ(front->connection().receive(reply), Connection::Io::done);
      EXPECT_EQ(reply.header.request, number);
      EXPECT_EQ(reply.as<U64>().value, 1u);
      EXPECT_THAT(device.take_notes(), testing::IsEmpty());
    } else {
      ASSERT_EQ(front->connection().receive(reply), Connection::Io::closed);
      expect_ended();
    }
  }
  // The same without REPLY_ACK.
  void expect_connection_ends(std::uint32_t number, std::span<const std::byte> payload,
                              std::span<const int> fds, const std::string& what) {
    SCOPED_TRACE(fmt::format("{} without REPLY_ACK: {}", request_name(number), what));
    disconnect();
    connect();
    acking_ = false;
    send_raw(number, kFlagNeedReply, payload, fds);
    Message reply;
    ASSERT_EQ(front->connection().receive(reply), Connection::Io::closed);
    expect_ended();
  }
  void expect_ended() {
    const auto end = wait();
    EXPECT_EQ(end.ending, Backend::Ending::protocol_error);
    EXPECT_FALSE(end.text.empty());
    front.reset();
    connect();
    acking_ = false;
  }

  bool acking_ = false;
};

TEST_F(Malformed, EveryRequest_CutShortAtEachLength_IsRefused) {
  const std::vector<std::byte> zeros(kMaxPayload);
  const std::vector<int> fds(kMaxFds, event.get());
  for (const RequestInfo& info : all_requests()) {
    const auto number = static_cast<std::uint32_t>(info.request);
    for (std::size_t size = 0; size < info.size.min; ++size)
      expect_refused(number, std::span(zeros).first(size), std::span(fds).first(info.min_fds),
                     fmt::format("{} bytes", size));
    if (info.size.min != 0)
      expect_connection_ends(number, std::span(zeros).first(info.size.min - 1),
                             std::span(fds).first(info.min_fds), "short");
  }
}

TEST_F(Malformed, EveryRequest_TooLong_IsRefused) {
  const std::vector<std::byte> zeros(kMaxPayload);
  const std::vector<int> fds(kMaxFds, event.get());
  for (const RequestInfo& info : all_requests()) {
    const auto number = static_cast<std::uint32_t>(info.request);
    for (std::size_t size : {info.size.max + 1, info.size.max + 8, kMaxPayload})
      expect_refused(number, std::span(zeros).first(size), std::span(fds).first(info.min_fds),
                     fmt::format("{} bytes", size));
    expect_connection_ends(number, std::span(zeros).first(info.size.max + 1),
                           std::span(fds).first(info.min_fds), "long");
  }
}

TEST_F(Malformed, EveryRequest_WithWrongDescriptors_IsRefusedAndTheyAreClosed) {
  const std::vector<std::byte> zeros(kMaxPayload);
  const std::vector<int> fds(kMaxFds, event.get());
  const std::size_t before = open_descriptors();
  for (const RequestInfo& info : all_requests()) {
    const auto number = static_cast<std::uint32_t>(info.request);
    const auto payload = std::span(zeros).first(info.size.min);
    if (info.min_fds != 0) {
      expect_refused(number, payload, std::span(fds).first(info.min_fds - 1), "too few");
      expect_connection_ends(number, payload, std::span(fds).first(info.min_fds - 1), "too few");
    }
    if (info.max_fds < kMaxFds) {
      expect_refused(number, payload, std::span(fds).first(info.max_fds + 1), "too many");
      expect_refused(number, payload, fds, "all");
      expect_connection_ends(number, payload, std::span(fds).first(info.max_fds + 1), "too many");
    }
  }
  disconnect();
  connect();
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(Malformed, UnknownRequests_AreRefused) {
  for (std::uint32_t number : {0u, 19u, 20u, 22u, 31u, 41u, 44u, 99u, 0xffffffffu}) {
    expect_refused(number, {}, {}, "unknown");
    expect_connection_ends(number, {}, {}, "unknown");
  }
}

TEST_F(Malformed, RequestsOfAFeatureNotOffered_AreRefused) {
  device.set_config("");
  const ConfigAccess access{};
  expect_refused(24, bytes_of(access).first(12), {}, "not offered");
  expect_refused(25, bytes_of(access).first(12), {}, "not offered");
}

TEST_F(Malformed, Replies_AreNotRequests) {
  ASSERT_TRUE(front->negotiate(virtio::kVersion1));
  send_raw(3, kFlagReply | kFlagNeedReply, {});
  Message reply;
  ASSERT_EQ(front->connection().receive(reply), Connection::Io::done);
  EXPECT_EQ(reply.as<U64>().value, 1u);
}

TEST_F(Malformed, WrongVersionOrEndlessPayload_EndsTheConnection) {
  const Header wrong_version{3, 2, 0};
  const Header no_version{3, 0, 0};
  const Header endless{3, kVersion, kMaxPayload + 1};
  for (const Header& header : {wrong_version, no_version, endless}) {
    ASSERT_EQ(::send(front->connection().fd(), &header, sizeof(header), 0), 12);
    Message reply;
    ASSERT_EQ(front->connection().receive(reply), Connection::Io::closed);
    expect_ended();
  }
}

TEST_F(Malformed, FrontEndDiesInMidMessage_EndsTheConnection) {
  const Header header{2, kVersion, 8};
  for (std::size_t size = 1; size < sizeof(header); ++size) {
    ASSERT_EQ(::send(front->connection().fd(), &header, size, 0), static_cast<ssize_t>(size));
    EXPECT_EQ(disconnect().ending, Backend::Ending::protocol_error);
    connect();
  }
}

TEST_F(Malformed, RingRequests_WithNonsense_AreRefused) {
  for (std::uint32_t request : {8u, 10u, 11u, 18u}) {
    for (std::uint32_t index : {3u, 256u, 0xffffffffu}) {
      const VringState state{index, 0};
      expect_refused(request, bytes_of(state), {}, "no such ring");
    }
  }
  for (std::uint32_t size : {0u, 1u, 3u, 24u, 65536u, 0x80000000u}) {
    const VringState state{0, size};
    expect_refused(8, bytes_of(state), {}, fmt::format("size {}", size));
  }
  for (std::uint32_t base : {0x10000u, 0xffffffffu}) {
    const VringState state{0, base};
    expect_refused(10, bytes_of(state), {}, "no 16-bit index");
  }
  const VringState enable{0, 2};
  expect_refused(18, bytes_of(enable), {}, "neither on nor off");
  VringAddress address{};
  address.index = 3;
  expect_refused(9, bytes_of(address), {}, "no such ring");
}

TEST_F(Malformed, RingEvents_WhoseFlagAndDescriptorDisagree_AreRefused) {
  const int fd = event.get();
  for (std::uint32_t request : {12u, 13u, 14u}) {
    const U64 with{0};
    expect_refused(request, bytes_of(with), {}, "no descriptor");
    const U64 without{kVringNoFd};
    expect_refused(request, bytes_of(without), {&fd, 1}, "a descriptor");
    for (std::uint64_t index :
         {std::uint64_t{3}, std::uint64_t{255}, std::uint64_t{0x200}, ~std::uint64_t{0}}) {
      const U64 value{index};
      expect_refused(request, bytes_of(value), {&fd, 1}, "no such ring");
    }
  }
}

TEST_F(Malformed, RandomMessages_NeverEndTheProcess) {
  std::mt19937 random(1);
  const auto requests = all_requests();
  std::vector<std::byte> payload(kMaxPayload);
  const std::vector<int> fds{memory.fd().get(), event.get(), stop.get()};
  for (int round = 0; round < 300; ++round) {
    if (round % 2 == 0) {
      ASSERT_TRUE(front->negotiate(virtio::kVersion1));
    }
    for (int i = 0; i < 30; ++i) {
      const RequestInfo& info = requests[random() % requests.size()];
      const bool right_size = random() % 4 != 0;
      const std::size_t size =
          right_size ? std::uniform_int_distribution<std::size_t>(info.size.min, info.size.max)(random)
                     : random() % 64;
      for (std::size_t at = 0; at < size; ++at)
        payload[at] = random() % 3 == 0 ? static_cast<std::byte>(random()) : std::byte{0};
      const std::size_t fd_count =
          random() % 4 != 0 ? std::min(info.min_fds + random() % 2, info.max_fds) : random() % 4;
      const std::uint32_t flags = random() % 2 != 0 ? kFlagNeedReply : 0;
      if (front->connection().send(
              static_cast<std::uint32_t>(info.request), flags, std::span(payload).first(size),
              std::span(fds).first(std::min<std::size_t>(fd_count, 3))) != Connection::Io::done)
        break;
    }
    // Replies that nobody reads are lost with the connection.
    disconnect();
    connect();
  }
  set_up();
  EXPECT_EQ(front->get_queue_num(), 3u);
}

}  // namespace
}  // namespace fusewire::vhost_user
