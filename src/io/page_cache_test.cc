#include "io/page_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "fusewire/unique_fd.h"

namespace fusewire::io {
namespace {

constexpr std::size_t kSize = std::size_t{64} * 4096;

class PageCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fusewire-page-cache-XXXXXX";
    file_ = UniqueFd(::mkostemp(name, O_CLOEXEC));
    ASSERT_TRUE(file_);
    ::unlink(name);
    const std::string data(kSize, 'x');
    ASSERT_EQ(::pwrite(file_.get(), data.data(), data.size(), 0), static_cast<ssize_t>(kSize));
    if (!is_cached(file_.get(), 0, kSize)) GTEST_SKIP() << "this kernel has no cachestat(2)";
  }
  // False on a file system that keeps all in memory.
  bool drop() {
    EXPECT_EQ(::fsync(file_.get()), 0);
    EXPECT_EQ(::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    EXPECT_EQ(::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_RANDOM), 0);
    return !is_cached(file_.get(), 0, 4096);
  }
  UniqueFd file_;
};

TEST_F(PageCacheTest, RangesOfAnyAlignment_AreCachedWhereAllOfTheirPagesAre) {
  EXPECT_TRUE(is_cached(file_.get(), 1, 1));
  EXPECT_TRUE(is_cached(file_.get(), 4095, 2));
  EXPECT_TRUE(is_cached(file_.get(), 5, kSize - 5));
  EXPECT_TRUE(is_cached(file_.get(), 5, 0));
}

TEST_F(PageCacheTest, OnePageThatIsMissing_IsSeen) {
  if (!drop()) GTEST_SKIP() << "/tmp keeps its files in memory";
  char byte = 0;
  ASSERT_EQ(::pread(file_.get(), &byte, 1, 8192), 1);
  EXPECT_TRUE(is_cached(file_.get(), 8192, 4096));
  EXPECT_FALSE(is_cached(file_.get(), 8191, 4096));
  EXPECT_FALSE(is_cached(file_.get(), 8193, 4096));
}

TEST_F(PageCacheTest, PagesBehindTheEnd_AreNone) { EXPECT_FALSE(is_cached(file_.get(), 0, kSize + 1)); }

TEST_F(PageCacheTest, WhatIsNoFile_IsNot) { EXPECT_FALSE(is_cached(-1, 0, 4096)); }

}  // namespace
}  // namespace fusewire::io
