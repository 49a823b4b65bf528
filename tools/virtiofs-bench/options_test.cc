#include "virtiofs-bench/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fusewire::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kStart = "--start=x {socket} {dir}";

Expected<CommandLine> parse_all(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "virtiofs-bench");
  return parse(static_cast<int>(arguments.size()), arguments.data());
}
Options options_of(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), kStart);
  const auto line = parse_all(arguments);
  if (!line) ADD_FAILURE() << line.error();
  return line ? line->options : Options{};
}
std::string error_of(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), kStart);
  const auto line = parse_all(arguments);
  return line ? "" : line.error();
}

TEST(Options, Parse_OnlyAServer_HasTheDefaults) {
  const Options options = options_of({});
  EXPECT_THAT(options.commands, ElementsAre("x {socket} {dir}"));
  EXPECT_THAT(options.depths, ElementsAre(1, 32));
  EXPECT_THAT(options.queues, ElementsAre(1));
  EXPECT_THAT(options.waits, ElementsAre(Wait::irq));
  EXPECT_EQ(options.workloads.size(), workload_kinds().size());
  EXPECT_EQ(options.tree.storm_directories * options.tree.storm_files, 20'000U);
  EXPECT_EQ(options.tree.data_bytes, 128U << 20);
}

TEST(Options, Parse_Lists_AreSplitAtCommas) {
  const Options options =
      options_of({"--qd=1,8,32", "--queues", "1,2", "--wait=poll,irq", "--workloads=nop,getattr"});
  EXPECT_THAT(options.depths, ElementsAre(1, 8, 32));
  EXPECT_THAT(options.queues, ElementsAre(1, 2));
  EXPECT_THAT(options.waits, ElementsAre(Wait::poll, Wait::irq));
  EXPECT_THAT(options.workloads, ElementsAre(find_workload("nop"), find_workload("getattr")));
}

TEST(Options, Parse_Peers_FollowTheServerInTheirOrder) {
  const Options options = options_of({"--peer", "a {socket}", "--peer", "b {socket}", "--names=ours,c"});
  EXPECT_THAT(options.commands, ElementsAre("x {socket} {dir}", "a {socket}", "b {socket}"));
  EXPECT_THAT(options.names, ElementsAre("ours", "c"));
}

TEST(Options, Parse_ASocketWithAPeer_IsMeasuredFirst) {
  const auto line = parse_all({"--socket=/run/s", "--pid=7", "--peer=a {socket}"});
  ASSERT_TRUE(line) << line.error();
  EXPECT_EQ(line->options.socket, "/run/s");
  EXPECT_EQ(line->options.pid, 7);
  EXPECT_THAT(line->options.commands, ElementsAre("a {socket}"));
}

TEST(Options, Parse_RepeatedOptions_TheLastOneCountsAndListsGrow) {
  const Options options = options_of({"--seconds=1", "--seconds=2", "--qd=1", "--qd=2,3"});
  EXPECT_EQ(options.seconds.count(), 2);
  EXPECT_THAT(options.depths, ElementsAre(1, 2, 3));
}

TEST(Options, Parse_Sizes_HaveUnits) {
  const Options options = options_of({"--file-size=64M", "--readdir-size=4K", "--storm-files=1000"});
  EXPECT_EQ(options.tree.data_bytes, 64U << 20);
  EXPECT_EQ(options.readdir_bytes, 4096U);
  EXPECT_EQ(options.tree.storm_directories * options.tree.storm_files, 1000U);
}

TEST(Options, Parse_Uid_IsOursUnlessGiven) {
  EXPECT_EQ(options_of({"--qd=1"}).uid, std::nullopt);
  EXPECT_EQ(options_of({"--uid=0"}).uid, 0U);
  EXPECT_EQ(options_of({"--uid=1000"}).uid, 1000U);
  EXPECT_THAT(error_of({"--socket=s", "--uid=4294967295"}), HasSubstr("--uid"));
}

TEST(Options, Parse_FewStormFiles_AreInOneDirectory) {
  const Options options = options_of({"--storm-files=7"});
  EXPECT_EQ(options.tree.storm_directories, 1U);
  EXPECT_EQ(options.tree.storm_files, 7U);
}

TEST(Options, Parse_Nothing_AsksForAServer) {
  const auto line = parse_all({});
  ASSERT_FALSE(line);
  EXPECT_THAT(line.error(), HasSubstr("Give either --socket=SOCKET or --start='CMD'"));
}

TEST(Options, Parse_WhatCannotBeRun_SaysWhy) {
  EXPECT_THAT(error_of({"--socket=s"}), HasSubstr("either --socket"));
  EXPECT_THAT(error_of({"--peer=a"}), HasSubstr("'a' has no {socket}"));
  EXPECT_THAT(error_of({"--pid=7"}), HasSubstr("--pid goes with --socket"));
  EXPECT_THAT(error_of({"--names=a,b"}), HasSubstr("2 names for 1 servers"));
  EXPECT_THAT(error_of({"--workloads=nop,fast"}), HasSubstr("no workload 'fast'"));
  EXPECT_THAT(error_of({"--wait=never"}), HasSubstr("irq or poll, not 'never'"));
  EXPECT_THAT(error_of({"--qd=0"}), HasSubstr("--qd"));
  EXPECT_THAT(error_of({"--queues=65"}), HasSubstr("--queues"));
  EXPECT_THAT(error_of({"--seconds=-1"}), HasSubstr("--seconds"));
  EXPECT_THAT(error_of({"--ring-size=100"}), HasSubstr("power of two"));
  EXPECT_THAT(error_of({"--file-size=4K"}), HasSubstr("multiple of 1 MiB"));
  EXPECT_THAT(error_of({"--readdir-size=5000"}), HasSubstr("multiple of 4 KiB"));
  EXPECT_THAT(error_of({"--dir=/no/such"}), HasSubstr("/no/such"));
  EXPECT_THAT(error_of({"--replay=/no/such"}), HasSubstr("/no/such"));
  EXPECT_THAT(error_of({"--contents=/tmp"}), HasSubstr("--contents goes with --replay"));
  EXPECT_THAT(error_of({"--fast"}), HasSubstr("--fast"));
  EXPECT_THAT(error_of({"stray"}), HasSubstr("stray"));
}

TEST(Options, Parse_ReplayToASocket_HasOneRound) {
  const auto once = parse_all({"--socket=s", "--replay=/dev/null"});
  ASSERT_TRUE(once) << once.error();
  EXPECT_EQ(once->options.rounds, 1U);
  EXPECT_THAT(parse_all({"--socket=s", "--replay=/dev/null", "--rounds=2"}).error(), HasSubstr("one round"));
}

TEST(Options, Parse_Help_NamesEveryWorkload) {
  const auto line = parse_all({"--help"});
  ASSERT_TRUE(line);
  for (const WorkloadKind& kind : workload_kinds())
    EXPECT_THAT(line->text, HasSubstr(std::string(kind.name)));
}

TEST(Options, Parse_Version_IsPrinted) {
  const auto line = parse_all({"--version"});
  ASSERT_TRUE(line);
  EXPECT_EQ(line->text, "virtiofs-bench " FUSEWIRE_VERSION "\n");
}

}  // namespace
}  // namespace fusewire::bench
