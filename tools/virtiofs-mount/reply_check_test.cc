#include "virtiofs-mount/reply_check.h"

#include <gmock/gmock.h>

#include <climits>

namespace fusewire::carry {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kUnique = 42;

// The fault of a reply that says what it has: `body` bytes.
std::optional<std::string> fault(std::uint32_t body, int error, const ReplyRoom& room) {
  const fuse_out_header header{.len = 16 + body, .error = error, .unique = kUnique};
  return find_fault(header, 16 + body, kUnique, room);
}

TEST(FindFault, RightReplies_HaveNone) {
  EXPECT_EQ(fault(128, 0, {128, 128}), std::nullopt);
  EXPECT_EQ(fault(0, 0, {0, 0}), std::nullopt);
  EXPECT_EQ(fault(0, 0, {0, 4096}), std::nullopt);
  EXPECT_EQ(fault(4096, 0, {0, 4096}), std::nullopt);
  EXPECT_EQ(fault(0, -ENOENT, {128, 128}), std::nullopt);
  EXPECT_EQ(fault(0, -511, {128, 128}), std::nullopt);
}

TEST(FindFault, BodyOfAnotherSize_IsOne) {
  EXPECT_THAT(fault(127, 0, {128, 128}).value_or(""), HasSubstr("1 bytes of 128 are missing"));
  EXPECT_THAT(fault(129, 0, {128, 128}).value_or(""), HasSubstr("129 bytes where 128 are allowed"));
  EXPECT_THAT(fault(4097, 0, {0, 4096}).value_or(""), HasSubstr("4097 bytes where 4096"));
  EXPECT_THAT(fault(1, 0, {0, 0}).value_or(""), HasSubstr("1 bytes where 0"));
}

TEST(FindFault, NumbersThatAreNoErrors_AreOne) {
  for (const int error : {1, ENOENT, INT_MAX, -512, -4095, INT_MIN})
    EXPECT_THAT(fault(0, error, {0, 0}).value_or(""), HasSubstr("no error number")) << error;
}

TEST(FindFault, ErrorWithABody_IsOne) {
  EXPECT_THAT(fault(8, -EIO, {8, 8}).value_or(""), HasSubstr("8 bytes behind it"));
}

TEST(FindFault, HeaderThatContradictsTheRing_IsOne) {
  const fuse_out_header header{.len = 24, .error = 0, .unique = kUnique};
  EXPECT_THAT(find_fault(header, 16, kUnique, {0, 8}).value_or(""),
              HasSubstr("says 24 bytes, the used ring 16"));
  EXPECT_THAT(find_fault(header, 25, kUnique, {0, 99}).value_or(""), HasSubstr("the used ring 25"));
  EXPECT_THAT(find_fault(header, 24, kUnique + 1, {8, 8}).value_or(""), HasSubstr("for request 42"));
}

TEST(FindFault, LessThanAHeader_IsOne) {
  const fuse_out_header header{.len = 15, .error = 0, .unique = kUnique};
  for (std::uint32_t used = 0; used < 16; ++used)
    EXPECT_THAT(find_fault(header, used, kUnique, {0, 0}).value_or(""), HasSubstr("are no reply")) << used;
}

}  // namespace
}  // namespace fusewire::carry
