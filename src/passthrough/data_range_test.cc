// READ over a transport that would rather have a range of the file than its bytes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "io/page_cache.h"
#include "passthrough/storage_kind.h"
#include "passthrough/testing/reads.h"
#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::Answer;
using testing::pattern;
using testing::ReadWay;
using testing::Request;
using testing::Share;

constexpr std::size_t kLeast = 16384;

class ReadRangeTest : public ::testing::TestWithParam<ReadWay> {
 protected:
  ReadRangeTest() { share_.write_host("f", data_); }
  std::uint64_t open(std::uint32_t flags) {
    const Answer answer = share_.open(share_.node("f"), flags);
    EXPECT_EQ(answer.error, 0);
    return answer.as<fuse_open_out>().fh;
  }
  Answer read(std::uint64_t handle, std::uint64_t offset, std::uint32_t size, std::size_t least = kLeast) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return share_.send(Request(FUSE_READ, NodeId{2})
                           .arg(in)
                           .room(static_cast<int>(size))
                           .pieces(5000)
                           .least_file_range(least));
  }
  // Whether the host tells what of the file is in memory.
  bool known_to_be_cached() const {
    const UniqueFd host(::open(share_.host("f").c_str(), O_RDONLY | O_CLOEXEC));
    return io::is_cached(host.get(), 0, data_.size());
  }

  const std::string data_ = pattern(100'000);
  Share share_{[](Config& config) {
                 config.thread_pool_size = GetParam().threads;
                 config.allow_direct_io = true;
               },
               testing::Harness::kAllCaps, GetParam().below};
};
INSTANTIATE_TEST_SUITE_P(Ways, ReadRangeTest, testing::read_ways(), testing::name_of);

TEST_P(ReadRangeTest, LargeReads_AreRanges_SmallOnesAreNot) {
  if (!known_to_be_cached()) GTEST_SKIP() << "this kernel has no cachestat(2)";
  const std::uint64_t handle = open(O_RDONLY);
  const Answer large = read(handle, 1234, 50'000);
  EXPECT_TRUE(large.as_range);
  EXPECT_TRUE(large.text() == data_.substr(1234, 50'000));
  const Answer small = read(handle, 1234, kLeast - 1);
  EXPECT_FALSE(small.as_range);
  EXPECT_TRUE(small.text() == data_.substr(1234, kLeast - 1));
}

TEST_P(ReadRangeTest, TransportWithoutRanges_GetsNone) {
  const Answer answer = read(open(O_RDONLY), 0, 100'000, Request(FUSE_READ).least_file_range());
  EXPECT_FALSE(answer.as_range);
  EXPECT_TRUE(answer.text() == data_);
}

TEST_P(ReadRangeTest, AtAndBehindTheEnd_WhatThereIs) {
  const std::uint64_t handle = open(O_RDONLY);
  EXPECT_TRUE(read(handle, 60'000, 100'000).text() == data_.substr(60'000));
  for (const std::uint64_t offset : {100'000ULL, 100'001ULL, 1ULL << 40}) {
    const Answer answer = read(handle, offset, 100'000);
    EXPECT_EQ(answer.error, 0);
    EXPECT_TRUE(answer.body.empty());
  }
  const Answer little = read(handle, 99'990, 100'000);
  EXPECT_FALSE(little.as_range);
  EXPECT_TRUE(little.text() == data_.substr(99'990));
}

TEST_P(ReadRangeTest, Errors_AreThoseOfAReadIntoTheRoom) {
  EXPECT_EQ(read(open(O_WRONLY), 0, 50'000).error, EBADF);
  EXPECT_EQ(read(999, 0, 50'000).error, EBADF);
  const std::uint64_t handle = open(O_RDONLY);
  for (const std::uint64_t offset : {1ULL << 63, ~0ULL, (1ULL << 63) - 1})
    EXPECT_EQ(read(handle, offset, 50'000).error, EINVAL);
}

TEST_P(ReadRangeTest, WhatWouldHoldUpTheQueueForADisk_IsReadInTheBackground) {
  const UniqueFd host(::open(share_.host("f").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::fsync(host.get()), 0);
  ASSERT_EQ(::posix_fadvise(host.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  const bool in_memory = storage_kind_of(host.get()) == StorageKind::memory;
  const Answer answer = read(open(O_RDONLY), 0, 100'000);
  EXPECT_EQ(answer.as_range, GetParam().threads == 0 || in_memory);
  EXPECT_TRUE(answer.text() == data_);
}

TEST_P(ReadRangeTest, DirectIo_IsNever) {
  const Answer opened = share_.open(share_.node("f"), O_RDONLY | O_DIRECT);
  if (opened.error == EINVAL) GTEST_SKIP() << "no O_DIRECT on this file system";
  const Answer answer = read(opened.as<fuse_open_out>().fh, 4096, 65536);
  EXPECT_FALSE(answer.as_range);
  EXPECT_TRUE(answer.text() == data_.substr(4096, 65536));
}

}  // namespace
}  // namespace fusewire::passthrough
