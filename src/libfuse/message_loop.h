// Messages one by one: the loop of a session that a program has given its own I/O, and what a program with a
// loop of its own calls. /dev/fuse is served by devfuse::Server (loop.cc).
#pragma once

#include "libfuse/session.h"

namespace fusewire::libfuse {

// Serves until the end, in `threads` threads at most. 0 or -errno.
int serve_messages(fuse_session& session, unsigned threads);

}  // namespace fusewire::libfuse
