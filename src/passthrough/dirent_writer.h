// DirentWriter: the body of a READDIR or READDIRPLUS reply: struct fuse_dirent or fuse_direntplus, each with
// its name and zeros up to a multiple of 8 bytes, in memory of ours.
//
// A READDIRPLUS reply is a promise: the guest will forget each node id in it. So that an entry is looked up
// only when it will be sent, ask fits_plus() first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fusewire/bytes.h"
#include "fusewire/wire.h"
#include "passthrough/directory_stream.h"

namespace fusewire::passthrough {

class DirentWriter {
 public:
  explicit DirentWriter(std::span<std::byte> room) : writer_(room), room_(room) {}

  // Whether the next entry may have a name of this many bytes.
  bool fits(std::size_t name_size) const {
    return padded(sizeof(fuse_dirent) + name_size) <= writer_.remaining();
  }
  bool fits_plus(std::size_t name_size) const {
    return padded(sizeof(fuse_direntplus) + name_size) <= writer_.remaining();
  }

  // Append an entry; false (and nothing appended) when it does not fit.
  bool add(const DirectoryEntry& entry) {
    if (!fits(entry.name.size())) return false;
    return write_dirent(entry);
  }
  // `attributes` with nodeid 0 means that the guest learns no more than add() tells it, and owes no forget.
  bool add_plus(const DirectoryEntry& entry, const fuse_entry_out& attributes) {
    if (!fits_plus(entry.name.size())) return false;
    return writer_.write_object(attributes) && write_dirent(entry);
  }

  bool empty() const { return writer_.written() == 0; }
  std::span<const std::byte> bytes() const { return room_.first(writer_.written()); }

 private:
  static std::size_t padded(std::size_t size) { return FUSE_DIRENT_ALIGN(size); }

  bool write_dirent(const DirectoryEntry& entry) {
    // The structure ends where the name begins, at a multiple of 8.
    fuse_dirent head{};
    head.ino = entry.ino;
    head.off = entry.next;
    head.namelen = static_cast<std::uint32_t>(entry.name.size());
    head.type = entry.type;
    return writer_.write_object(head) && writer_.write(as_bytes(entry.name)) &&
           writer_.pad(padded(entry.name.size()) - entry.name.size());
  }

  ByteWriter writer_;
  std::span<std::byte> room_;
};

}  // namespace fusewire::passthrough
