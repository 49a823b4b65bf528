// Tails: what follows an operation's argument structure. Each is a view into the slot's copy of the request,
// checked by its decoder (decode.cc), and dies when the request is answered.
//
// Every std::string_view here is free of NUL and has a NUL right behind it, so that data() is a C string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "fusewire/io_vecs.h"
#include "fusewire/wire.h"

namespace fusewire {

struct NoArgs {};

// Nothing follows.
struct NoTail {};

// A name to look up: not empty, without '/'. "." and ".." may come (NFS export).
struct LookupName {
  std::string_view name;
};

// A name of an entry to make or remove: not empty, without '/', neither "." nor "..".
struct EntryName {
  std::string_view name;
};

// RENAME, RENAME2: two such names.
struct EntryNames {
  std::string_view old_name;
  std::string_view new_name;
};

// What a creating request may carry behind its names.
struct CreateExtensions {
  // FUSE_SECURITY_CTX: the label that the new file must have from its first moment; an empty name means none.
  std::string_view security_xattr;  // for example "security.selinux"
  std::span<const std::byte> security_label;
  // FUSE_CREATE_SUPP_GROUP: one supplementary group of the caller, the parent directory's; valid if
  // has_group.
  bool has_group = false;
  GuestGid group{};
};

// MKNOD, MKDIR, CREATE
struct NewEntry {
  std::string_view name;
  CreateExtensions extensions;
};

// TMPFILE: the kernel sends a placeholder name, which means nothing.
struct UnnamedEntry {
  CreateExtensions extensions;
};

// SYMLINK
struct SymlinkNames {
  std::string_view name;
  std::string_view target;  // free text, not empty
  CreateExtensions extensions;
};

// GETXATTR, REMOVEXATTR: not empty
struct XattrName {
  std::string_view name;
};

// SETXATTR: the value has exactly the size that the arguments say.
struct XattrPair {
  std::string_view name;
  std::span<const std::byte> value;
};

// WRITE, IOCTL: guest pages, not copied, exactly the size that the arguments say. The list may be consumed.
struct Payload {
  IoVecs data;
};

// A sequence of structures in the request's copy, which need not lie aligned there: each is copied out when
// it is asked for.
template <class Item>
class ItemList {
 public:
  ItemList() = default;
  // `bytes`: a whole number of items.
  explicit ItemList(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t size() const { return bytes_.size() / sizeof(Item); }
  Item operator[](std::size_t index) const {
    Item item;
    std::memcpy(&item, bytes_.data() + index * sizeof(Item), sizeof(Item));
    return item;
  }

 private:
  std::span<const std::byte> bytes_;
};

// BATCH_FORGET: exactly the number that the arguments say.
struct ForgetList {
  ItemList<fuse_forget_one> items;
};

// REMOVEMAPPING: exactly the number that the arguments say.
struct MappingList {
  ItemList<fuse_removemapping_one> items;
};

}  // namespace fusewire
