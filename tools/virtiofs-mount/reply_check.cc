#include "virtiofs-mount/reply_check.h"

#include <fmt/format.h>

namespace fusewire::carry {

std::optional<std::string> find_fault(const fuse_out_header& header, std::uint32_t used, std::uint64_t unique,
                                      const ReplyRoom& room) {
  if (used < sizeof header) return fmt::format("{} bytes are no reply", used);
  if (header.len != used) return fmt::format("its header says {} bytes, the used ring {}", header.len, used);
  if (header.unique != unique) return fmt::format("it is for request {}", header.unique);
  if (header.error > 0 || header.error <= -512) return fmt::format("{} is no error number", header.error);
  const std::size_t body = used - sizeof header;
  if (header.error != 0) {
    if (body != 0) return fmt::format("error {} with {} bytes behind it", header.error, body);
    return std::nullopt;
  }
  if (body < room.least) return fmt::format("{} bytes of {} are missing", room.least - body, room.least);
  if (body > room.most) return fmt::format("{} bytes where {} are allowed", body, room.most);
  return std::nullopt;
}

}  // namespace fusewire::carry
