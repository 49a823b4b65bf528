// Where node ids and file handles stand in requests and replies: a replay gets other ones than the recording
// has, and has to put them in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "recording/record.h"

namespace fusewire::recording {

// What the body of a successful reply to `opcode` gives out: a node (LOOKUP and its kin), a handle (OPEN),
// both (CREATE), and from READDIRPLUS a node with its name for each entry that has one. A body that ends
// early, or names sizes that are not there, gives what is before.
std::vector<Identifier> identifiers_in_reply(std::uint32_t opcode, std::span<const std::byte> body);

// Replaces every identifier in `request`, a whole one or its beginning, by what `map` makes of it. Node 0
// (none) and what the request says not to use are not asked for.
void map_identifiers(std::span<std::byte> request,
                     const std::function<std::uint64_t(Identifier::Kind, std::uint64_t)>& map);

}  // namespace fusewire::recording
