// The security label that a new file has from its first moment (FUSE_SECURITY_CTX).
//
// Where the host runs SELinux, its own label goes into the thread's /proc/thread-self/attr/fscreate before
// the file is made. Everything else is set as an extended attribute, after the file was made and before the
// guest hears of it. SecurityLabels is immutable and thread-safe; a ScopedLabel belongs to the thread that
// made it.
#pragma once

#include <memory>

#include "fusewire/result.h"
#include "fusewire/tails.h"
#include "fusewire/unique_fd.h"
#include "passthrough/proc_self_fd.h"

namespace fusewire::passthrough {

class SecurityLabels {
 public:
  // Opens /proc. Errors: those of open(2).
  static Result<SecurityLabels> open();

  // Whether the kernel labels what the thread makes by what fscreate says.
  bool kernel_labels(std::string_view name) const { return host_selinux_ && name == "security.selinux"; }
  // Writes `label` (empty: none) to the calling thread's fscreate.
  Result<void> write_fscreate(std::span<const std::byte> label) const;

 private:
  SecurityLabels(UniqueFd proc, bool host_selinux) : proc_(std::move(proc)), host_selinux_(host_selinux) {}
  UniqueFd proc_;
  bool host_selinux_;
};

class ScopedLabel {
 public:
  // Prepares the thread for making a file with the label of `extensions`; nothing happens when there is none.
  // `labels` and the views of `extensions` must outlive it. Errors: EINVAL when the name is not one of
  // "security.*", EOPNOTSUPP when `labels` is null.
  static Result<ScopedLabel> prepare(const SecurityLabels* labels, const CreateExtensions& extensions);
  ScopedLabel(ScopedLabel&& other) noexcept;
  ScopedLabel& operator=(ScopedLabel&&) = delete;
  ScopedLabel(const ScopedLabel&) = delete;
  ScopedLabel& operator=(const ScopedLabel&) = delete;
  ~ScopedLabel();

  // Sets what the kernel does not set by itself on the new file behind `path_fd`, which may be of any type.
  // It changes the thread's working directory (proc_cwd.h).
  Result<void> apply(const ProcSelfFd& proc, int path_fd) const;

 private:
  ScopedLabel() = default;
  const SecurityLabels* fscreate_ = nullptr;    // whose fscreate is set
  const CreateExtensions* by_xattr_ = nullptr;  // what apply() sets
};

}  // namespace fusewire::passthrough
