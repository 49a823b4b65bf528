// What of a file the host has in memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusewire::io {

// Whether all pages of the file's bytes [offset, offset + size) are in the page cache, at least on their way
// there from the disk. Starts no I/O. False where the host does not say: before Linux 6.5, and for files that
// are neither the process's own nor writable for it (cachestat(2)).
bool is_cached(int fd, std::uint64_t offset, std::size_t size);

}  // namespace fusewire::io
