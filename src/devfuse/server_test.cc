// Servers on real mounts. Skipped where nothing can be mounted.
#include "devfuse/server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include "devfuse/mount.h"

namespace fusewire::devfuse {
namespace {

constexpr std::size_t kFileSize = 3 * 1024 * 1024 + 5;

// A folder with "data" (a memory file, read by descriptor), "kept" (READs are kept unanswered) and "short"
// (half of what its size says).
class TestFs final : public FileSystem {
 public:
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
    const std::uint64_t node = name == "data" ? 2 : name == "kept" ? 3 : name == "short" ? 4 : 0;
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
};

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

  void start(ServerOptions options) {
    options.grace = std::chrono::milliseconds(options.grace.count() == 5000 ? 100 : options.grace.count());
    engine_.emplace(fs_);
    auto made = Mount::create(folder_, MountOptions{});
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

struct Mode {
  const char* name;
  unsigned threads;
  bool clone_fd;
  bool splice;
};
class ServerModes : public ServerTest, public ::testing::WithParamInterface<Mode> {};

TEST_P(ServerModes, FileRanges_ArriveWhole) {
  const Mode mode = GetParam();
  start({.max_threads = mode.threads, .clone_fd = mode.clone_fd, .splice = mode.splice});
  if (IsSkipped()) return;
  std::vector<std::thread> readers;
  for (const std::size_t block : {std::size_t{1} << 20, std::size_t{1} << 17, std::size_t{5000}})
    readers.emplace_back([this, block] { EXPECT_TRUE(read_all("data", block) == fs_.content()); });
  for (auto& reader : readers) reader.join();
  EXPECT_GE(fs_.largest_read.load(), std::uint32_t{1} << 19);
  EXPECT_LE(server_->threads(), mode.threads);
  ASSERT_TRUE(mount_->unmount(Mount::Mode::clean));
  EXPECT_EQ(await_end(), Server::Ending::unmounted);
  EXPECT_TRUE(fs_.destroyed);
}

INSTANTIATE_TEST_SUITE_P(Channel, ServerModes,
                         ::testing::Values(Mode{"one", 1, false, false}, Mode{"classic", 4, false, false},
                                           Mode{"clone", 4, true, false}, Mode{"splice", 4, true, true}),
                         [](const auto& mode) { return std::string(mode.param.name); });

TEST_F(ServerTest, FileThatEndsEarly_GivesAShortRead) {
  start({});
  if (IsSkipped()) return;
  const std::string got = read_all("short", std::size_t{1} << 20);
  EXPECT_TRUE(got == fs_.content().substr(0, kFileSize / 2)) << got.size();
}

TEST_F(ServerTest, Stop_EndsIdleThreads) {
  start({.max_threads = 3});
  if (IsSkipped()) return;
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
  server_->stop();
  EXPECT_EQ(await_end(), Server::Ending::stopped);
}

TEST_F(ServerTest, ThreadsAboveMaxIdleThreads_End) {
  start({.max_threads = 4, .max_idle_threads = 1});
  if (IsSkipped()) return;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) readers.emplace_back([this] { read_all("data", 4096); });
  for (auto& reader : readers) reader.join();
  while (server_->threads() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize) << "and can come again";
}

TEST_F(ServerTest, StopBeforeRun_EndsAtOnce) {
  engine_.emplace(fs_);
  auto made = Mount::create(folder_, MountOptions{});
  if (!made) GTEST_SKIP() << made.error();
  auto server = Server::create(*engine_, std::move(made->channel), {});
  ASSERT_TRUE(server);
  (*server)->stop();
  EXPECT_EQ((*server)->run(), Server::Ending::stopped);
  server->reset();
}

TEST_F(ServerTest, Abort_EndsWithAnErrorOfItsOwn) {
  start({.max_threads = 2});
  if (IsSkipped()) return;
  EXPECT_EQ(read_all("data", 4096).size(), kFileSize);
  abort_connection();
  EXPECT_EQ(await_end(), Server::Ending::aborted);
}

TEST_F(ServerTest, CallThatIsNeverAnswered_IsGivenUp) {
  start({.max_threads = 2});
  if (IsSkipped()) return;
  std::thread reader([this] {
    const UniqueFd fd(::open(path("kept").c_str(), O_RDONLY | O_CLOEXEC));
    char byte = 0;
    EXPECT_EQ(::read(fd.get(), &byte, 1), -1);
  });
  fs_.await_kept();
  abort_connection();
  EXPECT_EQ(await_end(), Server::Ending::aborted);
  reader.join();
  server_.reset();
  engine_.reset();
  // Server and engine are gone; answers and interrupt handlers are harmless.
  for (auto& call : fs_.take_kept()) {
    EXPECT_TRUE(call.reply.interrupted());
    bool told = false;
    call.reply.set_interrupt_handler([&](InterruptReason) { told = true; });
    EXPECT_TRUE(told);
    std::move(call.reply).ok(std::size_t{1});
  }
}

TEST_F(ServerTest, CallThatIsAnsweredWithinTheGrace_IsWaitedFor) {
  start({.max_threads = 2, .grace = std::chrono::milliseconds(60000)});
  if (IsSkipped()) return;
  std::thread reader([this] {
    const UniqueFd fd(::open(path("kept").c_str(), O_RDONLY | O_CLOEXEC));
    char byte = 0;
    EXPECT_EQ(::read(fd.get(), &byte, 1), 1);
    EXPECT_EQ(byte, 'x');
  });
  fs_.await_kept();
  server_->stop();
  for (auto& call : fs_.take_kept()) std::move(call.reply).ok(std::as_bytes(std::span("x", 1)));
  EXPECT_EQ(await_end(), Server::Ending::stopped);
  // The release cannot be answered any more.
  server_.reset();
  reader.join();
}

}  // namespace
}  // namespace fusewire::devfuse
