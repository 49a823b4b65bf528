// The last step of every fuse_reply_*: send, give the request back, return 0 or -errno.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "fusewire/bytes.h"
#include "libfuse/request.h"

namespace fusewire::libfuse {

int answer(fuse_req_t req, std::span<const iovec> body);
int answer_bytes(fuse_req_t req, std::span<const std::byte> body);
// `error`: positive, or 0 for a success without a body. What no errno is becomes ERANGE.
int answer_error(fuse_req_t req, int error);

}  // namespace fusewire::libfuse
