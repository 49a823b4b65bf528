// The C API as this library itself sees it: the newest version of every declaration, and what is newer than the
// ABI of libfuse3.so.3 and stands behind its structures.
#pragma once

#include <sys/stat.h>

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif
#include "fuse3/fuse_lowlevel.h"

extern "C" int fuse_reply_statx(fuse_req_t req, int flags, struct statx* statx, double attr_timeout);

namespace fusewire::libfuse {

// fuse_lowlevel_ops and the callbacks that later versions have put behind it: how much of it a program has, it
// says by the size that it gives to fuse_session_new.
struct Operations : fuse_lowlevel_ops {
  void (*tmpfile)(fuse_req_t req, fuse_ino_t parent, mode_t mode, fuse_file_info* fi);
  void (*statx)(fuse_req_t req, fuse_ino_t ino, int flags, int mask, fuse_file_info* fi);
};
static_assert(sizeof(fuse_lowlevel_ops) == 352 && sizeof(Operations) == 368);
static_assert(sizeof(fuse_file_info) == 40 && sizeof(fuse_custom_io) == 32);

}  // namespace fusewire::libfuse
