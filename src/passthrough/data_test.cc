// READ, WRITE, FLUSH, FSYNC, FALLOCATE, LSEEK and COPY_FILE_RANGE through the session.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "io/ring.h"
#include "passthrough/testing/reads.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::pattern;
using testing::ReadWay;
using testing::Request;
using testing::Share;

struct File {
  NodeId node;
  std::uint64_t handle = 0;
};

File open(Share& share, std::string_view name, std::uint32_t flags) {
  const NodeId node = share.node(name);
  const Answer answer = share.open(node, flags);
  EXPECT_EQ(answer.error, 0) << name;
  return {.node = node, .handle = answer.as<fuse_open_out>().fh};
}

Request read_request(const File& file, std::uint64_t offset, std::uint32_t size) {
  fuse_read_in in{};
  in.fh = file.handle;
  in.offset = offset;
  in.size = size;
  return Request(FUSE_READ, file.node).arg(in).room(static_cast<int>(size));
}
Request write_request(const File& file, std::uint64_t offset, std::string_view data,
                      std::uint32_t flags = O_RDWR, std::uint32_t write_flags = 0) {
  fuse_write_in in{};
  in.fh = file.handle;
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(data.size());
  in.flags = flags;
  in.write_flags = write_flags;
  return Request(FUSE_WRITE, file.node).arg(in).bytes(as_bytes(data));
}
void expect_written(const Answer& answer, std::size_t size) {
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<fuse_write_out>().size, size);
}

// --- READ

class ReadTest : public ::testing::TestWithParam<ReadWay> {
 protected:
  Share share_{[](Config& config) { config.thread_pool_size = GetParam().threads; },
               testing::Harness::kAllCaps, GetParam().below};
};
INSTANTIATE_TEST_SUITE_P(Ways, ReadTest, testing::read_ways(), testing::name_of);

TEST_P(ReadTest, Read_InsideTheFile_RepliesItsBytes) {
  const std::string data = pattern(300000);
  share_.write_host("f", data);
  const File file = open(share_, "f", O_RDONLY);
  EXPECT_TRUE(share_.send(read_request(file, 0, 300000)).text() == data);
  EXPECT_TRUE(share_.send(read_request(file, 1234, 100001)).text() == data.substr(1234, 100001));
}

TEST_P(ReadTest, Read_AcrossTheEnd_RepliesWhatThereIs) {
  share_.write_host("f", "hello");
  const File file = open(share_, "f", O_RDONLY);
  EXPECT_EQ(share_.send(read_request(file, 0, 4096)).text(), "hello");
  EXPECT_EQ(share_.send(read_request(file, 3, 4096)).text(), "lo");
}

TEST_P(ReadTest, Read_PastEof_RepliesEmpty) {
  share_.write_host("f", "hello");
  share_.write_host("empty", "");
  const File file = open(share_, "f", O_RDONLY);
  for (const std::uint64_t offset : {5ULL, 6ULL, 1ULL << 40}) {
    const Answer answer = share_.send(read_request(file, offset, 4096));
    EXPECT_EQ(answer.error, 0);
    EXPECT_TRUE(answer.body.empty());
  }
  EXPECT_TRUE(share_.send(read_request(open(share_, "empty", O_RDONLY), 0, 4096)).body.empty());
}

TEST_P(ReadTest, Read_OfAHole_RepliesZeros) {
  share_.write_host("f", "a");
  ASSERT_EQ(::truncate(share_.host("f").c_str(), 1 << 20), 0);
  const File file = open(share_, "f", O_RDONLY);
  EXPECT_TRUE(share_.send(read_request(file, 0, 1 << 20)).text() == "a" + std::string((1 << 20) - 1, '\0'));
}

TEST_P(ReadTest, Read_IntoMoreThan1024OddPieces) {
  const std::string data = pattern(1 << 20);
  share_.write_host("f", data);
  const File file = open(share_, "f", O_RDONLY);
  for (const std::size_t piece : {1U << 9, 777U, 4097U}) {
    EXPECT_TRUE(share_.send(read_request(file, 0, 1 << 20).pieces(piece)).text() == data) << piece;
  }
}

TEST_P(ReadTest, Read_NothingOrPartOfItInThePageCache_RepliesAll) {
  const std::string data = pattern(1 << 20);
  share_.write_host("f", data);
  const UniqueFd host(::open(share_.host("f").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::fsync(host.get()), 0);
  ASSERT_EQ(::posix_fadvise(host.get(), 0, 0, POSIX_FADV_RANDOM), 0);
  const File file = open(share_, "f", O_RDONLY);
  for (const std::size_t cached : {0U, 4096U, 100000U}) {
    ASSERT_EQ(::posix_fadvise(host.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    std::string first(cached, '?');
    ASSERT_EQ(::pread(host.get(), first.data(), cached, 0), static_cast<ssize_t>(cached));
    EXPECT_TRUE(share_.send(read_request(file, 0, 1 << 20).pieces(5000)).text() == data) << cached;
    ASSERT_EQ(::posix_fadvise(host.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    EXPECT_TRUE(share_.send(read_request(file, 1000000, 1 << 20)).text() == data.substr(1000000));
  }
}

TEST_P(ReadTest, Read_OfOffsetsThatNoFileHas_IsEinval) {
  share_.write_host("f", "hello");
  const File file = open(share_, "f", O_RDONLY);
  EXPECT_EQ(share_.send(read_request(file, 1ULL << 63, 4096)).error, EINVAL);
  EXPECT_EQ(share_.send(read_request(file, ~0ULL, 4096)).error, EINVAL);
  EXPECT_EQ(share_.send(read_request(file, (1ULL << 63) - 1, 4096)).error, EINVAL);
}

TEST_P(ReadTest, Read_OfUnknownOrWriteOnlyHandle_IsEbadf) {
  share_.write_host("f", "hello");
  EXPECT_EQ(share_.send(read_request(open(share_, "f", O_WRONLY), 0, 10)).error, EBADF);
  EXPECT_EQ(share_.send(read_request(File{.node = kRootNode, .handle = 999}, 0, 10)).error, EBADF);
}

TEST_P(ReadTest, Read_WithoutRoom_RepliesEmpty) {
  share_.write_host("f", "hello");
  const Answer answer = share_.send(read_request(open(share_, "f", O_RDONLY), 0, 100).room(0));
  EXPECT_EQ(answer.error, 0);
  EXPECT_TRUE(answer.body.empty());
}

// --- WRITE

class WriteTest : public ::testing::Test {
 protected:
  Share share_;
};

TEST_F(WriteTest, Write_PutsBytesAtTheirOffset) {
  share_.write_host("f", "0123456789");
  const File file = open(share_, "f", O_RDWR);
  expect_written(share_.send(write_request(file, 3, "abc")), 3);
  EXPECT_EQ(share_.read_host("f"), "012abc6789");
  expect_written(share_.send(write_request(file, 12, "end")), 3);
  EXPECT_EQ(share_.read_host("f"), std::string("012abc6789\0\0end", 15));
  expect_written(share_.send(write_request(file, 0, "")), 0);
}

TEST_F(WriteTest, Write_FromMoreThan1024OddPieces) {
  const std::string data = pattern(1 << 20, 3);
  share_.write_host("f", "");
  const File file = open(share_, "f", O_WRONLY);
  expect_written(share_.send(write_request(file, 7, data, O_WRONLY).pieces(700)), data.size());
  EXPECT_TRUE(share_.read_host("f") == std::string(7, '\0') + data);
}

TEST_F(WriteTest, Write_Appending_GoesToTheRealEnd) {
  share_.write_host("f", "0123456789");
  const File file = open(share_, "f", O_WRONLY | O_APPEND);
  // The guest's kernel does not know yet that somebody else made the file longer.
  expect_written(share_.send(write_request(file, 4, "abc", O_WRONLY | O_APPEND)), 3);
  EXPECT_EQ(share_.read_host("f"), "0123456789abc");
}

TEST_F(WriteTest, Write_OfCachedPagesThroughAnAppendingHandle_StaysInItsPlace) {
  share_.write_host("f", "0123456789");
  const File file = open(share_, "f", O_RDWR | O_APPEND);
  expect_written(share_.send(write_request(file, 4, "abc", O_RDWR | O_APPEND, FUSE_WRITE_CACHE)), 3);
  EXPECT_EQ(share_.read_host("f"), "0123abc789");
}

TEST_F(WriteTest, Write_Appending_WithWriteback_GoesWhereTheGuestSays) {
  Share share([](Config& config) { config.writeback = true; });
  share.write_host("f", "0123456789");
  const File file = open(share, "f", O_WRONLY | O_APPEND);
  expect_written(share.send(write_request(file, 4, "abc", O_WRONLY | O_APPEND)), 3);
  EXPECT_EQ(share.read_host("f"), "0123abc789");
}

TEST_F(WriteTest, Write_WithKillSuidgid_ClearsBothBits_WithoutItKeepsThem) {
  FUSEWIRE_NEEDS_ROOT();
  share_.write_host("f", "x");
  ASSERT_EQ(::chmod(share_.host("f").c_str(), 06755), 0);
  const File file = open(share_, "f", O_WRONLY);
  expect_written(share_.send(write_request(file, 0, "a", O_WRONLY)), 1);
  EXPECT_EQ(share_.stat_host("f").st_mode & 07777, 06755U);
  expect_written(share_.send(write_request(file, 0, "b", O_WRONLY, FUSE_WRITE_KILL_SUIDGID)), 1);
  EXPECT_EQ(share_.stat_host("f").st_mode & 07777, 0755U);
}

TEST_F(WriteTest, Write_ThatMustReachTheDisk_IsWrittenByThePool) {
  share_.write_host("f", "0123456789");
  const File synced = open(share_, "f", O_RDWR | O_SYNC);
  expect_written(share_.send(write_request(synced, 0, "abc")), 3);
  const File plain = open(share_, "f", O_RDWR);
  expect_written(share_.send(write_request(plain, 3, "def", O_RDWR | O_DSYNC)), 3);
  expect_written(share_.send(write_request(plain, 6, "ghi", O_RDWR | O_SYNC)), 3);
  EXPECT_EQ(share_.read_host("f"), "abcdefghi9");
}

TEST_F(WriteTest, Write_ThatCannotBe_IsItsErrno) {
  share_.write_host("f", "x");
  EXPECT_EQ(share_.send(write_request(open(share_, "f", O_RDONLY), 0, "a")).error, EBADF);
  const File file = open(share_, "f", O_WRONLY);
  EXPECT_EQ(share_.send(write_request(file, 1ULL << 63, "a")).error, EINVAL);
  EXPECT_EQ(share_.send(write_request(File{.node = kRootNode, .handle = 999}, 0, "a")).error, EBADF);
  EXPECT_EQ(share_.read_host("f"), "x");
}

TEST_F(WriteTest, ReadOnlyShare_IsErofs) {
  Share share([](Config& config) { config.readonly = true; });
  share.write_host("f", "x");
  const File file = open(share, "f", O_RDONLY);
  EXPECT_EQ(share.send(write_request(file, 0, "a")).error, EROFS);
  EXPECT_EQ(share
                .send(Request(FUSE_FALLOCATE)
                          .arg(fuse_fallocate_in{
                              .fh = file.handle, .offset = 0, .length = 1, .mode = 0, .padding = 0}))
                .error,
            EROFS);
  fuse_copy_file_range_in in{};
  in.fh_in = in.fh_out = file.handle;
  EXPECT_EQ(share.send(Request(FUSE_COPY_FILE_RANGE).arg(in)).error, EROFS);
  EXPECT_EQ(share.send(Request(FUSE_COPY_FILE_RANGE_64).arg(in)).error, EROFS);
}

// --- guest memory that goes away under a request

// A request whose payload and room for a reply are good for 100 bytes and then cannot be reached.
class BrokenSlot final : public Slot {
 public:
  BrokenSlot(const Request& from, bool for_reply) : bytes_(from.encode()) {
    no_access_ = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    request_ = {{bytes_.data(), bytes_.size()}, {no_access_, for_reply ? 0U : 4096U}};
    room_ = {{good_.data(), good_.size()}, {no_access_, for_reply ? 4096U : 0U}};
    request = IoVecs(request_);
    reply_room = IoVecs(room_);
    can_reply = true;
  }
  ~BrokenSlot() override { ::munmap(no_access_, 4096); }

  int done(RequestId, int error, std::size_t) override {
    error_.set_value(error);
    return 0;
  }
  void done_without_reply() override { error_.set_value(-1); }
  int wait() { return error_.get_future().get(); }
  std::span<const std::byte> reply() const { return good_; }

 private:
  std::vector<std::byte> bytes_;
  std::vector<std::byte> good_ = std::vector<std::byte>(100);
  void* no_access_ = nullptr;
  std::vector<iovec> request_, room_;
  std::promise<int> error_;
};

TEST_P(ReadTest, Read_IntoMemoryThatGoesAway_IsAnErrorAndNotAShortRead) {
  share_.write_host("f", pattern(8192));
  const File file = open(share_, "f", O_RDONLY);
  BrokenSlot slot(read_request(file, 0, 4196), true);
  share_.kernel().engine().submit(slot);
  EXPECT_EQ(slot.wait(), EFAULT);
}

TEST_F(WriteTest, Write_FromMemoryThatGoesAway_CountsWhatWasWritten) {
  share_.write_host("f", "");
  const File file = open(share_, "f", O_WRONLY);
  fuse_write_in in{};
  in.fh = file.handle;
  in.size = 100 + 4096;
  const std::string data = pattern(100);
  constexpr std::uint32_t kLength = sizeof(fuse_in_header) + sizeof in + 100 + 4096;
  BrokenSlot slot(Request(FUSE_WRITE, file.node).arg(in).bytes(as_bytes(data)).length(kLength), false);
  share_.kernel().engine().submit(slot);
  EXPECT_EQ(slot.wait(), 0);
  fuse_write_out out{};
  std::memcpy(&out, slot.reply().data(), sizeof out);
  EXPECT_EQ(out.size, 100U);
  EXPECT_EQ(share_.read_host("f"), data);
}

// --- O_DIRECT

TEST(DirectIoTest, PiecesThatTheHostWouldRefuse_AreReadAndWritten) {
  Share share([](Config& config) { config.allow_direct_io = true; });
  const std::string data = pattern(32768);
  share.write_host("f", data);
  const NodeId node = share.node("f");
  const Answer opened = share.open(node, O_RDWR | O_DIRECT);
  if (opened.error == EINVAL) GTEST_SKIP() << "no O_DIRECT on this file system";
  ASSERT_EQ(opened.error, 0);
  const File file{.node = node, .handle = opened.as<fuse_open_out>().fh};
  for (const std::size_t piece : {0U, 4096U, 1000U, 333U}) {
    EXPECT_TRUE(share.send(read_request(file, 4096, 4 * 4096).pieces(piece)).text() ==
                data.substr(4096, 16384));
    const std::string changed = pattern(8192, static_cast<unsigned>(piece));
    expect_written(share.send(write_request(file, 8192, changed, O_RDWR | O_DIRECT).pieces(piece)),
                   changed.size());
    EXPECT_TRUE(share.send(read_request(file, 8192, 2 * 4096).pieces(piece)).text() == changed);
    expect_written(share.send(write_request(file, 8192, data.substr(8192, 8192), O_RDWR | O_DIRECT)), 8192);
  }
  EXPECT_TRUE(share.read_host("f") == data);
}

// On a thread with a ring: what fits goes through it, pieces that the host refuses go the way round.
TEST(DirectIoTest, WritesThroughTheThreadsRing_AreAnsweredWhenItIsDone) {
  auto ring = io::Ring::create(4);
  if (!ring) GTEST_SKIP() << "there is no io_uring here: " << to_string(ring.error());
  Share share([](Config& config) { config.allow_direct_io = true; });
  const std::string data = pattern(32768);
  share.write_host("f", data);
  const NodeId node = share.node("f");
  const Answer opened = share.open(node, O_RDWR | O_DIRECT);
  if (opened.error == EINVAL) GTEST_SKIP() << "no O_DIRECT on this file system";
  ASSERT_EQ(opened.error, 0);
  const File file{.node = node, .handle = opened.as<fuse_open_out>().fh};
  std::string expected = data;
  for (const std::size_t piece : {0U, 4096U, 1000U, 333U}) {
    const std::string changed = pattern(8192, static_cast<unsigned>(piece) + 1);
    const auto slot =
        share.kernel().start(write_request(file, 8192, changed, O_RDWR | O_DIRECT).pieces(piece));
    EXPECT_TRUE((*ring)->ready());  // it waits for the thread's next turn, on no other thread
    EXPECT_FALSE(slot->answered());
    (*ring)->finish_all();
    expect_written(slot->wait(), changed.size());
    expected.replace(8192, 8192, changed);
    EXPECT_TRUE(share.read_host("f") == expected);
  }
}

TEST(DirectIoTest, FileThatEndsInsideABlock_IsReadToItsEnd) {
  Share share([](Config& config) { config.allow_direct_io = true; });
  const std::string data = pattern(10000);
  share.write_host("f", data);
  const NodeId node = share.node("f");
  const Answer opened = share.open(node, O_RDONLY | O_DIRECT);
  if (opened.error == EINVAL) GTEST_SKIP() << "no O_DIRECT on this file system";
  const File file{.node = node, .handle = opened.as<fuse_open_out>().fh};
  EXPECT_TRUE(share.send(read_request(file, 0, 65536).pieces(4096)).text() == data);
  EXPECT_TRUE(share.send(read_request(file, 8192, 8192).pieces(100)).text() == data.substr(8192));
  EXPECT_TRUE(share.send(read_request(file, 16384, 4096)).body.empty());
}

// --- FLUSH, FSYNC, FALLOCATE, LSEEK

class FileOpsTest : public ::testing::Test {
 protected:
  Answer flush(std::uint64_t handle) {
    return share_.send(
        Request(FUSE_FLUSH).arg(fuse_flush_in{.fh = handle, .unused = 0, .padding = 0, .lock_owner = 1}));
  }
  Answer fsync(std::uint64_t handle, std::uint32_t flags) {
    return share_.send(
        Request(FUSE_FSYNC).arg(fuse_fsync_in{.fh = handle, .fsync_flags = flags, .padding = 0}));
  }
  Answer fallocate(std::uint64_t handle, std::uint64_t offset, std::uint64_t length, std::uint32_t mode) {
    return share_.send(
        Request(FUSE_FALLOCATE)
            .arg(fuse_fallocate_in{
                .fh = handle, .offset = offset, .length = length, .mode = mode, .padding = 0}));
  }
  Answer lseek(std::uint64_t handle, std::uint64_t offset, std::uint32_t whence) {
    return share_.send(
        Request(FUSE_LSEEK)
            .arg(fuse_lseek_in{.fh = handle, .offset = offset, .whence = whence, .padding = 0}));
  }
  Share share_;
};

TEST_F(FileOpsTest, FlushAndFsync_OfOpenFiles_Succeed_OfOthersAreEbadf) {
  share_.write_host("f", "x");
  const File file = open(share_, "f", O_RDWR);
  EXPECT_EQ(flush(file.handle).error, 0);
  EXPECT_EQ(flush(file.handle).error, 0);
  EXPECT_EQ(fsync(file.handle, 0).error, 0);
  EXPECT_EQ(fsync(file.handle, FUSE_FSYNC_FDATASYNC).error, 0);
  EXPECT_EQ(flush(999).error, EBADF);
  EXPECT_EQ(fsync(999, 0).error, EBADF);
  EXPECT_EQ(share_.release(file.node, file.handle).error, 0);
  EXPECT_EQ(flush(file.handle).error, EBADF);
}

TEST_F(FileOpsTest, Fallocate_AllocatesAndPunches) {
  share_.write_host("f", pattern(16384));
  const File file = open(share_, "f", O_RDWR);
  EXPECT_EQ(fallocate(file.handle, 0, 65536, 0).error, 0);
  EXPECT_EQ(share_.stat_host("f").st_size, 65536);
  EXPECT_EQ(fallocate(file.handle, 65536, 65536, FALLOC_FL_KEEP_SIZE).error, 0);
  EXPECT_EQ(share_.stat_host("f").st_size, 65536);
  EXPECT_EQ(fallocate(file.handle, 4096, 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE).error, 0);
  EXPECT_TRUE(share_.read_host("f").substr(4096, 4096) == std::string(4096, '\0'));
  EXPECT_TRUE(share_.read_host("f").substr(0, 4096) == pattern(16384).substr(0, 4096));
}

// Neither request has a flag that says so: the guest's root keeps the bits, everybody else loses them.
TEST_F(FileOpsTest, FallocateAndCopy_ByAnOrdinaryUser_ClearSetIdBits) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: only CAP_FSETID keeps the bits";
  share_.write_host("from", "0123456789");
  share_.write_host("to", "x");
  const File from = open(share_, "from", O_RDONLY);
  const File to = open(share_, "to", O_RDWR);
  fuse_copy_file_range_in copy{};
  copy.fh_in = from.handle;
  copy.fh_out = to.handle;
  copy.len = 10;
  const fuse_fallocate_in allocation{.fh = to.handle, .offset = 0, .length = 8192, .mode = 0, .padding = 0};
  const auto mode_after = [&](Request request, std::uint32_t uid) {
    EXPECT_EQ(::chmod(share_.host("to").c_str(), 06777), 0);
    EXPECT_EQ(share_.send(request.uid(uid)).error, 0);
    return share_.stat_host("to").st_mode & 07777;
  };
  EXPECT_EQ(mode_after(Request(FUSE_FALLOCATE).arg(allocation), 0), 06777U);
  EXPECT_EQ(mode_after(Request(FUSE_FALLOCATE).arg(allocation), 1000), 0777U);
  EXPECT_EQ(mode_after(Request(FUSE_COPY_FILE_RANGE).arg(copy), 0), 06777U);
  EXPECT_EQ(mode_after(Request(FUSE_COPY_FILE_RANGE).arg(copy), 1000), 0777U);
  EXPECT_EQ(mode_after(Request(FUSE_COPY_FILE_RANGE_64).arg(copy), 1000), 0777U);
}

TEST_F(FileOpsTest, Fallocate_ThatCannotBe_IsItsErrno) {
  share_.write_host("f", "x");
  const File file = open(share_, "f", O_RDWR);
  EXPECT_EQ(fallocate(file.handle, 0, 0, 0).error, EINVAL);
  EXPECT_EQ(fallocate(file.handle, 1ULL << 63, 1, 0).error, EFBIG);
  EXPECT_EQ(fallocate(file.handle, 1, (1ULL << 63) - 1, 0).error, EFBIG);
  EXPECT_EQ(fallocate(file.handle, 0, 4096, 1U << 30).error, EOPNOTSUPP);
  EXPECT_EQ(fallocate(open(share_, "f", O_RDONLY).handle, 0, 4096, 0).error, EBADF);
  EXPECT_EQ(fallocate(999, 0, 4096, 0).error, EBADF);
}

TEST_F(FileOpsTest, Lseek_FindsDataAndHoles) {
  share_.write_host("f", "");
  const UniqueFd host(::open(share_.host("f").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::pwrite(host.get(), "x", 1, 1 << 20), 1);
  ASSERT_EQ(::ftruncate(host.get(), 4 << 20), 0);
  const File file = open(share_, "f", O_RDONLY);
  const Answer data = lseek(file.handle, 0, SEEK_DATA);
  EXPECT_EQ(data.error, 0);
  EXPECT_EQ(data.as<fuse_lseek_out>().offset, static_cast<std::uint64_t>(::lseek(host.get(), 0, SEEK_DATA)));
  const Answer hole = lseek(file.handle, 1 << 20, SEEK_HOLE);
  EXPECT_EQ(hole.error, 0);
  EXPECT_EQ(hole.as<fuse_lseek_out>().offset,
            static_cast<std::uint64_t>(::lseek(host.get(), 1 << 20, SEEK_HOLE)));
  EXPECT_EQ(lseek(file.handle, 2 << 20, SEEK_DATA).error, ENXIO);
  EXPECT_EQ(lseek(file.handle, ~0ULL, SEEK_DATA).error, ENXIO);
  for (const std::uint32_t whence : {0U, 1U, 2U, 5U, ~0U})
    EXPECT_EQ(lseek(file.handle, 0, whence).error, EINVAL);
  EXPECT_EQ(lseek(999, 0, SEEK_DATA).error, EBADF);
}

// --- COPY_FILE_RANGE

class CopyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    share_.write_host("from", data_);
    share_.write_host("to", "");
    from_ = open(share_, "from", O_RDWR);
    to_ = open(share_, "to", O_RDWR);
  }
  fuse_copy_file_range_in arguments(std::uint64_t from, std::uint64_t to, std::uint64_t size) const {
    fuse_copy_file_range_in in{};
    in.fh_in = from_.handle;
    in.off_in = from;
    in.nodeid_out = to_.node.get();
    in.fh_out = to_.handle;
    in.off_out = to;
    in.len = size;
    return in;
  }
  Answer copy(std::uint64_t from, std::uint64_t to, std::uint64_t size) {
    return share_.send(Request(FUSE_COPY_FILE_RANGE, from_.node).arg(arguments(from, to, size)));
  }

  const std::string data_ = pattern(100000);
  Share share_;
  File from_, to_;
};

TEST_F(CopyTest, BothForms_CopyAndCount) {
  expect_written(copy(10, 5, 50000), 50000);
  EXPECT_TRUE(share_.read_host("to") == std::string(5, '\0') + data_.substr(10, 50000));
  const Answer wide = share_.send(Request(FUSE_COPY_FILE_RANGE_64, from_.node).arg(arguments(0, 0, 100000)));
  EXPECT_EQ(wide.error, 0);
  EXPECT_EQ(wide.body.size(), 8U);
  EXPECT_EQ(wide.as<std::uint64_t>(), 100000U);
  EXPECT_TRUE(share_.read_host("to") == data_);
}

TEST_F(CopyTest, LengthBeyondTheEnd_CopiesToTheEnd) {
  expect_written(copy(90000, 0, 1ULL << 40), 10000);
  expect_written(copy(100000, 0, 1000), 0);
  expect_written(copy(200000, 0, 1000), 0);
}

TEST_F(CopyTest, CopyThatCannotBe_IsItsErrno) {
  EXPECT_EQ(copy(1ULL << 63, 0, 10).error, EINVAL);
  EXPECT_EQ(copy(0, ~0ULL, 10).error, EINVAL);
  fuse_copy_file_range_in in = arguments(0, 0, 10);
  in.flags = 1;
  EXPECT_EQ(share_.send(Request(FUSE_COPY_FILE_RANGE).arg(in)).error, EINVAL);
  in = arguments(0, 0, 10);
  in.fh_out = 999;
  EXPECT_EQ(share_.send(Request(FUSE_COPY_FILE_RANGE).arg(in)).error, EBADF);
  in = arguments(0, 0, 10);
  in.fh_in = 999;
  EXPECT_EQ(share_.send(Request(FUSE_COPY_FILE_RANGE).arg(in)).error, EBADF);
  in = arguments(0, 50, 100);
  in.fh_out = in.fh_in;  // overlapping
  EXPECT_EQ(share_.send(Request(FUSE_COPY_FILE_RANGE).arg(in)).error, EINVAL);
}

}  // namespace
}  // namespace fusewire::passthrough
