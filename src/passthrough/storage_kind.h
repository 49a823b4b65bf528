// StorageKind: where a host file system keeps its files, as far as it decides what may block.
#pragma once

namespace fusewire::passthrough {

enum class StorageKind : unsigned char {
  unknown,  // not asked yet
  memory,   // reading and writing never waits for a device
  local,    // a disk of this machine: closing a file is quick
  remote,   // anything else: any call may wait for a server
};

// That of the file system behind `fd`: memory, local or remote.
StorageKind storage_kind_of(int fd);

}  // namespace fusewire::passthrough
