// A shared directory for tests: a temporary directory of the host, a PassthroughFs over it, and a kernel
// (Harness) that has mounted it and speaks the real protocol.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "fuse/testing/harness.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough::testing {

using fusewire::testing::Answer;
using fusewire::testing::Harness;
using fusewire::testing::Request;

// Removed with all that is in it.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& below = std::filesystem::temp_directory_path()) {
    std::string name = below + "/fusewire-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;  // what a test leaves mounted or immutable is the test's failure already
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The guest's user for a request.
struct User {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

class Share {
 public:
  using Adjust = std::function<void(Config&)>;

  // `caps`: what the kernel offers at INIT. `below`: on which file system the share lies.
  explicit Share(const Adjust& adjust = {}, std::uint64_t caps = Harness::kAllCaps,
                 const std::string& below = std::filesystem::temp_directory_path())
      : directory_(below) {
    ::chmod(directory_.path().c_str(), 0777);
    Config config;
    config.shared_directory = directory_.path();
    if (adjust) adjust(config);
    auto created = PassthroughFs::create(config);
    if (!created) {
      ADD_FAILURE() << created.error();
      std::abort();
    }
    fs_ = std::move(*created);
    kernel_ = std::make_unique<Harness>(*fs_);
    init_ = kernel_->init(caps);
  }

  // The host's view.
  std::filesystem::path host(std::string_view name) const { return directory_.path() / name; }
  void write_host(std::string_view name, std::string_view text) const { std::ofstream(host(name)) << text; }
  std::string read_host(std::string_view name) const {
    std::ifstream in(host(name));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  struct stat stat_host(std::string_view name) const {
    struct stat stat{};
    EXPECT_EQ(::lstat(host(name).c_str(), &stat), 0) << name << ": " << strerror(errno);
    return stat;
  }

  PassthroughFs& fs() { return *fs_; }
  Harness& kernel() { return *kernel_; }
  const Answer& init() const { return init_; }
  Answer send(const Request& request) { return kernel_->send(request); }

  // The guest's requests. Names are of entries below `parent`.
  Answer lookup(std::string_view name, NodeId parent = kRootNode) {
    return send(Request(FUSE_LOOKUP, parent).name(name));
  }
  // Of an entry that is there.
  NodeId node(std::string_view name, NodeId parent = kRootNode) {
    const Answer answer = lookup(name, parent);
    EXPECT_EQ(answer.error, 0) << "looking up " << name;
    return NodeId{answer.as<fuse_entry_out>().nodeid};
  }
  void forget(NodeId node, std::uint64_t lookups = 1) {
    EXPECT_FALSE(send(Request(FUSE_FORGET, node).arg(fuse_forget_in{.nlookup = lookups})).replied);
  }
  Answer getattr(NodeId node, std::optional<std::uint64_t> handle = {}) {
    fuse_getattr_in in{};
    if (handle) in = {.getattr_flags = FUSE_GETATTR_FH, .dummy = 0, .fh = *handle};
    return send(Request(FUSE_GETATTR, node).arg(in));
  }
  Answer setattr(NodeId node, const fuse_setattr_in& in) { return send(Request(FUSE_SETATTR, node).arg(in)); }
  Answer mkdir(std::string_view name, std::uint32_t mode, User user = {}, std::uint32_t umask = 0,
               NodeId parent = kRootNode) {
    return send(Request(FUSE_MKDIR, parent)
                    .uid(user.uid)
                    .gid(user.gid)
                    .arg(fuse_mkdir_in{.mode = mode, .umask = umask})
                    .name(name));
  }
  Answer mknod(std::string_view name, std::uint32_t mode, std::uint32_t device = 0, User user = {},
               NodeId parent = kRootNode) {
    return send(Request(FUSE_MKNOD, parent)
                    .uid(user.uid)
                    .gid(user.gid)
                    .arg(fuse_mknod_in{.mode = mode, .rdev = device, .umask = 0, .padding = 0})
                    .name(name));
  }
  Answer symlink(std::string_view name, std::string_view target, NodeId parent = kRootNode) {
    return send(Request(FUSE_SYMLINK, parent).name(name).name(target));
  }
  static Request create_request(std::string_view name, std::uint32_t flags, std::uint32_t mode,
                                User user = {}, std::uint32_t umask = 0, NodeId parent = kRootNode) {
    return Request(FUSE_CREATE, parent)
        .uid(user.uid)
        .gid(user.gid)
        .arg(fuse_create_in{.flags = flags, .mode = S_IFREG | mode, .umask = umask, .open_flags = 0})
        .name(name);
  }
  Answer create(std::string_view name, std::uint32_t flags, std::uint32_t mode, User user = {},
                std::uint32_t umask = 0, NodeId parent = kRootNode) {
    return send(create_request(name, flags, mode, user, umask, parent));
  }
  Answer unlink(std::string_view name, NodeId parent = kRootNode) {
    return send(Request(FUSE_UNLINK, parent).name(name));
  }
  Answer rmdir(std::string_view name, NodeId parent = kRootNode) {
    return send(Request(FUSE_RMDIR, parent).name(name));
  }
  Answer rename2(std::string_view from, std::string_view to, std::uint32_t flags,
                 NodeId old_parent = kRootNode, NodeId new_parent = kRootNode) {
    return send(Request(FUSE_RENAME2, old_parent)
                    .arg(fuse_rename2_in{.newdir = new_parent.get(), .flags = flags, .padding = 0})
                    .name(from)
                    .name(to));
  }
  Answer link(NodeId target, std::string_view name, NodeId parent = kRootNode) {
    return send(Request(FUSE_LINK, parent).arg(fuse_link_in{.oldnodeid = target.get()}).name(name));
  }
  Answer open(NodeId node, std::uint32_t flags, std::uint32_t open_flags = 0) {
    return send(Request(FUSE_OPEN, node).arg(fuse_open_in{.flags = flags, .open_flags = open_flags}));
  }
  Answer release(NodeId node, std::uint64_t handle) {
    return send(Request(FUSE_RELEASE, node)
                    .arg(fuse_release_in{.fh = handle, .flags = 0, .release_flags = 0, .lock_owner = 0}));
  }
  Answer read(NodeId node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return send(Request(FUSE_READ, node).arg(in));
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<PassthroughFs> fs_;
  std::unique_ptr<Harness> kernel_;
  Answer init_;
};

// Gives the process another limit of descriptors for a while.
class ScopedNofileLimit {
 public:
  explicit ScopedNofileLimit(rlim_t limit) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit changed{.rlim_cur = limit, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &changed), 0);
  }
  ScopedNofileLimit(const ScopedNofileLimit&) = delete;
  ScopedNofileLimit& operator=(const ScopedNofileLimit&) = delete;
  ~ScopedNofileLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// Runs `body` on a thread of its own, whose credentials and namespaces end with it.
template <class Body>
void on_own_thread(const Body& body) {
  std::thread(body).join();
}

}  // namespace fusewire::passthrough::testing

// For tests that change credentials, ownership or mounts.
#define FUSEWIRE_NEEDS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "needs root"
