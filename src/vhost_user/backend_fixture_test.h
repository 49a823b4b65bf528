// What the Backend tests share: a Device that writes down what it is told, and a Backend that serves it on a
// thread.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "fusewire/bytes.h"
#include "guestmem/shared_memory.h"
#include "guestmem/taken_test.h"
#include "vhost_user/backend.h"
#include "vhost_user/frontend.h"
#include "virtio/driver_queue.h"

namespace fusewire::vhost_user {

// The Backend's thread calls it, the test's thread looks at it; both under its lock.
class FakeDevice final : public Device {
 public:
  std::uint64_t features() const override {
    return virtio::kVersion1 | virtio::kEventIdx | virtio::kIndirectDesc | virtio::kRingPacked;
  }
  unsigned queue_count() const override { return 3; }
  std::span<const std::byte> config() const override {
    const std::lock_guard lock(mutex_);
    return as_bytes(config_);
  }
  void set_features(std::uint64_t acked) override { note("features {:#x}", acked); }
  void set_memory(std::shared_ptr<const guestmem::MemoryMap> map) override {
    note("memory {}", map->region_count());
    const std::lock_guard lock(mutex_);
    map_ = std::move(map);
  }
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> log) override {
    if ((this->log() != nullptr) != (log != nullptr)) note("dirty log {}", log != nullptr ? "on" : "off");
    const std::lock_guard lock(mutex_);
    log_ = std::move(log);
  }
  Result<void> start_queue(unsigned index, const virtio::RingSetup& ring, UniqueFd kick) override {
    note("start {} size {} base {}{}", index, ring.size, ring.base, kick ? "" : " polled");
    const std::lock_guard lock(mutex_);
    if (fail_start_) return fail(ENOMEM);
    setups_[index] = ring;
    return {};
  }
  std::uint32_t stop_queue(unsigned index) override {
    note("stop {}", index);
    return setup(index).base + 7;  // As if 7 chains had come.
  }
  void set_queue_enabled(unsigned index, bool enabled) override {
    note("{} {}", enabled ? "enable" : "disable", index);
  }
  void set_queue_call(unsigned index, UniqueFd call) override {
    note("call {}{}", index, call ? "" : " none");
  }
  void set_queue_error(unsigned index, UniqueFd error) override {
    note("error {}{}", index, error ? "" : " none");
  }
  void set_queue_logging(unsigned index, const virtio::RingSetup& ring) override {
    note("logging {} {}", index, ring.log_used ? "on" : "off");
    const std::lock_guard lock(mutex_);
    setups_[index] = ring;
  }
  void reset() override { note("reset"); }
  void disconnect() override { note("disconnect"); }

  // For the test. What came since the last call, one line a call.
  std::vector<std::string> take_notes() {
    const std::lock_guard lock(mutex_);
    return std::exchange(notes_, {});
  }
  std::shared_ptr<const guestmem::MemoryMap> map() const {
    const std::lock_guard lock(mutex_);
    return map_;
  }
  std::shared_ptr<guestmem::DirtyLog> log() const {
    const std::lock_guard lock(mutex_);
    return log_;
  }
  virtio::RingSetup setup(unsigned index) const {
    const std::lock_guard lock(mutex_);
    return setups_[index];
  }
  void set_config(std::string_view text) {
    const std::lock_guard lock(mutex_);
    config_ = text;
  }
  void set_fail_start(bool fails) {
    const std::lock_guard lock(mutex_);
    fail_start_ = fails;
  }

 private:
  template <class... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    const std::lock_guard lock(mutex_);
    notes_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  mutable std::mutex mutex_;
  std::string_view config_;  // A literal.
  bool fail_start_ = false;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  std::shared_ptr<guestmem::DirtyLog> log_;
  std::array<virtio::RingSetup, 3> setups_;
  std::vector<std::string> notes_;
};

class BackendTest : public testing::Test {
 protected:
  BackendTest() { connect(); }
  ~BackendTest() override { disconnect(); }

  // Serves the device to a new front-end.
  void connect() {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    front = std::make_unique<Frontend>(UniqueFd(ends[0]));
    backend = std::make_unique<Backend>(UniqueFd(ends[1]), device, stop.get());
    server = std::thread([this] { outcome = backend->run(); });
  }
  // Takes the front-end away and waits for the Backend's end.
  Backend::Outcome disconnect() {
    front.reset();
    return wait();
  }
  Backend::Outcome wait() {
    if (server.joinable()) server.join();
    return outcome;
  }

  // Negotiates everything but what `without` says, and shares `memory`.
  void set_up(std::uint64_t without = virtio::kRingPacked) {
    ASSERT_TRUE(front->negotiate(~kLogAll & ~without));
    ASSERT_TRUE(front->set_mem_table({{Frontend::share(memory)}}));
    device.take_notes();
  }
  // A request as raw bytes; the reply's status where one comes.
  void send_raw(std::uint32_t request, std::uint32_t flags, std::span<const std::byte> payload,
                std::span<const int> fds = {}) {
    ASSERT_EQ(front->connection().send(request, flags, payload, fds), Connection::Io::done);
  }

  UniqueFd stop{eventfd(0, EFD_CLOEXEC)};
  UniqueFd event{eventfd(0, EFD_CLOEXEC)};
  guestmem::SharedMemory memory = *guestmem::SharedMemory::create(guestmem::GuestAddress(0x100000), 1 << 20);
  virtio::DriverQueue ring{taken(memory.allocate(virtio::DriverQueue::memory_size(16, {}), 64)), 16, {}};
  FakeDevice device;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Frontend> front;
  std::thread server;
  Backend::Outcome outcome;
};

}  // namespace fusewire::vhost_user
