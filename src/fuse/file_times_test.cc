#include "fusewire/file_times.h"

#include <gtest/gtest.h>

namespace fusewire {
namespace {

fuse_setattr_in request_with(std::uint32_t valid) {
  fuse_setattr_in in{};
  in.valid = valid;
  in.atime = 11, in.atimensec = 999'999'999;
  in.mtime = static_cast<std::uint64_t>(-22), in.mtimensec = 23;
  return in;
}

TEST(FileTimesTest, TimesThatAreGiven_AreSet_AlsoBefore1970) {
  const auto [access, change] = times_to_set(request_with(FATTR_ATIME | FATTR_MTIME));
  EXPECT_EQ(access.tv_sec, 11);
  EXPECT_EQ(access.tv_nsec, 999'999'999);
  EXPECT_EQ(change.tv_sec, -22);
  EXPECT_EQ(change.tv_nsec, 23);
}

TEST(FileTimesTest, TimesThatAreNotGiven_StayAsTheyAre) {
  const auto [access, change] = times_to_set(request_with(FATTR_MTIME));
  EXPECT_EQ(access.tv_nsec, UTIME_OMIT);
  EXPECT_EQ(change.tv_nsec, 23);
  EXPECT_EQ(times_to_set(request_with(FATTR_ATIME))[1].tv_nsec, UTIME_OMIT);
}

TEST(FileTimesTest, Now_IsTheHostsNow_WhateverTimeIsGiven) {
  const auto [access, change] = times_to_set(request_with(FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME));
  EXPECT_EQ(access.tv_nsec, UTIME_NOW);
  EXPECT_EQ(change.tv_sec, -22);
  EXPECT_EQ(times_to_set(request_with(FATTR_MTIME | FATTR_MTIME_NOW))[1].tv_nsec, UTIME_NOW);
}

}  // namespace
}  // namespace fusewire
