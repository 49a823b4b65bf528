// The guest's memory, which the front-end hands over, and the log in which what we write to it is marked
// while the guest migrates.
#include <fmt/format.h>

#include <utility>

#include "vhost_user/backend.h"

namespace fusewire::vhost_user {

using guestmem::DirtyLog;
using guestmem::GuestAddress;
using guestmem::MemoryMap;
using guestmem::MemoryRegion;

namespace {

guestmem::RegionDescription describe(const Region& region) {
  return {GuestAddress(region.guest), region.size, region.user, region.mmap_offset};
}

}  // namespace

Backend::Verdict Backend::set_map(std::expected<std::shared_ptr<const MemoryMap>, std::string> map) {
  if (!map) return failed(std::move(map.error()));
  map_ = std::move(*map);
  device_.set_memory(map_);
  for (std::size_t i = 0; i < rings_.size(); ++i)
    if (auto started = try_start(i); started.kind != Verdict::Kind::done) return started;
  return done();
}

Backend::Verdict Backend::on_set_mem_table(Message& message) {
  const auto table = message.as<MemoryTable>();
  if (table.count > kMaxTableRegions || table.count != message.fds.size() ||
      message.payload.size() < offsetof(MemoryTable, regions) + table.count * sizeof(Region))
    return failed(fmt::format("{} regions in {} bytes with {} file descriptors", table.count,
                              message.payload.size(), message.fds.size()));
  MemoryMap::Regions regions;
  for (std::size_t i = 0; i < table.count; ++i) {
    auto region = MemoryRegion::map(describe(table.regions[i]), message.take_fd(i));
    if (!region) return failed(std::move(region.error()));
    regions.push_back(std::move(*region));
  }
  return set_map(MemoryMap::create(std::move(regions)));
}

Backend::Verdict Backend::on_get_max_mem_slots(Message& message) {
  return reply_u64(message, MemoryMap::kMaxRegions);
}

Backend::Verdict Backend::on_add_mem_reg(Message& message) {
  auto region = MemoryRegion::map(describe(message.as<SingleRegion>().region), message.take_fd());
  if (!region) return failed(std::move(region.error()));
  // No ring stops for this: a new snapshot with the old regions in it.
  return set_map(map_->with(std::move(*region)));
}

Backend::Verdict Backend::on_rem_mem_reg(Message& message) {
  // A descriptor that comes along is closed with the message, as the specification wants.
  return set_map(map_->without(describe(message.as<SingleRegion>().region)));
}

void Backend::pass_dirty_log() { device_.set_dirty_log((features_ & kLogAll) != 0 ? log_ : nullptr); }

Backend::Verdict Backend::on_set_log_base(Message& message) {
  // Without LOG_SHMFD the payload would be an address in the front-end, of no use to us.
  const auto area = message.as<LogArea>();
  auto log = DirtyLog::map(message.take_fd(), area.size, area.offset);
  if (!log) return failed(std::move(log.error()));
  log_ = std::move(*log);
  pass_dirty_log();
  return reply_u64(message, 0);
}

Backend::Verdict Backend::on_set_log_fd(Message&) {
  // An event that we "may" signal when we have marked pages. No front-end waits for it.
  return done();
}

}  // namespace fusewire::vhost_user
