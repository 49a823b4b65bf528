// Target and the workloads against a server in memory, which counts what it gave out.
#include "virtiofs-bench/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "virtiofs-bench/fake_server_test.h"

namespace fusewire::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TargetTest : public ::testing::Test {
 protected:
  TargetTest() {
    options_.tree = {
        .known = 16, .entries = 300, .storm_directories = 3, .storm_files = 10, .data_bytes = 4 << 20};
    options_.seconds = std::chrono::duration<double>(0.005);
    options_.warmup = std::chrono::duration<double>(0);
    options_.depths = {4};
    options_.queues = {2};
    for (const WorkloadKind& kind : workload_kinds()) options_.workloads.push_back(&kind);
  }

  Expected<std::unique_ptr<Target>> open(const FakeServer& server) {
    options_.socket = server.socket_path();
    return Target::open(options_, 0, {"/tmp", "/tmp", interrupted_});
  }
  // The error of a run of `workload` against a server with this fault.
  std::string error_of(std::string_view workload, const Fault& fault, Wait wait = Wait::irq) {
    const FakeServer server({.fault = fault});
    const auto target = open(server);
    if (!target) return target.error();
    const auto run = (*target)->run({find_workload(workload), 1, 1, wait}, options_);
    return run ? "" : run.error();
  }
  // How the requests of a run were cut.
  FakeServer::Cut cut_of(std::string_view workload, std::uint32_t opcode) {
    const FakeServer server;
    const auto target = open(server);
    if (!target) {
      ADD_FAILURE() << target.error();
      return {};
    }
    EXPECT_TRUE((*target)->run({find_workload(workload), 1, 1, Wait::irq}, options_));
    return server.cut(opcode);
  }

  Options options_;
  std::atomic<bool> interrupted_{false};
};

class WorkloadTest : public TargetTest, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(WorkloadTest, Run_WithEveryWait_CountsOperationsAndLeavesNothingBehind) {
  const FakeServer server;
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();

  for (const Case& point :
       {Case{find_workload(GetParam()), 1, 1, Wait::irq}, Case{find_workload(GetParam()), 2, 4, Wait::irq},
        Case{find_workload(GetParam()), 1, 4, Wait::poll}}) {
    EXPECT_EQ((*target)->obstacle(point), "");
    const auto run = (*target)->run(point, options_);
    ASSERT_TRUE(run) << run.error();
    EXPECT_GT(run->operations, 0U);
    EXPECT_GT(run->latency.count(), 0U);
    EXPECT_GT(run->kicks, 0U);
    EXPECT_GT(run->cpu_seconds, 0);
    EXPECT_GT(run->footprint.descriptors, 0U);
    EXPECT_EQ(server.open_handles(), 0U);
  }
  const auto closed = (*target)->close();

  ASSERT_TRUE(closed) << closed.error();
  EXPECT_EQ(server.names(), 0U);
  EXPECT_EQ(server.references(), 0);
  EXPECT_EQ(server.requests(FUSE_DESTROY), 1U);
}

std::vector<std::string_view> workload_names() {
  std::vector<std::string_view> names;
  for (const WorkloadKind& kind : workload_kinds()) names.push_back(kind.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Every, WorkloadTest, ::testing::ValuesIn(workload_names()),
                         [](const auto& parameter) {
                           std::string name(parameter.param);
                           std::erase(name, '-');
                           return name;
                         });

// -- The right requests --

TEST_F(TargetTest, Nop_IsCutAsLinuxDoes) {
  const auto cut = cut_of("nop", 4000);
  EXPECT_THAT(cut.readable, ElementsAre(40));
  EXPECT_THAT(cut.writable, ElementsAre(16));
}

TEST_F(TargetTest, Getattr_IsCutAsLinuxDoes) {
  const auto cut = cut_of("getattr", FUSE_GETATTR);
  EXPECT_THAT(cut.readable, ElementsAre(40, 16));
  EXPECT_THAT(cut.writable, ElementsAre(16, 104));
}

TEST_F(TargetTest, Read_HasADescriptorForEachPage) {
  const auto cut = cut_of("seqread1m", FUSE_READ);
  std::vector<std::size_t> wanted(257, 4096);
  wanted[0] = 16;
  EXPECT_THAT(cut.readable, ElementsAre(40, 40));
  EXPECT_EQ(cut.writable, wanted);
}

TEST_F(TargetTest, Write_HasADescriptorForEachPage) {
  const auto cut = cut_of("randwrite4k", FUSE_WRITE);
  EXPECT_THAT(cut.readable, ElementsAre(40, 40, 4096));
  EXPECT_THAT(cut.writable, ElementsAre(16, 8));
}

TEST_F(TargetTest, Forget_IsOneDescriptorWithoutRoomForAReply) {
  const auto cut = cut_of("stat-storm", FUSE_FORGET);
  EXPECT_THAT(cut.readable, ElementsAre(48));
  EXPECT_THAT(cut.writable, ElementsAre());
}

TEST_F(TargetTest, StatStorm_ForgetsWhatItLooksUp) {
  const FakeServer server;
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();
  const std::int64_t before = server.references();

  ASSERT_TRUE((*target)->run({find_workload("stat-storm"), 2, 4, Wait::irq}, options_));

  EXPECT_EQ(server.references(), before);
}

// -- Replies that are wrong --

TEST_F(TargetTest, ReplyToAnotherRequest_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::other_unique, FUSE_GETATTR}),
              HasSubstr("the reply is to request"));
}

TEST_F(TargetTest, ReplyToAnotherRequest_WhenPolled_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::other_unique, FUSE_GETATTR}, Wait::poll),
              HasSubstr("the reply is to request"));
}

TEST_F(TargetTest, LengthThatIsNotTheUsedOne_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::longer_length, FUSE_GETATTR}),
              HasSubstr("the device says that it wrote 120 bytes, its reply 128"));
}

TEST_F(TargetTest, ErrorWithABody_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::error_with_body, FUSE_GETATTR}),
              HasSubstr("error 2 comes with a body of 16 bytes"));
}

TEST_F(TargetTest, ErrorThatNoKernelKnows_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::huge_error, FUSE_GETATTR}),
              HasSubstr("the reply's error is -512"));
}

TEST_F(TargetTest, ErrorInsteadOfSuccess_NamesBoth) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::wrong_error, FUSE_GETATTR}),
              HasSubstr("GETATTR was answered with Input/output error, where success is right"));
}

TEST_F(TargetTest, OtherErrorThanNopWants_Fails) {
  EXPECT_THAT(error_of("nop", {Fault::Kind::wrong_error, 4000}),
              HasSubstr("Function not implemented is right"));
}

TEST_F(TargetTest, ReadOfTheWrongBlock_Fails) {
  EXPECT_THAT(error_of("randread4k", {Fault::Kind::other_contents, FUSE_READ}),
              HasSubstr("has the contents of block"));
}

TEST_F(TargetTest, ChainThatTheServerDidNotHave_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::unknown_chain, FUSE_GETATTR}),
              HasSubstr("returned a chain that it did not have"));
}

TEST_F(TargetTest, ServerThatGoesAway_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::hang_up, FUSE_GETATTR}), HasSubstr("the server went away"));
}

TEST_F(TargetTest, ServerThatGoesAway_WhenPolled_Fails) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::hang_up, FUSE_GETATTR}, Wait::poll),
              HasSubstr("the server went away"));
}

TEST_F(TargetTest, ServerThatGoesAwayWhileTheTreeIsMade_FailsToOpen) {
  EXPECT_THAT(error_of("getattr", {Fault::Kind::hang_up, FUSE_MKNOD}), HasSubstr("the server went away"));
}

TEST_F(TargetTest, SilentServer_WhenTheUserWantsToStop_IsGivenUp) {
  const FakeServer server({.fault = {Fault::Kind::silence, FUSE_GETATTR}});
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();
  std::jthread user([&] {
    while (server.requests(FUSE_GETATTR) == 0) std::this_thread::yield();
    interrupted_ = true;
  });

  const auto run = (*target)->run({find_workload("getattr"), 1, 1, Wait::irq}, options_);

  ASSERT_FALSE(run);
  EXPECT_THAT(run.error(), HasSubstr("does not answer"));
}

TEST_F(TargetTest, Run_WhenTheUserWantsToStop_BeginsNothing) {
  const FakeServer server;
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();
  interrupted_ = true;

  const auto run = (*target)->run({find_workload("getattr"), 2, 4, Wait::irq}, options_);

  ASSERT_TRUE(run) << run.error();
  EXPECT_EQ(server.requests(FUSE_GETATTR), 0U);
  ASSERT_TRUE((*target)->close()) << "the tree is removed all the same";
  EXPECT_EQ(server.names(), 0U);
}

// -- What cannot be measured --

TEST_F(TargetTest, MoreQueuesThanTheServerHas_AreAnObstacle) {
  options_.queues = {4};
  const FakeServer server({.request_queues = 2});
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();

  EXPECT_EQ((*target)->queues(), 2U);
  EXPECT_EQ((*target)->obstacle({find_workload("nop"), 2, 1, Wait::irq}), "");
  EXPECT_THAT((*target)->obstacle({find_workload("nop"), 4, 1, Wait::irq}),
              HasSubstr("2 of 4 request queues"));
}

TEST_F(TargetTest, RequestsLargerThanTheServerTakes_AreAnObstacle) {
  const FakeServer server({.max_write = 131072, .max_pages = 32});
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();

  EXPECT_EQ((*target)->obstacle({find_workload("seqread128k"), 1, 1, Wait::irq}), "");
  EXPECT_THAT((*target)->obstacle({find_workload("seqread1m"), 1, 1, Wait::irq}), HasSubstr("up to 128 KiB"));
}

TEST_F(TargetTest, RingTooSmallForTheRequest_IsAnObstacle) {
  options_.ring_size = 128;
  const FakeServer server;
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();

  EXPECT_EQ((*target)->obstacle({find_workload("nop"), 1, 128, Wait::irq}), "");
  EXPECT_THAT((*target)->obstacle({find_workload("nop"), 1, 129, Wait::irq}),
              HasSubstr("do not fit into a ring"));
  EXPECT_THAT((*target)->obstacle({find_workload("seqwrite1m"), 1, 1, Wait::irq}),
              HasSubstr("do not fit into a ring"));
}

TEST_F(TargetTest, RingWithoutIndirectDescriptors_HoldsFewerRequests) {
  const FakeServer server({.indirect = false});
  const auto target = open(server);
  ASSERT_TRUE(target) << target.error();

  EXPECT_EQ((*target)->obstacle({find_workload("seqread1m"), 1, 3, Wait::irq}), "");
  EXPECT_THAT((*target)->obstacle({find_workload("seqread1m"), 1, 4, Wait::irq}),
              HasSubstr("do not fit into a ring"));
  EXPECT_TRUE((*target)->run({find_workload("seqread1m"), 1, 3, Wait::irq}, options_));
}

TEST_F(TargetTest, SocketThatNobodyListensOn_IsNamed) {
  options_.socket = "/tmp/no-such-socket";
  const auto target = Target::open(options_, 0, {"/tmp", "/tmp", interrupted_});
  ASSERT_FALSE(target);
  EXPECT_THAT(target.error(), HasSubstr("/tmp/no-such-socket"));
}

}  // namespace
}  // namespace fusewire::bench
