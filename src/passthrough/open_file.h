// OpenFile: one regular file that the guest has open (OPEN, CREATE, TMPFILE), until RELEASE. Requests that
// use it hold it alive. The descriptor's own state (offset) is never used, so that requests may run in
// parallel.
#pragma once

#include <memory>
#include <utility>

#include "base/unique_fd.h"
#include "passthrough/inode.h"

namespace fusewire::passthrough {

struct OpenFile {
  OpenFile(UniqueFd opened, std::shared_ptr<Inode> of, int open_flags)
      : fd(std::move(opened)), inode(std::move(of)), flags(open_flags) {}

  const UniqueFd fd;
  const std::shared_ptr<Inode> inode;
  const int flags;  // with which the host file was opened
};

}  // namespace fusewire::passthrough
