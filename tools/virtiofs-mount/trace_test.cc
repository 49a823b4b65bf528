#include "virtiofs-mount/trace.h"

#include <gmock/gmock.h>

#include <cstring>
#include <vector>

#include "fusewire/bytes.h"

namespace fusewire::carry {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

template <class... Parts>
std::vector<std::byte> request(std::uint32_t opcode, const Parts&... parts) {
  fuse_in_header header{};
  header.opcode = opcode;
  header.unique = 6;
  header.nodeid = 9;
  header.uid = 1000;
  header.gid = 100;
  header.pid = 55;
  std::vector<std::byte> bytes(sizeof header);
  [[maybe_unused]] const auto append = [&](std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  };
  (append(parts), ...);
  header.len = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

// A name with its NUL.
std::span<const std::byte> name(std::string_view text) { return as_bytes({text.data(), text.size() + 1}); }

TEST(Quoted, WhatCannotBePrinted_IsEscaped) {
  EXPECT_EQ(quoted("plain name"), R"("plain name")");
  EXPECT_EQ(quoted("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(quoted("new\nline\x1b[31m\x7f\xff"), R"("new\x0aline\x1b[31m\x7f\xff")");
}

TEST(DescribeRequest, SaysWhoAsksForWhat) {
  EXPECT_EQ(describe_request(request(FUSE_LOOKUP, name("a\tb")), 0),
            R"(FUSE_LOOKUP node=9 uid=1000 gid=100 pid=55 "a\x09b")");
  fuse_write_in write{};
  write.fh = 3;
  write.offset = 4096;
  write.size = 10;
  EXPECT_THAT(describe_request(request(FUSE_WRITE, bytes_of(write)), 0),
              EndsWith(" fh=3 offset=4096 size=10"));
  EXPECT_THAT(
      describe_request(request(FUSE_RENAME2, bytes_of(fuse_rename2_in{7, 1, 0}), name("a"), name("b")), 0),
      EndsWith(R"( newdir=7 flags=0x1 "a" to "b")"));
  EXPECT_THAT(describe_request(request(FUSE_SYMLINK, name("link"), name("/target")), 0),
              EndsWith(R"( "link" to "/target")"));
}

TEST(DescribeRequest, BatchForget_ShowsTheFirstNodes) {
  const std::vector<fuse_forget_one> items(20, {4, 2});
  const fuse_batch_forget_in in{.count = 20, .dummy = 0};
  EXPECT_THAT(describe_request(request(FUSE_BATCH_FORGET, bytes_of(in), std::as_bytes(std::span(items))), 0),
              EndsWith(" count=20 4:2 4:2 4:2 4:2 4:2 4:2 4:2 4:2 ..."));
}

TEST(DescribeRequest, Setxattr_HasTheLayoutThatInitSettled) {
  const std::uint64_t ext = static_cast<std::uint64_t>(Cap::setxattr_ext);
  const fuse_setxattr_in in{.size = 1, .flags = 0, .setxattr_flags = 0, .padding = 0};
  EXPECT_THAT(describe_request(request(FUSE_SETXATTR, bytes_of(in), name("user.a"), as_bytes("v")), ext),
              EndsWith(R"("user.a")"));
  EXPECT_THAT(
      describe_request(request(FUSE_SETXATTR, bytes_of(in).first(8), name("user.a"), as_bytes("v")), 0),
      EndsWith(R"("user.a")"));
}

TEST(DescribeRequest, OfEveryOperation_HasItsName_AndNeverReadsBeyondTheEnd) {
  const std::vector<std::byte> zeros(512);
  for (const Operation& operation : operations()) {
    const auto whole = request(operation.opcode, zeros);
    for (std::size_t size = sizeof(fuse_in_header); size <= whole.size(); size += 3) {
      std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      part.shrink_to_fit();                         // so that a sanitizer sees the end
      if (operation.opcode == CUSE_INIT) continue;  // no kernel sends it to a file system
      EXPECT_THAT(describe_request(part, 0), HasSubstr(operation.name));
    }
  }
  EXPECT_EQ(describe_request({}, 0), "no request");
}

TEST(DescribeRequest, WhatIsTooShort_IsMalformed) {
  EXPECT_THAT(describe_request(request(FUSE_OPEN), 0), EndsWith(" MALFORMED"));
  EXPECT_THAT(describe_request(request(FUSE_LOOKUP, as_bytes("no end")), 0), EndsWith(" MALFORMED"));
}

TEST(DescribeReply, SaysWhatCameBack) {
  fuse_entry_out entry{};
  entry.nodeid = 5;
  entry.attr.mode = 0100644;
  entry.attr.size = 7;
  EXPECT_EQ(describe_reply(FUSE_LOOKUP, bytes_of(entry)), " node=5 mode=100644 size=7");
  entry.nodeid = 0;
  EXPECT_EQ(describe_reply(FUSE_LOOKUP, bytes_of(entry)), " no entry");
  EXPECT_EQ(describe_reply(FUSE_WRITE, bytes_of(fuse_write_out{12, 0})), " size=12");
  EXPECT_EQ(describe_reply(FUSE_READLINK, as_bytes("to")), R"( "to")");
  EXPECT_EQ(describe_reply(FUSE_READ, as_bytes("data is nobody's business")), "");
}

TEST(DescribeReply, OfEveryOperation_NeverReadsBeyondTheEnd) {
  for (const Operation& operation : operations())
    for (std::size_t size = 0; size < 300; ++size) {
      const std::vector<std::byte> body(size);
      EXPECT_THAT(describe_reply(operation.opcode, body), Not(HasSubstr("\n")));
    }
}

TEST(Trace, Lines_ShowRequestAndOutcome) {
  std::vector<std::string> lines;
  Trace trace([&](const std::string& line) { lines.push_back(line); });
  const auto bytes = request(FUSE_LOOKUP, name("x"));
  fuse_in_header header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  trace.request(1, header, bytes, {});
  trace.reply(1, header, {.len = 16, .error = -ENOENT, .unique = 6}, {}, 12us);
  trace.reply(1, header, {.len = 144, .error = 0, .unique = 6}, bytes_of(fuse_entry_out{}), 12us);
  trace.failed(1, header, ENOTCONN);
  EXPECT_THAT(lines, ElementsAre(MatchesRegex(R"([0-9.]+ #6 > FUSE_LOOKUP node=9 .* "x")"),
                                 MatchesRegex(R"([0-9.]+ #6 < FUSE_LOOKUP ENOENT \(12 us\))"),
                                 MatchesRegex(R"([0-9.]+ #6 < FUSE_LOOKUP ok 128 bytes no entry \(12 us\))"),
                                 MatchesRegex(R"([0-9.]+ #6 ! FUSE_LOOKUP answered with ENOTCONN here)")));
}

}  // namespace
}  // namespace fusewire::carry
