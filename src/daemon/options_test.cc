// Every option of both older virtiofsd programs: accepted with its meaning, or refused with a message. And
// ours.
#include "daemon/options.h"

#include <gmock/gmock.h>
#include <sched.h>

#include <functional>
#include <string>
#include <vector>

#include "daemon/option_table.h"

namespace fusewire::daemon {
namespace {

using passthrough::CachePolicy;
using passthrough::FileHandleMode;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Arguments = std::vector<std::string>;

std::expected<Options, UsageError> parse_all(const Arguments& arguments) {
  std::vector<const char*> argv = {"virtiofsd"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return parse(static_cast<int>(argv.size()), argv.data());
}

std::expected<Options, UsageError> parse_with_share(const Arguments& arguments) {
  Arguments all = {"--shared-dir=/share", "--socket-path=/run/socket"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return parse_all(all);
}

// The options that `arguments` make, beside a shared directory and a socket.
Options accepted(const Arguments& arguments) {
  auto options = parse_with_share(arguments);
  EXPECT_TRUE(options) << options.error().text;
  return options.value_or(Options());
}

// The complaint about `arguments`, beside a shared directory and a socket.
std::string refused(const Arguments& arguments) {
  const auto options = parse_with_share(arguments);
  EXPECT_FALSE(options) << testing::PrintToString(arguments);
  return options ? "" : options.error().text;
}

bool same(const passthrough::Config& a, const passthrough::Config& b) {
  return a.shared_directory == b.shared_directory && a.cache == b.cache && a.timeout == b.timeout &&
         a.writeback == b.writeback && a.readdirplus == b.readdirplus &&
         a.allow_direct_io == b.allow_direct_io && a.allow_mmap == b.allow_mmap &&
         a.announce_submounts == b.announce_submounts && a.file_handles == b.file_handles &&
         a.xattr == b.xattr && a.posix_acl == b.posix_acl && a.security_label == b.security_label &&
         a.killpriv_v2 == b.killpriv_v2 && a.posix_lock == b.posix_lock && a.flock == b.flock &&
         a.preserve_noatime == b.preserve_noatime && a.readonly == b.readonly &&
         a.thread_pool_size == b.thread_pool_size;
}

bool same(const Options& a, const Options& b) {
  return a.action == b.action && same(a.config, b.config) && a.socket_path == b.socket_path && a.fd == b.fd &&
         a.socket_group == b.socket_group && a.tag == b.tag && a.num_request_queues == b.num_request_queues &&
         a.poll == b.poll && a.queue_cpus == b.queue_cpus && a.keep_listening == b.keep_listening &&
         a.daemonize == b.daemonize && a.syslog == b.syslog && a.log_level == b.log_level &&
         a.rlimit_nofile == b.rlimit_nofile;
}

TEST(Options, Parse_ShareAndSocketOnly_GivesTheDefaults) {
  const Options options = accepted({});
  passthrough::Config expected;
  expected.shared_directory = "/share";
  EXPECT_TRUE(same(options.config, expected));
  EXPECT_EQ(options.action, Action::serve);
  EXPECT_EQ(options.socket_path, "/run/socket");
  EXPECT_EQ(options.fd, std::nullopt);
  EXPECT_EQ(options.socket_group, std::nullopt);
  EXPECT_EQ(options.tag, "");
  EXPECT_FALSE(options.keep_listening);
  EXPECT_FALSE(options.daemonize);
  EXPECT_FALSE(options.syslog);
  EXPECT_EQ(options.log_level, log::Level::info);
  EXPECT_EQ(options.rlimit_nofile, std::nullopt);
  EXPECT_THAT(options.notes, IsEmpty());
}

// An option, and what it does to the default options.
struct Meaning {
  Arguments arguments;
  std::function<void(Options&)> effect;
};

void expect_meanings(const std::vector<Meaning>& meanings) {
  for (const Meaning& meaning : meanings) {
    SCOPED_TRACE(testing::PrintToString(meaning.arguments));
    Options expected = accepted({});
    meaning.effect(expected);
    EXPECT_TRUE(same(accepted(meaning.arguments), expected));
  }
}

const auto kNothing = [](Options&) {};

template <Action action>
void only(Options& options) {
  options = Options();
  options.action = action;
}

TEST(Options, Parse_EachOptionOfTheRustDaemon_MeansWhatItMeansThere) {
  expect_meanings({
      {{"--shared-dir=/other"}, [](Options& o) { o.config.shared_directory = "/other"; }},
      {{"--shared-dir", "/other"}, [](Options& o) { o.config.shared_directory = "/other"; }},
      {{"--tag=myfs"}, [](Options& o) { o.tag = "myfs"; }},
      {{"--socket-path=/s"}, [](Options& o) { o.socket_path = "/s"; }},
      {{"--socket=/s"}, [](Options& o) { o.socket_path = "/s"; }},
      {{"--socket-group=kvm"}, [](Options& o) { o.socket_group = "kvm"; }},
      {{"--thread-pool-size=64"}, [](Options& o) { o.config.thread_pool_size = 64; }},
      {{"--thread-pool-size=0"}, [](Options& o) { o.config.thread_pool_size = 0; }},
      {{"--xattr"}, [](Options& o) { o.config.xattr = true; }},
      {{"--posix-acl"}, [](Options& o) { o.config.posix_acl = o.config.xattr = true; }},
      {{"--security-label"}, [](Options& o) { o.config.security_label = o.config.xattr = true; }},
      {{"--sandbox=none"}, kNothing},
      {{"--sandbox", "none"}, kNothing},
      {{"--seccomp=none"}, kNothing},
      {{"--readonly"}, [](Options& o) { o.config.readonly = true; }},
      {{"--announce-submounts"}, kNothing},
      {{"--no-announce-submounts"}, [](Options& o) { o.config.announce_submounts = false; }},
      {{"--inode-file-handles=auto"}, kNothing},
      {{"--inode-file-handles=never"}, [](Options& o) { o.config.file_handles = FileHandleMode::never; }},
      {{"--inode-file-handles=prefer"}, [](Options& o) { o.config.file_handles = FileHandleMode::prefer; }},
      {{"--inode-file-handles=fallback"}, [](Options& o) { o.config.file_handles = FileHandleMode::prefer; }},
      {{"--inode-file-handles=mandatory"},
       [](Options& o) { o.config.file_handles = FileHandleMode::mandatory; }},
      {{"--cache=auto"}, kNothing},
      {{"--cache=always"}, [](Options& o) { o.config.cache = CachePolicy::always; }},
      {{"--cache=ALWAYS"}, [](Options& o) { o.config.cache = CachePolicy::always; }},
      {{"--cache=metadata"}, [](Options& o) { o.config.cache = CachePolicy::metadata; }},
      {{"--allow-mmap"}, [](Options& o) { o.config.allow_mmap = true; }},
      {{"--no-readdirplus"}, [](Options& o) { o.config.readdirplus = false; }},
      {{"--writeback"}, [](Options& o) { o.config.writeback = true; }},
      {{"--allow-direct-io"}, [](Options& o) { o.config.allow_direct_io = true; }},
      {{"--log-level=error"}, [](Options& o) { o.log_level = log::Level::error; }},
      {{"--log-level=warn"}, [](Options& o) { o.log_level = log::Level::warn; }},
      {{"--log-level=info"}, kNothing},
      {{"--log-level=debug"}, [](Options& o) { o.log_level = log::Level::debug; }},
      {{"--log-level=TRACE"}, [](Options& o) { o.log_level = log::Level::trace; }},
      {{"--log-level=off"}, [](Options& o) { o.log_level = log::Level::off; }},
      {{"--syslog"}, [](Options& o) { o.syslog = true; }},
      {{"--rlimit-nofile=4096"}, [](Options& o) { o.rlimit_nofile = 4096; }},
      {{"--rlimit-nofile=0"}, [](Options& o) { o.rlimit_nofile = 0; }},
      {{"--killpriv-v2"}, kNothing},
      {{"--no-killpriv-v2"}, [](Options& o) { o.config.killpriv_v2 = false; }},
      {{"--preserve-noatime"}, [](Options& o) { o.config.preserve_noatime = true; }},
      {{"-d"}, [](Options& o) { o.log_level = log::Level::debug; }},
      {{"-f"}, kNothing},
      {{"--print-capabilities"}, only<Action::print_capabilities>},
      {{"--help"}, only<Action::print_help>},
      {{"-h"}, only<Action::print_help>},
      {{"--version"}, only<Action::print_version>},
      {{"-V"}, only<Action::print_version>},
      {{"-o", "loglevel=err"}, [](Options& o) { o.log_level = log::Level::error; }},
      {{"-o", "cache=metadata"}, [](Options& o) { o.config.cache = CachePolicy::metadata; }},
      {{"-o=xattr"}, [](Options& o) { o.config.xattr = true; }},
  });
}

TEST(Options, Parse_EachOptionOfTheCDaemon_MeansWhatItMeansThere) {
  expect_meanings({
      {{"-o", "source=/other"}, [](Options& o) { o.config.shared_directory = "/other"; }},
      {{"-o", "cache=auto"}, kNothing},
      {{"-o", "cache=always"}, [](Options& o) { o.config.cache = CachePolicy::always; }},
      {{"-o", "cache=none"},
       [](Options& o) {
         o.config.cache = CachePolicy::never;
         o.config.readdirplus = false;
       }},
      {{"-o", "flock"}, [](Options& o) { o.config.flock = true; }},
      {{"-o", "no_flock"}, kNothing},
      {{"-o", "posix_lock"}, [](Options& o) { o.config.posix_lock = true; }},
      {{"-o", "no_posix_lock"}, kNothing},
      {{"-o", "readdirplus"}, kNothing},
      {{"-o", "no_readdirplus"}, [](Options& o) { o.config.readdirplus = false; }},
      {{"-o", "timeout=2.5"}, [](Options& o) { o.config.timeout = std::chrono::duration<double>(2.5); }},
      {{"-o", "timeout=0"}, [](Options& o) { o.config.timeout = std::chrono::duration<double>(0); }},
      {{"-o", "writeback"}, [](Options& o) { o.config.writeback = true; }},
      {{"-o", "no_writeback"}, kNothing},
      {{"-o", "xattr"}, [](Options& o) { o.config.xattr = true; }},
      {{"-o", "no_xattr"}, kNothing},
      {{"-o", "log_level=debug"}, [](Options& o) { o.log_level = log::Level::debug; }},
      {{"-o", "log_level=info"}, kNothing},
      {{"-o", "log_level=warn"}, [](Options& o) { o.log_level = log::Level::warn; }},
      {{"-o", "log_level=err"}, [](Options& o) { o.log_level = log::Level::error; }},
      {{"-o", "allow_direct_io"}, [](Options& o) { o.config.allow_direct_io = true; }},
      {{"-o", "no_allow_direct_io"}, kNothing},
      {{"-o", "announce_submounts"}, kNothing},
      {{"-o", "no_announce_submounts"}, [](Options& o) { o.config.announce_submounts = false; }},
      {{"-o", "xattr,posix_acl"}, [](Options& o) { o.config.posix_acl = o.config.xattr = true; }},
      {{"-o", "no_posix_acl"}, kNothing},
      {{"-o", "xattr,security_label"}, [](Options& o) { o.config.security_label = o.config.xattr = true; }},
      {{"-o", "no_security_label"}, kNothing},
      {{"-o", "killpriv_v2"}, kNothing},
      {{"-o", "no_killpriv_v2"}, [](Options& o) { o.config.killpriv_v2 = false; }},
      {{"-o", "max_idle_threads=10"}, kNothing},
      {{"-o", "allow_root"}, kNothing},
      {{"-o", "debug"}, [](Options& o) { o.log_level = log::Level::debug; }},
      {{"--debug"}, [](Options& o) { o.log_level = log::Level::debug; }},
      {{"-oxattr"}, [](Options& o) { o.config.xattr = true; }},
      {{"--daemonize"}, [](Options& o) { o.daemonize = true; }},
      {{"-o", "sandbox=none"}, kNothing},
  });
}

TEST(Options, Parse_OurOwnOptions_Work) {
  expect_meanings({
      {{"--keep-listening"}, [](Options& o) { o.keep_listening = true; }},
      {{"--queue-cpus=1,4-6"}, [](Options& o) { o.queue_cpus = {1, 4, 5, 6}; }},
      {{"--poll-us=0"}, [](Options& o) { o.poll = std::chrono::microseconds(0); }},
      {{"--num-request-queues=7"}, [](Options& o) { o.num_request_queues = 7; }},
      {{"--timeout=3"}, [](Options& o) { o.config.timeout = std::chrono::duration<double>(3); }},
      {{"--posix-lock"}, [](Options& o) { o.config.posix_lock = true; }},
      {{"--flock"}, [](Options& o) { o.config.flock = true; }},
      {{"--readdirplus"}, kNothing},
      {{"--cache=none"},
       [](Options& o) {
         o.config.cache = CachePolicy::never;
         o.config.readdirplus = false;
       }},
  });
}

TEST(Options, Parse_EachToggle_CanBeTurnedOffAgainInEitherStyle) {
  const Options off = accepted({"--no-announce-submounts", "--no-readdirplus", "--no-killpriv-v2"});
  for (const Row& row : option_table()) {
    if (row.kind != Kind::toggle) continue;
    SCOPED_TRACE(row.names);
    const std::string on(row.names);
    const std::string negation = "--no-" + on.substr(2);
    const Arguments base = {"--no-announce-submounts", "--no-readdirplus", "--no-killpriv-v2"};
    Arguments arguments = base;
    arguments.insert(arguments.end(), {on, negation});
    EXPECT_TRUE(same(accepted(arguments), off));
    if (row.compat.empty()) continue;
    arguments = base;
    arguments.insert(arguments.end(), {on, "-o", "no_" + std::string(row.compat)});
    EXPECT_TRUE(same(accepted(arguments), off));
  }
}

TEST(Options, Parse_ReadonlySpelledAsAWord_SetsOnlyThat) {
  EXPECT_TRUE(accepted({"--readonly"}).config.readonly);
  EXPECT_FALSE(accepted({"--readonly", "--no-readonly"}).config.readonly);
}

// --- Refused options.

TEST(Options, Parse_EachOptionOfLaterWork_IsRefusedByName) {
  const std::vector<std::pair<Arguments, std::string>> cases = {
      {{"--sandbox=namespace"}, "--sandbox=namespace is not available yet: use none"},
      {{"--sandbox=chroot"}, "--sandbox=chroot is not available yet: use none"},
      {{"-o", "sandbox=namespace"}, "-o sandbox=namespace is not available yet: use none"},
      {{"-o", "sandbox=chroot"}, "-o sandbox=chroot is not available yet: use none"},
      {{"--seccomp=kill"}, "--seccomp=kill is not available yet: use none"},
      {{"--seccomp=log"}, "--seccomp=log is not available yet: use none"},
      {{"--seccomp=trap"}, "--seccomp=trap is not available yet: use none"},
      {{"--modcaps=+sys_admin:-chown"}, "--modcaps=+sys_admin:-chown is not available yet: "},
      {{"-o", "modcaps=+sys_admin"}, "-o modcaps=+sys_admin is not available yet: "},
      {{"-o", "modcaps"}, "-o modcaps is not available yet: "},
      {{"--xattrmap=:map::user.virtiofs.:"}, "--xattrmap=:map::user.virtiofs.: is not available yet: "},
      {{"-o", "xattrmap=:map::user.virtiofs.:"}, "-o xattrmap=:map::user.virtiofs.: is not available yet: "},
      {{"--uid-map=:0:100000:65536:"}, "--uid-map=:0:100000:65536: is not available yet: "},
      {{"--gid-map", ":0:100000:65536:"}, "--gid-map=:0:100000:65536: is not available yet: "},
      {{"--translate-uid=map:0:1000:1"}, "--translate-uid=map:0:1000:1 is not available yet: "},
      {{"--translate-gid=map:0:1000:1"}, "--translate-gid=map:0:1000:1 is not available yet: "},
      {{"--migration-mode=find-paths"}, "--migration-mode=find-paths is not available yet: "},
      {{"--migration-on-error=guest-error"}, "--migration-on-error=guest-error is not available yet: "},
      {{"--migration-verify-handles"}, "--migration-verify-handles is not available yet: "},
      {{"--migration-confirm-paths"}, "--migration-confirm-paths is not available yet: "},
  };
  for (const auto& [arguments, message] : cases)
    EXPECT_THAT(refused(arguments), testing::StartsWith(message));
}

TEST(Options, Parse_BadValues_AreRefusedWithWhatWouldBeGood) {
  const std::vector<std::pair<Arguments, std::string>> cases = {
      {{"--cache=sometimes"}, "--cache=sometimes must be one of auto, always, metadata, never"},
      {{"-o", "xattr,cache=sometimes"}, "-o cache=sometimes must be one of auto, always, metadata, never"},
      {{"--inode-file-handles=maybe"},
       "--inode-file-handles=maybe must be one of auto, never, prefer, mandatory"},
      {{"--log-level=loud"}, "--log-level=loud must be one of error, warn, info, debug, trace, off"},
      {{"-o", "log_level=loud"}, "-o log_level=loud must be one of error, warn, info, debug, trace, off"},
      {{"--sandbox=jail"}, "--sandbox=jail must be none, the only mode that there is yet"},
      {{"--seccomp=jail"}, "--seccomp=jail must be none, the only action that there is yet"},
      {{"--thread-pool-size=-1"}, "--thread-pool-size=-1 must be a number from 0 to 65536"},
      {{"--thread-pool-size", "-1"}, "--thread-pool-size=-1 must be a number from 0 to 65536"},
      {{"--thread-pool-size=65537"}, "--thread-pool-size=65537 must be a number from 0 to 65536"},
      {{"--thread-pool-size=8x"}, "--thread-pool-size=8x must be a number from 0 to 65536"},
      {{"--num-request-queues=0"}, "--num-request-queues=0 must be a number from 1 to 1023"},
      {{"--num-request-queues=1024"}, "--num-request-queues=1024 must be a number from 1 to 1023"},
      {{"--poll-us=1000001"}, "--poll-us=1000001 must be a number from 0 to 1000000"},
      {{"--queue-cpus=1,"}, "--queue-cpus=1, must be CPU numbers up to 1023, like 0-3,8"},
      {{"--queue-cpus=3-1"}, "--queue-cpus=3-1 must be CPU numbers up to 1023, like 0-3,8"},
      {{"--queue-cpus=1-2-3"}, "--queue-cpus=1-2-3 must be CPU numbers up to 1023, like 0-3,8"},
      {{"--queue-cpus=1024"}, "--queue-cpus=1024 must be CPU numbers up to 1023, like 0-3,8"},
      {{"--rlimit-nofile=many"},
       "--rlimit-nofile=many must be a number of descriptors, or 0 to leave the limit alone"},
      {{"--rlimit-nofile=-5"},
       "--rlimit-nofile=-5 must be a number of descriptors, or 0 to leave the limit alone"},
      {{"--rlimit-nofile=18446744073709551616"},
       "--rlimit-nofile=18446744073709551616 must be a number of descriptors, or 0 to leave the limit alone"},
      {{"--fd=three"}, "--fd=three must be the number of an open descriptor"},
      {{"--fd=-1"}, "--fd=-1 must be the number of an open descriptor"},
      {{"--fd=2147483648"}, "--fd=2147483648 must be the number of an open descriptor"},
      {{"--timeout=-1"}, "--timeout=-1 must be a number of seconds, 0 or more"},
      {{"-o", "timeout=nan"}, "-o timeout=nan must be a number of seconds, 0 or more"},
      {{"-o", "timeout=inf"}, "-o timeout=inf must be a number of seconds, 0 or more"},
      {{"-o", "timeout=1s"}, "-o timeout=1s must be a number of seconds, 0 or more"},
      {{"-o", "max_idle_threads=x"}, "-o max_idle_threads=x must be a number from 0 to 4294967295"},
      {{"--tag=a\nb"}, "--tag=a\nb must not hold a line break"},
      {{"--tag=" + std::string(37, 't')}, "--tag=" + std::string(37, 't') + " must be 1 to 36 bytes long"},
      {{"--tag", ""}, "--tag= must be 1 to 36 bytes long"},
  };
  for (const auto& [arguments, message] : cases) EXPECT_EQ(refused(arguments), message);
  EXPECT_EQ(accepted({"--tag=" + std::string(36, 't')}).tag, std::string(36, 't'));
}

TEST(Options, Parse_WhatIsNotAnOption_IsNamedInTheMessage) {
  EXPECT_EQ(refused({"--bogus", "5"}), "there is no option --bogus, see virtiofsd --help");
  EXPECT_EQ(refused({"--bogus=5"}), "there is no option --bogus=5, see virtiofsd --help");
  EXPECT_EQ(refused({"-x"}), "there is no option -x, see virtiofsd --help");
  EXPECT_EQ(refused({"--no-tag"}), "there is no option --no-tag, see virtiofsd --help");
  EXPECT_EQ(refused({"/share"}),
            "/share is no option; the directory to share is named with --shared-dir=DIR");
  EXPECT_EQ(refused({"-o", "xattr,bogus"}), "-o bogus is not a known name, see virtiofsd --help");
  EXPECT_EQ(refused({"-o", "bogus=1"}), "-o bogus=1 is not a known name, see virtiofsd --help");
  EXPECT_EQ(refused({"-o", "no_cache"}), "-o no_cache is not a known name, see virtiofsd --help");
  EXPECT_EQ(refused({"-o", "no_debug"}), "-o no_debug is not a known name, see virtiofsd --help");
}

TEST(Options, Parse_ValueWhereNoneBelongsOrMissing_IsRefused) {
  EXPECT_EQ(refused({"--posix-acl=always"}), "--posix-acl takes no value");
  EXPECT_EQ(refused({"--no-xattr=true"}), "--no-xattr takes no value");
  EXPECT_EQ(refused({"--daemonize=yes"}), "--daemonize takes no value");
  EXPECT_EQ(refused({"-o", "xattr=on"}), "-o xattr=on takes no value");
  EXPECT_EQ(refused({"-o", "debug=1"}), "-o debug=1 takes no value");
  EXPECT_EQ(refused({"--tag"}), "--tag needs a value");
  EXPECT_EQ(refused({"-o"}), "-o needs a value");
  EXPECT_EQ(refused({"--tag=", "--xattr"}), "--tag needs a value");
  EXPECT_EQ(refused({"-o", "cache"}), "-o cache needs a value: cache=MODE");
  EXPECT_EQ(refused({"-o", "cache="}), "-o cache= needs a value: cache=MODE");
  EXPECT_EQ(refused({"-o", "xattr,"}), "-o xattr,: an item of the list is empty");
  EXPECT_EQ(refused({"-o", ""}), "-o : an item of the list is empty");
}

// --- Several options together.

TEST(Options, Parse_RepeatedOption_TheLastOneWins) {
  EXPECT_EQ(accepted({"--cache=always", "--cache=metadata"}).config.cache, CachePolicy::metadata);
  EXPECT_EQ(accepted({"-o", "cache=always,cache=none"}).config.cache, CachePolicy::never);
  EXPECT_EQ(accepted({"--tag=a", "--tag=b", "--tag=c"}).tag, "c");
  EXPECT_EQ(accepted({"--thread-pool-size=1", "--xattr", "--thread-pool-size=2"}).config.thread_pool_size,
            2u);
}

TEST(Options, Parse_BothStylesMixed_CommandLineOrderDecides) {
  EXPECT_FALSE(accepted({"--xattr", "-o", "no_xattr"}).config.xattr);
  EXPECT_TRUE(accepted({"-o", "no_xattr", "--xattr"}).config.xattr);
  EXPECT_EQ(accepted({"-o", "cache=always", "--cache=auto"}).config.cache, CachePolicy::automatic);
  EXPECT_EQ(accepted({"--cache=auto", "-o", "cache=always"}).config.cache, CachePolicy::always);
  EXPECT_EQ(accepted({"-o", "source=/a", "--shared-dir=/b", "-o", "source=/c"}).config.shared_directory,
            "/c");
  EXPECT_EQ(accepted({"--log-level=error", "-o", "log_level=warn"}).log_level, log::Level::warn);
}

TEST(Options, Parse_AclOrLabelWithXattrTurnedOffEarlier_TurnsItOnAgain) {
  EXPECT_TRUE(accepted({"-o", "no_xattr", "--posix-acl"}).config.xattr);
  EXPECT_TRUE(accepted({"-o", "no_xattr,security_label"}).config.xattr);
}

TEST(Options, Parse_XattrTurnedOffAfterAclOrLabel_IsRefused) {
  EXPECT_THAT(refused({"--posix-acl", "-o", "no_xattr"}), HasSubstr("--posix-acl needs extended attributes"));
  EXPECT_THAT(refused({"-o", "security_label,no_xattr"}),
              HasSubstr("--security-label needs extended attributes"));
}

TEST(Options, Parse_AclTurnedOffAgain_LeavesXattrAsItWasSaid) {
  EXPECT_FALSE(accepted({"--posix-acl", "-o", "no_posix_acl"}).config.xattr);
  EXPECT_TRUE(accepted({"--xattr", "--posix-acl", "-o", "no_posix_acl"}).config.xattr);
  EXPECT_FALSE(accepted({"--posix-acl", "-o", "no_posix_acl,no_xattr"}).config.xattr);
}

TEST(Options, Parse_ReaddirplusWithoutCache_IsOffUnlessAskedFor) {
  EXPECT_FALSE(accepted({"--cache=never"}).config.readdirplus);
  EXPECT_TRUE(accepted({"--cache=never", "-o", "readdirplus"}).config.readdirplus);
  EXPECT_TRUE(accepted({"-o", "readdirplus", "--cache=never"}).config.readdirplus);
  EXPECT_TRUE(accepted({"--cache=metadata"}).config.readdirplus);
}

TEST(Options, Parse_DebugSwitch_WinsOverALogLevelWhereverItStands) {
  EXPECT_EQ(accepted({"-d", "--log-level=warn"}).log_level, log::Level::debug);
  EXPECT_EQ(accepted({"-o", "log_level=err", "-d"}).log_level, log::Level::debug);
  EXPECT_EQ(accepted({"-d", "--log-level=trace"}).log_level, log::Level::trace);
}

TEST(Options, Parse_ForegroundAndBackground_TheLastOneWins) {
  EXPECT_FALSE(accepted({"--daemonize", "-f"}).daemonize);
  EXPECT_FALSE(accepted({"--daemonize", "-d"}).daemonize);
  EXPECT_FALSE(accepted({"--daemonize", "-o", "debug"}).daemonize);
  EXPECT_TRUE(accepted({"-f", "--daemonize"}).daemonize);
  EXPECT_TRUE(accepted({"-d", "--daemonize"}).daemonize);
  EXPECT_FALSE(accepted({"--daemonize", "-df"}).daemonize);
}

TEST(Options, Parse_WithoutAnythingToShareOrASocket_SaysWhatToGive) {
  const auto error = [](const Arguments& arguments) {
    const auto options = parse_all(arguments);
    return options ? std::string() : options.error().text;
  };
  EXPECT_THAT(error({}), HasSubstr("--shared-dir=DIR"));
  EXPECT_THAT(error({"--socket-path=/s"}), HasSubstr("--shared-dir=DIR or -o source=DIR"));
  EXPECT_THAT(error({"--shared-dir=/x"}), HasSubstr("--socket-path=PATH or --fd=N"));
  EXPECT_THAT(error({"--shared-dir=/x", "--socket-path=/s", "--fd=3"}), HasSubstr("exclude each other"));
  EXPECT_THAT(error({"--shared-dir=/x", "--fd=3", "--socket-group=kvm"}),
              HasSubstr("--socket-group goes with"));
}

TEST(Options, Parse_SocketByDescriptor_NeedsNoPath) {
  const auto options = parse_all({"--fd=3", "-o", "source=/share"});
  ASSERT_TRUE(options) << options.error().text;
  EXPECT_EQ(options->fd, 3);
  EXPECT_EQ(options->socket_path, "");
}

TEST(Options, Parse_SocketPathLongerThanASocketAddress_IsRefused) {
  const std::string longest = "/" + std::string(106, 's');
  EXPECT_EQ(accepted({"--socket-path=" + longest}).socket_path, longest);
  EXPECT_THAT(refused({"--socket-path=" + longest + "s"}),
              HasSubstr("too long for a socket (108 bytes, at most 107)"));
}

TEST(Options, Parse_InformationOption_NeedsNothingElseAndTheFirstOneCounts) {
  const auto version = parse_all({"-V", "--help", "--cache=bogus"});
  ASSERT_TRUE(version) << version.error().text;
  EXPECT_EQ(version->action, Action::print_version);
  // libvirt asks like this.
  const auto capabilities = parse_all({"--print-capabilities"});
  ASSERT_TRUE(capabilities) << capabilities.error().text;
  EXPECT_EQ(capabilities->action, Action::print_capabilities);
  EXPECT_FALSE(parse_all({"--help", "--bogus"}));
}

TEST(Options, Parse_OptionWithoutEffect_LeavesANote) {
  const Options options = accepted({"-o", "max_idle_threads=10,allow_root", "--inode-file-handles=fallback"});
  ASSERT_THAT(options.notes, SizeIs(3));
  EXPECT_THAT(options.notes[0].text, AllOf(HasSubstr("max_idle_threads"), HasSubstr("no effect")));
  EXPECT_EQ(options.notes[0].level, log::Level::warn);
  EXPECT_THAT(options.notes[1].text, AllOf(HasSubstr("allow_root"), HasSubstr("no effect")));
  EXPECT_EQ(options.notes[1].level, log::Level::info);
  EXPECT_THAT(options.notes[2].text, HasSubstr("write prefer instead"));
}

TEST(Options, Parse_CommaInAListedValue_CanBeEscapedOrDoubled) {
  EXPECT_EQ(accepted({"-o", R"(source=/a\,b,xattr)"}).config.shared_directory, "/a,b");
  EXPECT_EQ(accepted({"-o", R"(source=/a\\b)"}).config.shared_directory, R"(/a\b)");
  EXPECT_EQ(accepted({"-o", R"(source=/a\054b)"}).config.shared_directory, "/a,b");
  EXPECT_EQ(accepted({"-o", "source=/a,,b,xattr"}).config.shared_directory, "/a,b");
  EXPECT_TRUE(accepted({"-o", "source=/a,,b,xattr"}).config.xattr);
  EXPECT_EQ(accepted({"-o", R"(source=/a\)"}).config.shared_directory, R"(/a\)");
  EXPECT_EQ(accepted({"-o", "source=/a=b"}).config.shared_directory, "/a=b");
}

TEST(Options, Parse_OddDirectoryNames_StayAsTheyAre) {
  for (const std::string name : {"[a,b]", "{}", "a b", "\"quoted\"", "-dash", "true"}) {
    EXPECT_EQ(accepted({"--shared-dir", name}).config.shared_directory, name);
    EXPECT_EQ(accepted({"--shared-dir=" + name}).config.shared_directory, name);
  }
}

TEST(Options, Parse_KatasCommandLine_WithRepeatsIsAccepted) {
  const auto options =
      parse_all({"--syslog", "--cache=auto", "--shared-dir=/run/kata-containers/shared", "--fd=3",
                 "--thread-pool-size=1", "--announce-submounts", "--cache=never", "--sandbox=none"});
  ASSERT_TRUE(options) << options.error().text;
  EXPECT_TRUE(options->syslog);
  EXPECT_EQ(options->config.cache, CachePolicy::never);
  EXPECT_EQ(options->config.thread_pool_size, 1u);
}

TEST(Options, Parse_LibvirtsCommandLines_AreAccepted) {
  const auto lists = parse_all({"--fd=33", "-o", "source=/srv/share,cache=always,xattr,no_flock,posix_lock",
                                "--thread-pool-size=16", "-d"});
  ASSERT_TRUE(lists) << lists.error().text;
  EXPECT_EQ(lists->config.shared_directory, "/srv/share");
  EXPECT_TRUE(lists->config.posix_lock);
  EXPECT_EQ(lists->log_level, log::Level::debug);
  const auto separate = parse_all({"--fd=33", "--shared-dir", "/srv/share", "--cache", "always", "--xattr",
                                   "--readonly", "--rlimit-nofile=4096", "--thread-pool-size=16"});
  ASSERT_TRUE(separate) << separate.error().text;
  EXPECT_TRUE(separate->config.readonly);
  EXPECT_EQ(separate->rlimit_nofile, 4096u);
}

TEST(Options, Parse_NoQueueCount_OffersOneForEachUsableCpu) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(accepted({}).num_request_queues, static_cast<unsigned>(std::min(CPU_COUNT(&before), 64)));

  cpu_set_t one;
  CPU_ZERO(&one);
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_COUNT(&one) == 0 && CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(accepted({}).num_request_queues, 1u);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(Options, Table_EveryRow_HasAMeaningAndIsShownOrRefused) {
  for (const Row& row : option_table()) {
    SCOPED_TRACE(std::string(row.names) + "/" + std::string(row.compat));
    EXPECT_NE(row.set, nullptr);
    EXPECT_FALSE(row.names.empty() && row.compat.empty());
    EXPECT_EQ(row.kind == Kind::value || row.kind == Kind::refused,
              !row.value.empty() || row.kind == Kind::refused);
    EXPECT_FALSE(row.kind == Kind::toggle && row.names.find(',') != std::string_view::npos);
  }
}

}  // namespace
}  // namespace fusewire::daemon
