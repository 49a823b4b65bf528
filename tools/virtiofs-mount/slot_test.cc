// How requests and replies are cut, compared with what virtio_fs of Linux does.
#include "virtiofs-mount/slot.h"

#include <gmock/gmock.h>

#include <cstring>
#include <tuple>

#include "fusewire/bytes.h"

namespace fusewire::carry {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kBase = 0x100000;
constexpr std::uint32_t kPages = 16;

class SlotTest : public testing::Test {
 protected:
  SlotTest()
      : memory_(*guestmem::SharedMemory::create(guestmem::GuestAddress(kBase), Slot::memory_size(kPages))) {
    slot_.emplace(*memory_.allocate(Slot::memory_size(kPages), 4096), kPages);
  }

  // Puts a request there whose arguments are `args`, followed by `more` bytes.
  template <class Args>
  bool put(std::uint32_t opcode, const Args& args, std::size_t more = 0) {
    fuse_in_header header{};
    header.opcode = opcode;
    header.unique = 6;
    const std::size_t args_size = std::is_empty_v<Args> ? 0 : sizeof args;
    const std::size_t size = sizeof header + args_size + more;
    header.len = static_cast<std::uint32_t>(size);
    ByteWriter writer(slot_->request_room());
    writer.write_object(header);
    if (args_size != 0) writer.write_object(args);
    return slot_->begin(size, *find_operation(opcode));
  }

  using Cut = std::vector<std::tuple<std::uint64_t, std::uint32_t>>;  // offsets in the slot, and lengths
  Cut readable() const {
    std::vector<virtio::GuestBuffer> buffers;
    slot_->append_readable(buffers);
    return cut(buffers);
  }
  Cut writable() const {
    std::vector<virtio::GuestBuffer> buffers;
    slot_->append_writable(buffers);
    return cut(buffers);
  }
  static Cut cut(const std::vector<virtio::GuestBuffer>& buffers) {
    Cut result;
    for (const auto& buffer : buffers) result.emplace_back(buffer.address.get() - kBase, buffer.length);
    return result;
  }

  guestmem::SharedMemory memory_;
  std::optional<Slot> slot_;
};

struct Nothing {};

TEST_F(SlotTest, RequestRoom_HoldsHeaderAndWriteArgumentsInFrontOfTheDataPages) {
  EXPECT_EQ(slot_->request_room().size(), 80 + kPages * 4096);
  EXPECT_EQ(slot_->request_room().data(), memory_.host(guestmem::GuestAddress(kBase)) + 4096 - 80);
}

TEST_F(SlotTest, Write_HasItsDataInWholePages) {
  fuse_write_in in{};
  in.size = 9000;
  ASSERT_TRUE(put(FUSE_WRITE, in, 9000));
  EXPECT_EQ(readable(), (Cut{{4016, 40}, {4056, 40}, {4096, 4096}, {8192, 4096}, {12288, 808}}));
  EXPECT_EQ(writable(), (Cut{{16384 - 16, 16}, {16384, 8}}));
}

TEST_F(SlotTest, Read_HasRoomInWholePages) {
  fuse_read_in in{};
  in.size = 8192;
  ASSERT_TRUE(put(FUSE_READ, in));
  EXPECT_EQ(readable(), (Cut{{4016, 40}, {4056, 40}}));
  EXPECT_EQ(writable(), (Cut{{8192 - 16, 16}, {8192, 4096}, {12288, 4096}}));
}

TEST_F(SlotTest, LargestReadAndWrite_Fit) {
  fuse_read_in read{};
  read.size = kPages * 4096;
  EXPECT_TRUE(put(FUSE_READ, read));
  fuse_write_in write{};
  EXPECT_TRUE(put(FUSE_WRITE, write, kPages * 4096));
}

TEST_F(SlotTest, Names_GoWithTheArgumentsInOnePiece) {
  ASSERT_TRUE(put(FUSE_LOOKUP, Nothing(), 200));
  EXPECT_EQ(readable(), (Cut{{4016, 40}, {4056, 200}}));
  EXPECT_EQ(writable(), (Cut{{8192 - 16, 16}, {8192, 128}}));
  ASSERT_TRUE(put(FUSE_CREATE, fuse_create_in{}, 3));
  EXPECT_EQ(readable(), (Cut{{4016, 40}, {4056, 19}}));
  EXPECT_EQ(writable(), (Cut{{4096 - 16, 16}, {4096, 144}}));
}

TEST_F(SlotTest, WithoutArgumentsOrBody_ThereIsOnlyAHeader) {
  ASSERT_TRUE(put(FUSE_STATFS, Nothing()));
  EXPECT_EQ(readable(), (Cut{{4016, 40}}));
  ASSERT_TRUE(put(FUSE_UNLINK, Nothing(), 5));
  EXPECT_EQ(writable(), (Cut{{4096 - 16, 16}}));
}

TEST_F(SlotTest, ReplyHeader_DoesNotOverlapTheRequest) {
  // The request ends 16 bytes before a page, then one byte later.
  fuse_write_in in{};
  ASSERT_TRUE(put(FUSE_WRITE, in, 4096 - 16));
  EXPECT_EQ(writable().front(), std::tuple(8192 - 16, 16));
  ASSERT_TRUE(put(FUSE_WRITE, in, 4096 - 15));
  EXPECT_EQ(writable().front(), std::tuple(12288 - 16, 16));
}

TEST_F(SlotTest, Xattr_HasItsValueInOnePiece) {
  ASSERT_TRUE(put(FUSE_GETXATTR, fuse_getxattr_in{.size = 10000, .padding = 0}, 7));
  EXPECT_EQ(writable(), (Cut{{4096 - 16, 16}, {4096, 10000}}));
}

TEST_F(SlotTest, Ioctl_HasDataInPagesOnBothSides) {
  fuse_ioctl_in in{};
  in.in_size = 5000;
  in.out_size = 5000;
  ASSERT_TRUE(put(FUSE_IOCTL, in, 5000));
  EXPECT_EQ(readable(), (Cut{{4016, 40}, {4056, 32}, {4088, 8}, {4096, 4096}, {8192, 896}}));
  EXPECT_EQ(writable(), (Cut{{12288 - 16, 16}, {12288, 4096}, {16384, 920}}));
}

TEST_F(SlotTest, RequestWithoutAReply_HasNoRoomForOne) {
  ASSERT_TRUE(put(FUSE_FORGET, fuse_forget_in{}));
  EXPECT_THAT(writable(), IsEmpty());
}

TEST_F(SlotTest, ReplyLargerThanTheSlot_IsRefused) {
  fuse_read_in in{};
  in.size = (kPages + 7) * 4096;
  EXPECT_FALSE(put(FUSE_READ, in));
  in.size = UINT32_MAX;
  EXPECT_FALSE(put(FUSE_READ, in));
}

TEST_F(SlotTest, SizeThatTheHeaderDoesNotSay_IsRefused) {
  ASSERT_TRUE(put(FUSE_GETATTR, fuse_getattr_in{}));
  const Operation& operation = *find_operation(FUSE_GETATTR);
  EXPECT_TRUE(slot_->begin(56, operation));
  EXPECT_FALSE(slot_->begin(55, operation));
  EXPECT_FALSE(slot_->begin(57, operation));
  EXPECT_FALSE(slot_->begin(39, operation));
  EXPECT_FALSE(slot_->begin(0, operation));
}

TEST_F(SlotTest, Header_IsACopy) {
  ASSERT_TRUE(put(FUSE_GETATTR, fuse_getattr_in{}));
  std::ranges::fill(slot_->request_room(), std::byte{0xff});
  EXPECT_EQ(slot_->header().unique, 6U);
  EXPECT_EQ(slot_->header().opcode, static_cast<std::uint32_t>(FUSE_GETATTR));
  EXPECT_EQ(slot_->room().most, 104U);
}

}  // namespace
}  // namespace fusewire::carry
