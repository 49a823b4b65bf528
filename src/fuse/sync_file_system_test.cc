#include "fusewire/sync_file_system.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <new>
#include <optional>
#include <thread>

#include "fuse/testing/harness.h"
#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

using testing::Answer;
using testing::Harness;

class SomeFs : public SyncFileSystem {
 public:
  UniqueFd file{::memfd_create("sync_file_system_test", MFD_CLOEXEC)};
  std::uint64_t forgotten = 0;
  std::optional<ReplyStatfs> kept;

  // An answer that comes later, beside those that do not.
  void statfs(Call<op::Statfs> call) override { kept.emplace(std::move(call.reply)); }
  void forget_node(NodeId, std::uint64_t lookups) override { forgotten += lookups; }

 protected:
  Result<fuse_entry_out> do_lookup(const Request<op::Lookup>& request) override {
    if (request.tail.name != "file") return fail(ENOENT);
    return EntryAnswer{.node = NodeId{2}};
  }
  Result<fuse_open_out> do_open(const Request<op::Open>& request) override {
    return OpenAnswer{.handle = FileHandle{request.header.node.get() + 1}, .direct_io = true};
  }
  Result<CreateOut> do_create(const Request<op::Create>&) override {
    return CreateAnswer{.entry = {.node = NodeId{3}}, .open = {.handle = FileHandle{4}}};
  }
  Result<void> do_unlink(const Request<op::Unlink>& request) override {
    if (request.tail.name == "memory") throw std::bad_alloc();
    return {};
  }
  Result<Data> do_read(const Request<op::Read>& request) override {
    switch (request.in.fh) {
      case 0:
        return std::string("bytes");
      case 1:
        return FileRange{.fd = file.get(), .offset = 2, .size = 3};
      case 2:
        return Data::in_room(request.room().copy_from(as_bytes("in place")));
      case 3: {
        auto text = std::make_shared<std::string>("shared");
        const auto bytes = as_bytes(*text);
        return Data::shared(std::move(text), bytes);
      }
      default:
        return std::string(request.in.size + 1, 'x');
    }
  }
  Result<std::uint32_t> do_write(const Request<op::Write>& request) override {
    std::array<std::byte, 3> taken;
    request.tail.data.take_front(taken);
    return as_text(taken) == "abc" ? static_cast<std::uint32_t>(request.tail.data.size()) : 0;
  }
  Result<std::string> do_readlink(const Request<op::Readlink>&) override { return "target"; }
  Result<std::string> do_getxattr(const Request<op::Getxattr>&) override { return "value"; }
  Result<IoctlAnswer> do_ioctl(const Request<op::Ioctl>&) override {
    return IoctlAnswer{.result = 5, .data = {std::byte{1}, std::byte{2}}};
  }
  // Entries with names of 8 bytes from `offset` on, 32 bytes each; the third cannot be read.
  Result<void> do_readdir(const Request<op::Readdir>& request, DirectoryBuilder& entries) override {
    for (std::uint64_t at = request.in.offset; at < 2; ++at) {
      if (!entries.add({.ino = at + 10, .next = at + 1, .type = DT_REG, .name = "12345678"})) return {};
    }
    if (request.in.offset == 100) return {};
    return fail(ENOMEM);
  }
};

class SyncFileSystemTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(harness.init().error, 0); }
  Answer read(std::uint64_t handle, std::uint32_t size = 4096) {
    fuse_read_in in{};
    in.fh = handle;
    in.size = size;
    return harness.send(testing::Request(FUSE_READ, NodeId{2}).arg(in));
  }
  Answer readdir(std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = size;
    return harness.send(testing::Request(FUSE_READDIR).arg(in));
  }
  SomeFs fs;
  Harness harness{fs};
};

TEST_F(SyncFileSystemTest, Value_IsTheReply) {
  EXPECT_EQ(harness.send(testing::Request(FUSE_LOOKUP).name("file")).as<fuse_entry_out>().nodeid, 2u);
  const auto open =
      harness.send(testing::Request(FUSE_OPEN, NodeId{7}).arg(fuse_open_in{})).as<fuse_open_out>();
  EXPECT_EQ(open.fh, 8u);
  EXPECT_EQ(open.open_flags, unsigned{FOPEN_DIRECT_IO});
  const auto created =
      harness.send(testing::Request(FUSE_CREATE).arg(fuse_create_in{}).name("new")).as<CreateOut>();
  EXPECT_EQ(created.entry.nodeid, 3u);
  EXPECT_EQ(created.open.fh, 4u);
  EXPECT_EQ(harness.send(testing::Request(FUSE_READLINK)).text(), "target");
  const Answer unlinked = harness.send(testing::Request(FUSE_UNLINK).name("file"));
  EXPECT_TRUE(unlinked.replied);
  EXPECT_EQ(unlinked.error, 0);
  EXPECT_TRUE(unlinked.body.empty());
}

TEST_F(SyncFileSystemTest, Error_IsTheErrno) {
  const Answer answer = harness.send(testing::Request(FUSE_LOOKUP).name("other"));
  EXPECT_EQ(answer.error, ENOENT);
  EXPECT_TRUE(answer.body.empty());
}

TEST_F(SyncFileSystemTest, MethodLeftOut_IsENOSYS) {
  EXPECT_EQ(harness.send(testing::Request(FUSE_RMDIR).name("x")).error, ENOSYS);
  fuse_read_in in{};
  in.size = 4096;
  EXPECT_EQ(harness.send(testing::Request(FUSE_READDIRPLUS).arg(in)).error, ENOSYS);
}

TEST_F(SyncFileSystemTest, OutOfMemory_IsENOMEM) {
  EXPECT_EQ(harness.send(testing::Request(FUSE_UNLINK).name("memory")).error, ENOMEM);
}

TEST_F(SyncFileSystemTest, Read_SendsEachKindOfData) {
  ASSERT_EQ(::write(fs.file.get(), "0123456789", 10), 10);
  EXPECT_EQ(read(0).text(), "bytes");
  EXPECT_EQ(read(1).text(), "234");
  EXPECT_EQ(read(2).text(), "in place");
  EXPECT_EQ(read(3).text(), "shared");
}

TEST_F(SyncFileSystemTest, Read_MoreThanAskedFor_IsEIO) {
  for (const std::uint64_t handle : {0, 1, 3, 4}) EXPECT_EQ(read(handle, 2).error, EIO) << handle;
}

TEST_F(SyncFileSystemTest, Write_MayConsumeThePayload) {
  fuse_write_in in{};
  in.size = 8;
  const Answer answer =
      harness.send(testing::Request(FUSE_WRITE, NodeId{2}).arg(in).bytes(as_bytes("abcdefgh")).pieces(5));
  EXPECT_EQ(answer.as<fuse_write_out>().size, 5u);
}

TEST_F(SyncFileSystemTest, Getxattr_AnswersSizeValueAndERANGE) {
  const auto ask = [&](std::uint32_t size) {
    return harness.send(
        testing::Request(FUSE_GETXATTR).arg(fuse_getxattr_in{.size = size, .padding = 0}).name("user.x"));
  };
  EXPECT_EQ(ask(0).as<fuse_getxattr_out>().size, 5u);
  EXPECT_EQ(ask(5).text(), "value");
  EXPECT_EQ(ask(4).error, ERANGE);
}

TEST_F(SyncFileSystemTest, Ioctl_SendsResultAndBytes) {
  fuse_ioctl_in in{};
  in.out_size = 2;
  const Answer answer = harness.send(testing::Request(FUSE_IOCTL).arg(in));
  EXPECT_EQ(answer.as<fuse_ioctl_out>().result, 5);
  EXPECT_EQ(answer.body.size(), sizeof(fuse_ioctl_out) + 2);
}

TEST_F(SyncFileSystemTest, Readdir_ErrorBehindEntries_ComesWithTheNextRequest) {
  const Answer first = readdir(0, 4096);
  EXPECT_EQ(first.error, 0);
  EXPECT_EQ(first.body.size(), 64u);
  EXPECT_EQ(readdir(2, 4096).error, ENOMEM);
}

TEST_F(SyncFileSystemTest, Readdir_FullRoom_GoesOnBehindIt) {
  EXPECT_EQ(readdir(0, 63).body.size(), 32u);
  EXPECT_EQ(readdir(0, 31).error, EINVAL);  // empty would be the end
  const Answer end = readdir(100, 4096);
  EXPECT_EQ(end.error, 0);
  EXPECT_TRUE(end.body.empty());
}

TEST_F(SyncFileSystemTest, AsynchronousMethod_MixesIn) {
  const auto slot = harness.start(testing::Request(FUSE_STATFS));
  EXPECT_FALSE(slot->answered());
  std::thread([&] { std::move(*fs.kept).ok({}); }).join();
  EXPECT_EQ(slot->wait().error, 0);
}

TEST_F(SyncFileSystemTest, Forgets_ComeToForgetNode) {
  EXPECT_FALSE(
      harness.send(testing::Request(FUSE_FORGET, NodeId{2}).arg(fuse_forget_in{.nlookup = 3})).replied);
  harness.send(testing::Request(FUSE_BATCH_FORGET)
                   .arg(fuse_batch_forget_in{.count = 2, .dummy = 0})
                   .arg(fuse_forget_one{.nodeid = 2, .nlookup = 4})
                   .arg(fuse_forget_one{.nodeid = 3, .nlookup = 5}));
  EXPECT_EQ(fs.forgotten, 12u);
}

}  // namespace
}  // namespace fusewire
