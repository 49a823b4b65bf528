// The mount option allow_root: the kernel lets everybody in (allow_other), and whoever serves the mount turns
// away all but the user who mounted it and root.
#pragma once

#include <sys/types.h>

#include "fusewire/slot.h"
#include "fusewire/wire.h"

namespace fusewire::devfuse {

// Whether `request` has to be answered with EACCES: it comes from a user other than `owner` and root, and
// asks for a name, an attribute or an open. What is open already may be used by whoever has it. From any
// thread.
bool is_refused(const fuse_in_header& request, uid_t owner);

// Answers the request in `slot`, which is ready for Engine::submit, if it has to be; whether it had.
bool refuse_others(Slot& slot, uid_t owner);

}  // namespace fusewire::devfuse
