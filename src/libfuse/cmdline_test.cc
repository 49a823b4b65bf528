#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "fuse3/fuse_lowlevel.h"
#include "libfuse/captured_log_test.h"

extern "C" int fuse_parse_cmdline_30(struct fuse_args* args, struct fuse_cmdline_opts* opts);

namespace fusewire::libfuse {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Parsed {
  explicit Parsed(std::initializer_list<const char*> list) {
    for (const char* argument : list) EXPECT_EQ(fuse_opt_add_arg(&args, argument), 0);
    result = fuse_parse_cmdline(&args, &opts);
  }
  Parsed(const Parsed&) = delete;
  Parsed& operator=(const Parsed&) = delete;
  ~Parsed() {
    fuse_opt_free_args(&args);
    std::free(opts.mountpoint);
  }
  std::vector<std::string> left() const { return {args.argv, args.argv + args.argc}; }

  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  fuse_cmdline_opts opts{};
  int result = 0;
};

TEST(Cmdline, Nothing_Defaults) {
  const Parsed parsed({"/usr/bin/prog"});

  ASSERT_EQ(parsed.result, 0);
  EXPECT_EQ(parsed.opts.mountpoint, nullptr);
  EXPECT_EQ(parsed.opts.singlethread + parsed.opts.foreground + parsed.opts.debug + parsed.opts.show_help +
                parsed.opts.show_version + parsed.opts.clone_fd + parsed.opts.nodefault_subtype,
            0);
  EXPECT_EQ(parsed.opts.max_idle_threads, ~0U);
  EXPECT_EQ(parsed.opts.max_threads, 10U);
  EXPECT_THAT(parsed.left(), ElementsAre("/usr/bin/prog", "-osubtype=prog"));
}

TEST(Cmdline, KnownOptions_AreTaken) {
  const Parsed parsed(
      {"prog", "-f", "-s", "-h", "-V", "-o", "clone_fd,max_idle_threads=3,max_threads=4", "/"});

  ASSERT_EQ(parsed.result, 0);
  EXPECT_EQ(parsed.opts.foreground, 1);
  EXPECT_EQ(parsed.opts.singlethread, 1);
  EXPECT_EQ(parsed.opts.show_help, 1);
  EXPECT_EQ(parsed.opts.show_version, 1);
  EXPECT_EQ(parsed.opts.clone_fd, 1);
  EXPECT_EQ(parsed.opts.max_idle_threads, 3U);
  EXPECT_EQ(parsed.opts.max_threads, 4U);
  EXPECT_STREQ(parsed.opts.mountpoint, "/");
  EXPECT_THAT(parsed.left(), ElementsAre("prog", "-osubtype=prog"));
}

TEST(Cmdline, LongOptions_AreTaken) {
  const Parsed parsed({"prog", "--help", "--version"});

  EXPECT_EQ(parsed.opts.show_help, 1);
  EXPECT_EQ(parsed.opts.show_version, 1);
}

TEST(Cmdline, Debug_StaysForTheSession) {
  const Parsed dash({"prog", "-d"});
  const Parsed list({"prog", "-odebug"});

  for (const Parsed* parsed : {&dash, &list}) {
    EXPECT_EQ(parsed->opts.debug, 1);
    EXPECT_EQ(parsed->opts.foreground, 1);
  }
  EXPECT_THAT(dash.left(), ElementsAre("prog", "-d", "-osubtype=prog"));
  EXPECT_THAT(list.left(), ElementsAre("prog", "-o", "debug", "-osubtype=prog"));
}

TEST(Cmdline, NameOfTheMount_LeavesSubtypeOut) {
  const Parsed fsname({"prog", "-ofsname=disk"});
  const Parsed subtype({"prog", "-osubtype=kind"});

  EXPECT_EQ(fsname.opts.nodefault_subtype, 1);
  EXPECT_THAT(fsname.left(), ElementsAre("prog", "-o", "fsname=disk"));
  EXPECT_THAT(subtype.left(), ElementsAre("prog", "-o", "subtype=kind"));
}

TEST(Cmdline, UnknownOptions_Stay) {
  const Parsed parsed({"prog", "-x", "--y=1", "-oallow_other,mine=2"});

  EXPECT_THAT(parsed.left(),
              ElementsAre("prog", "-o", "allow_other,mine=2", "-x", "--y=1", "-osubtype=prog"));
}

TEST(Cmdline, Mountpoint_BecomesAbsolute) {
  char directory[] = "/tmp/cmdline_test.XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string roundabout = std::string(directory) + "/../" + (std::strrchr(directory, '/') + 1) + "/.";

  const Parsed parsed({"prog", roundabout.c_str()});

  EXPECT_STREQ(parsed.opts.mountpoint, directory);
  EXPECT_EQ(rmdir(directory), 0);
}

TEST(Cmdline, Mountpoint_ThatIsADescriptorStays) {
  const Parsed parsed({"prog", "/dev/fd/77"});

  EXPECT_EQ(parsed.result, 0);
  EXPECT_STREQ(parsed.opts.mountpoint, "/dev/fd/77");
}

TEST(Cmdline, Mountpoint_ThatOnlyLooksLikeADescriptorIsAnError) {
  const CapturedLog log;
  for (const char* path : {"/dev/fd/7x", "/dev/fd/x", "/dev/fd/-1"})
    EXPECT_EQ(Parsed({"prog", path}).result, -1);
}

TEST(Cmdline, Mountpoint_MissingOrSecondIsAnError) {
  const CapturedLog log;

  const Parsed missing({"prog", "/no/such/place"});
  const Parsed second({"prog", "/", "/tmp"});

  EXPECT_EQ(missing.result, -1);
  EXPECT_EQ(missing.opts.mountpoint, nullptr);
  EXPECT_EQ(second.result, -1);
  EXPECT_EQ(second.opts.mountpoint, nullptr);
  EXPECT_EQ(log.text(),
            "3:fuse: mountpoint '/no/such/place': No such file or directory\n"
            "3:fuse: '/tmp': there is a mountpoint already\n");
}

TEST(Cmdline, Socket_NeedsNoMountpoint) {
  const Parsed path({"prog", "--socket-path=/run/x.sock", "--thread-pool-size=4", "-ofsname=x"});
  const Parsed descriptor({"prog", "--fd=3", "-ofsname=x"});

  EXPECT_STREQ(path.opts.mountpoint, "");
  EXPECT_THAT(path.left(),
              ElementsAre("prog", "-o", "fsname=x", "--socket-path=/run/x.sock", "--thread-pool-size=4"));
  EXPECT_STREQ(descriptor.opts.mountpoint, "");
  EXPECT_THAT(descriptor.left(), ElementsAre("prog", "-o", "fsname=x", "--fd=3"));
}

TEST(Cmdline, Socket_ValuesMayStandApart) {
  const Parsed path({"prog", "--socket-path", "/run/x.sock", "--thread-pool-size", "4", "-ofsname=x"});
  const Parsed descriptor({"prog", "--fd", "3", "-ofsname=x"});

  EXPECT_STREQ(path.opts.mountpoint, "");
  EXPECT_THAT(path.left(),
              ElementsAre("prog", "-o", "fsname=x", "--socket-path=/run/x.sock", "--thread-pool-size=4"));
  EXPECT_STREQ(descriptor.opts.mountpoint, "");
  EXPECT_THAT(descriptor.left(), ElementsAre("prog", "-o", "fsname=x", "--fd=3"));
}

TEST(Cmdline, Socket_FromTheEnvironmentNeedsNoMountpoint) {
  ASSERT_EQ(setenv("FUSEWIRE_SOCKET", "/run/x.sock", 1), 0);
  const Parsed set({"prog"});
  ASSERT_EQ(setenv("FUSEWIRE_SOCKET", "", 1), 0);
  const Parsed empty({"prog"});
  ASSERT_EQ(unsetenv("FUSEWIRE_SOCKET"), 0);

  EXPECT_STREQ(set.opts.mountpoint, "");
  EXPECT_EQ(empty.opts.mountpoint, nullptr);
}

TEST(Cmdline, Version30_LeavesWhatCameLaterAlone) {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  for (const char* argument : {"prog", "-f", "-omax_idle_threads=6,max_threads=7"})
    ASSERT_EQ(fuse_opt_add_arg(&args, argument), 0);
  fuse_cmdline_opts opts;
  std::memset(&opts, 0x5a, sizeof opts);

  EXPECT_EQ(fuse_parse_cmdline_30(&args, &opts), 0);

  EXPECT_EQ(opts.foreground, 1);
  EXPECT_EQ(opts.max_idle_threads, 6U);
  EXPECT_EQ(opts.max_threads, 0x5a5a5a5aU);
  fuse_opt_free_args(&args);
}

TEST(Texts, Help_NamesTheOptions) {
  testing::internal::CaptureStdout();
  fuse_cmdline_help();
  fuse_lowlevel_help();
  const std::string text = testing::internal::GetCapturedStdout();

  for (const char* option :
       {"--help", "--version", "-d", "-f", "-s", "clone_fd", "max_idle_threads", "max_threads", "allow_other",
        "allow_root", "auto_unmount", "--socket-path", "--fd", "--thread-pool-size"})
    EXPECT_THAT(text, HasSubstr(option));
}

TEST(Texts, Version_NamesTheProtocol) {
  testing::internal::CaptureStdout();
  fuse_lowlevel_version();
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("FUSE protocol: 7."));

  EXPECT_EQ(fuse_version(), FUSE_VERSION);
  EXPECT_STREQ(fuse_pkgversion(), "3.18.0");
}

}  // namespace
}  // namespace fusewire::libfuse
