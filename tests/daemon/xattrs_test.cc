// The extended attribute calls over the socket.
#include <sys/xattr.h>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class Xattrs : public DaemonTest {
 protected:
  void boot_with_file(std::vector<std::string> arguments = {"--xattr"}, std::uint64_t caps = kAllCaps) {
    write_host("file", "");
    boot(std::move(arguments), {.caps = caps});
    node = *client().walk("file");
  }
  int set(std::string_view name, std::string_view value, std::uint32_t flags = 0) {
    fuse_setxattr_in in{};
    in.size = static_cast<std::uint32_t>(value.size());
    in.flags = flags;
    const bool extended = (guest().init_reply().flags & FUSE_SETXATTR_EXT) != 0;
    const auto arguments = bytes_of(in).first(extended ? sizeof in : FUSE_COMPAT_SETXATTR_IN_SIZE);
    return client()
        .send(make_request(FUSE_SETXATTR, node).bytes(arguments).name(name).bytes(as_bytes(value)).room(0))
        .error;
  }
  Answer get(std::string_view name, std::uint32_t size) {
    return client().send(make_request(FUSE_GETXATTR, node, fuse_getxattr_in{.size = size, .padding = 0})
                             .name(name)
                             .room(static_cast<int>(size == 0 ? sizeof(fuse_getxattr_out) : size)));
  }
  std::string on_host(const char* name) const {
    char value[65536];
    const ssize_t size = ::lgetxattr(host("file").c_str(), name, value, sizeof value);
    return size < 0 ? "(none)" : std::string(value, static_cast<std::size_t>(size));
  }
  NodeId node;
};

TEST_F(Xattrs, SetGetListRemove) {
  boot_with_file();
  ASSERT_EQ(set("user.colour", "blue"), 0);
  EXPECT_EQ(on_host("user.colour"), "blue");
  EXPECT_EQ(get("user.colour", 0).as<fuse_getxattr_out>().size, 4u);
  EXPECT_EQ(get("user.colour", 100).text(), "blue");
  EXPECT_EQ(get("user.colour", 2).error, ERANGE);
  EXPECT_EQ(get("user.other", 100).error, ENODATA);
  EXPECT_EQ(set("user.colour", "red", XATTR_CREATE), EEXIST);
  EXPECT_EQ(set("user.other", "red", XATTR_REPLACE), ENODATA);

  const Answer list =
      client().send(make_request(FUSE_LISTXATTR, node, fuse_getxattr_in{.size = 4096, .padding = 0}));
  EXPECT_THAT(std::string(list.text()), ::testing::HasSubstr(std::string("user.colour\0", 12)));
  const Answer size =
      client().send(make_request(FUSE_LISTXATTR, node, fuse_getxattr_in{.size = 0, .padding = 0}));
  EXPECT_EQ(size.as<fuse_getxattr_out>().size, list.body.size());

  EXPECT_EQ(client().send(make_request(FUSE_REMOVEXATTR, node).name("user.colour").room(0)).error, 0);
  EXPECT_EQ(on_host("user.colour"), "(none)");
  EXPECT_EQ(client().send(make_request(FUSE_REMOVEXATTR, node).name("user.colour").room(0)).error, ENODATA);
}

TEST_F(Xattrs, LargeAndEmptyValues) {
  boot_with_file();
  const std::string value = pattern(3000);
  ASSERT_EQ(set("user.large", value), 0);
  EXPECT_EQ(get("user.large", 65536).text(), value);
  ASSERT_EQ(set("user.empty", ""), 0);
  EXPECT_EQ(get("user.empty", 100).text(), "");
  EXPECT_EQ(get("user.empty", 0).as<fuse_getxattr_out>().size, 0u);
}

TEST_F(Xattrs, OffByDefault_IsEnosys) {
  boot_with_file({});
  EXPECT_EQ(set("user.colour", "blue"), ENOSYS);
  EXPECT_EQ(get("user.colour", 0).error, ENOSYS);
  EXPECT_EQ(on_host("user.colour"), "(none)");
}

TEST_F(Xattrs, SetxattrExt_HasTheLongLayout) {
  // POSIX ACLs need FUSE_SETXATTR_EXT, which makes the argument structure longer.
  boot_with_file({"--posix-acl"});
  EXPECT_NE(guest().init_reply().flags & FUSE_SETXATTR_EXT, 0u);
  ASSERT_EQ(set("user.colour", "blue"), 0);
  EXPECT_EQ(on_host("user.colour"), "blue");
}

TEST_F(Xattrs, WithoutSetxattrExt_HasTheShortLayout) {
  boot_with_file();
  ASSERT_EQ(guest().init_reply().flags & FUSE_SETXATTR_EXT, 0u);
  ASSERT_EQ(set("user.colour", "blue"), 0);
  EXPECT_EQ(on_host("user.colour"), "blue");
}

}  // namespace
}  // namespace fusewire::tests
