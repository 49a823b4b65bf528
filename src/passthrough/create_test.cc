// CREATE, TMPFILE, MKNOD and MKDIR through the protocol: who owns what is made, with which mode and label,
// and that nothing but regular files is opened.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "passthrough/device_number.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::Request;
using testing::Share;
using testing::User;

constexpr User kUser{.uid = 4711, .gid = 4712};
constexpr std::uint32_t kDirectoryGroup = 4713;

void use_posix_acl(Config& config) {
  config.xattr = true;
  config.posix_acl = true;
}

// A set-group-id directory of a group that the user is not in.
void make_group_directory(const Share& share, const char* name) {
  std::filesystem::create_directory(share.host(name));
  ASSERT_EQ(::chown(share.host(name).c_str(), 0, kDirectoryGroup), 0);
  ASSERT_EQ(::chmod(share.host(name).c_str(), 02777), 0);
}

// FUSE_EXT_GROUPS with one group, behind the names of a creating request.
struct GroupsExtension {
  ExtensionHeader header{.size = 16, .type = kExtensionGroups};
  std::uint32_t count = 1;
  std::uint32_t group = kDirectoryGroup;
};
// The name is padded so that the extension is aligned.
Request with_group(Request request) {
  const GroupsExtension extension;
  return request.bytes(bytes_of(extension)).extensions_size(sizeof extension);
}

TEST(Create, NewFile_BelongsToTheUserAndIsOpen) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  const Answer answer = share.create("a", O_RDWR | O_CREAT | O_EXCL, 0640, kUser);
  ASSERT_EQ(answer.error, 0);
  const auto out = answer.as<CreateOut>();
  EXPECT_EQ(out.entry.attr.mode, S_IFREG | 0640u);
  EXPECT_EQ(out.entry.attr.uid, kUser.uid);
  EXPECT_EQ(out.entry.attr.gid, kUser.gid);
  EXPECT_EQ(out.open.open_flags, 0u);
  EXPECT_EQ(share.getattr(NodeId{out.entry.nodeid}, out.open.fh).as<fuse_attr_out>().attr.ino,
            share.stat_host("a").st_ino);
  EXPECT_EQ(share.fs().open_files(), 1u);
}

TEST(Create, WithoutExcl_OpensTheExistingFile) {
  Share share;
  share.write_host("a", "hello");
  const NodeId node = share.node("a");
  const Answer answer = share.create("a", O_RDWR | O_CREAT, 0640);
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<CreateOut>().entry.nodeid, node.get());
  EXPECT_EQ(answer.as<CreateOut>().entry.attr.size, 5u);
  const Answer truncated = share.create("a", O_WRONLY | O_CREAT | O_TRUNC, 0640);
  EXPECT_EQ(truncated.as<CreateOut>().entry.attr.size, 0u);
  share.forget(node, 3);
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

TEST(Create, WithExcl_RefusesTheExistingFile) {
  Share share;
  share.write_host("a", "hello");
  EXPECT_EQ(share.create("a", O_RDWR | O_CREAT | O_EXCL, 0640).error, EEXIST);
  EXPECT_EQ(share.fs().open_files(), 0u);
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

// The guest's kernel checks no permission of a file that it takes for new.
TEST(Create, ExistingFileThatTheUserMayNotOpen_IsEstale) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  share.write_host("a", "secret");
  ASSERT_EQ(::chmod(share.host("a").c_str(), 0604), 0);
  EXPECT_EQ(share.create("a", O_RDONLY | O_CREAT, 0640, kUser).error, 0);
  EXPECT_EQ(share.create("a", O_WRONLY | O_CREAT, 0640, kUser).error, ESTALE);
  EXPECT_EQ(share.create("a", O_RDONLY | O_CREAT | O_TRUNC, 0640, kUser).error, ESTALE);
  EXPECT_EQ(share.read_host("a"), "secret");
}

// The guest's kernel looks again, and opens devices and FIFOs in the guest, follows links itself.
TEST(Create, NameOfALinkFifoOrDevice_OpensNothing) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  const testing::TemporaryDirectory outside;
  share.symlink("s", (outside.path() / "x").string());
  ASSERT_EQ(::mkfifo(share.host("f").c_str(), 0666), 0);
  ASSERT_EQ(::mknod(share.host("n").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  share.mkdir("d", 0755);
  for (const char* name : {"s", "f", "n", "d"}) {
    EXPECT_EQ(share.create(name, O_RDWR | O_CREAT, 0644).error, ESTALE) << name;
    EXPECT_EQ(share.create(name, O_RDWR | O_CREAT | O_EXCL, 0644).error, EEXIST) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(outside.path() / "x"));
  EXPECT_EQ(share.fs().open_files(), 0u);
}

// The host's user swaps a file and a link that leads out while the guest opens the name with O_CREAT and
// O_TRUNC.
TEST(Create, SymlinkSwapRace_NeverTouchesTheOutside) {
  const testing::TemporaryDirectory outside;
  const std::string victim = outside.path() / "victim";
  std::ofstream(victim) << "untouched";
  Share share;
  share.write_host("x", "");
  std::filesystem::create_symlink(victim, share.host("y"));
  const ino_t inside = share.stat_host("x").st_ino;
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    while (!stop)
      ::renameat2(AT_FDCWD, share.host("x").c_str(), AT_FDCWD, share.host("y").c_str(), RENAME_EXCHANGE);
  });
  int opened = 0;
  for (int round = 0; round < 2000; ++round) {
    const Answer answer = share.create("x", O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (answer.error != 0) {
      EXPECT_EQ(answer.error, ESTALE);
      continue;
    }
    ++opened;
    const auto out = answer.as<CreateOut>();
    EXPECT_EQ(share.getattr(NodeId{out.entry.nodeid}, out.open.fh).as<fuse_attr_out>().attr.ino, inside);
    share.release(NodeId{out.entry.nodeid}, out.open.fh);
  }
  stop = true;
  swapper.join();
  EXPECT_GT(opened, 0);
  EXPECT_EQ(std::filesystem::file_size(victim), 9u);
}

TEST(Create, InSetGroupIdDirectory_TakesItsGroup_AndLosesTheBitItMayNotHave) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  make_group_directory(share, "d");
  const NodeId d = share.node("d");
  // CVE-2022-0358
  const auto out = share.create("a", O_RDWR | O_CREAT, 02775, kUser, 0, d).as<CreateOut>();
  EXPECT_EQ(out.entry.attr.gid, kDirectoryGroup);
  EXPECT_EQ(out.entry.attr.mode & 07777, 0775u);
  const auto directory = share.mkdir("e", 0755, kUser, 0, d).as<fuse_entry_out>();
  EXPECT_EQ(directory.attr.gid, kDirectoryGroup);
  EXPECT_EQ(directory.attr.mode & 07777, 02755u);
}

TEST(Create, WithTheDirectorysGroupInTheRequest_KeepsSetGroupId) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  make_group_directory(share, "d");
  // "1234567" and its NUL keep the extension aligned.
  const Answer answer = share.send(
      with_group(Share::create_request("1234567", O_RDWR | O_CREAT, 02775, kUser, 0, share.node("d"))));
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<CreateOut>().entry.attr.mode & 07777, 02775u);
}

TEST(Create, ReadOnlyModeForWriting_IsOpenAllTheSame) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  EXPECT_EQ(share.create("a", O_RDWR | O_CREAT | O_EXCL, 0400, kUser).error, 0);
}

TEST(Create, UmaskWithoutDontMask_WasAppliedByTheGuest) {
  Share share;
  EXPECT_EQ(share.create("a", O_RDWR | O_CREAT, 0664, {}, 077).as<CreateOut>().entry.attr.mode & 07777,
            0664u);
}

TEST(Create, UmaskWithPosixAcl_IsAppliedHere) {
  Share share(use_posix_acl);
  ASSERT_EQ(share.init().error, 0);
  EXPECT_EQ(share.create("a", O_RDWR | O_CREAT, 0664, {}, 027).as<CreateOut>().entry.attr.mode & 07777,
            0640u);
  EXPECT_EQ(share.mkdir("d", 0777, {}, 027).as<fuse_entry_out>().attr.mode & 07777, 0750u);
  EXPECT_EQ(share.create("b", O_RDWR | O_CREAT, 0666, {}, 0).as<CreateOut>().entry.attr.mode & 07777, 0666u);
}

// system.posix_acl_default: version 2, then {tag, permissions, id} each.
std::string default_acl() {
  struct Entry {
    std::uint16_t tag, permissions;
    std::uint32_t id;
  };
  constexpr std::uint32_t kVersion = 2;
  constexpr std::uint32_t kNoId = UINT32_MAX;
  constexpr std::array kEntries = {Entry{0x01, 7, kNoId}, Entry{0x04, 7, kNoId}, Entry{0x20, 5, kNoId}};
  std::string acl(sizeof kVersion + sizeof kEntries, '\0');
  std::memcpy(acl.data(), &kVersion, sizeof kVersion);
  std::memcpy(acl.data() + sizeof kVersion, kEntries.data(), sizeof kEntries);
  return acl;
}

// POSIX: a default ACL takes the umask's place.
TEST(Create, DefaultAclOnTheParent_OverridesTheUmask) {
  Share share(use_posix_acl);
  std::filesystem::create_directory(share.host("d"));
  const std::string acl = default_acl();
  if (::setxattr(share.host("d").c_str(), "system.posix_acl_default", acl.data(), acl.size(), 0) != 0)
    GTEST_SKIP() << "no ACLs on " << share.host("d");
  const NodeId d = share.node("d");
  EXPECT_EQ(share.create("a", O_RDWR | O_CREAT, 0666, {}, 077, d).as<CreateOut>().entry.attr.mode & 07777,
            0664u);
  EXPECT_EQ(share.mkdir("e", 0777, {}, 077, d).as<fuse_entry_out>().attr.mode & 07777, 0775u);
}

TEST(Mknod, FifoAndDevice_AreMadeButNeverOpened) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  const auto fifo = share.mknod("f", S_IFIFO | 0600, 0, kUser).as<fuse_entry_out>();
  EXPECT_EQ(fifo.attr.mode, S_IFIFO | 0600u);
  EXPECT_EQ(fifo.attr.uid, kUser.uid);
  const auto device = share.mknod("n", S_IFCHR | 0666, encode_device(1, 3)).as<fuse_entry_out>();
  EXPECT_EQ(device.attr.rdev, encode_device(1, 3));
  EXPECT_EQ(share.stat_host("n").st_rdev, makedev(1, 3));
  for (const std::uint64_t node : {fifo.nodeid, device.nodeid}) {
    for (const std::uint32_t flags : {O_RDONLY, O_WRONLY, O_RDWR})
      EXPECT_EQ(share.open(NodeId{node}, flags).error, EBADF);
    EXPECT_EQ(share.send(Request(FUSE_OPENDIR, NodeId{node}).arg(fuse_open_in{.flags = 0, .open_flags = 0}))
                      .error != 0,
              true);
    EXPECT_EQ(share.send(Request(FUSE_SYNCFS, NodeId{node}).arg(fuse_syncfs_in{.padding = 0})).error, EBADF);
  }
}

TEST(Mknod, RegularFile_IsMade) {
  Share share;
  EXPECT_EQ(share.mknod("a", S_IFREG | 0640).as<fuse_entry_out>().attr.mode, S_IFREG | 0640u);
  EXPECT_EQ(share.mknod("a", S_IFREG | 0640).error, EEXIST);
  EXPECT_NE(share.mknod("d", S_IFDIR | 0755).error, 0);
}

Request tmpfile_request(std::uint32_t flags) {
  return Request(FUSE_TMPFILE)
      .uid(kUser.uid)
      .gid(kUser.gid)
      .arg(fuse_create_in{.flags = flags, .mode = S_IFREG | 0600, .umask = 0, .open_flags = 0})
      .name("#1");
}

TEST(Tmpfile, HasNoName_UntilItIsLinked) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  const Answer answer = share.send(tmpfile_request(O_RDWR));
  if (answer.error == EOPNOTSUPP) GTEST_SKIP() << "no O_TMPFILE on " << share.host("");
  ASSERT_EQ(answer.error, 0);
  const auto out = answer.as<CreateOut>();
  EXPECT_EQ(out.entry.attr.nlink, 0u);
  EXPECT_EQ(out.entry.attr.uid, kUser.uid);
  EXPECT_TRUE(std::filesystem::is_empty(share.host("")));
  const Answer linked = share.link(NodeId{out.entry.nodeid}, "a");
  ASSERT_EQ(linked.error, 0);
  EXPECT_EQ(linked.as<fuse_entry_out>().nodeid, out.entry.nodeid);
  EXPECT_EQ(share.stat_host("a").st_ino, out.entry.attr.ino);
}

TEST(Tmpfile, WithExcl_CannotBeLinked) {
  FUSEWIRE_NEEDS_ROOT();
  Share share;
  const Answer answer = share.send(tmpfile_request(O_RDWR | O_EXCL));
  if (answer.error == EOPNOTSUPP) GTEST_SKIP() << "no O_TMPFILE on " << share.host("");
  ASSERT_EQ(answer.error, 0);
  EXPECT_EQ(share.link(NodeId{answer.as<CreateOut>().entry.nodeid}, "a").error, ENOENT);
}

// FUSE_SECURITY_CTX with one label: fuse_secctx_header, fuse_secctx, name, NUL, value; padded to 8.
Request with_label(Request request, std::string_view name, std::string_view value) {
  std::string context(name);
  context += '\0';
  context += value;
  const std::size_t used = sizeof(ExtensionHeader) + sizeof(fuse_secctx) + context.size();
  const std::size_t padded = (used + 7) / 8 * 8;
  request.arg(ExtensionHeader{.size = static_cast<std::uint32_t>(padded), .type = 1})
      .arg(fuse_secctx{.size = static_cast<std::uint32_t>(value.size()), .padding = 0})
      .bytes(as_bytes(context))
      .bytes(as_bytes(std::string_view("\0\0\0\0\0\0\0", padded - used)));
  return request.extensions_size(padded);
}

std::string label_of(const Share& share, const char* file, const char* name) {
  std::array<char, 64> value{};
  const ssize_t size = ::lgetxattr(share.host(file).c_str(), name, value.data(), value.size());
  return size < 0 ? std::string("none") : std::string(value.data(), static_cast<std::size_t>(size));
}

TEST(SecurityLabel, EachKindOfFile_IsMadeWithIt) {
  FUSEWIRE_NEEDS_ROOT();
  Share share([](Config& config) { config.security_label = true; });
  ASSERT_EQ(share.init().error, 0);
  constexpr const char* kName = "security.fusewire";
  const auto send = [&](const Request& request) {
    return share.send(with_label(request, kName, "label")).error;
  };
  EXPECT_EQ(send(Share::create_request("regular", O_RDWR | O_CREAT, 0600, kUser)), 0);
  EXPECT_EQ(send(Request(FUSE_MKDIR).arg(fuse_mkdir_in{.mode = 0700, .umask = 0}).name("directory")), 0);
  EXPECT_EQ(send(Request(FUSE_SYMLINK).name("symlink").name("/etc/passwd")), 0);
  EXPECT_EQ(send(Request(FUSE_MKNOD)
                     .arg(fuse_mknod_in{.mode = S_IFIFO | 0600, .rdev = 0, .umask = 0, .padding = 0})
                     .name("fifo")),
            0);
  for (const char* file : {"regular", "directory", "symlink", "fifo"})
    EXPECT_EQ(label_of(share, file, kName), "label") << file;
}

TEST(SecurityLabel, ThatCannotBeSet_LeavesNothingBehind) {
  FUSEWIRE_NEEDS_ROOT();
  Share share([](Config& config) { config.security_label = true; });
  // Longer than an attribute's name can be.
  const std::string name = "security." + std::string(300, 'x');
  EXPECT_EQ(share.send(with_label(Share::create_request("a", O_RDWR | O_CREAT, 0600), name, "label")).error,
            ERANGE);
  EXPECT_EQ(share
                .send(with_label(Request(FUSE_MKDIR).arg(fuse_mkdir_in{.mode = 0700, .umask = 0}).name("d"),
                                 name, "label"))
                .error,
            ERANGE);
  EXPECT_TRUE(std::filesystem::is_empty(share.host("")));
  EXPECT_EQ(share.fs().known_inodes(), 1u);
}

TEST(SecurityLabel, OutsideTheSecurityNamespace_IsEinval) {
  Share share([](Config& config) { config.security_label = true; });
  EXPECT_EQ(
      share
          .send(with_label(Share::create_request("a", O_RDWR | O_CREAT, 0600), "trusted.overlay.opaque", "y"))
          .error,
      EINVAL);
  EXPECT_TRUE(std::filesystem::is_empty(share.host("")));
}

}  // namespace
}  // namespace fusewire::passthrough
