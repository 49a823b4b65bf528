// The C API as this library itself sees it: the newest version of every declaration.
#pragma once

#include <sys/stat.h>

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 318
#endif
#include "fuse3/fuse_lowlevel.h"

namespace fusewire::libfuse {

using Operations = fuse_lowlevel_ops;
static_assert(sizeof(Operations) == 368 && sizeof(fuse_file_info) == 40);

// Callbacks that only virtiofsd_lowlevel.h has.
struct VariantOperations {
  // In place of Operations::setxattr.
  void (*setxattr)(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                   int flags, uint32_t setxattr_flags) = nullptr;
  void (*syncfs)(fuse_req_t req, fuse_ino_t ino) = nullptr;
};

}  // namespace fusewire::libfuse
