// Which connections end the service, and which do not.
#include "vhost_user/service.h"

#include <stdlib.h>

#include <filesystem>
#include <future>

#include "vhost_user/backend_fixture_test.h"

namespace fusewire::vhost_user {
namespace {

using testing::Contains;
using testing::Not;

constexpr auto kPatience = std::chrono::seconds(30);

class ServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    listener.emplace(*Listener::bind(folder + "/socket"));
  }
  void TearDown() override {
    if (served.valid()) {
      stop();
      EXPECT_TRUE(served.get());
    }
    std::filesystem::remove_all(folder);
  }
  void start(bool keep_listening) {
    served = std::async(std::launch::async, [this, keep_listening] {
      return serve(*listener, device, {.stop_fd = stop_event.get(), .keep_listening = keep_listening});
    });
  }
  void stop() {
    const std::uint64_t one = 1;
    ASSERT_EQ(write(stop_event.get(), &one, sizeof one), 8);
  }
  bool ends() {
    if (served.wait_for(kPatience) != std::future_status::ready) return false;
    return served.get().has_value();
  }
  // Serves a front-end to its end: true when the device answered it.
  bool use() {
    auto front_end = Frontend::connect(folder + "/socket");
    return front_end && front_end->negotiate(virtio::kVersion1) && front_end->get_queue_num() == 3;
  }
  void probe() { EXPECT_TRUE(Frontend::connect(folder + "/socket")); }
  void break_the_protocol() {
    auto front_end = Frontend::connect(folder + "/socket");
    ASSERT_TRUE(front_end);
    ASSERT_EQ(front_end->connection().send(9999, 0, {}), Connection::Io::done);
    // The service closes the connection.
    Message message;
    EXPECT_NE(front_end->connection().receive(message), Connection::Io::done);
  }

  std::string folder = "/tmp/fusewire-service-test.XXXXXX";
  std::optional<Listener> listener;
  UniqueFd stop_event{eventfd(0, EFD_CLOEXEC)};
  FakeDevice device;
  std::future<std::expected<void, std::string>> served;
};

TEST_F(ServiceTest, FrontEndThatLeaves_EndsTheService) {
  start(false);
  EXPECT_TRUE(use());
  EXPECT_TRUE(ends());
  EXPECT_THAT(device.take_notes(), Contains("disconnect"));
}

TEST_F(ServiceTest, FrontEndThatLeaves_KeepListening_WaitsForTheNext) {
  start(true);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(use());
}

TEST_F(ServiceTest, ProbeOfTheSocket_CountsAsNobody) {
  start(false);
  for (int i = 0; i < 3; ++i) probe();
  EXPECT_TRUE(use());
  EXPECT_TRUE(ends());
}

TEST_F(ServiceTest, ProbeOfTheSocket_LeavesTheDeviceAlone) {
  start(false);
  probe();
  stop();
  EXPECT_TRUE(ends());
  EXPECT_THAT(device.take_notes(), Not(Contains("disconnect")));
}

TEST_F(ServiceTest, ProtocolError_EndsItsConnectionOnly) {
  start(false);
  for (int i = 0; i < 2; ++i) break_the_protocol();
  EXPECT_TRUE(use());
  EXPECT_TRUE(ends());
}

TEST_F(ServiceTest, StopEvent_EndsTheWaitForAFrontEnd) {
  start(true);
  stop();
  EXPECT_TRUE(ends());
}

TEST_F(ServiceTest, StopEvent_EndsAConnection) {
  start(true);
  auto front_end = Frontend::connect(folder + "/socket");
  ASSERT_TRUE(front_end);
  ASSERT_TRUE(front_end->negotiate(virtio::kVersion1));
  stop();
  EXPECT_TRUE(ends());
  EXPECT_THAT(device.take_notes(), Contains("disconnect"));
}

TEST_F(ServiceTest, StopEvent_EndsTheWaitForTheFirstWord) {
  start(true);
  const auto silent = Frontend::connect(folder + "/socket");
  stop();
  EXPECT_TRUE(ends());
}

}  // namespace
}  // namespace fusewire::vhost_user
