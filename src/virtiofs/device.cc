#include "virtiofs/device.h"

#include <linux/virtio_fs.h>

#include <cstring>
#include <utility>

#include "fusewire/bytes.h"
#include "virtio/features.h"

namespace fusewire::virtiofs {

Result<std::unique_ptr<Device>> Device::create(FileSystem& file_system, const DeviceOptions& options) {
  auto device = std::unique_ptr<Device>(new Device(file_system));
  if (!options.tag.empty()) {
    static_assert(sizeof(virtio_fs_config) == kMaxTag + 4);
    if (options.tag.size() > kMaxTag) return fail(EINVAL);
    virtio_fs_config config{};
    std::memcpy(config.tag, options.tag.data(), options.tag.size());
    config.num_request_queues = options.request_queues;
    const auto bytes = bytes_of(config);
    device->config_.assign(bytes.begin(), bytes.end());
  }
  for (unsigned index = 0; index <= options.request_queues; ++index) {
    // Nobody waits for what comes by the high-priority queue: no processor waits for it either.
    WorkerOptions worker_options;
    if (index != 0) {
      worker_options.poll = options.poll;
      if (!options.queue_cpus.empty())
        worker_options.cpu = options.queue_cpus[(index - 1) % options.queue_cpus.size()];
    }
    auto worker = QueueWorker::create(device->engine_, index, worker_options);
    if (!worker) return fail(worker.error());
    device->workers_.push_back(std::move(*worker));
  }
  return device;
}

Device::~Device() { reset(); }

void Device::disconnect() {
  reset();
  engine_.reset();
  set_memory(guestmem::MemoryMap::empty());
  acked_features_ = 0;
}

std::uint64_t Device::features() const {
  return virtio::kVersion1 | virtio::kIndirectDesc | virtio::kEventIdx | virtio::kRingPacked;
}

unsigned Device::queue_count() const { return static_cast<unsigned>(workers_.size()); }

void Device::set_memory(std::shared_ptr<const guestmem::MemoryMap> map) {
  for (const auto& worker : workers_) worker->set_memory(map);
}

void Device::set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) {
  for (const auto& worker : workers_) worker->set_dirty_log(log);
}

Result<void> Device::start_queue(unsigned index, const virtio::RingSetup& ring, UniqueFd kick) {
  const virtio::QueueOptions options{.event_idx = (acked_features_ & virtio::kEventIdx) != 0,
                                     .indirect = (acked_features_ & virtio::kIndirectDesc) != 0,
                                     .packed = (acked_features_ & virtio::kRingPacked) != 0};
  return workers_[index]->start(ring, options, std::move(kick));
}

std::uint32_t Device::stop_queue(unsigned index) { return workers_[index]->stop(); }

void Device::set_queue_enabled(unsigned index, bool enabled) { workers_[index]->set_enabled(enabled); }

void Device::set_queue_call(unsigned index, UniqueFd call) { workers_[index]->set_call(std::move(call)); }

void Device::set_queue_error(unsigned index, UniqueFd error) { workers_[index]->set_error(std::move(error)); }

void Device::set_queue_logging(unsigned index, const virtio::RingSetup& ring) {
  workers_[index]->set_logging(ring);
}

void Device::reset() {
  for (const auto& worker : workers_) {
    if (worker->running()) worker->stop();
    worker->set_enabled(false);
  }
}

}  // namespace fusewire::virtiofs
