// virtiofsd_lowlevel.h: variant_fs, which is written against it, as a guest sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cstdio>
#include <optional>
#include <string>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

using ::testing::HasSubstr;

// Runs the program for what it prints.
struct Output {
  std::string text;
  int status = -1;
};
Output run(const std::string& arguments) {
  Output output;
  FILE* pipe = ::popen((std::string(VARIANT_FS) + " " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return output;
  char piece[512];
  for (std::size_t n = 0; (n = std::fread(piece, 1, sizeof piece, pipe)) > 0;) output.text.append(piece, n);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) output.status = WEXITSTATUS(status);
  return output;
}

class Variant : public ::testing::Test {
 protected:
  Variant() { ::setenv("FUSEWIRE_VIRTIOFSD", VARIANT_FS, 1); }

  void boot(const std::vector<std::string>& arguments = {}) {
    daemon_.emplace(scratch_.path(), arguments);
    guest_.emplace(*daemon_);
    client_.emplace(*guest_);
    const auto found = client_->lookup(kRoot, "file");
    ASSERT_TRUE(found);
    file = NodeId{found->nodeid};
  }
  Client& client() { return *client_; }
  const fuse_init_out& init_reply() { return guest_->init_reply(); }

  // Opens the file with flags of fuse_open_in, and reads what the program wrote down so far.
  std::string record(std::uint32_t open_flags = 0) {
    const Answer opened = client().send(
        make_request(FUSE_OPEN, file, fuse_open_in{.flags = O_RDONLY, .open_flags = open_flags}));
    EXPECT_EQ(opened.error, 0);
    EXPECT_EQ(opened.as<fuse_open_out>().open_flags, unsigned{FOPEN_DIRECT_IO});
    const auto text = client().read(file, opened.as<fuse_open_out>().fh, 0, 4096);
    EXPECT_TRUE(text);
    return text.value_or("");
  }

  static constexpr NodeId kRoot{FUSE_ROOT_ID};
  NodeId file;

 private:
  TemporaryDirectory scratch_;
  std::optional<DaemonProcess> daemon_;
  std::optional<MockGuest> guest_;
  std::optional<Client> client_;
};

TEST_F(Variant, Init_SeesWhatTheGuestOffers) {
  boot();

  EXPECT_THAT(record(), HasSubstr("init mine submounts 1 secctx 0\n"));
  EXPECT_NE(init_reply().flags & FUSE_SETXATTR_EXT, 0U);
  EXPECT_NE(init_reply().flags & FUSE_HANDLE_KILLPRIV_V2, 0U);
  EXPECT_NE(init_reply().flags & FUSE_SUBMOUNTS, 0U);
  EXPECT_EQ(init_reply().flags & FUSE_HANDLE_KILLPRIV, 0U);
}

TEST_F(Variant, Lookup_BringsAttrFlags) {
  boot();

  const auto plain = client().lookup(kRoot, "file");
  const auto sub = client().lookup(kRoot, "sub");

  ASSERT_TRUE(plain && sub);
  EXPECT_EQ(plain->attr.flags, 0U);
  EXPECT_EQ(sub->attr.flags, unsigned{FUSE_ATTR_SUBMOUNT});
  EXPECT_EQ(sub->attr_valid, 1U);
  EXPECT_EQ(sub->attr_valid_nsec, 500'000'000U);
  EXPECT_EQ(sub->entry_valid, 2U);
  EXPECT_EQ(client().lookup(kRoot, "none").error().value, ENOENT);
}

TEST_F(Variant, Create_BringsAttrFlags) {
  boot();

  const Answer made = client().send(
      make_request(
          FUSE_CREATE, kRoot,
          fuse_create_in{.flags = O_RDWR, .mode = 0644, .umask = 0, .open_flags = FUSE_OPEN_KILL_SUIDGID})
          .name("new"));

  ASSERT_EQ(made.error, 0);
  EXPECT_EQ(made.as<CreateOut>().entry.attr.flags, unsigned{FUSE_ATTR_SUBMOUNT});
  EXPECT_EQ(made.as<CreateOut>().open.fh, 78U);
  EXPECT_EQ(made.as<CreateOut>().open.open_flags, 0U);
  EXPECT_THAT(record(), HasSubstr("create new kill 1\n"));
}

TEST_F(Variant, Readdirplus_BringsAttrFlags) {
  boot();
  const auto opened = client().opendir(kRoot);
  ASSERT_TRUE(opened);

  const auto entries = client().readdir(kRoot, opened->fh, true);

  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[0].name, "file");
  EXPECT_EQ((*entries)[0].entry.attr.flags, 0U);
  EXPECT_EQ((*entries)[1].name, "sub");
  EXPECT_EQ((*entries)[1].entry.attr.flags, unsigned{FUSE_ATTR_SUBMOUNT});
}

TEST_F(Variant, Setxattr_BringsItsFlags) {
  boot();
  const auto set = [this](std::uint32_t flags) {
    const fuse_setxattr_in in{.size = 4, .flags = XATTR_CREATE, .setxattr_flags = flags, .padding = 0};
    return client()
        .send(make_request(FUSE_SETXATTR, file, in).name("user.x").bytes(as_bytes(std::string_view("blue"))))
        .error;
  };

  EXPECT_EQ(set(FUSE_SETXATTR_ACL_KILL_SGID), 0);
  EXPECT_EQ(set(0), 0);

  EXPECT_THAT(record(), HasSubstr("setxattr user.x=blue flags 1 kill_sgid 1\n"
                                  "setxattr user.x=blue flags 1 kill_sgid 0\n"));
}

TEST_F(Variant, KillPriv_InOpenWriteAndSetattr) {
  boot();
  EXPECT_THAT(record(FUSE_OPEN_KILL_SUIDGID), HasSubstr("open kill 1\n"));
  EXPECT_THAT(record(0), HasSubstr("open kill 0\n"));
  fuse_write_in in{};
  in.fh = 77;
  in.size = 5;
  in.write_flags = FUSE_WRITE_KILL_SUIDGID;
  fuse_setattr_in change{};
  change.valid = FATTR_SIZE | FATTR_KILL_SUIDGID;

  EXPECT_EQ(
      client().send(make_request(FUSE_WRITE, file, in).bytes(as_bytes(std::string_view("hello")))).error, 0);
  EXPECT_TRUE(client().setattr(file, change));

  EXPECT_THAT(record(), HasSubstr("write 'hello' kill 1\nsetattr size 1 kill 1\n"));
}

TEST_F(Variant, Syncfs_ReachesTheFileSystem) {
  boot();

  EXPECT_EQ(client().send(make_request(FUSE_SYNCFS, kRoot, fuse_syncfs_in{})).error, 0);

  EXPECT_THAT(record(), HasSubstr("syncfs 1 virtio 1 store Function not implemented\n"));
}

TEST_F(Variant, OperationsThatItLacks_AreEnosys) {
  boot();

  EXPECT_EQ(client().send(make_request(FUSE_READLINK, file)).error, ENOSYS);
}

TEST_F(Variant, Cmdline_Defaults) {
  const Output output = run("--print-capabilities");

  EXPECT_EQ(output.status, 0);
  EXPECT_EQ(output.text, "foreground 1 debug 0 capabilities 1 syslog 0 level 0 idle 10 nofile 0 iterate 0\n");
}

TEST_F(Variant, Cmdline_EveryOption) {
  const Output output = run(
      "--daemonize --syslog --rlimit-nofile=4096 -o log_level=debug,max_idle_threads=3 --print-capabilities");
  const Output debug = run("--daemonize -d --print-capabilities");

  EXPECT_EQ(output.text,
            "foreground 0 debug 0 capabilities 1 syslog 1 level 7 idle 3 nofile 4096 iterate 0\n");
  EXPECT_THAT(debug.text, HasSubstr("foreground 1 debug 1 "));
}

TEST_F(Variant, Cmdline_RefusesWhatIsNoOption) {
  const Output output = run("/mnt");

  EXPECT_EQ(output.status, 2);
  EXPECT_THAT(output.text, HasSubstr("'/mnt'"));
}

TEST_F(Variant, Cmdline_HelpNamesItsOptions) {
  const Output output = run("--help");

  EXPECT_EQ(output.status, 0);
  for (const char* option : {"--socket-path", "--fd", "--thread-pool-size", "--syslog", "log_level",
                             "--rlimit-nofile", "--print-capabilities", "--daemonize"})
    EXPECT_THAT(output.text, HasSubstr(option));
}

TEST_F(Variant, WithoutASocket_ItCannotMount) { EXPECT_EQ(run("").status, 1); }

TEST_F(Variant, UnknownOption_IsRefusedByName) {
  const Output output = run("--socket-path=/nowhere/x --unheard-of=1");

  EXPECT_EQ(output.status, 1);
  EXPECT_THAT(output.text, HasSubstr("unheard-of"));
}

TEST_F(Variant, OlderNameOfTheSocket_IsTaken) {
  const Output output = run("-o vhost_user_socket=/nowhere/x.sock");

  EXPECT_EQ(output.status, 1);
  EXPECT_THAT(output.text, HasSubstr("/nowhere/x.sock"));
}

}  // namespace
}  // namespace fusewire::tests
