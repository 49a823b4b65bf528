// What the *xattr calls need to name a descriptor: they take a path, and refuse O_PATH descriptors.
//
// Resolving the name of a descriptor in /proc/self/fd ends at the very inode behind it, also when that is a
// symbolic link or a device, and opens nothing. /proc may be out of sight in a sandbox, so it is made the
// working directory of the thread.
#pragma once

#include "fusewire/result.h"
#include "passthrough/proc_self_fd.h"

namespace fusewire::passthrough {

// Makes `proc` the working directory of the calling thread, for good and for it alone: the first call takes
// the thread out of the CLONE_FS group. Nothing else in this process may use relative paths. Errors: those of
// unshare(2), fchdir(2).
Result<void> enter_proc_self_fd(const ProcSelfFd& proc);

}  // namespace fusewire::passthrough
