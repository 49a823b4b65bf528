// FUSE over io_uring on real mounts. Skipped where nothing can be mounted, or the kernel has none.
#include "devfuse/uring_channel.h"

#include <sys/ioctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "devfuse/server_fixture_test.h"

namespace fusewire::devfuse {
namespace {

// Answers IOCTL with its own data turned round, and keeps one extended attribute. Its users run on all
// processors; the thread of an answer may be another one than the queue's.
class EchoFs final : public FileSystem {
 public:
  explicit EchoFs(FileSystem& names) : names_(names) {}
  ~EchoFs() override {
    for (auto& thread : threads_) thread.join();
  }

  Result<void> init(Negotiation& negotiation) override {
    over_io_uring = negotiation.offered(Cap::over_io_uring);
    return {};
  }
  void lookup(Call<op::Lookup> call) override { names_.lookup(std::move(call)); }
  void getattr(Call<op::Getattr> call) override { names_.getattr(std::move(call)); }
  void open(Call<op::Open> call) override { std::move(call.reply).ok(fuse_open_out{}); }
  void release(Call<op::Release> call) override { std::move(call.reply).ok(); }
  void flush(Call<op::Flush> call) override { std::move(call.reply).ok(); }
  void setxattr(Call<op::Setxattr> call) override {
    const std::lock_guard lock(mutex_);
    value_.assign(call.tail.value.begin(), call.tail.value.end());
    std::move(call.reply).ok();
  }
  void getxattr(Call<op::Getxattr> call) override {
    // By another thread, and after the callback.
    const std::lock_guard lock(mutex_);
    threads_.emplace_back([this, kept = std::make_shared<Call<op::Getxattr>>(std::move(call))] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const std::lock_guard locked(mutex_);
      if (kept->in.size == 0) return std::move(kept->reply).size(static_cast<std::uint32_t>(value_.size()));
      std::move(kept->reply).ok(value_);
    });
  }
  void ioctl(Call<op::Ioctl> call) override {
    std::vector<std::byte> data(call.in.in_size);
    IoVecs request = call.tail.data;
    // The answer is begun before the request is read to its end.
    request.take_front(std::span(data).first(data.size() / 2));
    request.take_front(std::span(data).subspan(data.size() / 2));
    std::ranges::reverse(data);
    std::move(call.reply).ok(static_cast<std::int32_t>(data.size()), data);
  }

  std::atomic<bool> over_io_uring{false};

 private:
  FileSystem& names_;
  std::mutex mutex_;
  std::vector<std::byte> value_;
  std::vector<std::thread> threads_;
};

class UringChannelTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    if (!io_uring_offered()) GTEST_SKIP() << "this kernel has no FUSE over io_uring";
  }
  EchoFs echo_{fs_};
};

TEST_F(UringChannelTest, RequestsAndAnswersOfAllShapes_Arrive) {
  serve(echo_, {.io_uring = true, .io_uring_queue_depth = 2});
  if (IsSkipped()) return;
  const std::string value(60000, 'v');
  ASSERT_EQ(setxattr(path("data").c_str(), "user.name", value.data(), value.size(), 0), 0) << errno;
  EXPECT_TRUE(echo_.over_io_uring);
  // More at once than a queue has entries.
  std::vector<std::thread> users;
  for (int user = 0; user < 8; ++user)
    users.emplace_back([&] {
      std::string got(value.size(), '\0');
      for (int round = 0; round < 20; ++round) {
        EXPECT_EQ(getxattr(path("data").c_str(), "user.name", got.data(), got.size()),
                  static_cast<ssize_t>(value.size()));
        EXPECT_TRUE(got == value);
      }
    });
  for (auto& user : users) user.join();
  const UniqueFd file(::open(path("data").c_str(), O_RDWR | O_CLOEXEC));
  std::array<char, 2048> data{};
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i % 127);
  std::array<char, 2048> wanted = data;
  std::ranges::reverse(wanted);
  EXPECT_EQ(::ioctl(file.get(), _IOWR('t', 1, decltype(data)), data.data()), 2048) << errno;
  EXPECT_EQ(data, wanted);
}

TEST_F(UringChannelTest, KernelThatDoesNotOfferIt_IsServedByReading) {
  lock_uring_switch(LOCK_EX);
  ASSERT_TRUE(std::ofstream(kUringSwitch) << "N" << std::flush);
  serve(echo_, {.io_uring = true});
  if (IsSkipped()) return;
  EXPECT_EQ(read_attributes("data"), 0);
  EXPECT_FALSE(echo_.over_io_uring);
  EXPECT_TRUE(io_uring_offered());
}

TEST_F(UringChannelTest, ServerWithoutIt_IsNotOfferedIt) {
  serve(echo_, {});
  if (IsSkipped()) return;
  EXPECT_EQ(read_attributes("data"), 0);
  EXPECT_FALSE(echo_.over_io_uring);
}

TEST_F(UringChannelTest, OtherUsers_AreTurnedAway) {
  MountOptions options;
  options.allow_root = true;
  serve(echo_, {.only_user = 4711, .io_uring = true}, options);
  if (IsSkipped()) return;
  EXPECT_EQ(read_attributes("data"), 0);  // root
  const pid_t child = fork();
  if (child == 0) {
    struct stat status{};
    const bool refused =
        setresuid(4712, 4712, 4712) == 0 && stat(path("none").c_str(), &status) != 0 && errno == EACCES;
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(UringChannelTest, ServerThatStopsAndGoesOn_LosesNothing) {
  engine_.emplace(fs_);
  auto made = Mount::create(folder_, MountOptions{});
  if (!made) GTEST_SKIP() << made.error();
  mount_.emplace(std::move(made->mount));
  auto server = Server::create(*engine_, std::move(made->channel), {.io_uring = true, .resumable = true});
  ASSERT_TRUE(server);
  std::atomic<bool> enough{false};
  std::vector<std::thread> users;
  for (int user = 0; user < 3; ++user)
    users.emplace_back([&] {
      while (!enough) EXPECT_EQ(read_all("data", std::size_t{1} << 17).size(), kFileSize);
    });
  for (int round = 0; round < 20; ++round) {
    std::thread running([&] { EXPECT_EQ((*server)->run(), Server::Ending::stopped); });
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    (*server)->stop();
    running.join();
    (*server)->resume();
  }
  std::thread running([&] { EXPECT_EQ((*server)->run(), Server::Ending::unmounted); });
  enough = true;
  for (auto& user : users) user.join();
  EXPECT_TRUE(mount_->unmount(Mount::Mode::clean));
  running.join();
  server->reset();
}

// INIT has been answered, but who asks for something waits for run(), or for the end.
TEST_F(UringChannelTest, ServerWithoutARun_EndsWhatWaitsForIt) {
  engine_.emplace(fs_);
  auto channel = Channel::open();
  ASSERT_TRUE(channel);
  auto server = Server::create(*engine_, std::move(*channel), {.io_uring = true, .grace = {}});
  ASSERT_TRUE(server);
  auto made =
      Mount::create_for((*server)->channel(), folder_, MountOptions{}, [&] { (*server)->serve_init(); });
  if (!made) GTEST_SKIP() << made.error();
  mount_.emplace(std::move(*made));
  if (!engine_->initialized()) GTEST_SKIP() << "this kernel's mount(2) does not wait for INIT";
  EXPECT_TRUE(engine_->over_io_uring());
  std::thread reader([this] { EXPECT_EQ(::open(path("kept").c_str(), O_RDONLY | O_CLOEXEC), -1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // most likely it waits by now
  server->reset();
  reader.join();
  EXPECT_TRUE(fs_.take_kept().empty());
}

TEST_F(UringChannelTest, Load_EndsByAbortWithoutAHang) {
  start({.io_uring = true});
  if (IsSkipped()) return;
  std::atomic<int> failed{0};
  std::vector<std::thread> users;
  for (int user = 0; user < 4; ++user)
    users.emplace_back([&] {
      const UniqueFd file(::open(path("data").c_str(), O_RDONLY | O_CLOEXEC));
      std::vector<char> buffer(70000);
      while (pread(file.get(), buffer.data(), buffer.size(), 0) > 0) {
      }
      ++failed;
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  abort_connection();
  EXPECT_EQ(await_end(), Server::Ending::aborted);
  for (auto& user : users) user.join();
  EXPECT_EQ(failed, 4);
}

}  // namespace
}  // namespace fusewire::devfuse
