// What Slot does for transports that have no way of their own for a file's bytes.
#include "fusewire/slot.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuse/testing/harness.h"
#include "fusewire/unique_fd.h"

namespace fusewire {
namespace {

using testing::Answer;
using testing::Harness;
using testing::Request;

// Answers READ with the range that the test wants.
class RangeFs final : public FileSystem {
 public:
  void read(Call<op::Read> call) override { std::move(call.reply).ok(range); }
  FileRange range;
};

class FileRangeTest : public ::testing::Test {
 protected:
  Answer read(const FileRange& range) {
    fs_.range = range;
    fuse_read_in in{};
    in.size = 65536;
    return kernel_.send(Request(FUSE_READ).arg(in).pieces(1000));
  }

  RangeFs fs_;
  Harness kernel_{fs_};
  Answer init_ = kernel_.init();
};

TEST_F(FileRangeTest, EndOfTheFile_IsAShortReply) {
  const UniqueFd file(::memfd_create("slot_test", MFD_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), "0123456789", 10, 0), 10);
  EXPECT_EQ(read({.fd = file.get(), .offset = 4, .size = 4096}).text(), "456789");
  EXPECT_EQ(read({.fd = file.get(), .offset = 10, .size = 4096}).error, 0);
  EXPECT_TRUE(read({.fd = file.get(), .offset = 10, .size = 4096}).body.empty());
}

// The kernel would take a short reply for the end of the file.
TEST_F(FileRangeTest, ErrorBehindTheFirstBytes_IsTheAnswer) {
  auto* const memory = static_cast<char*>(
      ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::munmap(memory + 4096, 4096), 0);
  const UniqueFd file(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  const auto offset = reinterpret_cast<std::int64_t>(memory);  // SAFETY: that file's offsets are addresses
  EXPECT_EQ(read({.fd = file.get(), .offset = offset, .size = 4096}).body.size(), 4096U);
  EXPECT_EQ(read({.fd = file.get(), .offset = offset, .size = 8192}).error, EIO);
  ::munmap(memory, 4096);
}

TEST_F(FileRangeTest, PipeThatHasNoMoreForNow_GivesWhatItHas) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd from(ends[0]), to(ends[1]);
  ASSERT_EQ(::write(to.get(), "hello", 5), 5);
  EXPECT_EQ(read({.fd = from.get(), .offset = -1, .size = 4096}).text(), "hello");
  EXPECT_EQ(read({.fd = from.get(), .offset = -1, .size = 4096}).error, EAGAIN);
}

}  // namespace
}  // namespace fusewire
