// Every row of ops.def: its minimal valid request reaches its method and its whole reply comes back; the same
// request cut at each length, with a missing NUL or with sizes that overflow is refused without reaching the
// file system.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "fuse/testing/harness.h"

namespace fusewire {
namespace {

using testing::Answer;
using testing::Harness;
using testing::Request;

// ---- a valid request for each operation, from the types of its row ----

// Arguments that say how much follows say 8 bytes, or one item.
template <class In>
In minimal_arguments() {
  In in{};
  if constexpr (requires { in.write_flags; } || std::is_same_v<In, fuse_setxattr_in>) in.size = 8;
  if constexpr (std::is_same_v<In, fuse_ioctl_in>) in.in_size = 8, in.out_size = 8;
  if constexpr (std::is_same_v<In, fuse_batch_forget_in> || std::is_same_v<In, fuse_removemapping_in>)
    in.count = 1;
  if constexpr (std::is_same_v<In, fuse_read_in> || std::is_same_v<In, fuse_getxattr_in>) in.size = 8;
  return in;
}

constexpr std::string_view kEight = "12345678";
void add_tail(Request&, const NoTail&) {}
void add_tail(Request& request, const LookupName&) { request.name("n"); }
void add_tail(Request& request, const EntryName&) { request.name("n"); }
void add_tail(Request& request, const EntryNames&) { request.name("old").name("new"); }
void add_tail(Request& request, const NewEntry&) { request.name("n"); }
void add_tail(Request& request, const UnnamedEntry&) { request.name("/"); }
void add_tail(Request& request, const SymlinkNames&) { request.name("n").name("target"); }
void add_tail(Request& request, const XattrName&) { request.name("user.n"); }
void add_tail(Request& request, const XattrPair&) { request.name("user.n").bytes(as_bytes(kEight)); }
void add_tail(Request& request, const Payload&) { request.bytes(as_bytes(kEight)); }
void add_tail(Request& request, const ForgetList&) {
  request.arg(fuse_forget_one{.nodeid = 5, .nlookup = 6});
}
void add_tail(Request& request, const MappingList&) {
  request.arg(fuse_removemapping_one{.moffset = 7, .len = 8});
}

// The same, as RecordingFs writes it down.
const char* sent_text(const NoTail&) { return ""; }
const char* sent_text(const LookupName&) { return "n"; }
const char* sent_text(const EntryName&) { return "n"; }
const char* sent_text(const EntryNames&) { return "old>new"; }
const char* sent_text(const NewEntry&) { return "n"; }
const char* sent_text(const UnnamedEntry&) { return ""; }
const char* sent_text(const SymlinkNames&) { return "n>target"; }
const char* sent_text(const XattrName&) { return "user.n"; }
const char* sent_text(const XattrPair&) { return "user.n=12345678"; }
const char* sent_text(const Payload&) { return "12345678"; }
const char* sent_text(const ForgetList&) { return "5:6"; }
const char* sent_text(const MappingList&) { return "7:8"; }

template <class Op>
Request arguments_only() {
  Request request(Op::kOpcode, NodeId{42});
  request.uid(1000).gid(1001);
  if constexpr (!std::is_empty_v<typename Op::In>) request.arg(minimal_arguments<typename Op::In>());
  return request;
}

template <class Op>
Request minimal_request() {
  Request request = arguments_only<Op>();
  add_tail(request, typename Op::Tail{});
  return request;
}

// ---- a file system that records what reaches it and answers with recognisable bytes ----

template <class Out>
Out pattern() {
  Out out;
  std::memset(&out, 0x5a, sizeof out);
  return out;
}

std::string text_of(const NoTail&) { return ""; }
std::string text_of(const LookupName& t) { return std::string(t.name); }
std::string text_of(const EntryName& t) { return std::string(t.name); }
std::string text_of(const EntryNames& t) { return std::string(t.old_name) + ">" + std::string(t.new_name); }
std::string text_of(const NewEntry& t) { return std::string(t.name); }
std::string text_of(const UnnamedEntry&) { return ""; }
std::string text_of(const SymlinkNames& t) { return std::string(t.name) + ">" + std::string(t.target); }
std::string text_of(const XattrName& t) { return std::string(t.name); }
std::string text_of(const XattrPair& t) { return std::string(t.name) + "=" + std::string(as_text(t.value)); }
std::string text_of(const Payload& t) {
  std::string data(t.data.size(), '?');
  t.data.copy_to(std::as_writable_bytes(std::span<char>(data)));
  return data;
}
std::string text_of(const ForgetList& t) {
  return std::to_string(t.items[0].nodeid) + ":" + std::to_string(t.items[0].nlookup);
}
std::string text_of(const MappingList& t) {
  return std::to_string(t.items[0].moffset) + ":" + std::to_string(t.items[0].len);
}

void answer(ReplyNone&&) {}
void answer(ReplyEmpty&& reply) { std::move(reply).ok(); }
template <class Out>
void answer(ReplyStruct<Out>&& reply) {
  std::move(reply).ok(pattern<Out>());
}
void answer(ReplyWrite&& reply) { std::move(reply).ok(8); }
void answer(ReplyData&& reply) {
  IoVecs room = reply.room();
  room.copy_from(as_bytes("data"));
  std::move(reply).ok(std::size_t{4});
}
void answer(ReplyXattr&& reply) { std::move(reply).ok(as_bytes("value")); }
void answer(ReplyIoctl&& reply) { std::move(reply).ok(-3, as_bytes("out")); }

class RecordingFs : public FileSystem {
 public:
  std::string method;
  std::string tail;
  Header header{};

#define FUSE_OP(method_name, Type, opcode, In, Tail, Reply) \
  void method_name(Call<op::Type> call) override {          \
    method = #method_name;                                  \
    tail = text_of(call.tail);                              \
    header = call.header;                                   \
    answer(std::move(call.reply));                          \
  }
#include "fusewire/ops.def"
};

// What the whole body must be after answer().
template <class Reply>
std::vector<std::byte> expected_body() {
  const auto copy = [](std::span<const std::byte> bytes) { return std::vector(bytes.begin(), bytes.end()); };
  if constexpr (std::is_same_v<Reply, ReplyData>) {
    return copy(as_bytes("data"));
  } else if constexpr (std::is_same_v<Reply, ReplyXattr>) {
    return copy(as_bytes("value"));
  } else if constexpr (std::is_same_v<Reply, ReplyWrite>) {
    return copy(bytes_of(fuse_write_out{.size = 8, .padding = 0}));
  } else if constexpr (std::is_same_v<Reply, ReplyIoctl>) {
    auto body = copy(bytes_of(fuse_ioctl_out{.result = -3, .flags = 0, .in_iovs = 0, .out_iovs = 0}));
    for (const std::byte byte : as_bytes("out")) body.push_back(byte);
    return body;
  } else {
    return std::vector<std::byte>(Reply::kBodySize, std::byte{0x5a});
  }
}

// What the tests below need to know of a row, as plain data, so that each test is compiled once and not once
// a row.
struct OpCase {
  const char* name;
  std::uint32_t opcode;
  bool has_reply;
  int reply_size;
  Request minimal;
  Request arguments;  // without the tail
  const char* sent_text;
  std::vector<std::byte> expected_body;
  // The minimal request with another announced size; empty where the arguments announce none.
  std::function<Request(std::uint32_t)> with_size;
  // Names in the tail: how many, and whether they name an entry to look up, or to make or remove.
  int names;
  bool names_are_lookups;
  bool names_are_entries;
  bool second_name_is_text;
};

template <class Op>
std::function<Request(std::uint32_t)> resizer() {
  using In = typename Op::In;
  using Tail = typename Op::Tail;
  if constexpr (std::is_same_v<Tail, Payload> || std::is_same_v<Tail, XattrPair> ||
                std::is_same_v<Tail, ForgetList> || std::is_same_v<Tail, MappingList>) {
    return [](std::uint32_t size) {
      In in = minimal_arguments<In>();
      if constexpr (requires { in.count; }) {
        in.count = size;
      } else if constexpr (requires { in.in_size; }) {
        in.in_size = size;
      } else {
        in.size = size;
      }
      Request request(Op::kOpcode);
      request.arg(in);
      add_tail(request, Tail{});
      return request;
    };
  } else {
    return {};
  }
}

template <class Op>
OpCase case_of() {
  using Tail = typename Op::Tail;
  constexpr bool kTwoNames = std::is_same_v<Tail, EntryNames> || std::is_same_v<Tail, SymlinkNames>;
  constexpr bool kOneName = std::is_same_v<Tail, UnnamedEntry> || (!kTwoNames && requires { Tail{}.name; });
  constexpr bool kEntry = kTwoNames || std::is_same_v<Tail, EntryName> || std::is_same_v<Tail, NewEntry>;
  return {.name = Op::kName,
          .opcode = Op::kOpcode,
          .has_reply = Op::Reply::kHasReply,
          .reply_size = static_cast<int>(Op::Reply::kBodySize),
          .minimal = minimal_request<Op>(),
          .arguments = arguments_only<Op>(),
          .sent_text = sent_text(Tail{}),
          .expected_body = expected_body<typename Op::Reply>(),
          .with_size = resizer<Op>(),
          .names = kTwoNames  ? 2
                   : kOneName ? 1
                              : 0,
          .names_are_lookups = std::is_same_v<Tail, LookupName>,
          .names_are_entries = kEntry,
          .second_name_is_text = std::is_same_v<Tail, SymlinkNames>};
}

const std::vector<OpCase>& all_cases() {
  static const std::vector<OpCase> cases = {
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) case_of<op::Type>(),
#include "fusewire/ops.def"
  };
  return cases;
}

class OpTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  // With the long layout of SETXATTR.
  class NegotiatingFs : public RecordingFs {
   public:
    Result<void> init(Negotiation& negotiation) override {
      negotiation.want(Cap::setxattr_ext);
      return {};
    }
  };

  OpTest() { EXPECT_EQ(kernel_.init().error, 0); }

  // The request was refused, in the way that its operation allows, and never reached the file system.
  void expect_refused(const Request& request, const std::string& what) {
    fs_.method.clear();
    const Answer answer = kernel_.send(request);
    EXPECT_EQ(fs_.method, "") << what;
    EXPECT_EQ(answer.replied, op_.has_reply) << what;
    EXPECT_EQ(answer.error, op_.has_reply ? EINVAL : 0) << what;
  }

  // The first bytes of a request, whose header knows of the cut. Less than a header cannot even be answered.
  void expect_cut(std::span<const std::byte> bytes) {
    fs_.method.clear();
    const auto slot = testing::MemorySlot::truncated({bytes.begin(), bytes.end()});
    kernel_.engine().submit(*slot);
    const Answer answer = slot->wait();
    const bool answerable = bytes.size() >= sizeof(fuse_in_header) && op_.has_reply;
    EXPECT_EQ(fs_.method, "") << bytes.size();
    EXPECT_EQ(answer.replied, answerable) << bytes.size();
    EXPECT_EQ(answer.error, answerable ? EINVAL : 0) << bytes.size();
  }

  const OpCase& op_ = all_cases()[GetParam()];
  NegotiatingFs fs_;
  Harness kernel_{fs_};
};

INSTANTIATE_TEST_SUITE_P(Each, OpTest, ::testing::Range(std::size_t{0}, all_cases().size()),
                         [](const auto& param) { return all_cases()[param.param].name; });

TEST_P(OpTest, MinimalRequest_ReachesItsMethod_AndTheWholeReplyComesBack) {
  for (const std::size_t piece : {0, 1, 3, 16, 40}) {
    const Answer answer = kernel_.send(Request(op_.minimal).pieces(piece));
    EXPECT_NE(fs_.method, "");
    EXPECT_EQ(fs_.header.node, NodeId{42});
    EXPECT_EQ(fs_.header.uid, GuestUid{1000});
    EXPECT_EQ(fs_.header.gid, GuestGid{1001});
    EXPECT_EQ(fs_.tail, op_.sent_text);
    EXPECT_EQ(answer.replied, op_.has_reply);
    if (!answer.replied) continue;
    EXPECT_EQ(answer.error, 0);
    EXPECT_EQ(answer.unique, op_.minimal.unique());
    EXPECT_EQ(answer.body, op_.expected_body);
  }
}

TEST_P(OpTest, Truncated_AtEachLength_IsRefused) {
  const auto bytes = op_.minimal.encode();
  for (std::size_t length = 1; length < bytes.size(); ++length) expect_cut(std::span(bytes).first(length));
}

TEST_P(OpTest, Length_OfTheHeaderBeyondTheRequest_IsRefused) {
  const auto size = static_cast<std::uint32_t>(op_.minimal.encode().size());
  expect_refused(Request(op_.minimal).length(size + 1), "one byte more than came");
  expect_refused(Request(op_.minimal).length(~0U), "4 GiB");
  expect_refused(Request(op_.minimal).length(39), "less than a header");
}

TEST_P(OpTest, ReplyRoom_TooSmall_IsRefusedBeforeAnythingHappens) {
  if (op_.reply_size == 0) return;
  expect_refused(Request(op_.minimal).room(op_.reply_size - 1), "a byte short");
  EXPECT_FALSE(kernel_.send(Request(op_.minimal).room(-1)).replied);
  EXPECT_EQ(fs_.method, "");
}

TEST_P(OpTest, MissingNul_IsRefused) {
  if (op_.names == 0) return;
  expect_refused(op_.arguments, "no name");
  expect_refused(Request(op_.arguments).bytes(as_bytes("name-without-end")), "first name");
  if (op_.names < 2) return;
  expect_refused(Request(op_.arguments).name("old"), "one name");
  expect_refused(Request(op_.arguments).name("old").bytes(as_bytes("new")), "second name");
}

TEST_P(OpTest, Name_ThatWouldLeaveTheDirectory_IsRefused) {
  for (const char* bad : {"", "/", "a/b", "/etc", "../x", ".", ".."}) {
    const bool dots = bad == std::string_view(".") || bad == std::string_view("..");
    if (!op_.names_are_entries && (!op_.names_are_lookups || dots)) continue;
    Request first = Request(op_.arguments).name(bad);
    expect_refused(op_.names == 2 ? first.name("other") : first, bad);
    if (op_.names == 2 && !op_.second_name_is_text)
      expect_refused(Request(op_.arguments).name("other").name(bad), bad);
  }
}

TEST_P(OpTest, Sizes_ThatOverflow_AreRefused) {
  if (!op_.with_size) return;
  for (const std::uint32_t size : {9U, 0x1000'0000U, 0x7fff'ffffU, 0xffff'ffffU})
    expect_refused(op_.with_size(size), std::to_string(size));
}

TEST_P(OpTest, LeftOut_IsEnosys) {
  FileSystem bare;
  Harness kernel(bare);
  kernel.init(Harness::kAllCaps & ~static_cast<std::uint64_t>(Cap::setxattr_ext));
  Request request = op_.minimal;
  if (op_.opcode == FUSE_SETXATTR) {
    const auto in = minimal_arguments<fuse_setxattr_in>();
    request = Request(FUSE_SETXATTR).bytes(bytes_of(in).first(FUSE_COMPAT_SETXATTR_IN_SIZE));
    add_tail(request, XattrPair{});
  }
  const Answer answer = kernel.send(request);
  EXPECT_EQ(answer.replied, op_.has_reply);
  EXPECT_EQ(answer.error, op_.has_reply ? ENOSYS : 0);
}

// ---- decoders with a name of their own ----

class ExtensionsTest : public ::testing::Test {
 protected:
  class Fs : public FileSystem {
   public:
    bool security = false;
    std::string xattr, label;
    bool has_group = false;
    std::uint32_t group = 0;
    Result<void> init(Negotiation& negotiation) override {
      if (security) negotiation.want(Cap::security_ctx);
      return {};
    }
    void mkdir(Call<op::Mkdir> call) override {
      xattr = call.tail.extensions.security_xattr;
      label = as_text(call.tail.extensions.security_label);
      has_group = call.tail.extensions.has_group;
      group = call.tail.extensions.group.get();
      std::move(call.reply).ok({});
    }
    void setxattr(Call<op::Setxattr> call) override {
      label = as_text(call.tail.value);
      std::move(call.reply).ok();
    }
  };
  Fs fs_;

  static Request mkdir() { return Request(FUSE_MKDIR).arg(fuse_mkdir_in{}).name("dir"); }
  static std::vector<std::byte> block(std::uint32_t type, std::string_view content, bool pad = true) {
    std::vector<std::byte> bytes;
    const ExtensionHeader header{.size = static_cast<std::uint32_t>(sizeof header + content.size()),
                                 .type = type};
    for (const auto part : {bytes_of(header), as_bytes(content)})
      bytes.insert(bytes.end(), part.begin(), part.end());
    while (pad && bytes.size() % 8 != 0) bytes.push_back(std::byte{0});
    return bytes;
  }
  static std::string words(std::initializer_list<std::uint32_t> values) {
    std::string text;
    for (const std::uint32_t v : values) text += as_text(bytes_of(v));
    return text;
  }
  static std::string context(std::uint32_t size, std::string_view name_and_label) {
    return words({size, 0}) + std::string(name_and_label);
  }
};

TEST_F(ExtensionsTest, GroupAndContext_Announced_AreBothDecoded) {
  Harness kernel(fs_);
  kernel.init();
  auto all = block(1, context(5, {"security.selinux\0label", 22}));
  const auto groups = block(kExtensionGroups, words({1, 77}));
  all.insert(all.end(), groups.begin(), groups.end());
  EXPECT_EQ(kernel.send(mkdir().bytes(all).extensions_size(all.size())).error, 0);
  EXPECT_EQ(fs_.xattr, "security.selinux");
  EXPECT_EQ(fs_.label, "label");
  EXPECT_TRUE(fs_.has_group);
  EXPECT_EQ(fs_.group, 77U);
}

TEST_F(ExtensionsTest, Context_OfOldKernels_IsFoundOnceNegotiated) {
  fs_.security = true;
  Harness kernel(fs_);
  kernel.init();
  EXPECT_EQ(kernel.send(mkdir().bytes(block(1, context(1, {"security.x\0L", 12})))).error, 0);
  EXPECT_EQ(fs_.xattr, "security.x");
  EXPECT_EQ(fs_.label, "L");
  EXPECT_EQ(kernel.send(mkdir().bytes(block(0, ""))).error, 0);
  EXPECT_EQ(fs_.xattr, "");
}

TEST_F(ExtensionsTest, Malformed_IsRefused) {
  fs_.security = true;
  Harness kernel(fs_);
  kernel.init();
  const std::vector<std::vector<std::byte>> bad = {
      block(2, context(1, {"a\0L", 3})),                         // two contexts
      block(1, context(9, {"a\0L", 3})),                         // label longer than what came
      block(1, context(0xffffffff, {"a\0L", 3})),                //
      block(1, context(1, "no end")),                            // name without NUL
      block(1, context(1, {"\0L", 2})),                          // empty name
      block(1, "1234567"),                                       // shorter than its header
      block(kExtensionGroups, words({2, 1, 2})),                 // two groups
      block(kExtensionGroups, words({1})),                       // a group that did not come
      block(kExtensionGroups, ""),                               // no count
      {std::byte{4}, std::byte{0}, std::byte{0}, std::byte{0}},  // half a header
  };
  for (const auto& bytes : bad) EXPECT_EQ(kernel.send(mkdir().bytes(bytes)).error, EINVAL);
  auto lying = block(99, "12345678");
  lying[0] = std::byte{7};  // smaller than its own header
  EXPECT_EQ(kernel.send(mkdir().bytes(lying)).error, EINVAL);
  lying[0] = std::byte{255};
  EXPECT_EQ(kernel.send(mkdir().bytes(lying)).error, EINVAL);
  EXPECT_EQ(kernel.send(mkdir().extensions_size(8)).error, EINVAL);
}

TEST_F(ExtensionsTest, UnknownType_IsPassedOver) {
  Harness kernel(fs_);
  kernel.init();
  const auto unknown = block(99, "123", false);
  EXPECT_EQ(kernel.send(mkdir().bytes(unknown).bytes(as_bytes({"\0\0\0\0\0", 5})).extensions_size(16)).error,
            0);
}

TEST_F(ExtensionsTest, Setxattr_WithoutExt_HasTheShortLayout) {
  Harness kernel(fs_);
  kernel.init(Harness::kAllCaps & ~static_cast<std::uint64_t>(Cap::setxattr_ext));
  const fuse_setxattr_in in{.size = 3, .flags = 0, .setxattr_flags = 0, .padding = 0};
  EXPECT_EQ(
      kernel.send(Request(FUSE_SETXATTR).bytes(bytes_of(in).first(8)).name("user.a").bytes(as_bytes("xyz")))
          .error,
      0);
  EXPECT_EQ(fs_.label, "xyz");
}

TEST(BatchForget, Default_ForgetsEachItem) {
  class Fs : public FileSystem {
   public:
    std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
    void forget_node(NodeId node, std::uint64_t lookups) override { seen.emplace_back(node.get(), lookups); }
  } fs;
  Harness kernel(fs);
  kernel.init();
  Request request(FUSE_BATCH_FORGET);
  request.arg(fuse_batch_forget_in{.count = 8000, .dummy = 0});
  for (std::uint64_t i = 0; i < 8000; ++i) request.arg(fuse_forget_one{.nodeid = i, .nlookup = i + 1});
  EXPECT_FALSE(kernel.send(request.pieces(4096)).replied);
  ASSERT_EQ(fs.seen.size(), 8000U);
  EXPECT_EQ(fs.seen[7999].second, 8000U);
}

}  // namespace
}  // namespace fusewire
