// What a thread takes on, for the time of one system call, so that the host's kernel decides as the guest
// asked: the guest's user and groups, its umask, and no CAP_FSETID.
//
// Linux keeps credentials by thread, but libc's setresuid(2) and its kin change every thread of the process;
// here the raw system calls are used, which change the calling thread alone. The umask belongs to what
// CLONE_FS shares: a thread's first ScopedUmask gives the thread a copy of its own, for good.
//
// Every object here must be destroyed on the thread that made it, in reverse order, with no other work in
// between than the calls that it is for. Failing to get back is a broken invariant and ends the process
// (FUSEWIRE_CHECK).
#pragma once

#include <optional>

#include "fusewire/result.h"
#include "fusewire/wire.h"

namespace fusewire::passthrough {

class ScopedCredentials {
 public:
  // Acts as `uid` and `gid` with `group` as the only supplementary group, or none (CVE-2022-0358: the
  // daemon's own groups must not count for the guest). CAP_DAC_OVERRIDE stays, if the daemon has it: the
  // guest's kernel has checked the permissions, with more groups than it tells us. CAP_FSETID goes, unless
  // `uid` is 0.
  //
  // Id 0 means "no change": root is what the daemon runs as, or, if it does not, what the guest's root is
  // mapped to. Errors: EPERM when the daemon has no privilege to become `uid` or `gid`, and is not it
  // already.
  static Result<ScopedCredentials> assume(GuestUid uid, GuestGid gid, std::optional<GuestGid> group);

  ScopedCredentials(ScopedCredentials&& other) noexcept;
  ScopedCredentials& operator=(ScopedCredentials&&) = delete;
  ScopedCredentials(const ScopedCredentials&) = delete;
  ScopedCredentials& operator=(const ScopedCredentials&) = delete;
  ~ScopedCredentials();

 private:
  ScopedCredentials() = default;
  bool uid_changed_ = false;
  bool gid_changed_ = false;
  bool groups_changed_ = false;
};

// Without CAP_FSETID the kernel clears set-user-id and set-group-id when a file is written or truncated, or
// opened with O_TRUNC, as FUSE_WRITE_KILL_SUIDGID, FUSE_OPEN_KILL_SUIDGID and FATTR_KILL_SUIDGID ask.
class ScopedFsetidDrop {
 public:
  // Does nothing when `wanted` is false or the thread has no CAP_FSETID.
  explicit ScopedFsetidDrop(bool wanted);
  ScopedFsetidDrop(const ScopedFsetidDrop&) = delete;
  ScopedFsetidDrop& operator=(const ScopedFsetidDrop&) = delete;
  ~ScopedFsetidDrop();

 private:
  bool dropped_ = false;
};

// The thread's umask is 0 outside these, from the first on. With a default ACL on the parent the kernel
// ignores the umask, as POSIX wants it; else it applies it.
class ScopedUmask {
 public:
  // Errors: those of unshare(CLONE_FS), on a thread's first use.
  static Result<ScopedUmask> set(std::uint32_t umask);
  ScopedUmask(ScopedUmask&& other) noexcept;
  ScopedUmask& operator=(ScopedUmask&&) = delete;
  ScopedUmask(const ScopedUmask&) = delete;
  ScopedUmask& operator=(const ScopedUmask&) = delete;
  ~ScopedUmask();

 private:
  explicit ScopedUmask(bool changed) : changed_(changed) {}
  bool changed_;
};

}  // namespace fusewire::passthrough
