// The two shapes of struct fuse_loop_config: the opaque one of interface 312 and later, which
// fuse_loop_cfg_*() fill in, and the one that older programs lay out themselves (fuse_loop_config_v1 in
// fuse_common.h).
#pragma once

#include "fuse3/fuse_common.h"

struct fuse_loop_config {
  int clone_fd;
  unsigned int max_idle_threads;
  unsigned int max_threads;
};

namespace fusewire::libfuse {

// What loops do when they are told nothing, as libfuse 3.14 has it: threads are kept, and there are ten at
// most.
inline constexpr unsigned int kDefaultMaxIdleThreads = ~0U;
inline constexpr unsigned int kDefaultMaxThreads = 10;
inline constexpr fuse_loop_config kDefaultLoopConfig{0, kDefaultMaxIdleThreads, kDefaultMaxThreads};

// In an older structure, and on the command line of that time, the default number of idle threads was ten.
inline constexpr unsigned int kDefaultMaxIdleThreadsV1 = 10;

}  // namespace fusewire::libfuse
