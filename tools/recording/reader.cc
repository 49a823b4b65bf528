#include "recording/reader.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>

#include "fusewire/result.h"
#include "recording/encoding.h"

namespace fusewire::recording {
namespace {

constexpr std::size_t kChunk = std::size_t{256} * 1024;
constexpr std::size_t kHead = kMagicSize + sizeof(kVersion);

}  // namespace

std::expected<Reader, std::string> Reader::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::unexpected(fmt::format("cannot read {}: {}", path, to_string(Errno{errno})));
  Reader reader(std::move(fd), path);
  while (reader.buffer_.size() < kHead) {
    const auto more = reader.fill();
    if (!more) return std::unexpected(more.error());
    if (!*more) break;
  }
  if (reader.buffer_.size() < kHead || std::memcmp(reader.buffer_.data(), kMagic, kMagicSize) != 0)
    return std::unexpected(path + " is no recording");
  std::uint32_t version = 0;
  std::memcpy(&version, reader.buffer_.data() + kMagicSize, sizeof version);
  if (version != kVersion)
    return std::unexpected(
        fmt::format("{} is a recording of version {}, and this program reads {}", path, version, kVersion));
  reader.begin_ = kHead;
  reader.position_ = kHead;
  return reader;
}

std::expected<std::optional<Record>, std::string> Reader::next() {
  for (;;) {
    const auto bytes = std::span(buffer_).subspan(begin_);
    auto decoded = bytes.empty() ? std::unexpected(Fault::incomplete) : decode(bytes, last_);
    if (decoded) {
      begin_ += decoded->size;
      position_ += decoded->size;
      last_ = std::visit([](const auto& which) { return which.at; }, decoded->record);
      return std::move(decoded->record);
    }
    if (decoded.error() == Fault::malformed)
      return std::unexpected(fmt::format("{}: no record begins at byte {}", path_, position_));
    const auto more = fill();
    if (!more) return std::unexpected(more.error());
    if (!*more) {
      truncated_ = !bytes.empty();
      return std::nullopt;
    }
  }
}

std::expected<bool, std::string> Reader::fill() {
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
  begin_ = 0;
  const std::size_t have = buffer_.size();
  // A record cannot grow without end: each of its parts is limited.
  buffer_.resize(have + kChunk);
  ssize_t got = 0;
  do got = ::read(fd_.get(), buffer_.data() + have, kChunk);
  while (got < 0 && errno == EINTR);
  const int error = errno;
  buffer_.resize(have + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) return std::unexpected(fmt::format("reading {}: {}", path_, to_string(Errno{error})));
  return got > 0;
}

}  // namespace fusewire::recording
