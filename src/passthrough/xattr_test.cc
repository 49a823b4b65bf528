// The xattr calls through the session.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Request;
using testing::Share;

constexpr const char* kAccessAcl = "system.posix_acl_access";
constexpr const char* kDefaultAcl = "system.posix_acl_default";

// struct posix_acl_xattr_header and its entries: user::rwx, user:1234:r--, group::r-x, mask::r-x, other::r--
std::string some_acl() {
  struct Entry {
    std::uint16_t tag, perm;
    std::uint32_t id;
  };
  constexpr std::uint32_t kVersion = 2;
  constexpr std::uint32_t kNoId = ~0U;
  const Entry entries[] = {
      {0x01, 7, kNoId}, {0x02, 4, 1234}, {0x04, 5, kNoId}, {0x10, 5, kNoId}, {0x20, 4, kNoId}};
  std::string acl(sizeof kVersion + sizeof entries, '\0');
  std::memcpy(acl.data(), &kVersion, sizeof kVersion);
  std::memcpy(acl.data() + sizeof kVersion, entries, sizeof entries);
  return acl;
}

class Guest {
 public:
  explicit Guest(const Share::Adjust& adjust) : share_(adjust) {}
  Share& share() { return share_; }

  Answer set(NodeId node, std::string_view name, std::string_view value, std::uint32_t flags = 0,
             std::uint32_t setxattr_flags = 0, std::uint32_t gid = 0) {
    fuse_setxattr_in in{};
    in.size = static_cast<std::uint32_t>(value.size());
    in.flags = flags;
    in.setxattr_flags = setxattr_flags;
    // Without FUSE_SETXATTR_EXT the kernel sends the first 8 bytes only.
    const bool extended = (share_.init().as<fuse_init_out>().flags & FUSE_SETXATTR_EXT) != 0;
    const auto arguments = bytes_of(in).first(extended ? sizeof in : FUSE_COMPAT_SETXATTR_IN_SIZE);
    return share_.send(
        Request(FUSE_SETXATTR, node).gid(gid).bytes(arguments).name(name).bytes(as_bytes(value)));
  }
  Answer get(NodeId node, std::string_view name, std::uint32_t size = 4096) {
    return share_.send(
        Request(FUSE_GETXATTR, node).arg(fuse_getxattr_in{.size = size, .padding = 0}).name(name));
  }
  Answer list(NodeId node, std::uint32_t size = 4096) {
    return share_.send(Request(FUSE_LISTXATTR, node).arg(fuse_getxattr_in{.size = size, .padding = 0}));
  }
  Answer remove(NodeId node, std::string_view name) {
    return share_.send(Request(FUSE_REMOVEXATTR, node).name(name));
  }
  std::string host_value(std::string_view file, const char* name) const {
    std::string value(1000, '\0');
    const ssize_t size = ::lgetxattr(share_.host(file).c_str(), name, value.data(), value.size());
    value.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return value;
  }

 private:
  Share share_;
};

class XattrTest : public ::testing::Test {
 protected:
  void SetUp() override {
    share_.write_host("f", "x");
    node_ = share_.node("f");
    if (::setxattr(share_.host("f").c_str(), "user.probe", "", 0, 0) != 0)
      GTEST_SKIP() << "no user xattrs here";
    ASSERT_EQ(::removexattr(share_.host("f").c_str(), "user.probe"), 0);
  }
  Guest guest_{[](Config& config) { config.xattr = true; }};
  Share& share_ = guest_.share();
  NodeId node_;
};

TEST_F(XattrTest, SetGetListRemove_ReachTheHost) {
  EXPECT_EQ(guest_.set(node_, "user.a", "value").error, 0);
  EXPECT_EQ(guest_.host_value("f", "user.a"), "value");
  EXPECT_EQ(guest_.get(node_, "user.a").text(), "value");
  EXPECT_EQ(guest_.set(node_, "user.empty", "").error, 0);
  const Answer empty = guest_.get(node_, "user.empty");
  EXPECT_EQ(empty.error, 0);
  EXPECT_TRUE(empty.body.empty());
  const Answer names = guest_.list(node_);
  EXPECT_NE(names.text().find(std::string_view("user.a\0", 7)), std::string_view::npos);
  EXPECT_EQ(guest_.remove(node_, "user.a").error, 0);
  EXPECT_EQ(guest_.get(node_, "user.a").error, ENODATA);
  EXPECT_EQ(guest_.remove(node_, "user.a").error, ENODATA);
}

TEST_F(XattrTest, Size0_AsksForTheSize_AndTooSmallIsErange) {
  ASSERT_EQ(guest_.set(node_, "user.a", "12345").error, 0);
  const Answer size = guest_.get(node_, "user.a", 0);
  EXPECT_EQ(size.error, 0);
  EXPECT_EQ(size.body.size(), sizeof(fuse_getxattr_out));
  EXPECT_EQ(size.as<fuse_getxattr_out>().size, 5U);
  EXPECT_EQ(guest_.get(node_, "user.a", 4).error, ERANGE);
  EXPECT_EQ(guest_.get(node_, "user.a", 5).text(), "12345");
  const auto list_size = guest_.list(node_, 0).as<fuse_getxattr_out>().size;
  EXPECT_EQ(guest_.list(node_, list_size).body.size(), list_size);
  EXPECT_EQ(guest_.list(node_, list_size - 1).error, ERANGE);
}

TEST_F(XattrTest, SizesOfAHostileGuest_CostNothing) {
  ASSERT_EQ(guest_.set(node_, "user.a", "12345").error, 0);
  EXPECT_EQ(guest_.get(node_, "user.a", 0xffffffff).text(), "12345");
  EXPECT_EQ(guest_.list(node_, 0xffffffff).error, 0);
  EXPECT_EQ(guest_.set(node_, "user.big", std::string(65537, 'x')).error, E2BIG);
  EXPECT_EQ(guest_.set(node_, std::string(300, 'n'), "x").error, ERANGE);
  fuse_setxattr_in in{};
  in.size = 0xffffffff;  // more than there is
  EXPECT_EQ(share_.send(Request(FUSE_SETXATTR, node_).arg(in).name("user.a")).error, EINVAL);
}

TEST_F(XattrTest, CreateAndReplace_AreHonoured) {
  EXPECT_EQ(guest_.set(node_, "user.a", "1", XATTR_REPLACE).error, ENODATA);
  EXPECT_EQ(guest_.set(node_, "user.a", "1", XATTR_CREATE).error, 0);
  EXPECT_EQ(guest_.set(node_, "user.a", "2", XATTR_CREATE).error, EEXIST);
  EXPECT_EQ(guest_.set(node_, "user.a", "3", XATTR_REPLACE).error, 0);
  EXPECT_EQ(guest_.host_value("f", "user.a"), "3");
  EXPECT_EQ(guest_.set(node_, "user.a", "4", 1U << 20).error, EINVAL);
}

TEST_F(XattrTest, SymbolicLinksAndSpecialFiles_AreNotFollowedAndNotOpened) {
  FUSEWIRE_NEEDS_ROOT();
  ASSERT_EQ(::symlink("f", share_.host("link").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", share_.host("out").c_str()), 0);
  ASSERT_EQ(::mkfifo(share_.host("fifo").c_str(), 0600), 0);  // opening it would wait for ever
  for (const char* const name : {"link", "out", "fifo"}) {
    const NodeId node = share_.node(name);
    EXPECT_EQ(guest_.set(node, "trusted.fusewire", name).error, 0) << name;
    EXPECT_EQ(guest_.host_value(name, "trusted.fusewire"), name);
    EXPECT_EQ(guest_.get(node, "trusted.fusewire").text(), name);
    EXPECT_NE(guest_.list(node).text().find("trusted.fusewire"), std::string_view::npos);
    EXPECT_EQ(guest_.remove(node, "trusted.fusewire").error, 0);
    EXPECT_EQ(guest_.set(node, "user.a", "x").error, EPERM) << name;  // only files and directories have those
  }
  EXPECT_EQ(guest_.host_value("f", "trusted.fusewire"), "");
  EXPECT_EQ(::getxattr("/etc/passwd", "trusted.fusewire", nullptr, 0), -1);
}

TEST_F(XattrTest, Directories_AndUnlinkedFiles_HaveThem) {
  ASSERT_EQ(::mkdir(share_.host("d").c_str(), 0755), 0);
  EXPECT_EQ(guest_.set(share_.node("d"), "user.a", "dir").error, 0);
  EXPECT_EQ(guest_.host_value("d", "user.a"), "dir");
  ASSERT_EQ(::unlink(share_.host("f").c_str()), 0);
  EXPECT_EQ(guest_.set(node_, "user.a", "gone").error, 0);
  EXPECT_EQ(guest_.get(node_, "user.a").text(), "gone");
}

TEST_F(XattrTest, FromManyThreads_EachFindsItsFile) {
  std::vector<NodeId> nodes;
  for (int i = 0; i < 8; ++i) {
    const std::string name = "n" + std::to_string(i);
    share_.write_host(name, "");
    nodes.push_back(share_.node(name));
  }
  std::vector<std::thread> threads;
  threads.reserve(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    threads.emplace_back([this, &nodes, i] {
      for (int round = 0; round < 50; ++round)
        EXPECT_EQ(guest_.set(nodes[i], "user.a", std::to_string(i) + ":" + std::to_string(round)).error, 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < nodes.size(); ++i)
    EXPECT_EQ(guest_.host_value("n" + std::to_string(i), "user.a"), std::to_string(i) + ":49");
}

TEST_F(XattrTest, AclsWithoutPosixAcl_AreRefusedAndNotListed) {
  ASSERT_EQ(guest_.set(node_, "user.a", "x").error, 0);
  const std::string acl = some_acl();
  const int set = ::setxattr(share_.host("f").c_str(), kAccessAcl, acl.data(), acl.size(), 0);
  for (const char* const name : {kAccessAcl, kDefaultAcl}) {
    EXPECT_EQ(guest_.get(node_, name).error, EOPNOTSUPP);
    EXPECT_EQ(guest_.get(node_, name, 0).error, EOPNOTSUPP);
    EXPECT_EQ(guest_.set(node_, name, acl).error, EOPNOTSUPP);
    EXPECT_EQ(guest_.remove(node_, name).error, EOPNOTSUPP);
  }
  if (set != 0) GTEST_SKIP() << "no ACLs here";
  EXPECT_EQ(guest_.list(node_).text().find("posix_acl"), std::string_view::npos);
  EXPECT_NE(guest_.list(node_).text().find("user.a"), std::string_view::npos);
  EXPECT_EQ(guest_.list(node_, 0).as<fuse_getxattr_out>().size, guest_.list(node_).body.size());
}

TEST_F(XattrTest, UnknownNode_IsEstale) { EXPECT_EQ(guest_.get(NodeId{12345}, "user.a").error, ESTALE); }

TEST(XattrOffTest, EveryCall_IsEnosys) {
  Guest guest({});
  EXPECT_EQ(guest.set(kRootNode, "user.a", "x").error, ENOSYS);
  EXPECT_EQ(guest.get(kRootNode, "user.a").error, ENOSYS);
  EXPECT_EQ(guest.list(kRootNode).error, ENOSYS);
  EXPECT_EQ(guest.remove(kRootNode, "user.a").error, ENOSYS);
}

TEST(XattrReadOnlyTest, ChangesAreErofs_ReadingIsNot) {
  Guest guest([](Config& config) { config.xattr = config.readonly = true; });
  Share& share = guest.share();
  share.write_host("f", "");
  if (::setxattr(share.host("f").c_str(), "user.a", "x", 1, 0) != 0) GTEST_SKIP() << "no user xattrs here";
  const NodeId node = share.node("f");
  EXPECT_EQ(guest.set(node, "user.a", "y").error, EROFS);
  EXPECT_EQ(guest.remove(node, "user.a").error, EROFS);
  EXPECT_EQ(guest.get(node, "user.a").text(), "x");
}

class AclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    share_.write_host("f", "x");
    node_ = share_.node("f");
    const std::string acl = some_acl();
    if (::setxattr(share_.host("f").c_str(), kAccessAcl, acl.data(), acl.size(), 0) != 0)
      GTEST_SKIP() << "no ACLs here";
    ASSERT_EQ(::removexattr(share_.host("f").c_str(), kAccessAcl), 0);
  }
  Guest guest_{[](Config& config) { config.xattr = config.posix_acl = true; }};
  Share& share_ = guest_.share();
  NodeId node_;
};

TEST_F(AclTest, Acls_PassThrough) {
  EXPECT_EQ(guest_.set(node_, kAccessAcl, some_acl()).error, 0);
  EXPECT_EQ(guest_.host_value("f", kAccessAcl), some_acl());
  EXPECT_EQ(guest_.get(node_, kAccessAcl).text(), some_acl());
  EXPECT_NE(guest_.list(node_).text().find(kAccessAcl), std::string_view::npos);
  EXPECT_EQ(guest_.remove(node_, kAccessAcl).error, 0);
  ASSERT_EQ(::mkdir(share_.host("d").c_str(), 0755), 0);
  EXPECT_EQ(guest_.set(share_.node("d"), kDefaultAcl, some_acl()).error, 0);
  EXPECT_EQ(guest_.host_value("d", kDefaultAcl), some_acl());
}

TEST_F(AclTest, KillSgid_ClearsTheBitOnlyWhenAsked) {
  FUSEWIRE_NEEDS_ROOT();
  for (const auto& [owner_group, caller_group] :
       {std::pair{4242U, 1000U}, std::pair{4242U, 0U}, std::pair{0U, 0U}}) {
    ASSERT_EQ(::chown(share_.host("f").c_str(), 1000, owner_group), 0);
    ASSERT_EQ(::chmod(share_.host("f").c_str(), 02755), 0);
    EXPECT_EQ(guest_.set(node_, kAccessAcl, some_acl(), 0, 0, caller_group).error, 0);
    EXPECT_NE(share_.stat_host("f").st_mode & S_ISGID, 0U);
    EXPECT_EQ(guest_.set(node_, kAccessAcl, some_acl(), 0, FUSE_SETXATTR_ACL_KILL_SGID, caller_group).error,
              0);
    EXPECT_EQ(share_.stat_host("f").st_mode & S_ISGID, 0U) << owner_group << " " << caller_group;
    EXPECT_EQ(guest_.host_value("f", kAccessAcl), some_acl());
  }
}

TEST_F(AclTest, KillSgid_WithAnAclThatIsNone_ChangesNothing) {
  FUSEWIRE_NEEDS_ROOT();
  ASSERT_EQ(::chmod(share_.host("f").c_str(), 02755), 0);
  EXPECT_EQ(
      guest_.set(node_, kAccessAcl, some_acl().substr(0, 30), 0, FUSE_SETXATTR_ACL_KILL_SGID, 1000).error,
      EINVAL);
  EXPECT_NE(share_.stat_host("f").st_mode & S_ISGID, 0U);
}

}  // namespace
}  // namespace fusewire::passthrough
