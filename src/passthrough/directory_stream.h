// DirectoryStream: reads the entries of one open directory of the host with getdents64(2), in batches.
//
// Positions are the host's own cookies (linux_dirent64::d_off), passed through as unsigned 64-bit numbers:
// NFS has cookies above 2^63-1. Going on where the last read ended needs no seek, so that such cookies work
// too, and entries that come and go meanwhile neither repeat nor hide others, as far as the host's file
// system promises that.
//
// Threading: one user at a time (open_directory.h has the lock).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fusewire/directory_builder.h"
#include "fusewire/result.h"
#include "fusewire/unique_fd.h"

namespace fusewire::passthrough {

class DirectoryStream {
 public:
  // `fd`: a directory opened for reading, at its beginning.
  explicit DirectoryStream(UniqueFd fd);
  DirectoryStream(DirectoryStream&&) = delete;
  ~DirectoryStream();

  int fd() const { return fd_.get(); }

  // Goes to `position`: 0, or `next` of an entry of this directory, whenever and through whichever stream it
  // was read. Position 0 sees the directory afresh. Errors: those of lseek(2); EINVAL for what the file
  // system does not take.
  Result<void> seek(std::uint64_t position);

  // The entry at the position, without going past it; null at the end, where a later call may find more. Its
  // name has a NUL right behind it, and dies with the next call.
  // Errors: those of getdents64(2); ENOENT when the directory was removed.
  Result<const DirectoryEntry*> peek();
  // Goes past the entry that peek() returned.
  void advance();

  // No request uses the stream for now: gives its memory back if there is nothing in it, or too much of it in
  // all streams together.
  void rest();

  // The bytes of one batch.
  static constexpr std::size_t kBatchSize = std::size_t{32} * 1024;
  // Streams that may keep unread entries between requests; the others read them again. Bounds what a guest
  // that opens many directories and reads each a little can make us hold (64 MiB).
  static constexpr int kMaxKeptBatches = 2048;

 private:
  Result<bool> fill();
  void drop_batch();

  UniqueFd fd_;
  DirectoryEntry entry_;        // what peek() returned
  std::uint64_t position_ = 0;  // of the next entry
  bool at_start_ = true;        // nothing was read since the descriptor was put to position 0
  bool must_seek_ = false;      // the descriptor stands elsewhere than position_
  // What getdents64 wrote and peek() has not gone past: [batch_next_, batch_end_).
  std::unique_ptr<std::byte[]> batch_;
  std::size_t batch_next_ = 0;
  std::size_t batch_end_ = 0;
  bool counted_ = false;  // batch_ counts among the kept ones
};

}  // namespace fusewire::passthrough
