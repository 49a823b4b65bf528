#include "passthrough/credentials.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace fusewire::passthrough {
namespace {

using CapSet = std::uint64_t;
constexpr CapSet bit(int capability) { return CapSet{1} << capability; }

struct Capabilities {
  CapSet effective = 0;
  CapSet permitted = 0;
  CapSet inheritable = 0;
};

using CapData = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

Capabilities get_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  CapData data{};
  FUSEWIRE_CHECK(::syscall(SYS_capget, &header, data.data()) == 0);
  const auto join = [](std::uint32_t low, std::uint32_t high) { return CapSet{high} << 32 | low; };
  return {.effective = join(data[0].effective, data[1].effective),
          .permitted = join(data[0].permitted, data[1].permitted),
          .inheritable = join(data[0].inheritable, data[1].inheritable)};
}

bool set_effective(const Capabilities& own, CapSet effective) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  CapData data{};
  for (unsigned word = 0; word < data.size(); ++word) {
    data[word].effective = static_cast<std::uint32_t>(effective >> (32 * word));
    data[word].permitted = static_cast<std::uint32_t>(own.permitted >> (32 * word));
    data[word].inheritable = static_cast<std::uint32_t>(own.inheritable >> (32 * word));
  }
  return ::syscall(SYS_capset, &header, data.data()) == 0;
}

// The raw calls: libc's wrappers would change every thread. -1 leaves an id as it is.
bool set_effective_uid(uid_t uid) { return ::syscall(SYS_setresuid, -1L, long{uid}, -1L) == 0; }
bool set_effective_gid(gid_t gid) { return ::syscall(SYS_setresgid, -1L, long{gid}, -1L) == 0; }
bool set_groups(std::size_t count, const gid_t* groups) {
  return ::syscall(SYS_setgroups, count, groups) == 0;
}

// What this thread is when no Scoped object lives. Read once: daemons settle their credentials before they
// serve.
struct ThreadSelf {
  ThreadSelf()
      : uid(::geteuid()),
        gid(::getegid()),
        capabilities(get_capabilities()),
        groups_dropped(set_groups(0, nullptr)) {
    constexpr CapSet kNeeded = bit(CAP_SETUID) | bit(CAP_SETGID);
    can_switch = (capabilities.effective & kNeeded) == kNeeded;
  }
  uid_t uid;
  gid_t gid;
  Capabilities capabilities;
  bool can_switch = false;
  // The thread has no supplementary groups from here on (CVE-2022-0358). False where it has no right to drop
  // them; then it has none to change its ids either, or lives in a user namespace that denies setgroups(2).
  bool groups_dropped;
};

const ThreadSelf& self() {
  thread_local const ThreadSelf instance;
  return instance;
}

// Whether `wanted` must be switched to; `own` is what the thread is.
bool differs(std::uint32_t wanted, std::uint32_t own) { return wanted != 0 && wanted != own; }

}  // namespace

Result<ScopedCredentials> ScopedCredentials::assume(GuestUid uid, GuestGid gid,
                                                    std::optional<GuestGid> group) {
  const ThreadSelf& me = self();
  const bool switch_uid = differs(uid.get(), me.uid);
  const bool switch_gid = differs(gid.get(), me.gid);
  // (uid_t)-1 would mean "leave as it is".
  if ((switch_uid && uid.get() == UINT32_MAX) || (switch_gid && gid.get() == UINT32_MAX)) return fail(EINVAL);
  ScopedCredentials scope;  // its destructor undoes what was done when a later step fails
  if (!switch_uid && !switch_gid) return scope;
  if (!me.can_switch) return fail(EPERM);
  if (group && me.groups_dropped) {
    const gid_t only = group->get();
    if (!set_groups(1, &only)) return fail_errno();
    scope.groups_changed_ = true;
  }
  if (switch_gid) {
    if (!set_effective_gid(gid.get())) return fail_errno();
    scope.gid_changed_ = true;
  }
  if (switch_uid) {
    if (!set_effective_uid(uid.get())) return fail_errno();
    scope.uid_changed_ = true;
    // Leaving uid 0 has emptied the effective set, leaving another uid has not: say what it is to be.
    if (!set_effective(me.capabilities, me.capabilities.effective & bit(CAP_DAC_OVERRIDE)))
      return fail_errno();
  }
  return scope;
}

ScopedCredentials::ScopedCredentials(ScopedCredentials&& other) noexcept
    : uid_changed_(std::exchange(other.uid_changed_, false)),
      gid_changed_(std::exchange(other.gid_changed_, false)),
      groups_changed_(std::exchange(other.groups_changed_, false)) {}

ScopedCredentials::~ScopedCredentials() {
  const ThreadSelf& me = self();
  // The uid first: it needs no capability (the real uid never changed), and the rest may need what it brings
  // back.
  if (uid_changed_) {
    FUSEWIRE_CHECK(set_effective_uid(me.uid));
    FUSEWIRE_CHECK(set_effective(me.capabilities, me.capabilities.effective));
  }
  if (gid_changed_) FUSEWIRE_CHECK(set_effective_gid(me.gid));
  if (groups_changed_) FUSEWIRE_CHECK(set_groups(0, nullptr));
}

ScopedFsetidDrop::ScopedFsetidDrop(bool wanted) {
  if (!wanted) return;
  const Capabilities& own = self().capabilities;
  if ((own.effective & bit(CAP_FSETID)) == 0) return;
  FUSEWIRE_CHECK(set_effective(own, own.effective & ~bit(CAP_FSETID)));
  dropped_ = true;
}

ScopedFsetidDrop::~ScopedFsetidDrop() {
  const Capabilities& own = self().capabilities;
  if (dropped_) FUSEWIRE_CHECK(set_effective(own, own.effective));
}

Result<ScopedUmask> ScopedUmask::set(std::uint32_t umask) {
  thread_local bool has_own = false;
  if (!has_own) {
    if (::unshare(CLONE_FS) != 0) return fail_errno();
    ::umask(0);
    has_own = true;
  }
  const mode_t mask = umask & 0777;
  if (mask != 0) ::umask(mask);
  return ScopedUmask(mask != 0);
}

ScopedUmask::ScopedUmask(ScopedUmask&& other) noexcept : changed_(std::exchange(other.changed_, false)) {}

ScopedUmask::~ScopedUmask() {
  if (changed_) ::umask(0);
}

}  // namespace fusewire::passthrough
