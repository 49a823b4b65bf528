// Decode: from the copied bytes of a request to an operation's arguments and tail. Everything here works on
// memory that the guest can no longer change, and reads nothing outside it.
//
// decode_tail() has one overload for each tail type of tails.h; false means that the request is malformed
// (EINVAL).
#pragma once

#include "fusewire/bytes.h"
#include "fusewire/call.h"

namespace fusewire {

// What decoding depends on beyond the bytes.
struct DecodeContext {
  std::size_t extensions_size = 0;  // fuse_in_header::total_extlen in bytes
  bool security_ctx = false;        // FUSE_SECURITY_CTX was negotiated
};

bool decode_tail(ByteReader& rest, const DecodeContext& context, LookupName& tail);
bool decode_tail(ByteReader& rest, const DecodeContext& context, EntryName& tail);
bool decode_tail(ByteReader& rest, const DecodeContext& context, EntryNames& tail);
bool decode_tail(ByteReader& rest, const DecodeContext& context, NewEntry& tail);
bool decode_tail(ByteReader& rest, const DecodeContext& context, UnnamedEntry& tail);
bool decode_tail(ByteReader& rest, const DecodeContext& context, SymlinkNames& tail);
bool decode_tail(ByteReader& rest, const DecodeContext& context, XattrName& tail);

// These take the size that the arguments announce: a count of items, or of bytes.
bool decode_counted(ByteReader& rest, std::uint32_t size, XattrPair& tail);
bool decode_counted(ByteReader& rest, std::uint32_t count, ForgetList& tail);
bool decode_counted(ByteReader& rest, std::uint32_t count, MappingList& tail);

// The extensions behind the names of a creating request (struct fuse_ext_header and its kin).
bool decode_extensions(std::span<const std::byte> bytes, CreateExtensions& extensions);

}  // namespace fusewire
