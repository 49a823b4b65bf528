// What the tests of this folder share: a file system whose answers a test can hold back, and a device over it
// with a guest's queues.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "fusewire/file_system.h"
#include "virtiofs/device.h"
#include "virtiofs/testing/guest_queue.h"

namespace fusewire::virtiofs {

using testing::Answer;
using testing::Cut;
using testing::GuestQueue;
using testing::GuestQueueOptions;
using testing::Request;

// GETATTR and READ of handle 0 answer at once, READ and WRITE of handle 1 when a test says so, SETLKW when it
// is interrupted, READ of handle 2 keeps the queue's own thread until a test lets it go.
class HeldFs final : public FileSystem {
 public:
  static constexpr std::uint64_t kAtOnce = 0;
  static constexpr std::uint64_t kParked = 1;
  static constexpr std::uint64_t kBlocking = 2;

  Result<void> init(Negotiation& negotiation) override {
    EXPECT_EQ(serving_.load(), 0) << "INIT ran beside another request";
    const std::lock_guard lock(mutex_);
    notifier_ = negotiation.notifier();
    ++inits;
    return {};
  }
  void destroy() override {
    EXPECT_EQ(serving_.load(), 0) << "destroy ran beside another request";
    ++destroys;
  }

  void getattr(Call<op::Getattr> call) override {
    ++serving_;
    if (const auto hook = in_getattr()) hook();
    fuse_attr_out out{};
    out.attr.ino = call.header.node.get();
    --serving_;
    std::move(call.reply).ok(out);
  }

  void forget_node(NodeId, std::uint64_t lookups) override { forgotten += lookups; }

  void read(Call<op::Read> call) override {
    if (call.in.fh == kAtOnce) return fill(std::move(call));
    std::unique_lock lock(mutex_);
    if (call.in.fh == kBlocking) {
      ++blocked_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return released_; });
      --blocked_;
      lock.unlock();
      return fill(std::move(call));
    }
    parked_.push_back(std::move(call));
    changed_.notify_all();
  }

  void write(Call<op::Write> call) override {
    std::vector<std::byte> bytes(call.tail.data.size());
    call.tail.data.copy_to(bytes);
    const std::lock_guard lock(mutex_);
    written_ = std::move(bytes);
    if (call.in.fh != kParked) return std::move(call.reply).ok(call.in.size);
    parked_write_.emplace(std::move(call));
    changed_.notify_all();
  }

  // Waits like a lock that nobody gives back.
  void setlkw(Call<op::Setlkw> call) override {
    const auto held = std::make_shared<std::unique_ptr<Call<op::Setlkw>>>(
        std::make_unique<Call<op::Setlkw>>(std::move(call)));
    (*held)->reply.set_interrupt_handler([this, held](InterruptReason reason) {
      const auto ended = std::move(*held);
      std::move(ended->reply).error(reason == InterruptReason::stopping ? ENOLCK : EINTR);
      const std::lock_guard lock(mutex_);
      --waiting_;
      changed_.notify_all();
    });
    const std::lock_guard lock(mutex_);
    ++waiting_;
    changed_.notify_all();
  }

  // READ's data: bytes that depend on the offset.
  static std::byte content(std::uint64_t offset) { return static_cast<std::byte>(offset * 7 + offset / 251); }
  static void fill(Call<op::Read> call) {
    IoVecs room = call.reply.room();
    std::vector<std::byte> bytes(room.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = content(call.in.offset + i);
    room.copy_from(bytes);
    std::move(call.reply).ok(bytes.size());
  }

  // For the test's threads.
  void wait_parked(std::size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, testing::kPatience, [&] { return parked_.size() >= count; }));
  }
  void wait_blocked() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, testing::kPatience, [&] { return blocked_ > 0; }));
  }
  void wait_waiting(int count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, testing::kPatience, [&] { return waiting_ == count; }));
  }
  void release_blocked() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }
  std::size_t parked() const {
    const std::lock_guard lock(mutex_);
    return parked_.size();
  }
  // What the last INIT gave.
  std::shared_ptr<Notifier> notifier() const {
    const std::lock_guard lock(mutex_);
    return notifier_;
  }
  // GETATTR calls it.
  void set_in_getattr(std::function<void()> hook) {
    const std::lock_guard lock(mutex_);
    in_getattr_ = std::move(hook);
  }
  // What the last WRITE brought.
  std::vector<std::byte> written() const {
    const std::lock_guard lock(mutex_);
    return written_;
  }
  // Answers the latest parked READ, which is there.
  void answer_parked() {
    auto call = take_parked();
    FUSEWIRE_CHECK(call.has_value());
    fill(*std::move(call));
  }
  // The parked READs, latest first; one of them, if there is one.
  std::optional<Call<op::Read>> take_parked() {
    const std::lock_guard lock(mutex_);
    if (parked_.empty()) return std::nullopt;
    std::optional<Call<op::Read>> call(std::move(parked_.back()));
    parked_.pop_back();
    return call;
  }

  // The parked WRITE, waited for.
  std::optional<Call<op::Write>> take_parked_write() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, testing::kPatience, [this] { return parked_write_.has_value(); }))
      return std::nullopt;
    std::optional<Call<op::Write>> call(std::move(*parked_write_));
    parked_write_.reset();
    return call;
  }

  std::atomic<int> inits{0}, destroys{0};
  std::atomic<std::uint64_t> forgotten{0};

 private:
  std::function<void()> in_getattr() const {
    const std::lock_guard lock(mutex_);
    return in_getattr_;
  }

  std::atomic<int> serving_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Notifier> notifier_;
  std::function<void()> in_getattr_;
  std::vector<Call<op::Read>> parked_;
  std::optional<Call<op::Write>> parked_write_;
  std::vector<std::byte> written_;
  int blocked_ = 0;
  int waiting_ = 0;
  bool released_ = false;
};

inline Request read_request(std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
  fuse_read_in in{};
  in.fh = handle;
  in.offset = offset;
  in.size = size;
  return Request(FUSE_READ).arg(in).room(static_cast<int>(size));
}
inline Request getattr_request(std::uint64_t node = FUSE_ROOT_ID) {
  return Request(FUSE_GETATTR, NodeId{node}).arg(fuse_getattr_in{}).room(sizeof(fuse_attr_out));
}
inline Request init_request() {
  fuse_init_in in{};
  in.major = kMajor;
  in.minor = kMinor;
  return Request(FUSE_INIT).arg(in).room(sizeof(fuse_init_out));
}
inline Request lock_request() { return Request(FUSE_SETLKW).arg(fuse_lk_in{}).room(0); }

inline bool is_content(const Answer& answer, std::uint64_t offset, std::size_t size) {
  if (answer.error != 0 || answer.body.size() != size) return false;
  for (std::size_t i = 0; i < size; ++i)
    if (answer.body[i] != HeldFs::content(offset + i)) return false;
  return true;
}

inline std::shared_ptr<const guestmem::MemoryMap> map_of(
    const std::vector<const guestmem::SharedMemory*>& memories) {
  guestmem::MemoryMap::Regions regions;
  for (const auto* memory : memories)
    regions.push_back(*guestmem::MemoryRegion::map(memory->description(), memory->fd()));
  return *guestmem::MemoryMap::create(std::move(regions));
}

struct RigOptions {
  unsigned request_queues = 1;
  GuestQueueOptions queue{};
  std::size_t spare_memory = 0;  // left to the test
  std::vector<unsigned> queue_cpus{};
  std::uint32_t notification_buffer = 0;  // offered with this size,
  std::chrono::milliseconds notification_patience = testing::kPatience;
  std::chrono::milliseconds stop_patience = 2 * testing::kPatience;  // so that whoever waits for it fails
  std::chrono::milliseconds grace = 2 * testing::kPatience;
  bool accept_notifications = true;  // and negotiated
  bool start = true;                 // all queues run and are enabled,
  bool initialize = true;            // and the engine is.
};

// A device, and a guest's queue for each of its.
class Rig {
 public:
  explicit Rig(const RigOptions& options = {})
      : memory(*guestmem::SharedMemory::create(
            guestmem::GuestAddress(0x100000),
            queue_count(options) * GuestQueue::memory_size(options.queue) + options.spare_memory)),
        map(map_of({&memory})),
        device(*Device::create(fs, {.request_queues = options.request_queues,
                                    .queue_cpus = options.queue_cpus,
                                    .notification_buffer = options.notification_buffer,
                                    .notification_patience = options.notification_patience,
                                    .stop_patience = options.stop_patience,
                                    .grace = options.grace})) {
    device->set_features(options.queue.accepted(device->features()) &
                         ~(options.accept_notifications ? 0 : virtio::kFsNotification));
    device->set_memory(map);
    for (unsigned i = 0; i < queue_count(options); ++i) {
      queues.push_back(std::make_unique<GuestQueue>(memory, options.queue));
      base.push_back(queues.back()->driver().setup().base);
      if (!options.start) continue;
      EXPECT_TRUE(start(i));
      device->set_queue_enabled(i, true);
    }
    if (options.start && options.initialize) {
      // The first request queue comes behind the notification queue.
      const bool notifies = options.notification_buffer != 0 && options.accept_notifications;
      EXPECT_EQ(queue(notifies ? 2 : 1).send(init_request()).error, 0);
    }
  }
  static unsigned queue_count(const RigOptions& options) {
    return options.request_queues + (options.notification_buffer != 0 ? 2 : 1);
  }
  ~Rig() {
    fs.release_blocked();
    while (auto call = fs.take_parked()) HeldFs::fill(std::move(*call));
  }

  GuestQueue& queue(unsigned index) { return *queues[index]; }
  // Starts queue `index`, where it stands.
  bool start(unsigned index, bool with_kick = true) {
    virtio::RingSetup ring = queue(index).driver().setup();
    ring.base = base[index];
    device->set_queue_call(index, share(queue(index).call_fd()));
    device->set_queue_error(index, share(queue(index).error_fd()));
    return device->start_queue(index, ring, with_kick ? share(queue(index).kick_fd()) : UniqueFd())
        .has_value();
  }
  void stop(unsigned index) { base[index] = device->stop_queue(index); }
  // Returns when the worker has ended the turn that it was in, signals included.
  void settle(unsigned index) { device->set_queue_logging(index, queue(index).driver().setup()); }
  static UniqueFd share(int fd) { return UniqueFd(::dup(fd)); }

  guestmem::SharedMemory memory;
  std::shared_ptr<const guestmem::MemoryMap> map;
  HeldFs fs;
  std::unique_ptr<Device> device;
  std::vector<std::unique_ptr<GuestQueue>> queues;
  std::vector<std::uint32_t> base;  // Where each queue goes on when it starts.
};

// What concerns split and packed rings alike.
class EitherRing : public ::testing::TestWithParam<bool> {
 protected:
  static RigOptions options(RigOptions made = {}) {
    made.queue.packed = GetParam();
    return made;
  }
};
inline std::string ring_kind_name(const ::testing::TestParamInfo<bool>& tested) {
  return tested.param ? "Packed" : "Split";
}

}  // namespace fusewire::virtiofs
