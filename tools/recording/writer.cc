#include "recording/writer.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "fusewire/result.h"
#include "recording/encoding.h"
#include "recording/identifiers.h"

namespace fusewire::recording {
namespace {

constexpr std::size_t kBuffer = std::size_t{256} * 1024;

}  // namespace

std::expected<std::unique_ptr<Writer>, std::string> Writer::create(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return std::unexpected(fmt::format("cannot record to {}: {}", path, to_string(Errno{errno})));
  std::unique_ptr<Writer> writer(new Writer(std::move(fd), path));
  encode_head(writer->buffer_);
  return writer;
}

Writer::~Writer() { write_out(); }

void Writer::request(unsigned queue, std::span<const std::byte> request, std::uint32_t room) {
  fuse_in_header header{};
  std::memcpy(&header, request.data(), std::min(request.size(), sizeof header));
  auto kept = request;
  if (header.opcode == FUSE_WRITE)
    kept = kept.first(std::min(kept.size(), sizeof header + sizeof(fuse_write_in)));
  add(Request{.at = {},
              .unique = header.unique,
              .queue = queue,
              .room = room,
              .size = static_cast<std::uint32_t>(request.size()),
              .bytes = {kept.begin(), kept.end()}});
}

void Writer::reply(std::uint32_t opcode, const fuse_out_header& header, std::span<const std::byte> body) {
  Reply reply{.at = {},
              .unique = header.unique,
              .error = -header.error,
              .size = static_cast<std::uint32_t>(body.size()),
              .bytes = {},
              .identifiers = {}};
  if (header.error == 0) reply.identifiers = identifiers_in_reply(opcode, body);
  if (opcode == FUSE_INIT) reply.bytes.assign(body.begin(), body.end());
  add(std::move(reply));
}

void Writer::add(Record record) {
  const std::lock_guard lock(mutex_);
  if (!fd_) return;
  const std::chrono::nanoseconds now = std::chrono::steady_clock::now() - start_;
  std::visit([&](auto& which) { which.at = now; }, record);
  encode(record, last_, buffer_);
  last_ = now;
  if (buffer_.size() >= kBuffer) write_out();
}

void Writer::write_out() {
  std::span<const std::byte> rest = buffer_;
  while (fd_ && !rest.empty()) {
    const ssize_t written = ::write(fd_.get(), rest.data(), rest.size());
    if (written >= 0) {
      rest = rest.subspan(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      log::error("recording to {} ends: {}", path_, to_string(Errno{errno}));
      fd_.reset();
    }
  }
  buffer_.clear();
}

}  // namespace fusewire::recording
