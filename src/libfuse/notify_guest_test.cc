// fuse_lowlevel_notify_* of a session that serves a guest: on the notification queue if the front-end took
// it, else -ENOSYS.
#include <fuse3/fuse_lowlevel.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include "vhost_user/frontend.h"
#include "virtiofs/testing/guest_queue.h"

namespace fusewire {
namespace {

using guestmem::GuestAddress;
using vhost_user::Frontend;
using virtiofs::testing::GuestQueue;
using virtiofs::testing::GuestQueueOptions;
using virtiofs::testing::Request;

constexpr GuestQueueOptions kQueue{.size = 16, .arena = 1 << 20};
constexpr std::uint32_t kBuffer = 64 * 1024;

class GuestNotifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_), nullptr);
    std::string program = "guest_notify_test";
    std::string option = "--socket-path=" + socket();
    std::array<char*, 3> arguments{program.data(), option.data(), nullptr};
    fuse_args args{};
    args.argc = 2;
    args.argv = arguments.data();
    const fuse_lowlevel_ops operations{};
    session_ = fuse_session_new(&args, &operations, sizeof operations, nullptr);
    fuse_opt_free_args(&args);
    ASSERT_NE(session_, nullptr);
    ASSERT_EQ(fuse_session_mount(session_, ""), 0);
    loop_ = std::thread([this] { fuse_session_loop(session_); });
  }
  void TearDown() override {
    if (session_ != nullptr) {
      frontend_.reset();
      fuse_session_exit(session_);
      if (loop_.joinable()) loop_.join();
      fuse_session_unmount(session_);
      fuse_session_destroy(session_);
    }
    unlink(socket().c_str());
    rmdir(folder_);
  }
  // A guest with three queues that takes these features of those that are offered, and has sent INIT on
  // `init_queue`.
  void boot(std::uint64_t taken, unsigned init_queue) {
    auto connected = Frontend::connect(socket());
    ASSERT_TRUE(connected) << connected.error();
    frontend_.emplace(*std::move(connected));
    memory_.emplace(*guestmem::SharedMemory::create(GuestAddress(0x100000),
                                                    3 * GuestQueue::memory_size(kQueue) + 2 * kBuffer));
    ASSERT_TRUE(frontend_->negotiate(kQueue.accepted(taken)));
    const auto region = Frontend::share(*memory_);
    ASSERT_TRUE(frontend_->set_mem_table({&region, 1}));
    for (unsigned index = 0; index < 3; ++index) {
      queues_.push_back(std::make_unique<GuestQueue>(*memory_, kQueue));
      GuestQueue& queue = *queues_.back();
      ASSERT_TRUE(frontend_->start_ring(index, queue.driver().setup(), queue.kick_fd(), queue.call_fd(),
                                        queue.error_fd()));
      ASSERT_TRUE(frontend_->set_vring_enable(index, true));
    }
    fuse_init_in in{};
    in.major = kMajor;
    in.minor = kMinor;
    ASSERT_EQ(queues_[init_queue]->send(Request(FUSE_INIT).arg(in).room(sizeof(fuse_init_out))).error, 0);
  }
  std::string socket() const { return std::string(folder_) + "/socket"; }

  char folder_[40] = "/tmp/guest_notify_test_XXXXXX";
  fuse_session* session_ = nullptr;
  std::thread loop_;
  std::optional<Frontend> frontend_;
  std::optional<guestmem::SharedMemory> memory_;
  std::vector<std::unique_ptr<GuestQueue>> queues_;
};

TEST_F(GuestNotifyTest, Negotiated_TheGuestGetsIt) {
  boot(~std::uint64_t{0}, 2);
  GuestQueue& notifications = *queues_[1];
  const auto piece = virtiofs::testing::allocate_from(*memory_, kBuffer);
  const std::uint64_t cookie = notifications.next_cookie();
  const virtio::GuestBuffer writable{piece.guest, kBuffer};
  ASSERT_TRUE(notifications.driver().stage({}, {&writable, 1}, cookie));
  notifications.publish();
  ASSERT_EQ(fuse_lowlevel_notify_inval_inode(session_, 17, 4096, 10), 0);
  ASSERT_EQ(notifications.wait_used(cookie), sizeof(fuse_out_header) + sizeof(fuse_notify_inval_inode_out));
  fuse_out_header header{};
  fuse_notify_inval_inode_out out{};
  std::memcpy(&header, piece.host, sizeof header);
  std::memcpy(&out, piece.host + sizeof header, sizeof out);
  EXPECT_EQ(header.unique, 0U);
  EXPECT_EQ(header.error, FUSE_NOTIFY_INVAL_INODE);
  EXPECT_EQ(out.ino, 17U);
  EXPECT_EQ(out.off, 4096);
  EXPECT_EQ(out.len, 10);
}

TEST_F(GuestNotifyTest, NotNegotiated_IsEnosys) {
  boot(~virtio::kFsNotification, 1);
  EXPECT_EQ(fuse_lowlevel_notify_inval_inode(session_, 17, 0, 0), -ENOSYS);
}

}  // namespace
}  // namespace fusewire
