// Positional reads and writes of whole scatter lists with plain system calls. They may block: call them from
// a pool thread, or where only the page cache is touched.
//
// Threading: no state; the list and its array belong to the caller. The memory behind the list may be guest
// memory.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <limits>

#include "fusewire/io_vecs.h"
#include "fusewire/result.h"

namespace fusewire::io {

// True when [offset, offset + size) are offsets that a file can have.
constexpr bool is_file_range(std::uint64_t offset, std::uint64_t size) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  return offset <= kMax && size <= kMax - offset;
}

// How far a transfer came, and what ended it before its list did.
struct Progress {
  std::size_t done = 0;  // bytes moved, and dropped from the list's front
  int error = 0;         // the errno that ended it; 0: the list is done, or the file is at its end
};

// Reads at `offset` until `to` is full, the file ends (error 0 and bytes left in `to`) or a call fails. Goes
// on after short transfers, signals, and lists of more than UIO_MAXIOV parts. `flags`: RWF_* of preadv2(2);
// with RWF_NOWAIT what is not in the page cache ends it with EAGAIN. Offsets that no file can have are
// EINVAL.
Progress read_at(int fd, IoVecs& to, std::uint64_t offset, int flags = 0);

// Writes `from` at `offset` until all is written or a call fails, in the same way. A call that writes nothing
// without an error counts as EIO, so that the loop ends.
Progress write_at(int fd, IoVecs& from, std::uint64_t offset, int flags = 0);

}  // namespace fusewire::io
