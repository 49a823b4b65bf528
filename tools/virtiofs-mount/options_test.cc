#include "virtiofs-mount/options.h"

#include <gmock/gmock.h>

#include <vector>

namespace fusewire::carry {
namespace {

using testing::HasSubstr;
using Arguments = std::vector<const char*>;

std::expected<Options, std::string> parse_all(Arguments arguments) {
  arguments.insert(arguments.begin(), "virtiofs-mount");
  return parse(static_cast<int>(arguments.size()), arguments.data());
}

Options accepted(const Arguments& arguments) {
  auto options = parse_all(arguments);
  EXPECT_TRUE(options) << options.error();
  return options.value_or(Options());
}

std::string refused(const Arguments& arguments) {
  const auto options = parse_all(arguments);
  EXPECT_FALSE(options);
  return options ? "" : options.error();
}

TEST(Options, SocketAndMountpoint_GiveTheDefaults) {
  const Options options = accepted({"/run/s", "/mnt"});
  EXPECT_EQ(options.action, Options::Action::mount);
  EXPECT_EQ(options.socket, "/run/s");
  EXPECT_EQ(options.mountpoint, "/mnt");
  EXPECT_EQ(options.queues, 1U);
  EXPECT_FALSE(options.foreground || options.trace || options.interrupts || options.debug);
  EXPECT_EQ(options.record, "");
  EXPECT_EQ(options.mount.fsname, "/run/s");
  EXPECT_EQ(options.mount.subtype, "virtiofs");
  EXPECT_TRUE(options.mount.default_permissions);
  EXPECT_FALSE(options.mount.allow_other);
}

TEST(Options, EveryOption_IsTaken_WhereverItStands) {
  const Options options = accepted({"-f", "s", "--trace", "m", "--interrupts", "-d", "--queues=3", "--record",
                                    "r", "-o", "ro,allow_other", "-o", "fsname=x"});
  EXPECT_EQ(options.socket, "s");
  EXPECT_EQ(options.mountpoint, "m");
  EXPECT_TRUE(options.foreground && options.trace && options.interrupts && options.debug);
  EXPECT_EQ(options.queues, 3U);
  EXPECT_EQ(options.record, "r");
  EXPECT_TRUE(options.mount.allow_other);
  EXPECT_NE(options.mount.flags & MS_RDONLY, 0U);
  EXPECT_EQ(options.mount.fsname, "x");
}

TEST(Options, LastOfRepeatedOptions_Wins) {
  EXPECT_EQ(accepted({"s", "m", "--queues", "2", "--queues", "5"}).queues, 5U);
  EXPECT_EQ(accepted({"s", "m", "-o", "fsname=a", "-o", "fsname=b"}).mount.fsname, "b");
}

TEST(Options, WhatCannotBe_IsNamed) {
  EXPECT_THAT(refused({}), HasSubstr("SOCKET MOUNTPOINT"));
  EXPECT_THAT(refused({"s"}), HasSubstr("SOCKET MOUNTPOINT"));
  EXPECT_THAT(refused({"s", "m", "extra"}), HasSubstr("SOCKET MOUNTPOINT"));
  EXPECT_THAT(refused({"s", "m", "--queues=0"}), HasSubstr("--queues=0"));
  EXPECT_THAT(refused({"s", "m", "--queues=65"}), HasSubstr("1 to 64"));
  EXPECT_THAT(refused({"s", "m", "--queues=-1"}), HasSubstr("queues"));
  EXPECT_THAT(refused({"s", "m", "--queues=many"}), HasSubstr("queues"));
  EXPECT_THAT(refused({"s", "m", "-o", "ro,nonsense"}), HasSubstr("nonsense"));
  EXPECT_THAT(refused({"s", "m", "-o", "allow_root"}), HasSubstr("allow_root"));
  EXPECT_THAT(refused({"s", "m", "--nonsense"}), HasSubstr("--nonsense"));
  EXPECT_THAT(refused({"s", "m", "-o"}), HasSubstr("-o"));
}

TEST(Options, HelpAndVersion_NeedNothingElse) {
  EXPECT_EQ(accepted({"--help"}).action, Options::Action::print_help);
  EXPECT_EQ(accepted({"-V"}).action, Options::Action::print_version);
  for (const char* name : {"-o", "--queues", "--interrupts", "-f", "--trace", "--record", "-d", "-h", "-V"})
    EXPECT_THAT(help_text(), HasSubstr(name));
  EXPECT_THAT(version_text(), HasSubstr("virtiofs-mount"));
}

}  // namespace
}  // namespace fusewire::carry
