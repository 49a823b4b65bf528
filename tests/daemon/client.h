// Client: what a guest's kernel does for its programs, one request at a time, on one queue. And the fixture
// of the tests of this folder.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/daemon_process.h"
#include "daemon/guest.h"
#include "fusewire/result.h"

namespace fusewire::tests {

// A request with its argument structure, as the user that runs the test.
Request make_request(std::uint32_t opcode, NodeId node);
template <class In>
Request make_request(std::uint32_t opcode, NodeId node, const In& in) {
  return make_request(opcode, node).arg(in);
}

// The errno that `result` holds, or 0.
template <class T>
int error_of(const Result<T>& result) {
  return result ? 0 : result.error().value;
}

struct DirectoryEntry {
  std::string name;
  std::uint64_t ino = 0;
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
  fuse_entry_out entry{};  // READDIRPLUS
};

class Client {
 public:
  explicit Client(MockGuest& guest, unsigned queue = 1) : guest_(guest), queue_(queue) {}

  MockGuest& guest() { return guest_; }
  Answer send(Request request) { return guest_.send(request.queue(queue_)); }
  GuestQueue::Ticket start(Request request) { return guest_.start(request.queue(queue_)); }
  Answer wait(GuestQueue::Ticket ticket) { return guest_.wait(ticket, queue_); }

  Result<fuse_entry_out> lookup(NodeId parent, std::string_view name);
  // Along a path below the root.
  Result<NodeId> walk(const std::filesystem::path& path);
  Result<fuse_attr> getattr(NodeId node);
  Result<fuse_attr> setattr(NodeId node, const fuse_setattr_in& in);

  Result<CreateOut> create(NodeId parent, std::string_view name, std::uint32_t flags = O_RDWR,
                           std::uint32_t mode = 0644);
  Result<fuse_entry_out> mkdir(NodeId parent, std::string_view name, std::uint32_t mode = 0755);
  Result<fuse_open_out> open(NodeId node, std::uint32_t flags = O_RDWR);
  Result<fuse_open_out> opendir(NodeId node);
  int release(NodeId node, std::uint64_t handle);
  int releasedir(NodeId node, std::uint64_t handle);
  void forget(NodeId node, std::uint64_t lookups);

  static Request read_request(NodeId node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size);
  static Request write_request(NodeId node, std::uint64_t handle, std::uint64_t offset,
                               std::span<const std::byte> data, std::uint32_t flags = O_RDWR);
  Result<std::string> read(NodeId node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size);
  Result<std::uint32_t> write(NodeId node, std::uint64_t handle, std::uint64_t offset, std::string_view data,
                              std::uint32_t flags = O_RDWR);
  // All entries from `offset` on, asking for `size` bytes at a time.
  Result<std::vector<DirectoryEntry>> readdir(NodeId node, std::uint64_t handle, bool plus = false,
                                              std::uint64_t offset = 0, std::uint32_t size = 4096);

  static Request lock_request(std::uint32_t opcode, NodeId node, std::uint64_t handle, std::uint64_t owner,
                              std::uint32_t type, std::uint64_t start = 0,
                              std::uint64_t end = 0x7fff'ffff'ffff'ffff, std::uint32_t flags = 0);
  int lock(std::uint32_t opcode, NodeId node, std::uint64_t handle, std::uint64_t owner, std::uint32_t type,
           std::uint64_t start = 0, std::uint64_t end = 0x7fff'ffff'ffff'ffff, std::uint32_t flags = 0);

 private:
  MockGuest& guest_;
  const unsigned queue_;
};

// A daemon that shares a fresh directory, and a guest.
class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest() { std::filesystem::create_directory(share()); }
  ~DaemonTest() override;

  std::filesystem::path share() const { return scratch_.path() / "share"; }
  // By its plain path: a ".." does not go through the shared directory, whose mode a guest may change.
  std::filesystem::path host(std::string_view name) const { return (share() / name).lexically_normal(); }
  void write_host(std::string_view name, std::string_view content) const;
  std::string read_host(std::string_view name) const;
  struct stat stat_host(std::string_view name) const;

  // Starts the daemon with further arguments, for as many queues as the options say, and no guest yet.
  DaemonProcess& start_daemon(std::vector<std::string> arguments = {}, const GuestOptions& options = {});
  // The daemon, if there is none yet, and a guest in place of the one before.
  void boot(std::vector<std::string> arguments = {}, const GuestOptions& options = {});
  void leave() { client_.reset(), guest_.reset(); }

  DaemonProcess& daemon() { return *daemon_; }
  MockGuest& guest() { return *guest_; }
  Client& client() { return *client_; }
  // The daemon serves: the guest's session, if it is alive, answers.
  void expect_alive();

 private:
  TemporaryDirectory scratch_;
  std::unique_ptr<DaemonProcess> daemon_;
  std::unique_ptr<MockGuest> guest_;
  std::unique_ptr<Client> client_;
};

// `size` bytes that differ from place to place and from `seed` to `seed`.
std::string pattern(std::size_t size, unsigned seed = 1);

// For tests of what only root may do.
#define FUSEWIRE_NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "needs root"

}  // namespace fusewire::tests
