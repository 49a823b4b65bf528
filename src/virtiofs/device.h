// Device: the virtio file system device (virtio 1.2, 5.11): an engine behind a high-priority queue and
// request queues.
//
// Queue 0 is hiprio, request queues are 1..n, as Linux numbers them. With VIRTIO_FS_F_NOTIFICATION negotiated
// queue 1 is the notification queue, and request queues are 2..n+1 (5.11.2); offered but not negotiated,
// there is one more queue that would serve requests, but that no driver uses. Each queue has a worker of its
// own, so that hiprio never waits behind requests.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "fuse/engine.h"
#include "vhost_user/device.h"
#include "virtiofs/notification_channel.h"
#include "virtiofs/queue_worker.h"

namespace fusewire::virtiofs {

struct DeviceOptions {
  unsigned request_queues = 1;
  std::chrono::microseconds poll{0};  // how long a worker looks at its ring before it sleeps, at most
  // Where the workers of the request queues run: the first on the first of these, and from the beginning
  // again when there are fewer; empty: anywhere.
  std::vector<unsigned> queue_cpus{};
  std::string tag{};  // empty: the front-end knows the tag, and the configuration space is not offered
  // Offers VIRTIO_FS_F_NOTIFICATION with buffers of this many bytes (notify_buf_size): no notification can be
  // longer. The driver finds the size in the configuration space, which needs a tag. 0: not offered.
  std::uint32_t notification_buffer = 0;
  // How long a notification waits for such a buffer before it fails with EAGAIN.
  std::chrono::milliseconds notification_patience{1000};
  // How long a stop that the front-end asks for waits for calls which are not answered: QEMU, and the whole
  // VM with it, waits too. After that they are given up (QueueWorker::stop).
  std::chrono::milliseconds stop_patience{60'000};
  // The same at the end, when the front-end has gone or the device is destroyed.
  std::chrono::milliseconds grace{5000};
};

class Device final : public vhost_user::Device {
 public:
  // The longest tag that the configuration space can hold.
  static constexpr std::size_t kMaxTag = 36;

  // `file_system` must outlive the device. EINVAL for a tag that is too long, or for a notification
  // buffer below NotificationChannel::kLeastBuffer; else what creating the workers gave.
  static Result<std::unique_ptr<Device>> create(FileSystem& file_system, const DeviceOptions& options);
  // Stops all queues.
  ~Device() override;

  // vhost_user::Device. The guest's session survives reset() and stopped queues: QEMU stops the device
  // whenever the VM is paused. A guest that boots anew says so by INIT.
  std::uint64_t features() const override;
  unsigned queue_count() const override;
  std::span<const std::byte> config() const override { return config_; }
  void set_features(std::uint64_t acked) override;
  void set_memory(std::shared_ptr<const guestmem::MemoryMap> map) override;
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) override;
  Result<void> start_queue(unsigned index, const virtio::RingSetup& ring, UniqueFd kick) override;
  std::uint32_t stop_queue(unsigned index) override;
  void set_queue_enabled(unsigned index, bool enabled) override;
  void set_queue_call(unsigned index, UniqueFd call) override;
  void set_queue_error(unsigned index, UniqueFd error) override;
  void set_queue_logging(unsigned index, const virtio::RingSetup& ring) override;
  void reset() override;
  // Forgets the guest's nodes and handles, too.
  void disconnect() override;

 private:
  Device(FileSystem& file_system, const DeviceOptions& options)
      : engine_(file_system), stop_patience_(options.stop_patience), grace_(options.grace) {}
  // Stops all queues, which together wait no longer than `patience` for calls that are not answered.
  void stop_all(std::chrono::milliseconds patience);
  void set_config(const DeviceOptions& options);
  bool notifying() const { return (acked_features_ & virtio::kFsNotification) != 0; }

  Engine engine_;
  const std::chrono::milliseconds stop_patience_;
  const std::chrono::milliseconds grace_;
  std::vector<std::byte> config_;
  std::uint64_t acked_features_ = 0;
  std::vector<std::unique_ptr<QueueWorker>> workers_;
  std::unique_ptr<NotificationChannel> notifications_;  // null: not offered
};

}  // namespace fusewire::virtiofs
