// What the Backend tests share: a Device that writes down what it is told, and a Backend that serves it on a
// thread.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "guestmem/shared_memory.h"
#include "vhost_user/backend.h"
#include "vhost_user/frontend.h"
#include "virtio/driver_queue.h"

namespace fusewire::vhost_user {

// Read it from the test's thread only after an acknowledged request, or after the Backend ended: the thread
// that writes it has then gone on to the next receive.
class FakeDevice final : public Device {
 public:
  std::uint64_t features() const override {
    return virtio::kVersion1 | virtio::kEventIdx | virtio::kIndirectDesc;
  }
  unsigned queue_count() const override { return 3; }
  std::span<const std::byte> config() const override { return as_bytes(config_text); }
  void set_features(std::uint64_t acked) override {
    acked_features = acked;
    note("features {:#x}", acked);
  }
  void set_memory(std::shared_ptr<const guestmem::MemoryMap> new_map) override {
    map = std::move(new_map);
    note("memory {}", map->region_count());
  }
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog> new_log) override {
    if ((log != nullptr) != (new_log != nullptr)) note("dirty log {}", new_log != nullptr ? "on" : "off");
    log = std::move(new_log);
  }
  Result<void> start_queue(unsigned index, const virtio::RingSetup& ring, UniqueFd kick) override {
    note("start {} size {} base {}{}", index, ring.size, ring.base, kick ? "" : " polled");
    if (fail_start) return fail(ENOMEM);
    setups[index] = ring;
    kicks[index] = std::move(kick);
    return {};
  }
  std::uint16_t stop_queue(unsigned index) override {
    note("stop {}", index);
    return static_cast<std::uint16_t>(setups[index].base + 7);  // As if 7 chains had come.
  }
  void set_queue_enabled(unsigned index, bool enabled) override {
    note("{} {}", enabled ? "enable" : "disable", index);
  }
  void set_queue_call(unsigned index, UniqueFd call) override {
    note("call {}{}", index, call ? "" : " none");
    calls[index] = std::move(call);
  }
  void set_queue_error(unsigned index, UniqueFd error) override {
    note("error {}{}", index, error ? "" : " none");
  }
  void set_queue_logging(unsigned index, const virtio::RingSetup& ring) override {
    note("logging {} {}", index, ring.log_used ? "on" : "off");
    setups[index] = ring;
  }
  void reset() override { note("reset"); }

  // What came since the last call.
  std::vector<std::string> take_notes() { return std::exchange(notes, {}); }

  std::string config_text;
  bool fail_start = false;
  std::uint64_t acked_features = 0;
  std::shared_ptr<const guestmem::MemoryMap> map;
  std::shared_ptr<guestmem::DirtyLog> log;
  virtio::RingSetup setups[3];
  UniqueFd kicks[3];
  UniqueFd calls[3];
  std::vector<std::string> notes;

 private:
  template <class... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    notes.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
};

class BackendTest : public testing::Test {
 protected:
  BackendTest() { connect(); }
  ~BackendTest() override { disconnect(); }

  // Serves the device to a new front-end.
  void connect() {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    front.emplace(UniqueFd(ends[0]));
    backend.emplace(UniqueFd(ends[1]), device, stop.get());
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

  // Negotiates everything, and shares `memory`.
  void set_up() {
    ASSERT_TRUE(front->negotiate(~std::uint64_t{0} & ~kLogAll));
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
  virtio::DriverQueue ring{*memory.allocate(virtio::DriverQueue::memory_size(16, {}), 64), 16, {}};
  FakeDevice device;
  std::optional<Backend> backend;
  std::optional<Frontend> front;
  std::thread server;
  Backend::Outcome outcome;
};

}  // namespace fusewire::vhost_user
