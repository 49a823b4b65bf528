// The last step of every fuse_reply_*: send, give the request back, return 0 or -errno.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "fusewire/bytes.h"
#include "libfuse/request.h"

namespace fusewire::libfuse {

int answer(fuse_req_t req, std::span<const iovec> body);
int answer_bytes(fuse_req_t req, std::span<const std::byte> body);
// `error`: positive, or 0 for a success without a body. What no errno is becomes ERANGE.
int answer_error(fuse_req_t req, int error);

// fuse_reply_entry, fuse_reply_create and fuse_add_direntry_plus, with FUSE_ATTR_* flags for the entry's
// attributes.
int answer_entry(fuse_req_t req, const fuse_entry_param& entry, std::uint32_t attr_flags);
int answer_create(fuse_req_t req, const fuse_entry_param& entry, const fuse_file_info& file,
                  std::uint32_t attr_flags);
std::size_t add_direntry_plus(char* buffer, std::size_t size, const char* name, const fuse_entry_param& entry,
                              off_t offset, std::uint32_t attr_flags);

}  // namespace fusewire::libfuse
