// FakeServer: a virtio-fs server in the test's own process, with its files in memory: it counts what it gave
// out (names, open handles, references to nodes) and answers wrongly when told to. One thread accepts and
// speaks vhost-user, one serves each queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fusewire/unique_fd.h"
#include "fusewire/wire.h"
#include "vhost_user/device.h"
#include "vhost_user/listener.h"
#include "virtio/split_queue.h"

namespace fusewire::bench {

// What is wrong with the replies to one opcode.
struct Fault {
  enum class Kind {
    none,
    other_unique,     // the reply is to another request
    longer_length,    // the header tells of more bytes than came
    error_with_body,  // an error, and something behind it
    huge_error,       // an error that no kernel knows
    wrong_error,      // EIO
    other_contents,   // what is read belongs to another place in the file
    unknown_chain,    // the used ring names a chain that the device never had
    hang_up,          // the server goes away instead
    silence,          // no reply comes
  };
  Kind kind = Kind::none;
  std::uint32_t opcode = 0;
};

struct FakeOptions {
  Fault fault = {};
  unsigned request_queues = 2;
  bool indirect = true;
  std::uint32_t max_write = 1U << 20;
  std::uint16_t max_pages = 256;
  std::uint64_t first_number = 1;  // nodes and handles are numbered from behind this
};

class FakeServer final : public vhost_user::Device {
 public:
  explicit FakeServer(const FakeOptions& options = {});
  ~FakeServer() override;

  const std::string& socket_path() const { return path_; }

  // What is left of what the front-end was given. The root and its reference do not count.
  std::size_t names() const;
  std::size_t open_handles() const;
  std::int64_t references() const;
  std::uint64_t requests(std::uint32_t opcode) const;
  // The last request of an opcode: its header and arguments, without a WRITE's data.
  std::vector<std::byte> last(std::uint32_t opcode) const;
  // How the last request of an opcode was cut: the lengths of what the device reads, and of what it writes.
  struct Cut {
    std::vector<std::size_t> readable, writable;
  };
  Cut cut(std::uint32_t opcode) const;

  // vhost_user::Device
  std::uint64_t features() const override;
  unsigned queue_count() const override { return options_.request_queues + 1; }
  std::span<const std::byte> config() const override { return {}; }
  void set_features(std::uint64_t acked) override { acked_ = acked; }
  void set_memory(std::shared_ptr<const guestmem::MemoryMap> map) override { map_ = std::move(map); }
  void set_dirty_log(std::shared_ptr<guestmem::DirtyLog>) override {}
  Result<void> start_queue(unsigned index, const virtio::RingSetup& ring, UniqueFd kick) override;
  std::uint32_t stop_queue(unsigned index) override;
  void set_queue_enabled(unsigned, bool) override {}
  void set_queue_call(unsigned index, UniqueFd call) override;
  void set_queue_error(unsigned, UniqueFd) override {}
  void set_queue_logging(unsigned, const virtio::RingSetup&) override {}
  void reset() override;
  void disconnect() override { reset(); }

 private:
  struct Ring {
    std::unique_ptr<virtio::SplitQueue> queue;
    UniqueFd kick, call, stop;
    std::thread thread;
  };
  struct Node {
    std::int64_t references = 0;
    std::map<std::string, std::uint64_t> children;
  };
  // A request as its bytes, and where its reply goes.
  struct Exchange {
    fuse_in_header header{};
    std::vector<std::byte> arguments;  // behind the header, without a WRITE's data
    std::vector<std::byte> reply;
    int error = 0;
  };

  void accept();
  void serve(Ring& ring);
  void serve_chain(Ring& ring, const virtio::Chain& chain);
  void handle(Exchange& exchange);
  void read_directory(Exchange& exchange);
  // Makes a node, or finds one (make == false), and puts its entry into the reply.
  void enter(Exchange& exchange, const std::string& name, bool make);
  void remove(Exchange& exchange, const std::string& name);

  const FakeOptions options_;
  std::string home_, path_;
  std::unique_ptr<vhost_user::Listener> listener_;
  UniqueFd stop_;
  UniqueFd connection_;  // a second descriptor of it, to hang up with
  std::thread acceptor_;

  std::uint64_t acked_ = 0;
  std::shared_ptr<const guestmem::MemoryMap> map_;
  std::vector<Ring> rings_;

  mutable std::mutex mutex_;  // for all below
  std::map<std::uint64_t, Node> nodes_;
  std::uint64_t last_node_, last_handle_;
  std::size_t open_handles_ = 0;
  std::map<std::uint32_t, Cut> cuts_;
  std::map<std::uint32_t, std::vector<std::byte>> last_;
  std::map<std::uint32_t, std::uint64_t> requests_;
};

}  // namespace fusewire::bench
