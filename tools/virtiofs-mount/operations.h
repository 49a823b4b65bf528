// The op table (src/fuse/ops.def) as data: what each opcode is called, and the size of what belongs to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fusewire/wire.h"

namespace fusewire::carry {

// What the body of a successful reply is.
enum class Body {
  none,   // there is no reply at all
  fixed,  // exactly `body_size` bytes
  data,   // up to as many bytes as the request asks for
  xattr,  // the same, or fuse_getxattr_out when the request asks for 0
  ioctl,  // fuse_ioctl_out, and up to out_size bytes
  init,   // fuse_init_out, which older servers send shorter
};

struct Operation {
  std::uint32_t opcode = 0;
  const char* name = nullptr;  // "FUSE_LOOKUP"
  std::size_t args_size = 0;   // of the structure behind fuse_in_header
  Body body = Body::none;
  std::size_t body_size = 0;
  // The request ends with data which a guest's kernel has in pages (WRITE, IOCTL).
  bool payload = false;
  // The reply's data lies in pages there (READ and its kin, IOCTL).
  bool paged_reply = false;
};

// Every opcode of the table.
std::span<const Operation> operations();
// nullptr: the table does not know it.
const Operation* find_operation(std::uint32_t opcode);
// The name for messages: "FUSE_LOOKUP", "opcode 99".
const char* name_of_opcode(std::uint32_t opcode);

// The room that a reply's body needs: a successful one has `least` to `most` bytes.
struct ReplyRoom {
  std::size_t least = 0;
  std::size_t most = 0;
};

// The room for the reply to `request`, a whole request with its header. Whoever sends fewer bytes than the
// operation has arguments gets the room of arguments that are zero.
ReplyRoom reply_room(const Operation& operation, std::span<const std::byte> request);

}  // namespace fusewire::carry
