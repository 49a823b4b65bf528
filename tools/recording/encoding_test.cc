#include "recording/encoding.h"

#include <gmock/gmock.h>
#include <linux/fuse.h>

#include "fusewire/bytes.h"

namespace fusewire::recording {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

std::vector<std::byte> bytes(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

std::vector<std::byte> raw(std::initializer_list<int> values) {
  std::vector<std::byte> result;
  for (const int value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

Request some_request() {
  return {.at = 1500ns, .unique = 300, .queue = 2, .room = 128, .size = 4, .bytes = bytes("abcd")};
}

Reply some_reply() {
  return {.at = 2500ns,
          .unique = ~std::uint64_t{0},
          .error = 0,
          .size = 144,
          .bytes = bytes("xy"),
          .identifiers = {{Identifier::Kind::node, 7, "name"}, {Identifier::Kind::handle, 1ULL << 63, ""}}};
}

std::vector<std::byte> encoded(const Record& record, std::chrono::nanoseconds before = 0ns) {
  std::vector<std::byte> out;
  encode(record, before, out);
  return out;
}

TEST(Encoding, Head_IsMagicAndVersion) {
  std::vector<std::byte> out;
  encode_head(out);
  EXPECT_EQ(out, bytes(std::string_view("FWRECORD\1\0\0\0", 12)));
}

TEST(Encoding, Request_HasTheBytesOfTheGrammar) {
  EXPECT_EQ(encoded(some_request(), 1000ns),
            raw({1, 0xf4, 3, 0xac, 2, 2, 0x80, 1, 4, 4, 'a', 'b', 'c', 'd'}));
}

TEST(Encoding, Reply_HasTheBytesOfTheGrammar) {
  Reply reply = some_reply();
  reply.unique = 5;
  reply.identifiers.back().value = 9;
  EXPECT_EQ(encoded(reply, 2500ns),
            raw({2, 0, 5, 0, 0x90, 1, 2, 'x', 'y', 2, 1, 7, 4, 'n', 'a', 'm', 'e', 2, 9}));
}

TEST(Encoding, Records_ReadBackAsTheyWere) {
  for (const Record& record :
       {Record(some_request()), Record(some_reply()), Record(Request()), Record(Reply())}) {
    const auto out = encoded(record);
    const auto decoded = decode(out, 0ns);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->record, record);
    EXPECT_EQ(decoded->size, out.size());
  }
}

TEST(Encoding, TruncatedAtEachLength_IsIncomplete) {
  for (const Record& record : {Record(some_request()), Record(some_reply())}) {
    const auto out = encoded(record);
    for (std::size_t size = 0; size < out.size(); ++size) {
      const auto decoded = decode(std::span(out).first(size), 0ns);
      ASSERT_FALSE(decoded) << size;
      EXPECT_EQ(decoded.error(), Fault::incomplete) << size;
    }
  }
}

TEST(Encoding, TimeThatGoesBack_CountsAsTheSame) {
  const auto decoded = decode(encoded(some_request(), 9000ns), 9000ns);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Request>(decoded->record).at, 9000ns);
}

TEST(Encoding, MoreThanTheLimits_IsLeftOut) {
  Request request{.size = 1 << 20, .bytes = std::vector<std::byte>(1 << 20)};
  const auto decoded = decode(encoded(request), 0ns);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Request>(decoded->record).bytes.size(), kMaxKept);
  EXPECT_EQ(std::get<Request>(decoded->record).size, 1U << 20);

  Reply reply;
  reply.identifiers.assign(kMaxIdentifiers + 1, {Identifier::Kind::node, 1, std::string(kMaxName + 1, 'x')});
  const auto again = decode(encoded(reply), 0ns);
  ASSERT_TRUE(again);
  EXPECT_EQ(std::get<Reply>(again->record).identifiers.size(), kMaxIdentifiers);
  EXPECT_EQ(std::get<Reply>(again->record).identifiers.front().name.size(), kMaxName);
}

Fault fault_of(const std::vector<std::byte>& out) {
  const auto decoded = decode(out, 0ns);
  EXPECT_FALSE(decoded);
  return decoded ? Fault::incomplete : decoded.error();
}

TEST(Encoding, WhatTheGrammarDoesNotHave_IsMalformed) {
  EXPECT_EQ(fault_of(raw({0})), Fault::malformed) << "kind";
  EXPECT_EQ(fault_of(raw({3})), Fault::malformed) << "kind";
  EXPECT_EQ(fault_of(raw({1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 0, 0, 0, 0})),
            Fault::malformed)
      << "a number of 65 bits";
  EXPECT_EQ(fault_of(raw({1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80})),
            Fault::malformed)
      << "a number without end";
  EXPECT_EQ(fault_of(raw({1, 0, 1, 0, 0, 1, 2, 'a', 'b'})), Fault::malformed) << "more kept than there was";
  EXPECT_EQ(fault_of(raw({1, 0, 1, 0x80, 0x80, 4, 0, 0, 0})), Fault::malformed) << "queue 65536";
  EXPECT_EQ(fault_of(raw({2, 0, 1, 0x80, 4, 0, 0, 0})), Fault::malformed) << "error 512";
  EXPECT_EQ(fault_of(raw({2, 0, 1, 0, 0, 0, 1, 3, 1})), Fault::malformed) << "identifier kind";
  EXPECT_EQ(fault_of(raw({2, 0, 1, 0, 0, 0, 0x81, 0x80, 2})), Fault::malformed) << "too many identifiers";
  EXPECT_EQ(fault_of(raw({2, 0, 1, 0, 0, 0, 1, 1, 1, 0x81, 8})), Fault::malformed) << "a long name";
  EXPECT_EQ(fault_of(raw({1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0})),
            Fault::malformed)
      << "a delay of centuries";
}

}  // namespace
}  // namespace fusewire::recording
