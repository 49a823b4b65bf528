// A recorded workload: the requests that a kernel sent to a virtio-fs server, when, and which identifiers the
// server gave out in its replies. virtiofs-mount --record makes it, virtiofs-bench --replay sends it again.
//
// The file, all numbers little-endian; varint is LEB128 (7 bits a byte, the lowest first), at most 64 bits:
//
//   recording  := magic version record*
//   magic      := "FWRECORD"
//   version    := u32                              1; a reader refuses any other
//   record     := request | reply
//   request    := 0x01 delay unique queue room size kept byte[kept]
//   reply      := 0x02 delay unique error size kept byte[kept] count identifier[count]
//   delay      := varint                           nanoseconds since the record before
//   unique     := varint                           fuse_in_header::unique: what a reply belongs to
//   queue      := varint                           0: hiprio, 1: the first request queue
//   room       := varint                           for the reply's body, in bytes
//   size       := varint                           request: fuse_in_header::len; reply: bytes of the body
//   kept       := varint                           how much of that is here; see below
//   error      := varint                           errno, 0 for success
//   identifier := 0x01 value length byte[length]   a node id, and the name it was found under (READDIRPLUS
//   only)
//               | 0x02 value                       a file handle
//   value, length, count := varint
//
// Of requests everything is kept but the data of a WRITE, which can be any; of replies nothing but the body
// of INIT. A recording that ends within a record was cut off (the recorder was killed); what is before that
// is good.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace fusewire::recording {

// What the server gave out and later requests come back with.
struct Identifier {
  enum class Kind : std::uint8_t { node = 1, handle = 2 };
  Kind kind = Kind::node;
  std::uint64_t value = 0;
  std::string name;
  friend bool operator==(const Identifier&, const Identifier&) = default;
};

struct Request {
  std::chrono::nanoseconds at{};  // since the recording began
  std::uint64_t unique = 0;
  unsigned queue = 0;
  std::uint32_t room = 0;
  std::uint32_t size = 0;
  std::vector<std::byte> bytes;  // fuse_in_header first; at most `size`
  friend bool operator==(const Request&, const Request&) = default;
};

struct Reply {
  std::chrono::nanoseconds at{};
  std::uint64_t unique = 0;
  int error = 0;  // positive
  std::uint32_t size = 0;
  std::vector<std::byte> bytes;
  std::vector<Identifier> identifiers;
  friend bool operator==(const Reply&, const Reply&) = default;
};

using Record = std::variant<Request, Reply>;

inline constexpr char kMagic[] = "FWRECORD";  // without its NUL
inline constexpr std::size_t kMagicSize = 8;
inline constexpr std::uint32_t kVersion = 1;
// A reader takes no more: the largest xattr with its name, a READDIRPLUS of as many pages as there are, full
// of one-letter names.
inline constexpr std::size_t kMaxKept = std::size_t{256} * 1024;
inline constexpr std::size_t kMaxIdentifiers = 32768;
inline constexpr std::size_t kMaxName = 1024;

}  // namespace fusewire::recording
