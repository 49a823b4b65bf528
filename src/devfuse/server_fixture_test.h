// A server on a real mount, and the file system that it serves.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <barrier>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include "devfuse/mount.h"
#include "devfuse/server.h"

namespace fusewire::devfuse {

inline constexpr std::size_t kFileSize = 3 * 1024 * 1024 + 5;

// A folder with "data" (a memory file, read by descriptor), "kept" (READs are kept unanswered), "short" (half
// of what its size says) and "meeting" (READs hold up their thread until kMeeting of them are there).
class TestFs final : public FileSystem {
 public:
  static constexpr int kMeeting = 4;

  TestFs() : file_(memfd_create("data", MFD_CLOEXEC)) {
    std::string content(kFileSize, '\0');
    for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 4096);
    EXPECT_EQ(::write(file_.get(), content.data(), content.size()), static_cast<ssize_t>(kFileSize));
    content_ = content;
  }

  Result<void> init(Negotiation& negotiation) override {
    negotiation.want(Cap::async_read);
    return {};
  }
  void destroy() override { destroyed = true; }
  void lookup(Call<op::Lookup> call) override {
    const std::string name(call.tail.name);
    const std::uint64_t node = name == "data"      ? 2
                               : name == "kept"    ? 3
                               : name == "short"   ? 4
                               : name == "meeting" ? 5
                                                   : 0;
    if (node == 0) return std::move(call.reply).error(ENOENT);
    fuse_entry_out out{};
    out.nodeid = node;
    out.attr = attributes(node);
    std::move(call.reply).ok(out);
  }
  void getattr(Call<op::Getattr> call) override {
    fuse_attr_out out{};
    out.attr = attributes(call.header.node.get());
    std::move(call.reply).ok(out);
  }
  void open(Call<op::Open> call) override {
    fuse_open_out out{};
    out.open_flags = FOPEN_DIRECT_IO;
    std::move(call.reply).ok(out);
  }
  void release(Call<op::Release> call) override { std::move(call.reply).ok(); }
  void flush(Call<op::Flush> call) override { std::move(call.reply).ok(); }
  void read(Call<op::Read> call) override {
    const auto node = call.header.node.get();
    if (node == 3) {
      const std::lock_guard lock(mutex_);
      kept_.push_back(std::move(call));
      changed_.notify_all();
      return;
    }
    if (node == 5) {
      meeting_.arrive_and_wait();
      return std::move(call.reply).ok(std::as_bytes(std::span("x", 1)));
    }
    const std::size_t end = node == 4 ? kFileSize / 2 : kFileSize;
    if (node == 4) {
      EXPECT_EQ(ftruncate(file_.get(), static_cast<off_t>(end)), 0);
    }
    largest_read = std::max(largest_read.load(), call.in.size);
    std::move(call.reply)
        .ok(FileRange{
            .fd = file_.get(), .offset = static_cast<std::int64_t>(call.in.offset), .size = call.in.size});
  }

  void await_kept() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !kept_.empty(); });
  }
  std::vector<Call<op::Read>> take_kept() {
    const std::lock_guard lock(mutex_);
    return std::move(kept_);
  }
  const std::string& content() const { return content_; }

  std::atomic<bool> destroyed{false};
  std::atomic<std::uint32_t> largest_read{0};

 private:
  static fuse_attr attributes(std::uint64_t node) {
    fuse_attr attr{};
    attr.ino = node;
    attr.mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.nlink = 1;
    attr.size = node == 1 ? 0 : kFileSize;
    attr.blksize = 4096;
    return attr;
  }

  UniqueFd file_;
  std::string content_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Call<op::Read>> kept_;
  std::barrier<> meeting_{kMeeting};
};

// The kernel's switch for FUSE over io_uring, which is one for all mounts: what uses them holds a lock
// shared, to the end of the process, and what turns them off holds it alone.
inline constexpr const char* kUringSwitch = "/sys/module/fuse/parameters/enable_uring";
inline void lock_uring_switch(int operation) {
  static const UniqueFd lock(::open("/tmp/fusewire-enable_uring.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(lock.get(), operation), 0);
}
// Turns it on where that has to be done (root); whether it is on.
inline bool io_uring_offered() {
  lock_uring_switch(LOCK_SH);
  std::ofstream(kUringSwitch) << "Y" << std::flush;
  std::string on;
  return std::ifstream(kUringSwitch) >> on && on == "Y";
}

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/fusewire-server-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (server_) server_->stop();
    if (running_.joinable()) running_.join();
    server_.reset();
    mount_.reset();
    rmdir(folder_.c_str());
  }

  void start(const ServerOptions& options) { serve(fs_, options); }
  // `file_system` must live until server_ and engine_ are gone.
  void serve(FileSystem& file_system, ServerOptions options, const MountOptions& mount_options = {}) {
    options.grace = std::chrono::milliseconds(options.grace.count() == 5000 ? 100 : options.grace.count());
    engine_.emplace(file_system);
    auto made = Mount::create(folder_, mount_options);
    if (!made) GTEST_SKIP() << made.error();
    mount_.emplace(std::move(made->mount));
    auto server = Server::create(*engine_, std::move(made->channel), options);
    ASSERT_TRUE(server);
    server_ = std::move(*server);
    running_ = std::thread([this] { ending_.set_value(server_->run()); });
  }
  Server::Ending await_end() {
    auto future = ending_.get_future();
    EXPECT_EQ(future.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    const auto ending = future.get();
    running_.join();
    return ending;
  }
  std::string path(const char* name) const { return folder_ + "/" + name; }
  void abort_connection() const {
    struct statx status{};
    ASSERT_EQ(statx(AT_FDCWD, folder_.c_str(), AT_STATX_DONT_SYNC, 0, &status), 0);
    // A machine without systemd may not have it mounted; EBUSY: it has.
    ASSERT_TRUE(mount("none", "/sys/fs/fuse/connections", "fusectl", 0, nullptr) == 0 || errno == EBUSY);
    std::ofstream abort("/sys/fs/fuse/connections/" + std::to_string(status.stx_dev_minor) + "/abort");
    ASSERT_TRUE(abort << "1" << std::flush);
  }
  // 0 or an errno.
  int read_attributes(const char* name) const {
    struct stat status{};
    return stat(path(name).c_str(), &status) == 0 ? 0 : errno;
  }
  std::string read_all(const char* name, std::size_t block) const {
    const UniqueFd fd(::open(path(name).c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(fd);
    std::string content, buffer(block, '\0');
    for (ssize_t n = 0; (n = ::read(fd.get(), buffer.data(), block)) > 0;)
      content.append(buffer, 0, static_cast<std::size_t>(n));
    return content;
  }

  TestFs fs_;
  std::optional<Engine> engine_;
  std::string folder_;
  std::optional<Mount> mount_;
  std::unique_ptr<Server> server_;
  std::thread running_;
  std::promise<Server::Ending> ending_;
};

}  // namespace fusewire::devfuse
