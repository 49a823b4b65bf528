#include "passthrough/proc_cwd.h"

#include <sched.h>
#include <unistd.h>

namespace fusewire::passthrough {

Result<void> enter_proc_self_fd(const ProcSelfFd& proc) {
  // Every ProcSelfFd of a process is the same directory; that of the parent, after a fork, is another one.
  thread_local pid_t entered_in = 0;
  const pid_t process = ::getpid();
  if (entered_in == process) return {};
  // A thread that this one starts later shares its working directory until it comes here itself: it has no
  // use for one before.
  if (::unshare(CLONE_FS) != 0) return fail_errno();
  if (::fchdir(proc.directory()) != 0) return fail_errno();
  entered_in = process;
  return {};
}

}  // namespace fusewire::passthrough
