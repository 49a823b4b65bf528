#include "passthrough/security_label.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "fusewire/c_string.h"
#include "passthrough/proc_cwd.h"

namespace fusewire::passthrough {

Result<SecurityLabels> SecurityLabels::open() {
  UniqueFd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!proc) return fail_errno();
  return SecurityLabels(std::move(proc), ::access("/sys/fs/selinux/enforce", F_OK) == 0);
}

Result<void> SecurityLabels::write_fscreate(std::span<const std::byte> label) const {
  const UniqueFd fscreate(::openat(proc_.get(), "thread-self/attr/fscreate", O_WRONLY | O_CLOEXEC));
  if (!fscreate) return fail_errno();
  if (::write(fscreate.get(), label.data(), label.size()) < 0) return fail_errno();
  return {};
}

Result<ScopedLabel> ScopedLabel::prepare(const SecurityLabels* labels, const CreateExtensions& extensions) {
  ScopedLabel scope;
  if (extensions.security_xattr.empty()) return scope;
  if (labels == nullptr) return fail(EOPNOTSUPP);
  // Whatever else the guest may set, it sets by SETXATTR and under its rules.
  if (!extensions.security_xattr.starts_with("security.")) return fail(EINVAL);
  if (!labels->kernel_labels(extensions.security_xattr)) {
    scope.by_xattr_ = &extensions;
    return scope;
  }
  if (const auto written = labels->write_fscreate(extensions.security_label); !written)
    return fail(written.error());
  scope.fscreate_ = labels;
  return scope;
}

ScopedLabel::ScopedLabel(ScopedLabel&& other) noexcept
    : fscreate_(std::exchange(other.fscreate_, nullptr)),
      by_xattr_(std::exchange(other.by_xattr_, nullptr)) {}

ScopedLabel::~ScopedLabel() {
  // A label left behind would go to files of other guests' users.
  if (fscreate_ != nullptr) FUSEWIRE_CHECK(fscreate_->write_fscreate({}).has_value());
}

Result<void> ScopedLabel::apply(const ProcSelfFd& proc, int path_fd) const {
  if (by_xattr_ == nullptr) return {};
  // No system call sets an attribute through a path descriptor; a name in /proc/self/fd ends at its very
  // inode.
  if (const auto entered = enter_proc_self_fd(proc); !entered) return entered;
  const ProcSelfFd::Name name(path_fd);
  const auto& label = by_xattr_->security_label;
  if (::setxattr(name.c_str(), c_string(by_xattr_->security_xattr), label.data(), label.size(), 0) != 0)
    return fail_errno();
  return {};
}

}  // namespace fusewire::passthrough
