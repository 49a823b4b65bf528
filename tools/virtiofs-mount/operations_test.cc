// The room for the reply of every opcode, against the sizes that fs/fuse of Linux gives its requests.
#include "virtiofs-mount/operations.h"

#include <gmock/gmock.h>

#include <cstring>
#include <map>
#include <vector>

#include "fusewire/bytes.h"

namespace fusewire::carry {
namespace {

template <class Args>
std::vector<std::byte> request(std::uint32_t opcode, const Args& args) {
  fuse_in_header header{};
  header.opcode = opcode;
  header.len = sizeof header + sizeof args;
  std::vector<std::byte> bytes(header.len);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &args, sizeof args);
  return bytes;
}

ReplyRoom room(std::uint32_t opcode, const std::vector<std::byte>& bytes) {
  const Operation* operation = find_operation(opcode);
  EXPECT_NE(operation, nullptr) << opcode;
  return operation != nullptr ? reply_room(*operation, bytes) : ReplyRoom{};
}

void expect_room(std::uint32_t opcode, const std::vector<std::byte>& bytes, std::size_t least,
                 std::size_t most) {
  EXPECT_EQ(room(opcode, bytes).least, least) << name_of_opcode(opcode);
  EXPECT_EQ(room(opcode, bytes).most, most) << name_of_opcode(opcode);
}

TEST(ReplyRoom, OfFixedReplies_IsTheirStructure) {
  const std::map<std::uint32_t, std::size_t> sizes = {
      {FUSE_LOOKUP, 128},
      {FUSE_MKNOD, 128},
      {FUSE_MKDIR, 128},
      {FUSE_SYMLINK, 128},
      {FUSE_LINK, 128},
      {FUSE_GETATTR, 104},
      {FUSE_SETATTR, 104},
      {FUSE_OPEN, 16},
      {FUSE_OPENDIR, 16},
      {FUSE_CREATE, 144},
      {FUSE_TMPFILE, 144},
      {FUSE_WRITE, 8},
      {FUSE_STATFS, 80},
      {FUSE_GETLK, 24},
      {FUSE_BMAP, 8},
      {FUSE_POLL, 8},
      {FUSE_LSEEK, 8},
      {FUSE_STATX, 288},
      {FUSE_COPY_FILE_RANGE, 8},
      {FUSE_COPY_FILE_RANGE_64, 8},
      {FUSE_UNLINK, 0},
      {FUSE_RMDIR, 0},
      {FUSE_RENAME, 0},
      {FUSE_RENAME2, 0},
      {FUSE_RELEASE, 0},
      {FUSE_RELEASEDIR, 0},
      {FUSE_FSYNC, 0},
      {FUSE_FSYNCDIR, 0},
      {FUSE_SETXATTR, 0},
      {FUSE_REMOVEXATTR, 0},
      {FUSE_FLUSH, 0},
      {FUSE_SETLK, 0},
      {FUSE_SETLKW, 0},
      {FUSE_ACCESS, 0},
      {FUSE_DESTROY, 0},
      {FUSE_FALLOCATE, 0},
      {FUSE_SYNCFS, 0},
      {FUSE_SETUPMAPPING, 0},
      {FUSE_REMOVEMAPPING, 0},
  };
  for (const auto& [opcode, size] : sizes) expect_room(opcode, {}, size, size);
  // None is forgotten; CUSE_INIT comes to character devices only.
  for (const Operation& operation : operations())
    EXPECT_EQ(sizes.contains(operation.opcode),
              operation.body == Body::fixed && operation.opcode != CUSE_INIT)
        << operation.name;
}

TEST(ReplyRoom, OfEveryOtherOpcode_Varies) {
  const std::vector<std::uint32_t> variable = {
      FUSE_READ,  FUSE_READDIR, FUSE_READDIRPLUS, FUSE_READLINK,  FUSE_GETXATTR,     FUSE_LISTXATTR,
      FUSE_IOCTL, FUSE_INIT,    FUSE_FORGET,      FUSE_INTERRUPT, FUSE_BATCH_FORGET, FUSE_NOTIFY_REPLY};
  for (const Operation& operation : operations()) {
    const bool listed = std::ranges::find(variable, operation.opcode) != variable.end();
    EXPECT_EQ(listed, operation.body != Body::fixed) << operation.name;
  }
}

TEST(ReplyRoom, OfReads_IsWhatTheyAskFor) {
  fuse_read_in in{};
  in.size = 70000;
  for (const std::uint32_t opcode : {FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS})
    expect_room(opcode, request(opcode, in), 0, 70000);
  expect_room(FUSE_READLINK, {}, 0, 4095);
}

TEST(ReplyRoom, OfXattrs_IsTheSizeOrTheStructureThatSaysIt) {
  for (const std::uint32_t opcode : {FUSE_GETXATTR, FUSE_LISTXATTR}) {
    expect_room(opcode, request(opcode, fuse_getxattr_in{.size = 0, .padding = 0}), 8, 8);
    expect_room(opcode, request(opcode, fuse_getxattr_in{.size = 300, .padding = 0}), 0, 300);
  }
}

TEST(ReplyRoom, OfIoctl_IsItsStructureAndTheOutput) {
  fuse_ioctl_in in{};
  in.in_size = 1000;
  in.out_size = 200;
  expect_room(FUSE_IOCTL, request(FUSE_IOCTL, in), 16, 216);
}

TEST(ReplyRoom, OfInit_AllowsOlderServers) { expect_room(FUSE_INIT, {}, 24, 64); }

TEST(ReplyRoom, OfWhatHasNoReply_IsNone) {
  for (const std::uint32_t opcode : {FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT, FUSE_NOTIFY_REPLY}) {
    expect_room(opcode, {}, 0, 0);
    EXPECT_EQ(find_operation(opcode)->body, Body::none) << name_of_opcode(opcode);
  }
}

TEST(ReplyRoom, OfARequestWithoutItsArguments_IsThatOfZeros) {
  fuse_read_in in{};
  in.size = 70000;
  const auto whole = request(FUSE_READ, in);
  for (std::size_t size = 0; size < sizeof(fuse_in_header) + offsetof(fuse_read_in, size); ++size) {
    std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    part.shrink_to_fit();  // so that a sanitizer sees the end
    expect_room(FUSE_READ, part, 0, 0);
  }
}

TEST(Operations, UnknownOpcodes_AreNotFound) {
  for (const std::uint32_t opcode : {0U, 7U, 19U, FUSE_COPY_FILE_RANGE_64 + 1, 1U << 20, ~0U})
    EXPECT_EQ(find_operation(opcode), nullptr) << opcode;
}

}  // namespace
}  // namespace fusewire::carry
