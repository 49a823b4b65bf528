// What FUSE over io_uring puts between the kernel and us (fs/fuse/dev_uring.c; FUSE 7.42, Linux 6.14). The
// structures are declared here because the installed linux/fuse.h may be older.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fusewire::devfuse {

// cmd_op of IORING_OP_URING_CMD on /dev/fuse (enum fuse_uring_cmd).
enum class UringOperation : std::uint32_t {
  register_entry = 1,    // gives the kernel an entry, and waits for a request
  commit_and_fetch = 2,  // answers the entry's request, and waits for the next one
};

// The command itself, behind the submission entry (fuse_uring_cmd_req).
struct UringCommand {
  std::uint64_t flags = 0;
  std::uint64_t commit_id = 0;  // of the request that is answered
  std::uint16_t queue = 0;
  std::array<std::uint8_t, 6> padding{};
};
static_assert(sizeof(UringCommand) == 24);

// fuse_uring_ent_in_out
struct UringEntryState {
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint32_t payload_size;  // of the request, then of the reply
  std::uint32_t padding;
  std::uint64_t reserved;
};

// The first of an entry's two pieces of memory (fuse_uring_req_header); the second is the payload.
struct UringHeaders {
  std::array<std::byte, 128> in_out;     // fuse_in_header, then fuse_out_header
  std::array<std::byte, 128> operation;  // the operation's own structure; what follows that is payload
  UringEntryState state;
};
static_assert(sizeof(UringHeaders) == 288);

}  // namespace fusewire::devfuse
