#include "fusewire/bytes.h"

#include <gtest/gtest.h>

#include <array>

#include "base/checked.h"

namespace fusewire {
namespace {

TEST(ByteReader, Read_TooShort_ConsumesNothing) {
  const std::array<std::byte, 3> data{std::byte{1}, std::byte{2}, std::byte{3}};
  ByteReader reader(data);
  EXPECT_FALSE(reader.read<std::uint32_t>());
  EXPECT_EQ(reader.remaining(), 3U);
  EXPECT_EQ(reader.read<std::uint16_t>(), 0x0201);
  EXPECT_EQ(reader.remaining(), 1U);
}

TEST(ByteReader, TakeCString_NeedsItsNul) {
  ByteReader reader(as_bytes(std::string_view("ab\0c", 4)));
  EXPECT_EQ(reader.take_c_string(), "ab");
  EXPECT_FALSE(reader.take_c_string());
  EXPECT_EQ(as_text(reader.rest()), "c");
}

TEST(ByteReader, Take_BeyondTheEnd_Fails) {
  ByteReader reader(as_bytes("abc"));
  EXPECT_FALSE(reader.take(4));
  EXPECT_EQ(as_text(*reader.take(2)), "ab");
}

TEST(ByteWriter, Write_BeyondTheRoom_WritesNothing) {
  std::array<std::byte, 4> room{};
  ByteWriter writer(room);
  EXPECT_TRUE(writer.write(as_bytes("abc")));
  EXPECT_FALSE(writer.write(as_bytes("de")));
  EXPECT_TRUE(writer.pad(1));
  EXPECT_FALSE(writer.pad(1));
  EXPECT_EQ(as_text(room), std::string_view("abc\0", 4));
}

TEST(Checked, OverflowIsNullopt) {
  EXPECT_FALSE(checked_add<std::uint64_t>(~0ULL, 1));
  EXPECT_EQ(checked_add<std::uint64_t>(~0ULL - 1, 1), ~0ULL);
  EXPECT_FALSE(checked_mul<std::uint32_t>(1U << 31, 2));
  EXPECT_EQ(checked_mul<std::uint32_t>(1U << 15, 2), 1U << 16);
}

}  // namespace
}  // namespace fusewire
