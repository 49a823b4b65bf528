#include "fuse/decode.h"

#include <algorithm>

#include "base/checked.h"

namespace fusewire {
namespace {

bool is_lookup_name(std::string_view name) { return !name.empty() && !name.contains('/'); }
bool is_entry_name(std::string_view name) { return is_lookup_name(name) && name != "." && name != ".."; }

bool take_entry_name(ByteReader& rest, std::string_view& name) {
  const auto taken = rest.take_c_string();
  if (!taken || !is_entry_name(*taken)) return false;
  name = *taken;
  return true;
}

// Kernels from 7.38 announce the extensions' size in the header and put them at the very end. Those of 7.36
// and 7.37 send the security context behind the names without saying so, once FUSE_SECURITY_CTX is
// negotiated.
bool take_extensions(ByteReader& rest, const DecodeContext& context, CreateExtensions& extensions) {
  if (context.extensions_size != 0) {
    if (context.extensions_size > rest.remaining()) return false;
    rest.take(rest.remaining() - context.extensions_size);
    return decode_extensions(rest.rest(), extensions);
  }
  if (context.security_ctx) return decode_extensions(rest.rest(), extensions);
  return true;
}

// `count` contexts, each struct fuse_secctx, the attribute's name with its NUL, and the label. The kernel
// sends one.
bool decode_security_context(ByteReader content, std::uint32_t count, CreateExtensions& extensions) {
  if (count == 0) return true;
  if (count > 1) return false;
  const auto header = content.read<fuse_secctx>();
  if (!header) return false;
  const auto name = content.take_c_string();
  if (!name || name->empty()) return false;
  const auto label = content.take(header->size);
  if (!label) return false;
  extensions.security_xattr = *name;
  extensions.security_label = *label;
  return true;
}

// A count and that many group ids. The kernel sends at most one: the parent directory's, if the caller is in
// it.
bool decode_groups(ByteReader content, CreateExtensions& extensions) {
  const auto count = content.read<std::uint32_t>();
  if (!count || *count > 1) return false;
  if (*count == 0) return true;
  const auto group = content.read<std::uint32_t>();
  if (!group) return false;
  extensions.has_group = true;
  extensions.group = GuestGid{*group};
  return true;
}

// A view of `count` items at the front of `rest`.
template <class Item>
bool take_items(ByteReader& rest, std::uint32_t count, ItemList<Item>& items) {
  const auto size = checked_mul<std::uint64_t>(count, sizeof(Item));
  if (!size) return false;
  const auto bytes = rest.take(*size);
  if (!bytes) return false;
  items = ItemList<Item>(*bytes);
  return true;
}

}  // namespace

bool decode_extensions(std::span<const std::byte> bytes, CreateExtensions& extensions) {
  ByteReader rest(bytes);
  while (rest.remaining() != 0) {
    const auto header = rest.read<ExtensionHeader>();
    if (!header || header->size < sizeof *header) return false;
    const std::size_t content_size = header->size - sizeof *header;
    const auto content = rest.take(content_size);
    if (!content) return false;
    if (header->type <= kMaxSecurityContexts) {
      if (!decode_security_context(ByteReader(*content), header->type, extensions)) return false;
    } else if (header->type == kExtensionGroups) {
      if (!decode_groups(ByteReader(*content), extensions)) return false;
    }
    const std::size_t padding = (8 - header->size % 8) % 8;
    rest.take(std::min(padding, rest.remaining()));
  }
  return true;
}

bool decode_tail(ByteReader& rest, const DecodeContext&, LookupName& tail) {
  const auto name = rest.take_c_string();
  if (!name || !is_lookup_name(*name)) return false;
  tail.name = *name;
  return true;
}

bool decode_tail(ByteReader& rest, const DecodeContext&, EntryName& tail) {
  return take_entry_name(rest, tail.name);
}

bool decode_tail(ByteReader& rest, const DecodeContext&, EntryNames& tail) {
  return take_entry_name(rest, tail.old_name) && take_entry_name(rest, tail.new_name);
}

bool decode_tail(ByteReader& rest, const DecodeContext& context, NewEntry& tail) {
  return take_entry_name(rest, tail.name) && take_extensions(rest, context, tail.extensions);
}

bool decode_tail(ByteReader& rest, const DecodeContext& context, UnnamedEntry& tail) {
  return rest.take_c_string().has_value() && take_extensions(rest, context, tail.extensions);
}

bool decode_tail(ByteReader& rest, const DecodeContext& context, SymlinkNames& tail) {
  if (!take_entry_name(rest, tail.name)) return false;
  const auto target = rest.take_c_string();
  if (!target || target->empty()) return false;
  tail.target = *target;
  return take_extensions(rest, context, tail.extensions);
}

bool decode_tail(ByteReader& rest, const DecodeContext&, XattrName& tail) {
  const auto name = rest.take_c_string();
  if (!name || name->empty()) return false;
  tail.name = *name;
  return true;
}

bool decode_counted(ByteReader& rest, std::uint32_t size, XattrPair& tail) {
  const auto name = rest.take_c_string();
  if (!name || name->empty()) return false;
  const auto value = rest.take(size);
  if (!value) return false;
  tail.name = *name;
  tail.value = *value;
  return true;
}

bool decode_counted(ByteReader& rest, std::uint32_t count, ForgetList& tail) {
  return take_items(rest, count, tail.items);
}

bool decode_counted(ByteReader& rest, std::uint32_t count, MappingList& tail) {
  return take_items(rest, count, tail.items);
}

}  // namespace fusewire
