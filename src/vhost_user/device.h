// Device: what Backend drives: the queues behind one vhost-user connection. Backend has already checked every
// index and every size against what the Device said of itself. All calls come from the thread that runs
// Backend::run().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "guestmem/dirty_log.h"
#include "guestmem/memory_map.h"
#include "virtio/ring.h"

namespace fusewire::vhost_user {

class Device {
 public:
  virtual ~Device() = default;

  // Virtio features offered, without VHOST_USER_F_PROTOCOL_FEATURES and VHOST_F_LOG_ALL, which Backend adds.
  virtual std::uint64_t features() const = 0;
  virtual unsigned queue_count() const = 0;
  // The configuration space; empty: the CONFIG protocol feature is not offered.
  virtual std::span<const std::byte> config() const = 0;

  // The virtio features that the driver took, a subset of features(). Never while a queue runs.
  virtual void set_features(std::uint64_t acked) = 0;
  // The guest's memory from now on, never null (an empty map when there is none). Returns when no worker
  // starts a request on the old snapshot; requests in flight keep it pinned.
  virtual void set_memory(std::shared_ptr<const guestmem::MemoryMap> map) = 0;
  // Where writes to guest memory are to be logged; null: nowhere. Returns when every later write is logged.
  // Not null only while VHOST_F_LOG_ALL is acked and a log is set.
  virtual void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) = 0;

  // Starts a stopped queue. `kick` may be none: then the ring has to be polled. An error is reported to the
  // front-end and leaves the queue stopped.
  virtual Result<void> start_queue(unsigned index, const virtio::RingSetup& ring, UniqueFd kick) = 0;
  // Stops a running queue, draining what is in flight; returns where the ring goes on (RingSetup::base). What
  // is given up because it does not end never completes.
  virtual std::uint32_t stop_queue(unsigned index) = 0;
  // May come before the queue starts, and is kept while it is stopped. A kick that came before the queue was
  // enabled counts.
  virtual void set_queue_enabled(unsigned index, bool enabled) = 0;
  // The event to signal used chains with; none: no signals. May come at any time.
  virtual void set_queue_call(unsigned index, UniqueFd call) = 0;
  // The event to signal once when the ring is found broken. May come at any time.
  virtual void set_queue_error(unsigned index, UniqueFd error) = 0;
  // Logging of the used ring changed (SET_VRING_ADDR on a running ring: migration starts or ends); nothing
  // else in `ring` did.
  virtual void set_queue_logging(unsigned index, const virtio::RingSetup& ring) = 0;

  // RESET_DEVICE, RESET_OWNER or SET_STATUS 0: stops all queues, drains what is in flight, and takes them for
  // disabled. All else stays until Backend changes it: the memory map, for a front-end which adds regions one
  // by one does not send them again; the call and error events, for QEMU sends the latter only once per
  // connection, and sets the status to 0 whenever the VM is paused.
  virtual void reset() = 0;
  // The front-end went away for good: reset(), and the device forgets all that it knew of the guest, its
  // memory too.
  virtual void disconnect() = 0;
};

}  // namespace fusewire::vhost_user
