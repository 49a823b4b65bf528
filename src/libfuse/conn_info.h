// struct fuse_conn_info: the negotiation (INIT) as a C file system sees it.
#pragma once

#include <expected>
#include <string>

#include "fusewire/negotiate.h"
#include "libfuse/api.h"

namespace fusewire::libfuse {

// What the kernel offers. `max_read`: of the mount option, 0 for none.
fuse_conn_info offered_connection(const Negotiation& negotiation, std::uint32_t max_read);
// Wants what libfuse wants unless the file system says otherwise, as far as the kernel offers it.
void set_defaults(fuse_conn_info& conn, const Operations& operations);
// Takes what the file system made of `defaults`. The error says what it asked for in vain.
std::expected<void, std::string> accept_connection(fuse_conn_info& conn, const fuse_conn_info& defaults,
                                                   Negotiation& negotiation);

}  // namespace fusewire::libfuse
