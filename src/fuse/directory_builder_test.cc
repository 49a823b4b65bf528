#include "fusewire/directory_builder.h"

#include <dirent.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

namespace fusewire {
namespace {

// Little-endian bytes of a number, as this host and its guests have them.
void put(std::vector<std::byte>& bytes, std::uint64_t value, int size) {
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
}

std::vector<std::byte> dirent_bytes(const DirectoryEntry& entry, std::size_t padding) {
  std::vector<std::byte> bytes;
  put(bytes, entry.ino, 8);
  put(bytes, entry.next, 8);
  put(bytes, entry.name.size(), 4);
  put(bytes, entry.type, 4);
  for (const char c : entry.name) bytes.push_back(static_cast<std::byte>(c));
  bytes.insert(bytes.end(), padding, std::byte{0});
  return bytes;
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

constexpr DirectoryEntry kShort{
    .ino = 0x1122334455667788, .next = 0xfedcba9876543210, .type = DT_REG, .name = "abc"};

TEST(DirectoryBuilderTest, Add_WritesHeadNameAndZeros) {
  std::array<std::byte, 64> room;
  room.fill(std::byte{0xff});
  DirectoryBuilder writer(room);
  EXPECT_TRUE(writer.empty());
  ASSERT_TRUE(writer.add(kShort));
  EXPECT_FALSE(writer.empty());
  EXPECT_EQ(copy_of(writer.bytes()), dirent_bytes(kShort, 5));
}

TEST(DirectoryBuilderTest, Add_NameThatEndsAtAMultipleOf8_HasNoPadding) {
  std::array<std::byte, 32> room;
  DirectoryBuilder writer(room);
  DirectoryEntry entry = kShort;
  entry.name = "12345678";
  ASSERT_TRUE(writer.add(entry));
  EXPECT_EQ(copy_of(writer.bytes()), dirent_bytes(entry, 0));
}

TEST(DirectoryBuilderTest, AddPlus_PutsTheAttributesInFront) {
  std::array<std::byte, 200> room;
  room.fill(std::byte{0xff});
  DirectoryBuilder writer(room);
  fuse_entry_out attributes{};
  attributes.nodeid = 42;
  attributes.attr.size = 4711;
  ASSERT_TRUE(writer.add_plus(kShort, attributes));
  std::vector<std::byte> expected = copy_of(bytes_of(attributes));
  const auto dirent = dirent_bytes(kShort, 5);
  expected.insert(expected.end(), dirent.begin(), dirent.end());
  EXPECT_EQ(copy_of(writer.bytes()), expected);
}

TEST(DirectoryBuilderTest, RoomOfEachSize_HoldsWholeEntriesOrNone) {
  for (std::size_t size = 0; size <= 80; ++size) {
    std::vector<std::byte> room(size);
    DirectoryBuilder writer(room);
    std::size_t count = 0;
    while (writer.add(kShort)) ++count;
    EXPECT_EQ(count, size / 32) << size;
    EXPECT_EQ(writer.bytes().size(), count * 32);
    EXPECT_FALSE(writer.fits(3));
  }
  for (std::size_t size = 0; size <= 330; ++size) {
    std::vector<std::byte> room(size);
    DirectoryBuilder writer(room);
    std::size_t count = 0;
    while (writer.fits_plus(3)) {
      ASSERT_TRUE(writer.add_plus(kShort, {}));
      ++count;
    }
    EXPECT_EQ(count, size / 160) << size;
    EXPECT_FALSE(writer.add_plus(kShort, {}));
    EXPECT_EQ(writer.bytes().size(), count * 160);
  }
}

TEST(DirectoryBuilderTest, Full_SaysThatAnEntryWasRefused) {
  std::array<std::byte, 32> room;
  DirectoryBuilder writer(room);
  EXPECT_FALSE(writer.add_plus(kShort, {}));
  EXPECT_TRUE(writer.full());
  EXPECT_TRUE(writer.empty());

  DirectoryBuilder other(room);
  ASSERT_TRUE(other.add(kShort));
  EXPECT_FALSE(other.full());
}

TEST(DirectoryBuilderTest, NameSizeNearTheLargestNumber_DoesNotFit) {
  std::array<std::byte, 512> room;
  const DirectoryBuilder writer(room);
  for (std::size_t below = 0; below <= 160; ++below) {
    EXPECT_FALSE(writer.fits(SIZE_MAX - below));
    EXPECT_FALSE(writer.fits_plus(SIZE_MAX - below));
  }
}

}  // namespace
}  // namespace fusewire
