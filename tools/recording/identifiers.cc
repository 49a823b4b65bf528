#include "recording/identifiers.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "fusewire/bytes.h"
#include "fusewire/wire.h"

namespace fusewire::recording {
namespace {

using Kind = Identifier::Kind;
using Map = std::function<std::uint64_t(Kind, std::uint64_t)>;

constexpr std::size_t kArgs = sizeof(fuse_in_header);

// A fuse_direntplus is copied in two: the structure itself ends with a flexible array.
void add_entries(std::span<const std::byte> body, std::vector<Identifier>& found) {
  static_assert(offsetof(fuse_direntplus, dirent) == sizeof(fuse_entry_out));
  ByteReader rest(body);
  while (rest.remaining() >= sizeof(fuse_direntplus)) {
    const auto entry = rest.read<fuse_entry_out>();
    static_assert(offsetof(fuse_dirent, namelen) == 16 && offsetof(fuse_dirent, name) == 24);
    rest.take(offsetof(fuse_dirent, namelen));  // ino, off
    const auto name_size = rest.read<std::uint32_t>();
    rest.read<std::uint32_t>();  // type
    if (!entry || !name_size || *name_size == 0) return;
    const auto name = rest.take(*name_size);
    if (!name) return;
    rest.take(std::min((8 - (sizeof(fuse_direntplus) + *name_size) % 8) % 8, rest.remaining()));
    if (entry->nodeid != 0) found.push_back({Kind::node, entry->nodeid, std::string(as_text(*name))});
  }
}

template <class T>
std::optional<T> at(std::span<const std::byte> bytes, std::size_t offset) {
  if (offset > bytes.size()) return std::nullopt;
  return ByteReader(bytes.subspan(offset)).read<T>();
}

void map_at(std::span<std::byte> request, std::size_t offset, Kind kind, const Map& map) {
  const auto value = at<std::uint64_t>(request, offset);
  if (!value || (kind == Kind::node && *value == 0)) return;
  const std::uint64_t mapped = map(kind, *value);
  std::memcpy(request.data() + offset, &mapped, sizeof mapped);
}

// The handle at `offset`, if the arguments' first word has `flag`.
void map_if(std::span<std::byte> request, std::uint32_t flag, std::size_t offset, const Map& map) {
  if (at<std::uint32_t>(request, kArgs).value_or(0) & flag) map_at(request, offset, Kind::handle, map);
}

void map_batch(std::span<std::byte> request, const Map& map) {
  constexpr std::size_t kItems = kArgs + sizeof(fuse_batch_forget_in);
  for (std::size_t offset = kItems; offset + sizeof(fuse_forget_one) <= request.size();
       offset += sizeof(fuse_forget_one))
    map_at(request, offset + offsetof(fuse_forget_one, nodeid), Kind::node, map);
}

static_assert(offsetof(fuse_read_in, fh) == 0 && offsetof(fuse_write_in, fh) == 0);
static_assert(offsetof(fuse_release_in, fh) == 0 && offsetof(fuse_flush_in, fh) == 0);
static_assert(offsetof(fuse_fsync_in, fh) == 0 && offsetof(fuse_lk_in, fh) == 0);
static_assert(offsetof(fuse_ioctl_in, fh) == 0 && offsetof(fuse_poll_in, fh) == 0);
static_assert(offsetof(fuse_fallocate_in, fh) == 0 && offsetof(fuse_lseek_in, fh) == 0);
static_assert(offsetof(fuse_copy_file_range_in, fh_in) == 0 && offsetof(fuse_setupmapping_in, fh) == 0);

}  // namespace

std::vector<Identifier> identifiers_in_reply(std::uint32_t opcode, std::span<const std::byte> body) {
  std::vector<Identifier> found;
  switch (opcode) {
    case FUSE_CREATE:
    case FUSE_TMPFILE:
      if (const auto open = at<fuse_open_out>(body, sizeof(fuse_entry_out)))
        found.push_back({Kind::handle, open->fh, {}});
      [[fallthrough]];
    case FUSE_LOOKUP:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_LINK:
      // Node 0 is a name that is known not to exist.
      if (const auto entry = at<fuse_entry_out>(body, 0); entry && entry->nodeid != 0)
        found.insert(found.begin(), {Kind::node, entry->nodeid, {}});
      break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      if (const auto open = at<fuse_open_out>(body, 0)) found.push_back({Kind::handle, open->fh, {}});
      break;
    case FUSE_READDIRPLUS:
      add_entries(body, found);
      break;
    default:
      break;
  }
  return found;
}

void map_identifiers(std::span<std::byte> request, const Map& map) {
  const auto header = at<fuse_in_header>(request, 0);
  if (!header) return;
  map_at(request, offsetof(fuse_in_header, nodeid), Kind::node, map);
  switch (header->opcode) {
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_RELEASE:
    case FUSE_FSYNC:
    case FUSE_FLUSH:
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_RELEASEDIR:
    case FUSE_FSYNCDIR:
    case FUSE_GETLK:
    case FUSE_SETLK:
    case FUSE_SETLKW:
    case FUSE_IOCTL:
    case FUSE_POLL:
    case FUSE_FALLOCATE:
    case FUSE_LSEEK:
    case FUSE_SETUPMAPPING:
      return map_at(request, kArgs, Kind::handle, map);
    case FUSE_COPY_FILE_RANGE:
    case FUSE_COPY_FILE_RANGE_64:
      map_at(request, kArgs, Kind::handle, map);
      map_at(request, kArgs + offsetof(fuse_copy_file_range_in, nodeid_out), Kind::node, map);
      return map_at(request, kArgs + offsetof(fuse_copy_file_range_in, fh_out), Kind::handle, map);
    case FUSE_GETATTR:
      return map_if(request, FUSE_GETATTR_FH, kArgs + offsetof(fuse_getattr_in, fh), map);
    case FUSE_STATX:
      return map_if(request, FUSE_GETATTR_FH, kArgs + offsetof(StatxIn, fh), map);
    case FUSE_SETATTR:
      return map_if(request, FATTR_FH, kArgs + offsetof(fuse_setattr_in, fh), map);
    case FUSE_LINK:
      return map_at(request, kArgs + offsetof(fuse_link_in, oldnodeid), Kind::node, map);
    case FUSE_RENAME:
      return map_at(request, kArgs + offsetof(fuse_rename_in, newdir), Kind::node, map);
    case FUSE_RENAME2:
      return map_at(request, kArgs + offsetof(fuse_rename2_in, newdir), Kind::node, map);
    case FUSE_BATCH_FORGET:
      return map_batch(request, map);
    default:
      return;
  }
}

}  // namespace fusewire::recording
