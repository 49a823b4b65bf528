#include "guestmem/dirty_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <thread>

namespace fusewire::guestmem {
namespace {

constexpr std::uint64_t kPage = DirtyLog::kPageSize;

// A log of `size` bytes at `offset` in its file, and the front-end's view of it.
class DirtyLogTest : public testing::Test {
 protected:
  void make(std::uint64_t size, std::uint64_t offset = 0) {
    fd_.reset(memfd_create("log", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(fd_.get(), static_cast<off_t>(offset + size)), 0);
    offset_ = offset;
    size_ = size;
    auto log = DirtyLog::map(fd_, size, offset);
    ASSERT_TRUE(log) << log.error();
    log_ = *log;
  }
  std::vector<std::uint64_t> dirty_pages() const {
    std::vector<std::uint8_t> bits(size_);
    EXPECT_EQ(pread(fd_.get(), bits.data(), size_, static_cast<off_t>(offset_)), static_cast<ssize_t>(size_));
    std::vector<std::uint64_t> pages;
    for (std::uint64_t page = 0; page < size_ * 8; ++page)
      if (bits[page / 8] >> (page % 8) & 1) pages.push_back(page);
    return pages;
  }

  UniqueFd fd_;
  std::uint64_t offset_ = 0;
  std::uint64_t size_ = 0;
  std::shared_ptr<DirtyLog> log_;
};

TEST_F(DirtyLogTest, Mark_OneByte_SetsItsPage) {
  make(4096);
  log_->mark(GuestAddress(9 * kPage + 17), 1);
  EXPECT_THAT(dirty_pages(), testing::ElementsAre(9));
}

TEST_F(DirtyLogTest, Mark_TwoBytesAcrossAPageEnd_SetsBothPages) {
  make(4096);
  log_->mark(GuestAddress(8 * kPage - 1), 2);
  EXPECT_THAT(dirty_pages(), testing::ElementsAre(7, 8));
}

TEST_F(DirtyLogTest, Mark_NoBytes_SetsNothing) {
  make(4096);
  log_->mark(GuestAddress(kPage), 0);
  EXPECT_THAT(dirty_pages(), testing::IsEmpty());
}

TEST_F(DirtyLogTest, Mark_EveryRange_SetsExactlyItsPages) {
  for (std::uint64_t first = 0; first < 20; ++first) {
    for (std::uint64_t count = 1; count < 20; ++count) {
      make(8);
      log_->mark(GuestAddress(first * kPage), count * kPage);
      std::vector<std::uint64_t> expected;
      for (std::uint64_t page = first; page < first + count; ++page) expected.push_back(page);
      ASSERT_EQ(dirty_pages(), expected);
    }
  }
}

TEST_F(DirtyLogTest, Mark_BehindTheLog_IsCutOff) {
  make(2);
  log_->mark(GuestAddress(15 * kPage), 100 * kPage);
  log_->mark(GuestAddress(16 * kPage), 1);
  log_->mark(GuestAddress(~std::uint64_t{0}), 1);
  log_->mark(GuestAddress(~std::uint64_t{0}), ~std::uint64_t{0});
  EXPECT_THAT(dirty_pages(), testing::ElementsAre(15));
  log_->mark(GuestAddress(1), ~std::uint64_t{0});
  EXPECT_EQ(dirty_pages().size(), 16u);
}

TEST_F(DirtyLogTest, Map_OddOffset_BeginsThere) {
  make(16, 4096 + 3);
  log_->mark(GuestAddress(0), 1);
  log_->mark(GuestAddress(127 * kPage), 1);
  EXPECT_THAT(dirty_pages(), testing::ElementsAre(0, 127));
}

TEST_F(DirtyLogTest, Map_FileTooSmallOrRangeEmpty_IsRefused) {
  make(16);
  EXPECT_FALSE(DirtyLog::map(fd_, 17, 0));
  EXPECT_FALSE(DirtyLog::map(fd_, 16, 1));
  EXPECT_FALSE(DirtyLog::map(fd_, 0, 0));
  EXPECT_FALSE(DirtyLog::map(fd_, 1, ~std::uint64_t{0}));
  EXPECT_FALSE(DirtyLog::map(UniqueFd(), 16, 0));
}

TEST_F(DirtyLogTest, MarkWritten_MarksOnlyTheBytesWritten) {
  make(4096);
  UniqueFd memory(memfd_create("memory", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memory.get(), 0x10000), 0);
  const auto map = *MemoryMap::create({*MemoryRegion::map({GuestAddress(0x100000), 0x10000, 0, 0}, memory)});
  std::vector<iovec> vectors;
  ASSERT_TRUE(map->translate(GuestAddress(0x103000), 0x1000, vectors));
  ASSERT_TRUE(map->translate(GuestAddress(0x108000), 0x4000, vectors));

  log_->mark_written(*map, vectors, 0x1000 + 0x1001);

  EXPECT_THAT(dirty_pages(), testing::ElementsAre(0x103, 0x108, 0x109));
}

TEST_F(DirtyLogTest, Mark_FromSeveralThreads_LosesNoBit) {
  make(4096);
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (std::uint64_t thread = 0; thread < 4; ++thread)
      threads.emplace_back([this, thread] {
        for (std::uint64_t page = thread; page < std::uint64_t{4096} * 8; page += 4)
          log_->mark(GuestAddress(page * kPage), 1);
      });
  }
  EXPECT_EQ(dirty_pages().size(), 4096u * 8);
}

}  // namespace
}  // namespace fusewire::guestmem
