// OpenDirectory: one directory that the guest has open (OPENDIR), until RELEASEDIR. Requests that use it hold
// it alive. Its stream has one position, so that requests take turns.
#pragma once

#include <mutex>
#include <utility>

#include "fusewire/unique_fd.h"
#include "passthrough/directory_stream.h"
#include "passthrough/inode.h"

namespace fusewire::passthrough {

struct OpenDirectory {
  OpenDirectory(UniqueFd opened, const Inode& of)
      : node(of.node()), identity(of.identity()), stream(std::move(opened)) {}

  // For calls that do not depend on the position; needs no lock.
  int fd() const { return stream.fd(); }

  const NodeId node;
  const Identity identity;
  std::mutex mutex;
  DirectoryStream stream;  // guarded by mutex, but for fd()
};

}  // namespace fusewire::passthrough
