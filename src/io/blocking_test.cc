#include "io/blocking.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <limits>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"

namespace fusewire::io {
namespace {

class BlockingTest : public testing::Test {
 protected:
  UniqueFd file_{::memfd_create("blocking_test", MFD_CLOEXEC)};

  // One iovec of `part` bytes after another over `memory`.
  static std::vector<iovec> cut(std::string& memory, std::size_t part) {
    std::vector<iovec> parts;
    for (std::size_t at = 0; at < memory.size(); at += part) {
      parts.push_back({memory.data() + at, std::min(part, memory.size() - at)});
    }
    return parts;
  }
};

TEST_F(BlockingTest, MoreThanUioMaxiovParts_AreAllMoved) {
  std::string out;
  for (int i = 0; i < 10000; ++i) out += static_cast<char>('a' + i % 26);
  auto out_parts = cut(out, 3);
  ASSERT_GT(out_parts.size(), 3U * UIO_MAXIOV);
  IoVecs from(out_parts);
  const Progress written = write_at(file_.get(), from, 5);
  EXPECT_EQ(written.done, out.size());
  EXPECT_EQ(written.error, 0);
  EXPECT_TRUE(from.empty());

  std::string in(out.size(), '?');
  auto in_parts = cut(in, 7);
  IoVecs to(in_parts);
  const Progress read = read_at(file_.get(), to, 5);
  EXPECT_EQ(read.done, in.size());
  EXPECT_EQ(read.error, 0);
  EXPECT_EQ(in, out);
}

TEST_F(BlockingTest, ReadAt_EndOfFile_IsShortWithoutError) {
  ASSERT_EQ(::pwrite(file_.get(), "hello", 5, 0), 5);
  std::string in(16, '?');
  auto parts = cut(in, 4);
  IoVecs to(parts);
  const Progress read = read_at(file_.get(), to, 2);
  EXPECT_EQ(read.done, 3U);
  EXPECT_EQ(read.error, 0);
  EXPECT_EQ(in.substr(0, 4), "llo?");
  EXPECT_EQ(to.size(), 13U);
}

TEST_F(BlockingTest, ReadAt_BadMemoryInTheMiddle_SaysHowFarItCame) {
  ASSERT_EQ(::ftruncate(file_.get(), 4096), 0);
  void* const no_access = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(no_access, MAP_FAILED);
  std::string good(100, '?');
  std::vector<iovec> parts = {{good.data(), good.size()}, {no_access, 100}};
  IoVecs to(parts);
  const Progress read = read_at(file_.get(), to, 0);
  EXPECT_EQ(read.done, 100U);
  EXPECT_EQ(read.error, EFAULT);
  ::munmap(no_access, 4096);
}

TEST_F(BlockingTest, OffsetsBeyondAnyFile_AreRefused) {
  std::string byte = "x";
  for (const std::uint64_t offset : {std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63,
                                     static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())}) {
    auto parts = cut(byte, 1);
    IoVecs list(parts);
    EXPECT_EQ(write_at(file_.get(), list, offset).error, EINVAL) << offset;
    EXPECT_EQ(read_at(file_.get(), list, offset).error, EINVAL) << offset;
  }
}

TEST_F(BlockingTest, BadDescriptor_IsItsErrno) {
  std::string byte = "x";
  auto parts = cut(byte, 1);
  IoVecs list(parts);
  EXPECT_EQ(read_at(-1, list, 0).error, EBADF);
  EXPECT_EQ(write_at(-1, list, 0).error, EBADF);
  EXPECT_EQ(list.size(), 1U);
}

}  // namespace
}  // namespace fusewire::io
