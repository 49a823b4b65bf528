// Device numbers as FUSE sends them: 32 bits, 12 of major number amid 20 of minor (new_encode_dev in the
// kernel).
#pragma once

#include <sys/sysmacros.h>
#include <sys/types.h>

#include <cstdint>

namespace fusewire::passthrough {

constexpr std::uint32_t encode_device(std::uint32_t major_number, std::uint32_t minor_number) {
  return (minor_number & 0xff) | (major_number & 0xfff) << 8 | (minor_number & 0xfff00) << 12;
}

inline dev_t decode_device(std::uint32_t number) {
  return makedev((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
}

}  // namespace fusewire::passthrough
