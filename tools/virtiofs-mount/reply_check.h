// Whether a server's reply is one that the protocol allows. What is not never reaches the kernel.
#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <optional>
#include <string>

#include "virtiofs-mount/operations.h"

namespace fusewire::carry {

// `used`: the length in the used ring. `header`: the reply's, copied once. None: the reply is as it must be
// (virtio 1.2, 5.11.6.1; virtio_fs_requests_done_work and fuse_dev_do_write of Linux); else what is wrong
// with it.
std::optional<std::string> find_fault(const fuse_out_header& header, std::uint32_t used, std::uint64_t unique,
                                      const ReplyRoom& room);

}  // namespace fusewire::carry
