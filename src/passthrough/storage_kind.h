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

// Whether the file system behind `fd` finds an inode by its file handle as long as the inode has a name, also
// after everything about it has left the host's caches. Some give handles out that mean nothing by then
// (FUSE); of those that are not known here nothing is taken for granted.
bool has_lasting_file_handles(int fd);

}  // namespace fusewire::passthrough
