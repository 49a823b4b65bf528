#include "guestmem/memory_map.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "guestmem/file_mapping.h"

namespace fusewire::guestmem {
namespace {

std::string to_text(const RegionDescription& region) {
  return fmt::format("memory region of {:#x} bytes at guest {:#x}, front-end {:#x}", region.size,
                     region.guest.get(), region.user);
}

}  // namespace

std::expected<std::shared_ptr<const MemoryRegion>, std::string> MemoryRegion::map(
    const RegionDescription& description, const UniqueFd& fd) {
  if (description.size == 0) return std::unexpected(to_text(description) + ": it has no bytes");
  // The last byte's address must exist; the one behind it need not.
  if (!checked_add(description.guest.get(), description.size - 1) ||
      !checked_add(description.user, description.size - 1))
    return std::unexpected(to_text(description) + ": it runs past the end of the address space");
  const auto mapping = map_file(fd, description.mmap_offset, description.size);
  if (!mapping) return std::unexpected(to_text(description) + ": " + mapping.error());
  // Not make_shared: the constructor is private.
  return std::shared_ptr<const MemoryRegion>(
      new MemoryRegion(description, mapping->mapping, mapping->mapped_size, mapping->data));
}

MemoryRegion::~MemoryRegion() { munmap(mapping_, mapped_size_); }

MemoryMap::MemoryMap(Regions regions) : regions_(std::move(regions)) {
  std::ranges::sort(regions_, {}, [](const auto& region) { return region->description().guest; });
  for (const auto& region : regions_) {
    const RegionDescription& is = region->description();
    by_guest_.push_back({is.guest.get(), is.size, region->host(), is.guest});
    // SAFETY: pointers of different mappings are only compared as numbers.
    by_host_.push_back({reinterpret_cast<std::uintptr_t>(region->host()), is.size, region->host(), is.guest});
  }
  for (auto* table : {&by_guest_, &by_host_}) std::ranges::sort(*table, {}, &Entry::begin);
}

std::expected<std::shared_ptr<const MemoryMap>, std::string> MemoryMap::create(Regions regions) {
  if (regions.size() > kMaxRegions)
    return std::unexpected(fmt::format("{} memory regions are more than {}", regions.size(), kMaxRegions));
  std::shared_ptr<const MemoryMap> map(new MemoryMap(std::move(regions)));
  for (std::size_t i = 1; i < map->by_guest_.size(); ++i) {
    const Entry& before = map->by_guest_[i - 1];
    const Entry& behind = map->by_guest_[i];
    if (behind.begin - before.begin < before.size)
      return std::unexpected(fmt::format("memory regions overlap at guest address {:#x}", behind.begin));
  }
  return map;
}

std::shared_ptr<const MemoryMap> MemoryMap::empty() {
  static const std::shared_ptr<const MemoryMap> map(new MemoryMap({}));
  return map;
}

std::expected<std::shared_ptr<const MemoryMap>, std::string> MemoryMap::with(
    std::shared_ptr<const MemoryRegion> region) const {
  Regions regions = regions_;
  regions.push_back(std::move(region));
  return create(std::move(regions));
}

std::expected<std::shared_ptr<const MemoryMap>, std::string> MemoryMap::without(
    const RegionDescription& description) const {
  Regions regions = regions_;
  const auto removed = std::erase_if(regions, [&](const auto& region) {
    const RegionDescription& is = region->description();
    return is.guest == description.guest && is.user == description.user && is.size == description.size;
  });
  if (removed == 0) return std::unexpected("there is no " + to_text(description));
  return create(std::move(regions));
}

const MemoryMap::Entry* MemoryMap::find(const std::vector<Entry>& table, std::uint64_t address) {
  // A guest has a handful of regions unless memory was hot-plugged piece by piece. No remembered last hit:
  // the snapshot is shared by all workers, who would fight over that word.
  constexpr std::size_t kHandful = 4;
  if (table.size() <= kHandful) {
    for (const Entry& entry : table)
      if (address - entry.begin < entry.size) return &entry;
    return nullptr;
  }
  auto behind = std::ranges::upper_bound(table, address, {}, &Entry::begin);
  if (behind == table.begin()) return nullptr;
  const Entry& entry = *std::prev(behind);
  return address - entry.begin < entry.size ? &entry : nullptr;
}

bool MemoryMap::translate(GuestAddress address, std::uint64_t length, std::vector<iovec>& to) const {
  const std::size_t before = to.size();
  std::uint64_t at = address.get();
  while (length != 0) {
    const Entry* entry = find(by_guest_, at);
    if (entry == nullptr) {
      to.resize(before);
      return false;
    }
    const std::uint64_t offset = at - entry->begin;
    const std::uint64_t here = std::min(length, entry->size - offset);
    to.push_back({entry->host + offset, here});
    length -= here;
    // Past the last address there is no region to go on in, and the sum must not come round to 0.
    const auto next = checked_add(at, here);
    if (!next && length != 0) {
      to.resize(before);
      return false;
    }
    at = next.value_or(0);
  }
  return true;
}

std::byte* MemoryMap::contiguous(GuestAddress address, std::uint64_t length) const {
  const Entry* entry = find(by_guest_, address.get());
  if (entry == nullptr) return nullptr;
  const std::uint64_t offset = address.get() - entry->begin;
  return length <= entry->size - offset ? entry->host + offset : nullptr;
}

bool MemoryMap::copy_out(GuestAddress address, std::span<std::byte> to) const {
  std::uint64_t at = address.get();
  while (!to.empty()) {
    const Entry* entry = find(by_guest_, at);
    if (entry == nullptr) return false;
    const std::uint64_t offset = at - entry->begin;
    const std::uint64_t here = std::min<std::uint64_t>(to.size(), entry->size - offset);
    std::memcpy(to.data(), entry->host + offset, here);
    to = to.subspan(here);
    const auto next = checked_add(at, here);
    if (!next && !to.empty()) return false;
    at = next.value_or(0);
  }
  return true;
}

std::byte* MemoryMap::from_user(std::uint64_t user, std::uint64_t length) const {
  for (const auto& region : regions_) {
    const RegionDescription& is = region->description();
    const std::uint64_t offset = user - is.user;
    if (user >= is.user && offset < is.size && length <= is.size - offset) return region->host() + offset;
  }
  return nullptr;
}

std::optional<GuestAddress> MemoryMap::guest_address(const void* host) const {
  // SAFETY: compared as a number, as in the table.
  const auto number = reinterpret_cast<std::uintptr_t>(host);
  const Entry* entry = find(by_host_, number);
  if (entry == nullptr) return std::nullopt;
  return GuestAddress(entry->guest.get() + (number - entry->begin));
}

}  // namespace fusewire::guestmem
