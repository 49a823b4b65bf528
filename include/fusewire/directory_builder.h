// DirectoryBuilder: the body of a READDIR or READDIRPLUS reply: struct fuse_dirent or fuse_direntplus, each
// with its name and zeros up to a multiple of 8 bytes (fs/fuse/readdir.c). What does not fit is refused,
// never cut.
//
// A READDIRPLUS reply is a promise: the kernel will forget each node id in it. So that an entry is looked up
// only when it will be sent, ask fits_plus() first.
//
// Threading: one user at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "fusewire/bytes.h"
#include "fusewire/reply.h"
#include "fusewire/wire.h"

namespace fusewire {

// One entry of a directory.
struct DirectoryEntry {
  std::uint64_t ino = 0;
  // The position behind this entry: what the next READDIR asks for (fuse_read_in::offset). Not 0, which is
  // the directory's start.
  std::uint64_t next = 0;
  std::uint32_t type = 0;  // DT_* of <dirent.h>: the file type bits of st_mode, shifted right by 12
  std::string_view name;   // at most 255 bytes, without '/'
};

class DirectoryBuilder {
 public:
  // Builds in memory of its own, as large as the reply may be, up to kMostOwned; a reply need not fill its
  // room. Answer with std::move(reply).ok(builder.bytes()).
  explicit DirectoryBuilder(const ReplyData& reply)
      : DirectoryBuilder(std::min(reply.room().size(), kMostOwned)) {}
  // Builds in `room`, which must outlive the builder.
  explicit DirectoryBuilder(std::span<std::byte> room) : room_(room), writer_(room) {}
  DirectoryBuilder(const DirectoryBuilder&) = delete;
  DirectoryBuilder& operator=(const DirectoryBuilder&) = delete;

  static constexpr std::size_t kMostOwned = std::size_t{64} * 1024;

  // Whether the next entry may have a name of this many bytes.
  bool fits(std::size_t name_size) const { return space_for(sizeof(fuse_dirent), name_size); }
  bool fits_plus(std::size_t name_size) const { return space_for(sizeof(fuse_direntplus), name_size); }

  // Append an entry. False, and nothing appended, when it does not fit: the reply is full, and the kernel
  // comes again with the position of the last entry that did.
  bool add(const DirectoryEntry& entry) {
    if (!fits(entry.name.size())) return refuse();
    return write_dirent(entry);
  }
  // `attributes` with nodeid 0 means that the kernel learns no more than add() tells it, and owes no forget:
  // right for "." and "..". With another one it counts as one lookup of that node. A mix of add() and
  // add_plus() in one reply is malformed.
  bool add_plus(const DirectoryEntry& entry, const fuse_entry_out& attributes) {
    if (!fits_plus(entry.name.size())) return refuse();
    return writer_.write_object(attributes) && write_dirent(entry);
  }

  bool empty() const { return writer_.written() == 0; }
  // Whether an entry was refused. When the builder is empty as well, the room is too small for even one: that
  // must become EINVAL, since an empty answer means the end of the directory.
  bool full() const { return full_; }
  // The reply's body so far; the view dies with the builder.
  std::span<const std::byte> bytes() const { return room_.first(writer_.written()); }

 private:
  explicit DirectoryBuilder(std::size_t size)
      : memory_(std::make_unique_for_overwrite<std::byte[]>(size)),
        room_(memory_.get(), size),
        writer_(room_) {}

  static std::size_t padded(std::size_t size) { return FUSE_DIRENT_ALIGN(size); }
  bool space_for(std::size_t head, std::size_t name_size) const {
    const std::size_t remaining = writer_.remaining();
    return name_size <= remaining && padded(head + name_size) <= remaining;
  }
  bool refuse() {
    full_ = true;
    return false;
  }
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

  std::unique_ptr<std::byte[]> memory_;
  std::span<std::byte> room_;
  ByteWriter writer_;
  bool full_ = false;
};

}  // namespace fusewire
