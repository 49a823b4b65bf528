// Replaying recordings that were made up here to a server in memory.
#include "virtiofs-bench/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "fusewire/bytes.h"
#include "recording/writer.h"
#include "virtiofs-bench/fake_server_test.h"

namespace fusewire::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

std::vector<std::byte> bytes_of_all(std::initializer_list<std::span<const std::byte>> parts) {
  std::vector<std::byte> all;
  for (const auto part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::span<const std::byte> c_string(const char* text) {
  return std::as_bytes(std::span(text, std::char_traits<char>::length(text) + 1));
}

class ReplayTest : public ::testing::Test {
 protected:
  ReplayTest() {
    std::string path = "/tmp/replay-test.XXXXXX";
    const UniqueFd fd(::mkstemp(path.data()));
    path_ = path;
    auto writer = recording::Writer::create(path_);
    if (!writer) ADD_FAILURE() << writer.error();
    writer_ = std::move(*writer);
  }
  ~ReplayTest() override { std::filesystem::remove(path_); }

  // Recording: a request, whose number comes back, and its reply.
  std::uint64_t request(std::uint32_t opcode, std::uint64_t node, std::uint32_t room,
                        std::vector<std::byte> arguments) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + arguments.size());
    header.opcode = opcode;
    header.unique = unique_ += 2;
    header.nodeid = node;
    const bool hiprio = opcode == FUSE_FORGET;
    writer_->request(hiprio ? 0 : 1, bytes_of_all({bytes_of(header), arguments}), room);
    return header.unique;
  }
  void reply(std::uint32_t opcode, std::uint64_t unique, int error, std::vector<std::byte> body = {}) {
    fuse_out_header header{};
    header.unique = unique;
    header.error = -error;
    writer_->reply(opcode, header, body);
  }
  void init() {
    const auto unique = request(FUSE_INIT, 0, sizeof(fuse_init_out),
                                bytes_of_all({bytes_of(fuse_init_in{7, 31, 0, 0, 0, {}})}));
    reply(FUSE_INIT, unique, 0, bytes_of_all({bytes_of(fuse_init_out{})}));
  }
  // CREATE of `name` in the root, answered with this node and handle.
  void create(const char* name, std::uint64_t node, std::uint64_t handle) {
    const auto unique = request(FUSE_CREATE, FUSE_ROOT_ID, sizeof(CreateOut),
                                bytes_of_all({bytes_of(fuse_create_in{}), c_string(name)}));
    CreateOut out{};
    out.entry.nodeid = node;
    out.open.fh = handle;
    reply(FUSE_CREATE, unique, 0, bytes_of_all({bytes_of(out)}));
  }

  // Ends the recording, and replays it to `server`.
  Expected<ReplayResult> replay_to(const FakeServer& server, Wait wait = Wait::irq) {
    writer_.reset();
    const auto recording = load_recording(path_);
    if (!recording) return failed(recording.error());
    Options options;
    options.socket = server.socket_path();
    const auto subject =
        Subject::open(options, 0, {"/tmp", "/tmp", interrupted_}, wanted_for(*recording, options));
    if (!subject) return failed(subject.error());
    return replay(**subject, *recording, wait);
  }

  std::string path_;
  std::unique_ptr<recording::Writer> writer_;
  std::uint64_t unique_ = 0;
  std::atomic<bool> interrupted_{false};
};

// What the fake server's last request of `opcode` has behind its header.
template <class T>
T arguments_of(const FakeServer& server, std::uint32_t opcode) {
  T value{};
  const auto bytes = server.last(opcode);
  std::memcpy(&value, bytes.data() + sizeof(fuse_in_header), std::min(sizeof value, bytes.size()));
  return value;
}
std::uint64_t node_of(const FakeServer& server, std::uint32_t opcode) {
  fuse_in_header header;
  std::memcpy(&header, server.last(opcode).data(), sizeof header);
  return header.nodeid;
}

TEST_F(ReplayTest, NodesAndHandles_AreThoseThatThisServerGaveOut) {
  init();
  create("file", 77, 88);
  fuse_write_in write{};
  write.fh = 88;
  write.size = 5000;
  const std::vector<std::byte> data(5000);
  const auto written = request(FUSE_WRITE, 77, sizeof(fuse_write_out), bytes_of_all({bytes_of(write), data}));
  reply(FUSE_WRITE, written, 0, bytes_of_all({bytes_of(fuse_write_out{5000, 0})}));
  fuse_release_in release{};
  release.fh = 88;
  const auto released = request(FUSE_RELEASE, 77, 0, bytes_of_all({bytes_of(release)}));
  reply(FUSE_RELEASE, released, 0);
  request(FUSE_FORGET, 77, 0, bytes_of_all({bytes_of(fuse_forget_in{1})}));

  const FakeServer server({.first_number = 1000});
  const auto result = replay_to(server);

  ASSERT_TRUE(result) << result.error();
  EXPECT_THAT(result->differences, IsEmpty());
  EXPECT_EQ(result->run.operations, 5U);
  EXPECT_EQ(result->run.latency.count(), 4U) << "a FORGET has no reply";
  EXPECT_EQ(result->run.bytes, 5000U);
  EXPECT_EQ(node_of(server, FUSE_WRITE), 1001U);
  EXPECT_EQ(arguments_of<fuse_write_in>(server, FUSE_WRITE).fh, 1001U);
  EXPECT_EQ(server.references(), 0);
  EXPECT_EQ(server.open_handles(), 0U);
}

TEST_F(ReplayTest, Write_IsCutAsLinuxDoes) {
  init();
  create("file", 77, 88);
  fuse_write_in write{};
  write.fh = 88;
  write.size = 5000;
  request(FUSE_WRITE, 77, sizeof(fuse_write_out),
          bytes_of_all({bytes_of(write), std::vector<std::byte>(5000)}));

  const FakeServer server;
  ASSERT_TRUE(replay_to(server));

  EXPECT_THAT(server.cut(FUSE_WRITE).readable, ElementsAre(40, 40, 4096, 904));
  EXPECT_THAT(server.cut(FUSE_WRITE).writable, ElementsAre(16, 8));
}

TEST_F(ReplayTest, Directory_IsReadOnFromWhereThisServerStopped) {
  init();
  create("name", 77, 88);
  const auto opened =
      request(FUSE_OPENDIR, FUSE_ROOT_ID, sizeof(fuse_open_out), bytes_of_all({bytes_of(fuse_open_in{})}));
  reply(FUSE_OPENDIR, opened, 0, bytes_of_all({bytes_of(fuse_open_out{99, 0, 0})}));
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{0x7fff123456789abc}}) {
    fuse_read_in read{};
    read.fh = 99;
    read.offset = offset;
    read.size = 4096;
    reply(FUSE_READDIRPLUS, request(FUSE_READDIRPLUS, FUSE_ROOT_ID, 4096, bytes_of_all({bytes_of(read)})), 0);
  }

  const FakeServer server({.first_number = 500});
  const auto result = replay_to(server);

  ASSERT_TRUE(result) << result.error();
  EXPECT_EQ(server.requests(FUSE_READDIRPLUS), 2U);
  EXPECT_EQ(arguments_of<fuse_read_in>(server, FUSE_READDIRPLUS).offset, 1U) << "behind the only entry";
}

TEST_F(ReplayTest, OtherOutcomes_AreCountedInWords) {
  init();
  for (int i = 0; i < 2; ++i)
    reply(FUSE_LOOKUP,
          request(FUSE_LOOKUP, FUSE_ROOT_ID, sizeof(fuse_entry_out), bytes_of_all({c_string("gone")})), 0,
          bytes_of_all({bytes_of(fuse_entry_out{})}));
  reply(
      FUSE_GETATTR,
      request(FUSE_GETATTR, FUSE_ROOT_ID, sizeof(fuse_attr_out), bytes_of_all({bytes_of(fuse_getattr_in{})})),
      EACCES);

  const FakeServer server;
  const auto result = replay_to(server);

  ASSERT_TRUE(result) << result.error();
  EXPECT_THAT(result->differences, ElementsAre(Pair("Getattr: success, not Permission denied", 1),
                                               Pair("Lookup: No such file or directory, not success", 2)));
}

TEST_F(ReplayTest, RequestsAboutWhatThisServerHasNot_AreLeftOut) {
  init();
  reply(FUSE_GETATTR,
        request(FUSE_GETATTR, 4711, sizeof(fuse_attr_out), bytes_of_all({bytes_of(fuse_getattr_in{})})), 0);

  const FakeServer server;
  const auto result = replay_to(server);

  ASSERT_TRUE(result) << result.error();
  EXPECT_EQ(server.requests(FUSE_GETATTR), 0U);
  EXPECT_THAT(result->differences, SizeIs(1));
}

TEST_F(ReplayTest, RequestsWithoutAReplyBetweenThem_AreUnderWayTogether) {
  init();
  std::vector<std::uint64_t> numbers(5);
  for (std::uint64_t& number : numbers)
    number = request(FUSE_GETATTR, FUSE_ROOT_ID, sizeof(fuse_attr_out),
                     bytes_of_all({bytes_of(fuse_getattr_in{})}));
  for (const std::uint64_t number : numbers) reply(FUSE_GETATTR, number, 0);
  writer_.reset();

  const auto recording = load_recording(path_);

  ASSERT_TRUE(recording) << recording.error();
  EXPECT_EQ(recording->depth, 5U);
}

TEST_F(ReplayTest, Polling_GivesTheSame) {
  init();
  create("file", 77, 88);
  const FakeServer server;
  const auto result = replay_to(server, Wait::poll);
  ASSERT_TRUE(result) << result.error();
  EXPECT_EQ(result->run.operations, 2U);
}

TEST_F(ReplayTest, WrongReply_Fails) {
  init();
  create("file", 77, 88);
  const FakeServer server({.fault = {Fault::Kind::other_unique, FUSE_CREATE}});
  const auto result = replay_to(server);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error(), HasSubstr("Create: request 4"));
  EXPECT_THAT(result.error(), HasSubstr("the reply is to request"));
}

TEST_F(ReplayTest, ServerThatRefusesInit_Fails) {
  init();
  const FakeServer server({.fault = {Fault::Kind::wrong_error, FUSE_INIT}});
  const auto result = replay_to(server);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error(), HasSubstr("INIT: Input/output error"));
}

TEST_F(ReplayTest, RepliesThatBelongToNothing_AreNotTrusted) {
  init();
  // Each reply makes room for one more request in the eyes of whoever only counts them.
  for (int i = 0; i < 3; ++i) {
    request(FUSE_GETATTR, FUSE_ROOT_ID, sizeof(fuse_attr_out), bytes_of_all({bytes_of(fuse_getattr_in{})}));
    reply(FUSE_GETATTR, 1'000'001, 0);
  }
  const FakeServer server;
  const auto result = replay_to(server);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error(), HasSubstr("do not belong to its requests"));
}

TEST_F(ReplayTest, RecordingWithoutInit_IsRefused) {
  create("file", 77, 88);
  writer_.reset();
  const auto recording = load_recording(path_);
  ASSERT_FALSE(recording);
  EXPECT_THAT(recording.error(), HasSubstr("does not begin with INIT"));
}

TEST_F(ReplayTest, RecordingThatBeginsWithAReply_IsRefused) {
  reply(FUSE_GETATTR, 2, 0);
  create("file", 77, 88);
  writer_.reset();
  const auto recording = load_recording(path_);
  ASSERT_FALSE(recording);
  EXPECT_THAT(recording.error(), HasSubstr("does not begin with INIT"));
}

TEST_F(ReplayTest, RequestOfImpossibleSize_IsRefused) {
  init();
  request(FUSE_READ, 5, 1U << 30, bytes_of_all({bytes_of(fuse_read_in{})}));
  writer_.reset();
  const auto recording = load_recording(path_);
  ASSERT_FALSE(recording);
  EXPECT_THAT(recording.error(), HasSubstr("impossible size"));
}

TEST_F(ReplayTest, FileThatIsNoRecording_IsRefused) {
  writer_.reset();
  std::ofstream(path_) << "something else entirely";
  const auto recording = load_recording(path_);
  ASSERT_FALSE(recording);
  EXPECT_THAT(recording.error(), HasSubstr("is no recording"));
}

}  // namespace
}  // namespace fusewire::bench
