// Records as bytes and back; the grammar is in record.h. Pure functions.
#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <span>
#include <vector>

#include "recording/record.h"

namespace fusewire::recording {

// Appends the magic and the version.
void encode_head(std::vector<std::byte>& out);
// Appends `record`, which follows one at time `before`. A time before that counts as the same. What is more
// than the limits of record.h is left out.
void encode(const Record& record, std::chrono::nanoseconds before, std::vector<std::byte>& out);

enum class Fault {
  incomplete,  // the bytes end within a record
  malformed,
};

struct Decoded {
  Record record;
  std::size_t size = 0;  // in bytes
};
// The first record of `bytes`, which follows one at time `before`. Reads nothing outside `bytes`, and needs
// no more memory than a constant times their size.
std::expected<Decoded, Fault> decode(std::span<const std::byte> bytes, std::chrono::nanoseconds before);

}  // namespace fusewire::recording
