// READ and WRITE of numbered blocks: every 4 KiB of the data that workloads write, and expect to read, begin
// with their place in the file, so that a read of the wrong place is seen.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstring>

#include "virtiofs-bench/slot.h"
#include "virtiofs-bench/tree.h"

namespace fusewire::bench {

inline void number_blocks(std::byte* data, std::uint64_t offset, std::size_t length) {
  for (std::size_t at = 0; at < length; at += kBlockSize) {
    const std::uint64_t number = (offset + at) / kBlockSize;
    std::memcpy(data + at, &number, sizeof number);
  }
}

// The slot's next request: WRITE of its data, which are numbered already.
inline void write_request(Slot& slot, NodeId node, FileHandle handle, std::uint64_t offset,
                          std::size_t length) {
  fuse_write_in in{};
  in.fh = handle.get();
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(length);
  slot.request(FUSE_WRITE, node).arg(in).send_data(length).expect<fuse_write_out>();
}

inline void read_request(Slot& slot, NodeId node, FileHandle handle, std::uint64_t offset,
                         std::size_t length) {
  fuse_read_in in{};
  in.fh = handle.get();
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(length);
  slot.request(FUSE_READ, node).arg(in).expect_data(length);
}

inline Expected<void> check_written(const Slot& slot, std::size_t length) {
  const auto written = slot.expect_reply<fuse_write_out>("WRITE");
  if (!written) return failed(written.error());
  if (written->size != length)
    return failed(fmt::format("WRITE: {} bytes of {} written", written->size, length));
  return {};
}

// Looks at the first and at the last block.
inline Expected<void> check_read(const Slot& slot, std::uint64_t offset, std::size_t length) {
  if (auto right = slot.expect_error("READ", 0); !right) return right;
  if (slot.body_size() != length)
    return failed(fmt::format("READ: {} bytes of {} read", slot.body_size(), length));
  for (const std::uint64_t at : {std::uint64_t{0}, length - kBlockSize}) {
    std::uint64_t number = 0;
    std::memcpy(&number, slot.data() + at, sizeof number);
    if (number != (offset + at) / kBlockSize)
      return failed(
          fmt::format("READ: block {} has the contents of block {}", (offset + at) / kBlockSize, number));
  }
  return {};
}

}  // namespace fusewire::bench
