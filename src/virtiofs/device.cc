#include "virtiofs/device.h"

#include <linux/virtio_fs.h>

#include <cstring>
#include <utility>

#include "fusewire/bytes.h"
#include "virtio/features.h"

namespace fusewire::virtiofs {
namespace {

constexpr unsigned kNotificationQueue = 1;  // virtio 1.2, 5.11.2; there only if it was negotiated

}  // namespace

Result<std::unique_ptr<Device>> Device::create(FileSystem& file_system, const DeviceOptions& options) {
  auto device = std::unique_ptr<Device>(new Device(file_system, options));
  device->engine_.set_transport({.patience = options.stop_patience});
  if (options.tag.size() > kMaxTag) return fail(EINVAL);
  const bool notifies = options.notification_buffer != 0;
  if (notifies && options.notification_buffer < NotificationChannel::kLeastBuffer) return fail(EINVAL);
  if (!options.tag.empty()) device->set_config(options);
  for (unsigned index = 0; index <= options.request_queues + (notifies ? 1 : 0); ++index) {
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
  if (notifies)
    device->notifications_ = std::make_unique<NotificationChannel>(
        options.notification_buffer, options.notification_patience,
        [worker = device->workers_[kNotificationQueue].get()] { worker->wake_up(); });
  return device;
}

Device::~Device() {
  if (notifications_ != nullptr) notifications_->close();
  stop_all(grace_);
  set_features(0);  // no sender is left behind
}

void Device::set_config(const DeviceOptions& options) {
  static_assert(sizeof(virtio_fs_config) == kMaxTag + 4);
  virtio_fs_config config{};
  std::memcpy(config.tag, options.tag.data(), options.tag.size());
  config.num_request_queues = options.request_queues;
  const auto append = [this](std::span<const std::byte> bytes) {
    config_.insert(config_.end(), bytes.begin(), bytes.end());
  };
  append(bytes_of(config));
  // notify_buf_size, which the installed header does not have yet.
  if (options.notification_buffer != 0) append(bytes_of(options.notification_buffer));
}

void Device::disconnect() {
  // Senders first: a call may be answered only when its notification is sent.
  if (notifications_ != nullptr) notifications_->close();
  stop_all(grace_);
  set_features(0);
  engine_.reset();
  set_memory(guestmem::MemoryMap::empty());
}

std::uint64_t Device::features() const {
  return virtio::kVersion1 | virtio::kIndirectDesc | virtio::kEventIdx | virtio::kRingPacked |
         (notifications_ != nullptr ? virtio::kFsNotification : 0);
}

void Device::set_features(std::uint64_t acked) {
  acked_features_ = acked;
  if (notifications_ == nullptr) return;
  if (notifying()) {
    notifications_->open();
    engine_.set_notification_channel(notifications_.get());
  } else {
    notifications_->close();
    engine_.set_notification_channel(nullptr);
  }
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
  return workers_[index]->start(ring, options, std::move(kick),
                                notifying() && index == kNotificationQueue ? notifications_.get() : nullptr);
}

std::uint32_t Device::stop_queue(unsigned index) {
  return workers_[index]->stop(std::chrono::steady_clock::now() + stop_patience_);
}

void Device::set_queue_enabled(unsigned index, bool enabled) { workers_[index]->set_enabled(enabled); }

void Device::set_queue_call(unsigned index, UniqueFd call) { workers_[index]->set_call(std::move(call)); }

void Device::set_queue_error(unsigned index, UniqueFd error) { workers_[index]->set_error(std::move(error)); }

void Device::set_queue_logging(unsigned index, const virtio::RingSetup& ring) {
  workers_[index]->set_logging(ring);
}

void Device::reset() { stop_all(stop_patience_); }

void Device::stop_all(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (const auto& worker : workers_) {
    if (worker->running()) worker->stop(deadline);
    worker->set_enabled(false);
  }
}

}  // namespace fusewire::virtiofs
