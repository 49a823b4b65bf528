// map_file: maps a range of a file that begins anywhere, for memory regions and the dirty log. Private to
// this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>

#include "fusewire/unique_fd.h"

namespace fusewire::guestmem {

struct FileMapping {
  void* mapping = nullptr;  // What munmap(2) wants back,
  std::size_t mapped_size = 0;
  std::byte* data = nullptr;  // and where the wanted range begins.
};

// Maps [offset, offset + size) shared, readable and writable, kept out of core dumps and without swap
// reserved. A regular file must reach that far: see "Trust" in memory_map.h. The error names what is wrong
// with the range or the file, for a message that begins with what it was to be.
std::expected<FileMapping, std::string> map_file(const UniqueFd& fd, std::uint64_t offset,
                                                 std::uint64_t size);

}  // namespace fusewire::guestmem
