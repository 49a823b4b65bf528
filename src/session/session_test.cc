// What needs neither root nor a guest; tests/examples mounts and serves for real.
#include "fusewire/session.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <future>
#include <string>

#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

class NoFs : public FileSystem {};

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string socket_path() const { return folder + "/socket"; }
  UniqueFd connect() const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, socket_path().c_str(), sizeof address.sun_path - 1);
    // SAFETY: what connect(2) takes.
    const int result = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    EXPECT_EQ(result, 0);
    return fd;
  }
  // Sends a request without payload.
  static void say(const UniqueFd& front_end, std::uint32_t request) {
    const std::array<std::uint32_t, 3> message{request, 1, 0};
    ASSERT_EQ(::send(front_end.get(), message.data(), sizeof message, 0), ssize_t{sizeof message});
  }
  static constexpr std::uint32_t kGetFeatures = 1, kSetOwner = 3;

  std::string folder = "/tmp/fusewire-session-test.XXXXXX";
  NoFs fs;
};

TEST_F(SessionTest, Mount_UnknownOption_IsRefusedByName) {
  const auto session = Session::mount(fs, folder, {.options = "no_such_option"});
  ASSERT_FALSE(session);
  EXPECT_NE(session.error().find("no_such_option"), std::string::npos) << session.error();
}

TEST_F(SessionTest, Mount_NoSuchMountpoint_IsRefusedByName) {
  const auto session = Session::mount(fs, folder + "/nothing");
  ASSERT_FALSE(session);
  EXPECT_NE(session.error().find(folder + "/nothing"), std::string::npos) << session.error();
}

TEST_F(SessionTest, Serve_UnusableSocket_IsRefused) {
  EXPECT_FALSE(Session::serve(fs, {.socket_path = folder + "/nothing/socket"}));
  EXPECT_FALSE(Session::serve(fs, {.socket_path = socket_path(), .tag = std::string(37, 'x')}));
  EXPECT_FALSE(std::filesystem::exists(socket_path()));
}

TEST_F(SessionTest, Stop_BeforeRun_EndsItAtOnce) {
  auto session = Session::serve(fs, {.socket_path = socket_path()});
  ASSERT_TRUE(session) << session.error();
  (*session)->stop();
  EXPECT_TRUE((*session)->run());
  session->reset();
  EXPECT_FALSE(std::filesystem::exists(socket_path()));
}

TEST_F(SessionTest, Stop_FromAnotherThread_EndsAConnection) {
  auto session = Session::serve(fs, {.socket_path = socket_path()});
  ASSERT_TRUE(session) << session.error();
  const UniqueFd front_end = connect();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  (*session)->stop();
  EXPECT_TRUE(ended.get());
}

TEST_F(SessionTest, FrontEndGone_IsANormalEnd) {
  auto session = Session::serve(fs, {.socket_path = socket_path()});
  ASSERT_TRUE(session) << session.error();
  connect();  // a probe, which is not noticed
  {
    const UniqueFd front_end = connect();
    say(front_end, kSetOwner);
  }
  EXPECT_TRUE((*session)->run());
}

TEST_F(SessionTest, KeepListening_WaitsForTheNextFrontEnd) {
  auto session = Session::serve(fs, {.socket_path = socket_path(), .keep_listening = true});
  ASSERT_TRUE(session) << session.error();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  for (int i = 0; i < 2; ++i) {
    const UniqueFd front_end = connect();
    say(front_end, kGetFeatures);
    std::array<char, 20> answer{};
    EXPECT_EQ(::recv(front_end.get(), answer.data(), answer.size(), MSG_WAITALL), 20);
  }
  (*session)->stop();
  EXPECT_TRUE(ended.get());
}

TEST_F(SessionTest, FrontEndThatTalksNonsense_IsNotTheEnd) {
  auto session = Session::serve(fs, {.socket_path = socket_path()});
  ASSERT_TRUE(session) << session.error();
  auto ended = std::async(std::launch::async, [&] { return (*session)->run(); });
  {
    const UniqueFd front_end = connect();
    say(front_end, 0xffff'ffff);
    char byte = 0;
    EXPECT_LE(::recv(front_end.get(), &byte, 1, 0), 0) << "the session closes the connection";
  }
  {
    const UniqueFd front_end = connect();
    say(front_end, kSetOwner);
  }
  EXPECT_TRUE(ended.get());
}

}  // namespace
}  // namespace fusewire
