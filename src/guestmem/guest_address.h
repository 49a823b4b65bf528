// GuestAddress: an address in the guest's physical memory, as descriptors and the dirty log use it. Never a
// pointer.
#pragma once

#include <cstdint>

#include "fusewire/strong.h"

namespace fusewire::guestmem {

using GuestAddress = Strong<struct GuestAddressTag, std::uint64_t>;

}  // namespace fusewire::guestmem
