#include "vhost_user/listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "vhost_user/frontend.h"

namespace fusewire::vhost_user {
namespace {

using testing::HasSubstr;

class ListenerTest : public testing::Test {
 protected:
  ListenerTest() {
    std::string pattern = testing::TempDir() + "fusewire-XXXXXX";
    directory = mkdtemp(pattern.data());
    path = directory + "/socket";
  }
  ~ListenerTest() override { std::filesystem::remove_all(directory); }

  bool exists() const { return std::filesystem::exists(std::filesystem::symlink_status(path)); }
  struct stat status() const {
    struct stat result{};
    EXPECT_EQ(lstat(path.c_str(), &result), 0);
    return result;
  }

  std::string directory;
  std::string path;
};

TEST_F(ListenerTest, Bind_AcceptsAFrontEnd) {
  auto listener = Listener::bind(path);
  ASSERT_TRUE(listener) << listener.error();
  std::jthread client([&] { EXPECT_TRUE(Frontend::connect(path)); });
  const auto peer = listener->accept(-1);
  ASSERT_TRUE(peer);
  EXPECT_TRUE(*peer);
}

TEST_F(ListenerTest, Bind_SocketIsForItsOwnerOnly) {
  const auto listener = Listener::bind(path);
  ASSERT_TRUE(listener);
  EXPECT_EQ(status().st_mode & 07777, 0600u);
}

TEST_F(ListenerTest, Bind_WithGroup_OpensItToTheGroup) {
  const gid_t group = getegid();
  const auto listener = Listener::bind(path, std::to_string(group));
  ASSERT_TRUE(listener) << listener.error();
  EXPECT_EQ(status().st_mode & 07777, 0660u);
  EXPECT_EQ(status().st_gid, group);
}

TEST_F(ListenerTest, Bind_WithUnknownGroup_SaysSoAndMakesNothing) {
  for (const char* group : {"no-such-group", "", "-1", "12x", "4294967295", "99999999999"}) {
    const auto listener = Listener::bind(path, group);
    ASSERT_FALSE(listener) << group;
    EXPECT_THAT(listener.error(), HasSubstr("no group"));
  }
  EXPECT_FALSE(exists());
}

TEST_F(ListenerTest, Destructor_RemovesItsSocketOnly) {
  {
    const auto listener = Listener::bind(path);
    ASSERT_TRUE(exists());
  }
  EXPECT_FALSE(exists());
  {
    const auto listener = Listener::bind(path);
    std::filesystem::remove(path);
    std::ofstream(path) << "somebody else's";
  }
  EXPECT_TRUE(exists());
}

TEST_F(ListenerTest, Move_HandsTheSocketFileOver) {
  auto first = Listener::bind(path);
  {
    Listener second = std::move(*first);
    EXPECT_TRUE(exists());
  }
  EXPECT_FALSE(exists());
}

TEST_F(ListenerTest, Bind_StaleSocket_IsReplaced) {
  const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_TRUE(Listener::bind(path));
}

TEST_F(ListenerTest, Bind_LiveListener_IsNotDisturbed) {
  auto first = Listener::bind(path);
  ASSERT_TRUE(first);
  const auto second = Listener::bind(path);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error(), HasSubstr("in use"));
  EXPECT_TRUE(exists());
  EXPECT_TRUE(Frontend::connect(path));
}

TEST_F(ListenerTest, Bind_FileThatIsNoSocket_IsLeftAlone) {
  std::ofstream(path) << "precious";
  const auto listener = Listener::bind(path);
  ASSERT_FALSE(listener);
  EXPECT_THAT(listener.error(), HasSubstr("not a socket"));
  EXPECT_TRUE(exists());
}

TEST_F(ListenerTest, Bind_ImpossiblePaths_AreExplained) {
  EXPECT_THAT(Listener::bind("").error(), HasSubstr("empty"));
  EXPECT_THAT(Listener::bind(directory + "/" + std::string(100, 'x')).error(), HasSubstr("shorter"));
  EXPECT_THAT(Listener::bind(directory + "/missing/socket").error(), HasSubstr("does not exist"));
}

TEST_F(ListenerTest, Bind_LongestPath_Works) {
  path = directory + "/" + std::string(107 - directory.size() - 1, 'x');
  EXPECT_TRUE(Listener::bind(path));
}

TEST_F(ListenerTest, Accept_StopEvent_ReturnsNothing) {
  auto listener = Listener::bind(path);
  const UniqueFd stop(eventfd(1, EFD_CLOEXEC));
  const auto peer = listener->accept(stop.get());
  ASSERT_TRUE(peer);
  EXPECT_FALSE(*peer);
}

TEST_F(ListenerTest, Adopt_ListeningSocket_WorksAndStays) {
  auto first = Listener::bind(path);
  {
    auto adopted = Listener::adopt(UniqueFd(dup(first->fd())));
    ASSERT_TRUE(adopted) << adopted.error();
    EXPECT_EQ(fcntl(adopted->fd(), F_GETFD), FD_CLOEXEC);
    std::jthread client([&] { EXPECT_TRUE(Frontend::connect(path)); });
    EXPECT_TRUE(*adopted->accept(-1));
  }
  EXPECT_TRUE(exists()) << "not ours to remove";
}

TEST_F(ListenerTest, Adopt_AnythingElse_IsExplained) {
  EXPECT_THAT(Listener::adopt(UniqueFd(open("/dev/null", O_RDONLY))).error(), HasSubstr("not a socket"));
  EXPECT_THAT(Listener::adopt(UniqueFd()).error(), HasSubstr("not a socket"));
  EXPECT_THAT(Listener::adopt(UniqueFd(socket(AF_INET, SOCK_STREAM, 0))).error(),
              HasSubstr("not a UNIX stream"));
  EXPECT_THAT(Listener::adopt(UniqueFd(socket(AF_UNIX, SOCK_DGRAM, 0))).error(),
              HasSubstr("not a UNIX stream"));
  EXPECT_THAT(Listener::adopt(UniqueFd(socket(AF_UNIX, SOCK_STREAM, 0))).error(),
              HasSubstr("not a listening"));
}

}  // namespace
}  // namespace fusewire::vhost_user
