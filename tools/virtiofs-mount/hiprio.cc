#include "virtiofs-mount/hiprio.h"

#include <algorithm>
#include <cstring>

namespace fusewire::carry {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kPages = 128;
constexpr std::size_t kPageSize = 4096;
constexpr std::size_t kBatchHead = sizeof(fuse_in_header) + sizeof(fuse_batch_forget_in);
constexpr std::size_t kBatchItems = (kPageSize - kBatchHead) / sizeof(fuse_forget_one);

}  // namespace

std::size_t Hiprio::memory_size() { return (kPages + 1) * kPageSize; }

std::optional<Hiprio> Hiprio::create(driver::Server& server, const std::atomic<bool>& abandoned) {
  Hiprio made(server, abandoned);
  for (std::size_t i = 0; i < kPages; ++i) {
    const auto piece = server.memory().allocate(kPageSize, kPageSize);
    if (!piece) return std::nullopt;
    made.free_.push_back(*piece);
  }
  server.hiprio().disarm();
  return made;
}

bool Hiprio::send(std::span<const std::byte> request, std::span<Observer* const> observers) {
  fuse_in_header header{};
  if (request.size() < sizeof header) return false;
  std::memcpy(&header, request.data(), sizeof header);
  const std::lock_guard lock(mutex_);
  if (header.opcode == FUSE_BATCH_FORGET) return send_batch(header, request, observers);
  return request.size() <= kPageSize && send_page(request, observers);
}

bool Hiprio::send_batch(const fuse_in_header& header, std::span<const std::byte> request,
                        std::span<Observer* const> observers) {
  if (request.size() < kBatchHead) return false;
  fuse_batch_forget_in batch{};
  std::memcpy(&batch, request.data() + sizeof header, sizeof batch);
  std::span<const std::byte> items = request.subspan(kBatchHead);
  if (items.size() != std::size_t{batch.count} * sizeof(fuse_forget_one)) return false;

  std::vector<std::byte> part;
  while (!items.empty()) {
    const std::size_t size = std::min(items.size(), kBatchItems * sizeof(fuse_forget_one));
    fuse_in_header part_header = header;
    part_header.len = static_cast<std::uint32_t>(kBatchHead + size);
    batch.count = static_cast<std::uint32_t>(size / sizeof(fuse_forget_one));
    part.resize(part_header.len);
    std::memcpy(part.data(), &part_header, sizeof part_header);
    std::memcpy(part.data() + sizeof part_header, &batch, sizeof batch);
    std::memcpy(part.data() + kBatchHead, items.data(), size);
    if (!send_page(part, observers)) return false;
    items = items.subspan(size);
  }
  return true;
}

bool Hiprio::send_page(std::span<const std::byte> request, std::span<Observer* const> observers) {
  driver::Queue& queue = server_.hiprio();
  reclaim();
  // A server that goes away ends the wait at once; the time is for `abandoned`, which no descriptor tells.
  while (free_.empty() && !abandoned_.load() && !queue.broken()) {
    if (!queue.wait(100ms, server_.socket_fd()) && server_.hung_up()) return false;
    reclaim();
  }
  if (free_.empty()) return false;
  const auto piece = free_.back();
  free_.pop_back();
  std::memcpy(piece.host, request.data(), request.size());
  // Linux sends such a request in one piece.
  const virtio::GuestBuffer buffer{piece.guest, static_cast<std::uint32_t>(request.size())};
  for (Observer* observer : observers) {
    fuse_in_header header{};
    std::memcpy(&header, request.data(), sizeof header);
    observer->request(0, header, request, {});
  }
  // There are more descriptors than pages.
  if (!queue.stage({&buffer, 1}, {}, piece.guest.get())) return false;
  queue.publish();
  return true;
}

void Hiprio::reclaim() {
  while (const auto used = server_.hiprio().take()) {
    const guestmem::GuestAddress address(used->cookie);
    free_.push_back({address, server_.memory().host(address), kPageSize});
  }
}

}  // namespace fusewire::carry
