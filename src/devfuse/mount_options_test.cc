#include "devfuse/mount_options.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

namespace fusewire::devfuse {
namespace {

using testing::HasSubstr;

MountOptions accepted(std::string_view list) {
  MountOptions options;
  const auto applied = apply(list, options);
  EXPECT_TRUE(applied) << list << ": " << applied.error();
  return options;
}

std::string refused(std::string_view list) {
  MountOptions options;
  const auto applied = apply(list, options);
  EXPECT_FALSE(applied) << list;
  return applied ? "" : applied.error();
}

TEST(MountOptions, Default_HasNeitherSetIdProgramsNorDevices) {
  EXPECT_EQ(accepted("").flags, static_cast<unsigned long>(MS_NOSUID | MS_NODEV));
  EXPECT_EQ(accepted("suid,dev").flags, 0UL);
}

TEST(MountOptions, Flags_TurnBitsOnAndOff_AndTheLastWins) {
  EXPECT_EQ(accepted("suid,dev,ro,noexec,noatime,sync,dirsync").flags,
            static_cast<unsigned long>(MS_RDONLY | MS_NOEXEC | MS_NOATIME | MS_SYNCHRONOUS | MS_DIRSYNC));
  EXPECT_EQ(accepted("suid,dev,ro,rw,noexec,exec,noatime,atime,sync,async").flags, 0UL);
  EXPECT_EQ(accepted("suid,dev,rw,ro").flags, static_cast<unsigned long>(MS_RDONLY));
}

TEST(MountOptions, Values_AreTaken) {
  const MountOptions options =
      accepted("allow_other,default_permissions,max_read=65536,fsname=a b,subtype=virtiofs");
  EXPECT_TRUE(options.allow_other);
  EXPECT_TRUE(options.default_permissions);
  EXPECT_EQ(options.max_read, 65536U);
  EXPECT_EQ(options.fsname, "a b");
  EXPECT_EQ(options.subtype, "virtiofs");
}

TEST(MountOptions, Comma_BehindABackslashOrBetweenQuotes_BelongsToTheValue) {
  EXPECT_EQ(accepted(R"(fsname=one\,two\\three,ro)").fsname, R"(one,two\three)");
  EXPECT_EQ(accepted(R"(context="u:r:t:c1,c2",ro)").security, R"(context="u:r:t:c1,c2")");
  EXPECT_EQ(accepted("context=a,fscontext=b").security, "context=a,fscontext=b");
}

TEST(MountOptions, EmptyItems_MeanNothing) {
  EXPECT_EQ(accepted(",,ro,,").flags, static_cast<unsigned long>(MS_NOSUID | MS_NODEV | MS_RDONLY));
}

TEST(MountOptions, CommentsForMount8_MeanNothing) {
  EXPECT_EQ(accepted("defaults,noauto,nofail,_netdev,user,x-systemd.automount,x-anything=1").flags,
            MountOptions().flags);
}

TEST(MountOptions, WhatScriptsGiveWithoutMeaningIt_MeansNothing) {
  const MountOptions options = accepted("fsname=,subtype=,user=somebody");
  EXPECT_EQ(options.fsname, "");
  EXPECT_EQ(options.subtype, "");
}

TEST(MountOptions, Unknown_IsRefusedByName) {
  EXPECT_THAT(refused("ro,no_such"), HasSubstr("no_such"));
  EXPECT_THAT(refused("no_such=1"), HasSubstr("no_such"));
  EXPECT_THAT(refused("ro=1"), HasSubstr("ro"));
  EXPECT_THAT(refused("=1"), HasSubstr("=1"));
  EXPECT_THAT(refused("max_read=many"), HasSubstr("max_read"));
  EXPECT_THAT(refused("max_read=99999999999"), HasSubstr("max_read"));
  EXPECT_THAT(refused("max_read"), HasSubstr("needs a value"));
  EXPECT_THAT(refused("max_read="), HasSubstr("needs a value"));
  EXPECT_THAT(refused("poll_us="), HasSubstr("needs a value"));
}

TEST(MountOptions, WhatIsForTheServer_IsTakenApart) {
  const MountOptions options = accepted("io_uring,io_uring_q_depth=3,poll_us=70");
  EXPECT_TRUE(options.io_uring);
  EXPECT_EQ(options.io_uring_queue_depth, 3U);
  EXPECT_EQ(options.busy_poll, std::chrono::microseconds(70));
  EXPECT_EQ(accepted("poll_us=0").busy_poll, std::chrono::microseconds(0));
  EXPECT_FALSE(accepted("ro").busy_poll);
  EXPECT_THAT(refused("poll_us=1000001"), HasSubstr("0 to 1000000"));
  EXPECT_THAT(refused("poll_us=-1"), HasSubstr("poll_us=-1"));
  EXPECT_THAT(refused("poll_us"), HasSubstr("needs a value"));
  EXPECT_THAT(refused("io_uring,io_uring_q_depth=0"), HasSubstr("1 to 1024"));
  EXPECT_THAT(refused("io_uring_q_depth=3"), HasSubstr("needs io_uring"));
}

TEST(MountOptions, WhatIsNotForUsers_IsRefusedWithTheReason) {
  for (const char* name : {"fd=3", "rootmode=40000", "user_id=0", "group_id=0"}) {
    const std::string text = refused(name);
    EXPECT_THAT(text, HasSubstr(std::string(name).substr(0, std::string_view(name).find('='))));
    EXPECT_THAT(text, HasSubstr("is set by")) << name;
  }
}

TEST(MountOptions, AllowRoot_IsAllowOtherForTheKernel) {
  const MountOptions options = accepted("allow_root,auto_unmount");
  EXPECT_TRUE(options.allow_root);
  EXPECT_THAT(list_of(options), HasSubstr("allow_other,auto_unmount"));
  EXPECT_THAT(kernel_data(options, 3, 0, 0, 0), HasSubstr(",allow_other"));
  EXPECT_THAT(refused("allow_root,allow_other"), HasSubstr("exclude each other"));
}

TEST(MountOptions, BlockDevice_NeedsItsName) {
  const MountOptions options = accepted("blkdev,fsname=/dev/loop0,blksize=512");
  EXPECT_THAT(kernel_data(options, 3, 0, 0, 0), HasSubstr(",blksize=512"));
  EXPECT_THAT(refused("blkdev"), HasSubstr("fsname="));
  EXPECT_THAT(refused("blksize=512"), HasSubstr("blkdev"));
}

TEST(MountOptions, List_ForFusermount_ReadsBackAsTheSameOptions) {
  MountOptions options =
      accepted(R"(ro,noexec,suid,allow_other,default_permissions,max_read=4096,fsname=a\,b,subtype=s)");
  const MountOptions again = accepted(list_of(options));
  EXPECT_EQ(again.flags, options.flags);
  EXPECT_EQ(again.allow_other, options.allow_other);
  EXPECT_EQ(again.default_permissions, options.default_permissions);
  EXPECT_EQ(again.max_read, options.max_read);
  EXPECT_EQ(again.fsname, options.fsname);
  EXPECT_EQ(again.subtype, options.subtype);
}

TEST(MountOptions, KernelData_HoldsWhatTheKernelReads_AndNothingElse) {
  EXPECT_EQ(kernel_data(accepted("ro,fsname=x"), 7, S_IFDIR | 0755, 1, 2),
            "fd=7,rootmode=40000,user_id=1,group_id=2");
  EXPECT_EQ(kernel_data(accepted("default_permissions,allow_other,max_read=1,context=c"), 7, S_IFDIR, 0, 0),
            "fd=7,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=1,context=c");
}

}  // namespace
}  // namespace fusewire::devfuse
