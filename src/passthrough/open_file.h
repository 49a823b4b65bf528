// OpenFile: one regular file that the guest has open (OPEN, CREATE, TMPFILE), until RELEASE. Requests that
// use it hold it alive. The descriptor's own state (offset) is never used, so that requests may run in
// parallel.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "fusewire/backing_file.h"
#include "fusewire/unique_fd.h"
#include "fusewire/wire.h"
#include "passthrough/storage_kind.h"

namespace fusewire::passthrough {

struct OpenFile {
  OpenFile(UniqueFd opened, NodeId of, int open_flags, std::shared_ptr<const BackingFile> kernel_file)
      : fd(std::move(opened)), node(of), flags(open_flags), backing(std::move(kernel_file)) {}

  const UniqueFd fd;  // keeps the inode alive, however the node is reached
  const NodeId node;
  const int flags;                                   // with which the host file was opened
  const std::shared_ptr<const BackingFile> backing;  // null: READ and WRITE come here

  // Where the file lies. Asked of the host once.
  StorageKind storage() {
    // SAFETY: relaxed here and below, each is a single value that anybody may find out anew.
    StorageKind kind = storage_.load(std::memory_order_relaxed);
    if (kind == StorageKind::unknown) {
      kind = storage_kind_of(fd.get());
      storage_.store(kind, std::memory_order_relaxed);
    }
    return kind;
  }

  // Whether READ can ask the host for what is in the page cache only (RWF_NOWAIT). True until it was told
  // otherwise.
  std::atomic<bool> probes_cache{true};

 private:
  std::atomic<StorageKind> storage_{StorageKind::unknown};
};

}  // namespace fusewire::passthrough
