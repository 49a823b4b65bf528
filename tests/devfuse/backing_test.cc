// Backing files on a real mount: the kernel reads, writes and maps, and lets go of every file. Skipped where
// nothing can be mounted, or the kernel has no FUSE_PASSTHROUGH.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "fusewire/session.h"
#include "fusewire/unique_fd.h"
#include "passthrough/passthrough.h"

namespace fusewire {
namespace {

namespace stdfs = std::filesystem;
using passthrough::Config;
using passthrough::PassthroughFs;

// Passes everything on, and counts it by its opcode.
class Counting final : public FileSystem {
 public:
  explicit Counting(FileSystem& inner) : inner_(inner) {}
  Result<void> init(Negotiation& negotiation) override { return inner_.init(negotiation); }
  void destroy() override { inner_.destroy(); }
  std::unique_ptr<ThreadWork> thread_work() override { return inner_.thread_work(); }
  void forget_node(NodeId node, std::uint64_t lookups) override { inner_.forget_node(node, lookups); }
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) \
  void method(Call<op::Type> call) override {          \
    begin(opcode);                                     \
    inner_.method(std::move(call));                    \
    end();                                             \
  }
#include "fusewire/ops.def"

  int seen(std::uint32_t opcode) {
    const std::lock_guard lock(mutex_);
    return seen_[opcode];
  }
  // Returns once `condition` holds and no method runs.
  template <class Condition>
  void await(const Condition& condition) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return running_ == 0 && condition(); });
  }

 private:
  void begin(std::uint32_t opcode) {
    const std::lock_guard lock(mutex_);
    ++seen_[opcode];
    ++running_;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }
  FileSystem& inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<int, 64> seen_{};
  int running_ = 0;
};

class BackingTest : public ::testing::Test {
 protected:
  // A share on a tmpfs of its own, of which the free space tells whether a file is still there.
  void SetUp() override {
    char name[] = "/tmp/fusewire-backing-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    stdfs::create_directory(share());
    stdfs::create_directory(mounted());
    if (::mount("share", share().c_str(), "tmpfs", 0, "size=64m") != 0) GTEST_SKIP() << "needs root";
  }
  void TearDown() override {
    stop();
    umount2((share() / "stacked").c_str(), MNT_DETACH);
    umount2(share().c_str(), MNT_DETACH);
    stdfs::remove_all(top_);
  }
  void start(Config config = {}) {
    config.shared_directory = share();
    config.backing_files = true;
    auto made = PassthroughFs::create(config);
    ASSERT_TRUE(made) << made.error();
    inner_ = std::move(*made);
    fs_.emplace(*inner_);
    auto session = Session::mount(*fs_, mounted(), {.options = "allow_other,default_permissions"});
    if (!session) GTEST_SKIP() << session.error();
    session_ = std::move(*session);
    running_ = std::thread([this] { EXPECT_TRUE(session_->run()); });
    if (!backs()) GTEST_SKIP() << "this kernel has no backing files (FUSE_PASSTHROUGH, Linux 6.9)";
  }
  void stop() {
    if (session_) session_->stop();
    if (running_.joinable()) running_.join();
    session_.reset();
  }
  // Whether the kernel has backing files at all: it then reads this one without a READ.
  bool backs() {
    std::ofstream(share() / "probe") << "probe";
    std::string text;
    std::ifstream(mounted() / "probe") >> text;
    EXPECT_EQ(text, "probe");
    stdfs::remove(mounted() / "probe");
    await_forgotten();
    return fs_->seen(FUSE_READ) == 0;
  }
  // The kernel knows and has open nothing but the root.
  void await_forgotten() {
    fs_->await([this] { return inner_->known_inodes() == 1 && inner_->open_files() == 0; });
  }
  static UniqueFd open_file(const stdfs::path& path, int flags) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
    EXPECT_TRUE(fd) << path << ": " << strerror(errno);
    return fd;
  }
  static std::string content(const stdfs::path& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::uint64_t free_space() const {
    struct statfs status{};
    EXPECT_EQ(statfs(share().c_str(), &status), 0);
    return status.f_bfree * static_cast<std::uint64_t>(status.f_bsize);
  }
  stdfs::path share() const { return top_ / "share"; }
  stdfs::path mounted() const { return top_ / "mounted"; }

  stdfs::path top_;
  std::unique_ptr<PassthroughFs> inner_;
  std::optional<Counting> fs_;
  std::unique_ptr<Session> session_;
  std::thread running_;
};

TEST_F(BackingTest, ReadWriteAndMap_ComeNotToTheFileSystem) {
  ASSERT_NO_FATAL_FAILURE(start());
  if (IsSkipped()) return;
  const std::string text(300'000, 'x');
  {
    const UniqueFd made = open_file(mounted() / "file", O_RDWR | O_CREAT | O_EXCL);
    ASSERT_EQ(write(made.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(content(share() / "file"), text);
    struct stat status{};
    ASSERT_EQ(fstat(made.get(), &status), 0);
    EXPECT_EQ(status.st_size, static_cast<off_t>(text.size()));

    void* const map = mmap(nullptr, text.size(), PROT_READ | PROT_WRITE, MAP_SHARED, made.get(), 0);
    ASSERT_NE(map, MAP_FAILED);
    EXPECT_EQ(std::memcmp(map, text.data(), text.size()), 0);
    std::memset(map, 'y', 5);
    EXPECT_EQ(content(share() / "file").substr(0, 6), "yyyyyx") << "one page cache";
    EXPECT_EQ(munmap(map, text.size()), 0);
  }
  const UniqueFd appended = open_file(mounted() / "file", O_WRONLY | O_APPEND);
  ASSERT_EQ(write(appended.get(), "end", 3), 3);
  EXPECT_EQ(content(mounted() / "file"), "yyyyy" + text.substr(5) + "end");
  EXPECT_EQ(fs_->seen(FUSE_READ), 0);
  EXPECT_EQ(fs_->seen(FUSE_WRITE), 0);
}

TEST_F(BackingTest, RemovedFile_IsFreed_WhenTheLastOneClosesIt) {
  ASSERT_NO_FATAL_FAILURE(start());
  if (IsSkipped()) return;
  const std::uint64_t before = free_space();
  constexpr int kFiles = 20;
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "file" + std::to_string(i);
    const UniqueFd first = open_file(mounted() / name, O_RDWR | O_CREAT);
    const std::string text(1 << 20, 'x');
    ASSERT_EQ(write(first.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    const UniqueFd second = open_file(mounted() / name, O_RDONLY);
    stdfs::remove(mounted() / name);
    EXPECT_LE(free_space(), before - text.size());
  }
  await_forgotten();
  EXPECT_EQ(free_space(), before);
}

TEST_F(BackingTest, EndOfTheMount_LetsGoOfWhatIsOpen) {
  ASSERT_NO_FATAL_FAILURE(start());
  if (IsSkipped()) return;
  const std::uint64_t before = free_space();
  UniqueFd file = open_file(mounted() / "file", O_RDWR | O_CREAT);
  const std::string text(1 << 20, 'x');
  ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  stdfs::remove(mounted() / "file");
  stop();
  file.reset();
  EXPECT_EQ(free_space(), before);
}

// Everybody has it open with the same backing file, or open(2) would fail.
TEST_F(BackingTest, ManyOpens_OfOneFile_AtOnce) {
  ASSERT_NO_FATAL_FAILURE(start());
  if (IsSkipped()) return;
  std::ofstream(share() / "file") << "content";
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([this] {
      for (int times = 0; times < 200; ++times) {
        const UniqueFd fd = open_file(mounted() / "file", O_RDWR);
        char byte = 0;
        EXPECT_EQ(pread(fd.get(), &byte, 1, 0), 1);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(fs_->seen(FUSE_READ), 0);
}

TEST_F(BackingTest, WriteOrTruncation_ClearsSetUserId_AndCostsNoRequests) {
  Config config;
  config.xattr = true;
  ASSERT_NO_FATAL_FAILURE(start(config));
  if (IsSkipped()) return;
  std::ofstream(share() / "file") << "content";
  ASSERT_EQ(chmod((share() / "file").c_str(), 06777), 0);
  ASSERT_EQ(chmod(top_.c_str(), 0755), 0);
  const UniqueFd file = open_file(mounted() / "file", O_WRONLY);
  const auto as_user = [](const std::function<void()>& what) {
    // The capability that lets the bits stay is the thread's.
    std::thread([&] {
      setfsuid(1000);
      what();
    }).join();
  };
  const auto mode = [this] {
    struct stat status{};
    EXPECT_EQ(stat((share() / "file").c_str(), &status), 0);
    return status.st_mode & 07777;
  };
  as_user([&] { EXPECT_EQ(pwrite(file.get(), "C", 1, 0), 1); });
  EXPECT_EQ(mode(), 0777u);
  ASSERT_EQ(chmod((mounted() / "file").c_str(), 06777), 0);
  as_user([&] { open_file(mounted() / "file", O_WRONLY | O_TRUNC); });
  EXPECT_EQ(mode(), 0777u);
  // Once the kernel has seen that they are gone, it asks for a capability once.
  struct stat status{};
  ASSERT_EQ(fstat(file.get(), &status), 0);
  ASSERT_EQ(pwrite(file.get(), "C", 1, 0), 1);
  const int asked = fs_->seen(FUSE_GETXATTR);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(pwrite(file.get(), "C", 1, i), 1);
  EXPECT_EQ(fs_->seen(FUSE_GETXATTR), asked);
  EXPECT_EQ(fs_->seen(FUSE_WRITE), 0);
}

// The kernel takes no file of a file system that is stacked itself: those are read by requests, the others
// are not.
TEST_F(BackingTest, FileOfAStackedFileSystem_IsServedByRequests) {
  for (const char* name : {"lower", "upper", "work", "stacked"}) stdfs::create_directory(share() / name);
  std::ofstream(share() / "lower" / "file") << "below";
  std::ofstream(share() / "plain") << "plain";
  const std::string options = "lowerdir=" + (share() / "lower").string() +
                              ",upperdir=" + (share() / "upper").string() +
                              ",workdir=" + (share() / "work").string();
  if (::mount("stacked", (share() / "stacked").c_str(), "overlay", 0, options.c_str()) != 0)
    GTEST_SKIP() << "no overlayfs: " << strerror(errno);
  ASSERT_NO_FATAL_FAILURE(start());
  if (IsSkipped()) return;
  EXPECT_EQ(content(mounted() / "stacked" / "file"), "below");
  const int reads = fs_->seen(FUSE_READ);
  EXPECT_GT(reads, 0);
  const UniqueFd again = open_file(mounted() / "stacked" / "file", O_RDWR);
  const UniqueFd and_again = open_file(mounted() / "stacked" / "file", O_RDONLY);
  EXPECT_EQ(content(mounted() / "plain"), "plain");
  EXPECT_EQ(pwrite(again.get(), "B", 1, 0), 1);
  EXPECT_EQ(content(share() / "stacked" / "file"), "Below");
}

TEST_F(BackingTest, WritebackCache_ExcludesThem) {
  Config config;
  config.shared_directory = share();
  config.backing_files = true;
  config.writeback = true;
  EXPECT_FALSE(PassthroughFs::create(config));
}

}  // namespace
}  // namespace fusewire
