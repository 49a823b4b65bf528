// driver::Server, the guest's side that the tools use, against the real daemon.
#include "driver/server.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <csignal>
#include <cstring>

#include "daemon/daemon_process.h"

namespace fusewire::tests {
namespace {

using namespace std::chrono_literals;

class DriverTest : public ::testing::Test {
 protected:
  DriverTest()
      : directory_(),
        daemon_(directory_.path(), {"--shared-dir=" + share_.path().string(), "--sandbox=none"}) {}

  std::unique_ptr<driver::Server> connect(const driver::ServerOptions& options = {}) {
    UniqueFd socket = daemon_.connect();
    auto server = driver::Server::connect(vhost_user::Frontend(std::move(socket)), options);
    if (!server) ADD_FAILURE() << server.error();
    return server ? std::move(*server) : nullptr;
  }

  TemporaryDirectory share_;
  TemporaryDirectory directory_;
  DaemonProcess daemon_;
};

struct InitRequest {
  fuse_in_header header;
  fuse_init_in in;
};

TEST_F(DriverTest, Init_OverTheFirstRequestQueue_IsAnsweredWithASignal) {
  const auto server = connect();
  ASSERT_NE(server, nullptr);
  const auto request = server->memory().allocate(sizeof(InitRequest));
  const auto reply = server->memory().allocate(sizeof(fuse_out_header) + sizeof(fuse_init_out));
  ASSERT_TRUE(request && reply);
  InitRequest init{};
  init.header.len = sizeof init;
  init.header.opcode = FUSE_INIT;
  init.header.unique = 2;
  init.in.major = FUSE_KERNEL_VERSION;
  init.in.minor = FUSE_KERNEL_MINOR_VERSION;
  std::memcpy(request->host, &init, sizeof init);
  std::vector<virtio::GuestBuffer> readable, writable;
  driver::append_pages(*request, readable);
  driver::append_pages(*reply, writable);

  driver::Queue& queue = server->request_queue(0);
  ASSERT_TRUE(queue.stage(readable, writable, 7));
  queue.publish();
  ASSERT_TRUE(queue.wait(30s, server->socket_fd()));

  const auto used = queue.take();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->cookie, 7U);
  fuse_out_header out{};
  std::memcpy(&out, reply->host, sizeof out);
  EXPECT_EQ(out.len, used->length);
  EXPECT_EQ(out.error, 0);
  EXPECT_EQ(out.unique, 2U);
  EXPECT_EQ(queue.kicks(), 1U);
  EXPECT_TRUE(server->stop().has_value());
}

TEST_F(DriverTest, Wait_WhenTheServerDies_EndsAtOnce) {
  const auto server = connect();
  ASSERT_NE(server, nullptr);

  daemon_.expect_status(256 + SIGKILL);
  daemon_.signal(SIGKILL);

  EXPECT_FALSE(server->request_queue(0).wait(30s, server->socket_fd()));
}

TEST_F(DriverTest, MoreQueuesThanTheServerHas_IsAnError) {
  UniqueFd socket = daemon_.connect();
  const auto server =
      driver::Server::connect(vhost_user::Frontend(std::move(socket)), {.request_queues = 3000});
  ASSERT_FALSE(server.has_value());
  EXPECT_NE(server.error().find("request queues, not 3000"), std::string::npos) << server.error();
}

TEST_F(DriverTest, MoreQueuesThanTheServerHas_WhenFewerWillDo_AreAsManyAsItHas) {
  const auto server = connect({.request_queues = 3000, .fewer_queues = true, .ring_size = 2});
  ASSERT_NE(server, nullptr);
  EXPECT_LT(server->request_queues(), 3000U);
  EXPECT_GE(server->request_queues(), 1U);
}

TEST(AppendPages, UnalignedPiece_IsCutAtPageBorders) {
  std::vector<virtio::GuestBuffer> buffers;
  driver::append_pages({guestmem::GuestAddress(0x1ff0), nullptr, 0x1020}, buffers);
  ASSERT_EQ(buffers.size(), 3U);
  EXPECT_EQ(buffers[0].length, 0x10U);
  EXPECT_EQ(buffers[1].address.get(), 0x2000U);
  EXPECT_EQ(buffers[1].length, 0x1000U);
  EXPECT_EQ(buffers[2].length, 0x10U);
}

}  // namespace
}  // namespace fusewire::tests
