#include "recording/identifiers.h"

#include <gmock/gmock.h>

#include <cstring>

#include "fusewire/bytes.h"
#include "fusewire/wire.h"

namespace fusewire::recording {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = Identifier::Kind;

// Marks each identifier that it is asked for: nodes become negative, handles are inverted too but in the low
// half.
std::uint64_t mark(Kind kind, std::uint64_t value) {
  return kind == Kind::node ? value | 1ULL << 63 : value | 1ULL << 31;
}

template <class Args>
std::vector<std::byte> request(std::uint32_t opcode, const Args& args) {
  fuse_in_header header{};
  header.opcode = opcode;
  header.nodeid = 5;
  header.len = sizeof header + sizeof args;
  std::vector<std::byte> bytes(header.len);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &args, sizeof args);
  return bytes;
}

template <class Args>
Args mapped(std::uint32_t opcode, const Args& args) {
  auto bytes = request(opcode, args);
  map_identifiers(bytes, mark);
  fuse_in_header header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  EXPECT_EQ(header.nodeid, mark(Kind::node, 5));
  EXPECT_EQ(header.opcode, opcode);
  Args result{};
  std::memcpy(&result, bytes.data() + sizeof header, sizeof result);
  return result;
}

constexpr std::uint64_t kHandle = 7;
const std::uint64_t kMarkedHandle = mark(Kind::handle, kHandle);

TEST(MapIdentifiers, HandlesInFront_AreMapped_AndNothingElse) {
  fuse_read_in read{};
  read.fh = kHandle;
  read.offset = 100;
  read.lock_owner = 9;
  for (const std::uint32_t opcode : {FUSE_READ, FUSE_READDIR, FUSE_READDIRPLUS}) {
    const auto result = mapped(opcode, read);
    EXPECT_EQ(result.fh, kMarkedHandle);
    EXPECT_EQ(result.offset, 100U);
    EXPECT_EQ(result.lock_owner, 9U);
  }
  fuse_lk_in lock{};
  lock.fh = kHandle;
  lock.owner = 3;
  for (const std::uint32_t opcode : {FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW}) {
    EXPECT_EQ(mapped(opcode, lock).fh, kMarkedHandle);
    EXPECT_EQ(mapped(opcode, lock).owner, 3U);
  }
}

TEST(MapIdentifiers, OptionalHandles_AreMappedWhereTheyCount) {
  fuse_getattr_in getattr{};
  getattr.fh = kHandle;
  EXPECT_EQ(mapped(FUSE_GETATTR, getattr).fh, kHandle);
  getattr.getattr_flags = FUSE_GETATTR_FH;
  EXPECT_EQ(mapped(FUSE_GETATTR, getattr).fh, kMarkedHandle);
  fuse_setattr_in setattr{};
  setattr.fh = kHandle;
  setattr.valid = FATTR_SIZE;
  EXPECT_EQ(mapped(FUSE_SETATTR, setattr).fh, kHandle);
  setattr.valid = FATTR_SIZE | FATTR_FH;
  EXPECT_EQ(mapped(FUSE_SETATTR, setattr).fh, kMarkedHandle);
}

TEST(MapIdentifiers, SecondNodes_AreMapped) {
  EXPECT_EQ(mapped(FUSE_LINK, fuse_link_in{8}).oldnodeid, mark(Kind::node, 8));
  EXPECT_EQ(mapped(FUSE_RENAME, fuse_rename_in{8}).newdir, mark(Kind::node, 8));
  EXPECT_EQ(mapped(FUSE_RENAME2, fuse_rename2_in{8, 0, 0}).newdir, mark(Kind::node, 8));
  fuse_copy_file_range_in copy{};
  copy.fh_in = kHandle;
  copy.nodeid_out = 8;
  copy.fh_out = 11;
  copy.len = 13;
  const auto result = mapped(FUSE_COPY_FILE_RANGE, copy);
  EXPECT_EQ(result.fh_in, kMarkedHandle);
  EXPECT_EQ(result.nodeid_out, mark(Kind::node, 8));
  EXPECT_EQ(result.fh_out, mark(Kind::handle, 11));
  EXPECT_EQ(result.len, 13U);
}

TEST(MapIdentifiers, BatchForget_MapsEachNode) {
  struct Batch {
    fuse_batch_forget_in in{.count = 2, .dummy = 0};
    fuse_forget_one items[2] = {{11, 1}, {12, 2}};
  };
  const auto result = mapped(FUSE_BATCH_FORGET, Batch());
  EXPECT_EQ(result.items[0].nodeid, mark(Kind::node, 11));
  EXPECT_EQ(result.items[0].nlookup, 1U);
  EXPECT_EQ(result.items[1].nodeid, mark(Kind::node, 12));
}

TEST(MapIdentifiers, NodeZero_IsNobody) {
  auto bytes = request(FUSE_INIT, fuse_init_in{});
  std::memset(bytes.data() + offsetof(fuse_in_header, nodeid), 0, 8);
  const auto before = bytes;
  map_identifiers(bytes, mark);
  EXPECT_EQ(bytes, before);
}

TEST(MapIdentifiers, TruncatedAtEachLength_StaysWithin) {
  fuse_copy_file_range_in copy{};
  copy.nodeid_out = 8;
  const auto whole = request(FUSE_COPY_FILE_RANGE, copy);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    part.shrink_to_fit();  // so that a sanitizer sees the end
    map_identifiers(part, mark);
  }
}

TEST(IdentifiersInReply, Entries_GiveANode_CreateAHandleToo) {
  CreateOut create{};
  create.entry.nodeid = 21;
  create.open.fh = 22;
  EXPECT_THAT(identifiers_in_reply(FUSE_LOOKUP, bytes_of(create.entry)),
              ElementsAre(Identifier{Kind::node, 21, ""}));
  EXPECT_THAT(identifiers_in_reply(FUSE_CREATE, bytes_of(create)),
              ElementsAre(Identifier{Kind::node, 21, ""}, Identifier{Kind::handle, 22, ""}));
  EXPECT_THAT(identifiers_in_reply(FUSE_OPENDIR, bytes_of(create.open)),
              ElementsAre(Identifier{Kind::handle, 22, ""}));
  create.entry.nodeid = 0;
  EXPECT_THAT(identifiers_in_reply(FUSE_LOOKUP, bytes_of(create.entry)), IsEmpty());
  EXPECT_THAT(identifiers_in_reply(FUSE_GETATTR, bytes_of(create)), IsEmpty());
}

std::vector<std::byte> entries() {
  std::vector<std::byte> body;
  for (const auto& [node, name] : {std::pair(31, "a"), std::pair(0, "."), std::pair(32, "longer name")}) {
    fuse_direntplus entry{};
    entry.entry_out.nodeid = static_cast<std::uint64_t>(node);
    entry.dirent.namelen = static_cast<std::uint32_t>(std::strlen(name));
    const auto head = bytes_of(entry);
    body.insert(body.end(), head.begin(), head.end());
    const auto text = as_bytes(name);
    body.insert(body.end(), text.begin(), text.end());
    body.resize((body.size() + 7) / 8 * 8);
  }
  return body;
}

TEST(IdentifiersInReply, Readdirplus_GivesNamedNodes) {
  EXPECT_THAT(identifiers_in_reply(FUSE_READDIRPLUS, entries()),
              ElementsAre(Identifier{Kind::node, 31, "a"}, Identifier{Kind::node, 32, "longer name"}));
}

TEST(IdentifiersInReply, TruncatedAtEachLength_StaysWithin) {
  const auto whole = entries();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    part.shrink_to_fit();
    EXPECT_LE(identifiers_in_reply(FUSE_READDIRPLUS, part).size(), 2U);
    identifiers_in_reply(FUSE_CREATE, part);
  }
}

}  // namespace
}  // namespace fusewire::recording
