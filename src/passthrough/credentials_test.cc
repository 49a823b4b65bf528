#include "passthrough/credentials.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <barrier>
#include <sstream>

#include "passthrough/testing/share.h"

namespace fusewire::passthrough {
namespace {

using testing::on_own_thread;

constexpr GuestUid kUser{4711};
constexpr GuestGid kGroup{4712};
constexpr GuestGid kOtherGroup{4713};

// The lines of the calling thread's status that say what it may do.
std::string own_credentials() {
  std::ifstream status("/proc/thread-self/status");
  std::string line;
  std::string kept;
  while (std::getline(status, line)) {
    for (const char* start : {"Uid:", "Gid:", "Groups:", "Cap"})
      if (line.starts_with(start)) kept += line + "\n";
  }
  return kept;
}

bool has_effective(int capability) {
  std::istringstream lines(own_credentials());
  std::string line;
  while (std::getline(lines, line))
    if (line.starts_with("CapEff:")) return (std::stoull(line.substr(7), nullptr, 16) >> capability & 1) != 0;
  return false;
}

class CredentialsTest : public ::testing::Test {
 protected:
  std::string file(const char* name) const { return directory.path() / name; }
  struct stat make_file(const char* name, mode_t mode) const {
    const UniqueFd fd(::open(file(name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode));
    EXPECT_TRUE(fd) << strerror(errno);
    struct stat stat{};
    EXPECT_EQ(::fstat(fd.get(), &stat), 0);
    return stat;
  }

  testing::TemporaryDirectory directory;
};

TEST_F(CredentialsTest, Assume_FileMadeMeanwhile_BelongsToTheGuestsUser) {
  FUSEWIRE_NEEDS_ROOT();
  on_own_thread([&] {
    // The directory is root's and closed to others: the guest's kernel has checked already.
    const auto scope = ScopedCredentials::assume(kUser, kGroup, std::nullopt);
    ASSERT_TRUE(scope);
    const struct stat stat = make_file("a", 0644);
    EXPECT_EQ(stat.st_uid, kUser.get());
    EXPECT_EQ(stat.st_gid, kGroup.get());
  });
}

TEST_F(CredentialsTest, Assume_Afterwards_ThreadIsAsBefore) {
  FUSEWIRE_NEEDS_ROOT();
  on_own_thread([&] {
    {
      ASSERT_TRUE(ScopedCredentials::assume(GuestUid{0}, GuestGid{0}, std::nullopt));
    }  // drops groups for good
    const std::string before = own_credentials();
    {
      ASSERT_TRUE(ScopedCredentials::assume(kUser, kGroup, kOtherGroup));
    }
    EXPECT_EQ(own_credentials(), before);
    {
      ASSERT_TRUE(ScopedCredentials::assume(GuestUid{0}, kGroup, kOtherGroup));
    }
    EXPECT_EQ(own_credentials(), before);
  });
}

TEST_F(CredentialsTest, Assume_OtherThreads_AreUnchanged) {
  FUSEWIRE_NEEDS_ROOT();
  std::barrier both(2);
  std::thread other([&] {
    const std::string before = own_credentials();
    both.arrive_and_wait();
    both.arrive_and_wait();  // the first thread is the guest now
    EXPECT_EQ(own_credentials(), before);
    both.arrive_and_wait();
  });
  on_own_thread([&] {
    both.arrive_and_wait();
    const auto scope = ScopedCredentials::assume(kUser, kGroup, kOtherGroup);
    EXPECT_TRUE(scope);
    both.arrive_and_wait();
    both.arrive_and_wait();
  });
  other.join();
}

// CVE-2022-0358: in a set-group-id directory of a group that the guest's user is not in, a new executable
// must not become set-group-id, whatever groups the daemon itself is in.
TEST_F(CredentialsTest, Assume_DaemonsSupplementaryGroups_DoNotCountForTheGuest) {
  FUSEWIRE_NEEDS_ROOT();
  ASSERT_EQ(::chown(directory.path().c_str(), 0, kOtherGroup.get()), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 02777), 0);
  on_own_thread([&] {
    const gid_t daemon_group = kOtherGroup.get();
    ASSERT_EQ(::syscall(SYS_setgroups, 1, &daemon_group), 0);
    const auto own_umask = ScopedUmask::set(0);
    const auto scope = ScopedCredentials::assume(kUser, kGroup, std::nullopt);
    ASSERT_TRUE(scope);
    const struct stat stat = make_file("a", 02775);
    EXPECT_EQ(stat.st_gid, kOtherGroup.get());
    EXPECT_EQ(stat.st_mode & 07777, 0775u);
  });
}

TEST_F(CredentialsTest, Assume_WithTheDirectorysGroup_KeepsSetGroupId) {
  FUSEWIRE_NEEDS_ROOT();
  ASSERT_EQ(::chown(directory.path().c_str(), 0, kOtherGroup.get()), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 02777), 0);
  on_own_thread([&] {
    const auto own_umask = ScopedUmask::set(0);
    const auto scope = ScopedCredentials::assume(kUser, kGroup, kOtherGroup);
    ASSERT_TRUE(scope);
    EXPECT_EQ(make_file("a", 02775).st_mode & 07777, 02775u);
  });
}

TEST_F(CredentialsTest, Assume_AnotherUser_LosesAllButDacOverride) {
  FUSEWIRE_NEEDS_ROOT();
  on_own_thread([&] {
    const auto scope = ScopedCredentials::assume(kUser, kGroup, std::nullopt);
    ASSERT_TRUE(scope);
    EXPECT_TRUE(has_effective(CAP_DAC_OVERRIDE));
    for (const int capability : {CAP_CHOWN, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SYS_ADMIN, CAP_SETUID})
      EXPECT_FALSE(has_effective(capability)) << capability;
  });
}

TEST_F(CredentialsTest, Assume_IdThatMeansNoChange_IsRefused) {
  FUSEWIRE_NEEDS_ROOT();
  on_own_thread([&] {
    EXPECT_EQ(ScopedCredentials::assume(GuestUid{UINT32_MAX}, kGroup, std::nullopt).error(), Errno{EINVAL});
    EXPECT_EQ(ScopedCredentials::assume(kUser, GuestGid{UINT32_MAX}, std::nullopt).error(), Errno{EINVAL});
  });
}

TEST_F(CredentialsTest, Assume_WithoutPrivilege_OnlyOwnIdsAndRoot) {
  FUSEWIRE_NEEDS_ROOT();
  on_own_thread([&] {
    ASSERT_EQ(::syscall(SYS_setresgid, kGroup.get(), kGroup.get(), kGroup.get()), 0);
    ASSERT_EQ(::syscall(SYS_setresuid, kUser.get(), kUser.get(), kUser.get()), 0);
    const std::string before = own_credentials();
    EXPECT_TRUE(ScopedCredentials::assume(kUser, kGroup, std::nullopt));
    EXPECT_TRUE(ScopedCredentials::assume(GuestUid{0}, GuestGid{0}, kOtherGroup));
    EXPECT_EQ(ScopedCredentials::assume(GuestUid{1}, kGroup, std::nullopt).error(), Errno{EPERM});
    EXPECT_EQ(ScopedCredentials::assume(kUser, GuestGid{1}, std::nullopt).error(), Errno{EPERM});
    EXPECT_EQ(own_credentials(), before);
  });
}

// A daemon that is not root but holds the capabilities (systemd's AmbientCapabilities).
TEST_F(CredentialsTest, Assume_UnprivilegedUserWithCapabilities_SwitchesAndComesBack) {
  FUSEWIRE_NEEDS_ROOT();
  ASSERT_EQ(::chmod(directory.path().c_str(), 0777), 0);
  on_own_thread([&] {
    ASSERT_EQ(::syscall(SYS_prctl, 8 /* PR_SET_KEEPCAPS */, 1, 0, 0, 0), 0);
    ASSERT_EQ(::syscall(SYS_setresuid, kUser.get(), kUser.get(), kUser.get()), 0);
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2]{};
    ASSERT_EQ(::syscall(SYS_capget, &header, data), 0);
    for (auto& word : data) word.effective = word.permitted;
    ASSERT_EQ(::syscall(SYS_capset, &header, data), 0);
    {
      ASSERT_TRUE(ScopedCredentials::assume(GuestUid{0}, GuestGid{0}, std::nullopt));
    }
    const std::string before = own_credentials();
    {
      const auto scope = ScopedCredentials::assume(GuestUid{4000}, kGroup, kOtherGroup);
      ASSERT_TRUE(scope);
      EXPECT_FALSE(has_effective(CAP_FSETID));
      EXPECT_EQ(make_file("a", 0600).st_uid, 4000u);
    }
    EXPECT_EQ(own_credentials(), before);
  });
}

TEST_F(CredentialsTest, FsetidDrop_WriteMeanwhile_ClearsSetUserIdAndSetGroupId) {
  FUSEWIRE_NEEDS_ROOT();
  for (const bool wanted : {false, true}) {
    on_own_thread([&] {
      const char* name = wanted ? "dropped" : "kept";
      const UniqueFd fd(::open(file(name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755));
      ASSERT_EQ(::fchmod(fd.get(), 06755), 0);
      {
        const ScopedFsetidDrop drop(wanted);
        ASSERT_EQ(::write(fd.get(), "x", 1), 1);
      }
      EXPECT_TRUE(has_effective(CAP_FSETID));
      struct stat stat{};
      ASSERT_EQ(::fstat(fd.get(), &stat), 0);
      EXPECT_EQ(stat.st_mode & 07777, wanted ? 0755u : 06755u);
    });
  }
}

TEST_F(CredentialsTest, Umask_IsTheThreadsOwn) {
  const mode_t process_umask = ::umask(022);
  std::barrier both(2);
  std::thread other([&] {
    both.arrive_and_wait();
    EXPECT_EQ(make_file("other", 0666).st_mode & 0777, 0644u);
    both.arrive_and_wait();
  });
  on_own_thread([&] {
    {
      const auto scope = ScopedUmask::set(077);
      EXPECT_TRUE(scope);
      both.arrive_and_wait();
      both.arrive_and_wait();
      EXPECT_EQ(make_file("masked", 0666).st_mode & 0777, 0600u);
    }
    EXPECT_EQ(make_file("unmasked", 0666).st_mode & 0777, 0666u);
  });
  other.join();
  ::umask(process_umask);
}

}  // namespace
}  // namespace fusewire::passthrough
