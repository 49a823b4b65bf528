#include "io/direct.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "fusewire/unique_fd.h"

namespace fusewire::io {
namespace {

// In the working directory, which has a disk below it more often than /tmp has. Where O_DIRECT has no rules
// of its own the tests still say what must come out.
class DirectTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "direct_test.XXXXXX";
    UniqueFd made(::mkstemp(name.data()));
    ASSERT_GE(made.get(), 0);
    fd_ = UniqueFd(::open(name.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    plain_ = UniqueFd(::open(name.c_str(), O_RDWR | O_CLOEXEC));
    ::unlink(name.c_str());
    if (!fd_) GTEST_SKIP() << "no O_DIRECT here";
  }

  static std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i / 7 + i / 4096) % 26);
    return text;
  }
  static std::vector<iovec> cut(char* memory, std::size_t size, std::size_t part) {
    std::vector<iovec> parts;
    for (std::size_t at = 0; at < size; at += part) parts.push_back({memory + at, std::min(part, size - at)});
    return parts;
  }

  UniqueFd fd_;
  UniqueFd plain_;
};

TEST_F(DirectTest, MisalignedPieces_AreWrittenAndReadBack) {
  const std::string data = pattern(kBounceSize + 12288);
  std::string memory = "x" + data;  // at an odd address
  auto parts = cut(memory.data() + 1, data.size(), 1000);
  IoVecs from(parts);
  const Progress written = write_direct_at(fd_.get(), from, 4096);
  EXPECT_EQ(written.error, 0);
  EXPECT_EQ(written.done, data.size());
  std::string check(data.size(), '?');
  ASSERT_EQ(::pread(plain_.get(), check.data(), check.size(), 4096), static_cast<ssize_t>(check.size()));
  EXPECT_TRUE(check == data);

  std::string in(data.size() + 1, '?');
  auto in_parts = cut(in.data() + 1, data.size(), 777);
  IoVecs to(in_parts);
  const Progress read = read_direct_at(fd_.get(), to, 4096);
  EXPECT_EQ(read.error, 0);
  EXPECT_EQ(read.done, data.size());
  EXPECT_TRUE(in.substr(1) == data);
}

TEST_F(DirectTest, Read_FileEndsInsideABlock_IsShortWithoutError) {
  const std::string data = pattern(5000);
  ASSERT_EQ(::pwrite(plain_.get(), data.data(), data.size(), 0), 5000);
  for (const std::size_t misaligned : {0U, 3U}) {
    alignas(4096) static char memory[8192 + 4096];
    auto parts = cut(memory + misaligned, 8192, 8192);
    IoVecs to(parts);
    const Progress read = read_direct_at(fd_.get(), to, 0);
    EXPECT_EQ(read.error, 0);
    EXPECT_EQ(read.done, 5000U);
    EXPECT_TRUE(std::string(memory + misaligned, 5000) == data);
  }
}

TEST_F(DirectTest, Read_BehindTheEnd_IsEmpty) {
  ASSERT_EQ(::ftruncate(plain_.get(), 100), 0);
  std::string memory(512, '?');
  auto parts = cut(memory.data(), memory.size(), 100);
  IoVecs to(parts);
  const Progress read = read_direct_at(fd_.get(), to, 8192);
  EXPECT_EQ(read.done, 0U);
  EXPECT_EQ(read.error, 0);
}

TEST_F(DirectTest, ErrorsOtherThanAlignment_ComeThrough) {
  std::string memory(512, 'x');
  auto parts = cut(memory.data(), memory.size(), 100);
  IoVecs list(parts);
  EXPECT_EQ(read_direct_at(-1, list, 0).error, EBADF);
  EXPECT_EQ(write_direct_at(-1, list, 0).error, EBADF);
  EXPECT_EQ(read_direct_at(fd_.get(), list, ~std::uint64_t{0}).error, EINVAL);
}

}  // namespace
}  // namespace fusewire::io
