#include "io/ring.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fusewire/unique_fd.h"

namespace fusewire::io {
namespace {

class RingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto ring = Ring::create(4);
    if (!ring && (ring.error().value == ENOSYS || ring.error().value == EPERM))
      GTEST_SKIP() << "there is no io_uring here: " << to_string(ring.error());
    ASSERT_TRUE(ring.has_value()) << to_string(ring.error());
    ring_ = std::move(*ring);
    ASSERT_EQ(::write(file_.get(), "0123456789", 10), 10);
  }

  // Starts a read of `size` bytes at `offset` into `buffer`.
  void start(std::string& buffer, std::uint64_t offset, std::optional<int>& result) {
    parts_.push_back({buffer.data(), buffer.size()});
    ring_->read(file_.get(), {&parts_.back(), 1}, offset, [&result](int got) { result = got; });
  }

  // Waits for completions as a worker does.
  void sleep_and_turn() {
    pollfd event{ring_->event_fd(), POLLIN, 0};
    while (!ring_->turn()) ASSERT_EQ(::poll(&event, 1, 30'000), 1);
  }

  UniqueFd file_{::memfd_create("ring", MFD_CLOEXEC)};
  std::unique_ptr<Ring> ring_;
  std::vector<iovec> parts_ = [] {
    std::vector<iovec> parts;
    parts.reserve(16);  // the lists must stay where they are
    return parts;
  }();
};

TEST_F(RingTest, Read_ThroughTurnAndItsDescriptor_GivesTheBytes) {
  std::string buffer(4, '?');
  std::optional<int> result;
  start(buffer, 3, result);
  EXPECT_TRUE(ring_->ready());
  sleep_and_turn();
  EXPECT_EQ(result, 4);
  EXPECT_EQ(buffer, "3456");
  EXPECT_FALSE(ring_->ready());
  EXPECT_FALSE(ring_->turn());
}

TEST_F(RingTest, Write_PutsTheBytes_AndItsFlagsCount) {
  std::string inside = "ab", behind = "xyz";
  std::optional<int> inside_result, behind_result;
  const iovec parts[] = {{inside.data(), inside.size()}, {behind.data(), behind.size()}};
  ring_->write(file_.get(), {&parts[0], 1}, 3, 0, [&](int result) { inside_result = result; });
  ring_->finish_all();
  ring_->write(file_.get(), {&parts[1], 1}, 0, RWF_APPEND, [&](int result) { behind_result = result; });
  ring_->finish_all();
  EXPECT_EQ(inside_result, 2);
  EXPECT_EQ(behind_result, 3);
  std::string all(16, '?');
  EXPECT_EQ(::pread(file_.get(), all.data(), all.size(), 0), 13);
  EXPECT_EQ(all.substr(0, 13), "012ab56789xyz");
}

TEST_F(RingTest, Write_ThatFails_GivesItsErrno) {
  const UniqueFd read_only(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::string bytes = "ab";
  std::optional<int> result;
  const iovec part{bytes.data(), bytes.size()};
  ring_->write(read_only.get(), {&part, 1}, 0, 0, [&](int got) { result = got; });
  ring_->finish_all();
  EXPECT_EQ(result, -EBADF);
}

TEST_F(RingTest, Read_AtTheEndAndBeyond_IsShort) {
  std::string across(8, '?'), beyond(8, '?');
  std::optional<int> across_result, beyond_result;
  start(across, 6, across_result);
  start(beyond, 10, beyond_result);
  ring_->finish_all();
  EXPECT_EQ(across_result, 4);
  EXPECT_EQ(beyond_result, 0);
}

TEST_F(RingTest, Read_OfWhatIsNoFile_IsANegativeErrno) {
  std::string buffer(4, '?');
  std::optional<int> result;
  iovec part{buffer.data(), buffer.size()};
  ring_->read(-1, {&part, 1}, 0, [&](int got) { result = got; });
  ring_->finish_all();
  EXPECT_EQ(result, -EBADF);
}

TEST_F(RingTest, FullRing_HasNoRoomUntilSomethingIsDone) {
  std::vector<std::string> buffers(4, std::string(2, '?'));
  std::vector<std::optional<int>> results(4);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    ASSERT_TRUE(ring_->has_room());
    start(buffers[i], 2 * i, results[i]);
  }
  EXPECT_FALSE(ring_->has_room());
  ring_->finish_all();
  EXPECT_TRUE(ring_->has_room());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(results[i], 2);
    EXPECT_EQ(buffers[i], std::string("0123456789").substr(2 * i, 2));
  }
}

TEST_F(RingTest, Done_MayStartAnother_AndFinishAllWaitsForThatToo) {
  std::string first(2, '?'), second(2, '?');
  std::optional<int> result;
  iovec part{first.data(), first.size()};
  ring_->read(file_.get(), {&part, 1}, 0, [&](int) { start(second, 8, result); });
  ring_->finish_all();
  EXPECT_EQ(first, "01");
  EXPECT_EQ(result, 2);
  EXPECT_EQ(second, "89");
}

TEST_F(RingTest, OfThisThread_IsTheOneCreatedHere) {
  EXPECT_EQ(Ring::of_this_thread(), ring_.get());
  Ring* elsewhere = ring_.get();
  std::thread([&] { elsewhere = Ring::of_this_thread(); }).join();
  EXPECT_EQ(elsewhere, nullptr);
  ring_.reset();
  EXPECT_EQ(Ring::of_this_thread(), nullptr);
}

}  // namespace
}  // namespace fusewire::io
