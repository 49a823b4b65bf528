// Notifications to this machine's kernel over a real mount, which one thread serves: /dev/fuse and root are
// needed, and without them the tests are skipped.
#include "devfuse/notification_channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "devfuse/mount.h"
#include "fuse/engine.h"

namespace fusewire::devfuse {
namespace {

constexpr std::size_t kMaxWrite = 128 * 1024;
constexpr NodeId kFile{2};

// A request in memory of its own, which ends with the answer.
class HeapSlot final : public Slot {
 public:
  explicit HeapSlot(const Channel& channel)
      : channel_(channel), in_(kMaxWrite + Channel::kLeastRoom), out_(kMaxWrite) {}

  Result<void> receive() {
    const auto size = channel_.read(in_);
    if (!size) return fail(size.error());
    request_piece_ = {in_.data(), *size};
    reply_piece_ = {out_.data(), out_.size()};
    request = IoVecs({&request_piece_, 1});
    reply_room = IoVecs({&reply_piece_, 1});
    can_reply = true;
    return {};
  }
  int done(RequestId unique, int error, std::size_t body_size) override {
    fuse_out_header header{.len = static_cast<std::uint32_t>(sizeof header + body_size),
                           .error = -error,
                           .unique = unique.get()};
    const iovec reply[] = {{&header, sizeof header}, {out_.data(), body_size}};
    const auto sent = channel_.write(reply);
    const int refused = sent ? 0 : sent.error().value;
    delete this;
    return refused;
  }
  void done_without_reply() override { delete this; }

 private:
  const Channel& channel_;
  std::vector<std::byte> in_, out_;
  iovec request_piece_{}, reply_piece_{};
};

// One file, "f", whose data and attributes the kernel may cache for an hour.
class OneFileFs final : public FileSystem {
 public:
  std::mutex mutex;
  std::condition_variable changed;
  std::string content = "old data";
  int lookups = 0, reads = 0, forgets = 0;
  std::uint32_t ready_events = 0;
  std::vector<fuse_poll_in> polls;
  std::function<void()> in_read, in_statfs;
  bool hold_reads = false;
  std::vector<Call<op::Read>> held;
  std::shared_ptr<Notifier> notifier;
  std::uint32_t kernel_minor = 0;

  Result<void> init(Negotiation& negotiation) override {
    negotiation.max_write = kMaxWrite;
    const std::lock_guard lock(mutex);
    notifier = negotiation.notifier();
    kernel_minor = negotiation.kernel_minor();
    changed.notify_all();
    return {};
  }
  void lookup(Call<op::Lookup> call) override {
    if (call.tail.name != "f") return std::move(call.reply).error(ENOENT);
    fuse_entry_out out{};
    {
      const std::lock_guard lock(mutex);
      ++lookups;
      out.attr = attributes(kFile);
    }
    out.nodeid = kFile.get();
    out.entry_valid = out.attr_valid = 3600;
    std::move(call.reply).ok(out);
  }
  void forget_node(NodeId, std::uint64_t) override {
    const std::lock_guard lock(mutex);
    ++forgets;
    changed.notify_all();
  }
  void getattr(Call<op::Getattr> call) override {
    fuse_attr_out out{};
    {
      const std::lock_guard lock(mutex);
      out.attr = attributes(call.header.node);
    }
    out.attr_valid = 3600;
    std::move(call.reply).ok(out);
  }
  void open(Call<op::Open> call) override {
    std::move(call.reply).ok({.fh = 1, .open_flags = FOPEN_KEEP_CACHE, .padding = 0});
  }
  void release(Call<op::Release> call) override { std::move(call.reply).ok(); }
  void flush(Call<op::Flush> call) override { std::move(call.reply).ok(); }
  void read(Call<op::Read> call) override {
    std::unique_lock lock(mutex);
    ++reads;
    if (hold_reads) {
      held.push_back(std::move(call));
      changed.notify_all();
      return;
    }
    lock.unlock();
    call_hook(in_read);
    answer(std::move(call));
  }
  void statfs(Call<op::Statfs> call) override {
    call_hook(in_statfs);
    std::move(call.reply).ok(fuse_statfs_out{});
  }
  void poll(Call<op::Poll> call) override {
    std::uint32_t revents = 0;
    {
      const std::lock_guard lock(mutex);
      polls.push_back(call.in);
      revents = ready_events;
      changed.notify_all();
    }
    std::move(call.reply).ok({.revents = revents, .padding = 0});
  }

  void answer(Call<op::Read> call) {
    std::string text;
    {
      const std::lock_guard lock(mutex);
      if (call.in.offset < content.size()) text = content.substr(call.in.offset, call.in.size);
    }
    std::move(call.reply).ok(as_bytes(text));
  }
  void set_hook(std::function<void()>& hook, std::function<void()> called) {
    const std::lock_guard lock(mutex);
    hook = std::move(called);
  }
  void await(const std::function<bool()>& condition) {
    std::unique_lock lock(mutex);
    changed.wait(lock, condition);
  }
  template <class T>
  T get(const T& field) {
    const std::lock_guard lock(mutex);
    return field;
  }

 private:
  void call_hook(const std::function<void()>& hook) {
    if (const auto called = get(hook)) called();
  }
  fuse_attr attributes(NodeId node) const {
    fuse_attr attr{};
    attr.ino = node.get();
    attr.mode = node == kFile ? S_IFREG | 0644 : S_IFDIR | 0755;
    attr.nlink = 1;
    attr.size = node == kFile ? content.size() : 0;
    attr.blksize = 4096;
    return attr;
  }
};

class DevfuseNotificationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs root and /dev/fuse";
    ASSERT_NE(mkdtemp(folder_), nullptr);
    auto made = Mount::create(folder_, {});
    ASSERT_TRUE(made) << made.error();
    made_.emplace(*std::move(made));
    notifications_.emplace(made_->channel);
    engine_.set_notification_channel(&*notifications_);
    server_ = std::thread([this] { serve(); });
    fs_.await([this] { return fs_.notifier != nullptr; });
    // It is answered, too, once the kernel answers for the root.
    struct stat status{};
    ASSERT_EQ(stat(folder_, &status), 0);
  }
  void TearDown() override {
    if (!made_) return;
    if (file_ >= 0) close(file_);
    for (auto& call : fs_.held) fs_.answer(std::move(call));
    fs_.held.clear();
    EXPECT_TRUE(made_->mount.unmount(Mount::Mode::lazy).has_value());
    server_.join();
    engine_.set_notification_channel(nullptr);
    rmdir(folder_);
  }
  void serve() {
    for (;;) {
      auto slot = std::make_unique<HeapSlot>(made_->channel);
      const auto received = slot->receive();
      if (received) {
        engine_.submit(*slot.release());
      } else if (received.error().value == EAGAIN) {
        pollfd watched{made_->channel.fd(), POLLIN, 0};
        ::poll(&watched, 1, -1);
      } else {
        break;
      }
    }
    engine_.reset();
  }

  Notifier& notifier() { return *fs_.notifier; }
  std::string path() const { return std::string(folder_) + "/f"; }
  int file() {
    if (file_ < 0) file_ = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GE(file_, 0);
    return file_;
  }
  std::string read_file() {
    std::string text(100, '\0');
    const ssize_t size = pread(file(), text.data(), text.size(), 0);
    EXPECT_GE(size, 0) << strerror(errno);
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }
  void change_content(const std::string& content) {
    const std::lock_guard lock(fs_.mutex);
    fs_.content = content;
  }
  // How many lookups a stat of the file makes.
  int lookups_of_stat() {
    const int before = fs_.get(fs_.lookups);
    struct stat status{};
    EXPECT_EQ(stat(path().c_str(), &status), 0);
    return fs_.get(fs_.lookups) - before;
  }

  char folder_[40] = "/tmp/notification_test_XXXXXX";
  OneFileFs fs_;
  Engine engine_{fs_};
  std::optional<Mount::Made> made_;
  std::optional<NotificationChannel> notifications_;
  std::thread server_;
  int file_ = -1;
};

TEST_F(DevfuseNotificationTest, InvalInode_DropsCachedData) {
  EXPECT_EQ(read_file(), "old data");
  change_content("new data");
  EXPECT_EQ(read_file(), "old data") << "cached";
  ASSERT_TRUE(notifier().inval_inode(kFile));
  EXPECT_EQ(read_file(), "new data");
  EXPECT_EQ(notifier().inval_inode(NodeId{99}), fail(ENOENT));
}

// The kernel waits for the page that this READ is for.
TEST_F(DevfuseNotificationTest, InvalInode_OfThePageThatIsRead_FromInsideTheRead_DoesNotDeadlock) {
  fs_.set_hook(fs_.in_read, [this] { EXPECT_TRUE(notifier().inval_inode(kFile)); });
  EXPECT_EQ(read_file(), "old data");
}

TEST_F(DevfuseNotificationTest, InvalEntry_AndExpireEntry_CauseALookup) {
  lookups_of_stat();
  EXPECT_EQ(lookups_of_stat(), 0) << "cached";
  ASSERT_TRUE(notifier().inval_entry(kRootNode, "f"));
  EXPECT_EQ(lookups_of_stat(), 1);
  if (fs_.kernel_minor >= 38) {
    ASSERT_TRUE(notifier().expire_entry(kRootNode, "f"));
    EXPECT_EQ(lookups_of_stat(), 1);
  }
  EXPECT_EQ(notifier().inval_entry(kRootNode, "unknown"), fail(ENOENT));
}

TEST_F(DevfuseNotificationTest, DeleteEntry_TellsWatchers) {
  lookups_of_stat();
  const UniqueFd watch(inotify_init1(IN_CLOEXEC));
  ASSERT_GE(inotify_add_watch(watch.get(), path().c_str(), IN_DELETE_SELF), 0);
  EXPECT_EQ(notifier().delete_entry(kRootNode, NodeId{77}, "f"), fail(ENOENT)) << "not this child";
  EXPECT_EQ(lookups_of_stat(), 1) << "but it was invalidated";
  ASSERT_TRUE(notifier().delete_entry(kRootNode, kFile, "f"));
  inotify_event event{};
  ASSERT_EQ(read(watch.get(), &event, sizeof event), static_cast<ssize_t>(sizeof event));
  EXPECT_NE(event.mask & IN_DELETE_SELF, 0U);
}

TEST_F(DevfuseNotificationTest, Store_FillsTheCache_AndRetrieveBringsItBack) {
  const std::string text = "stored in the cache";
  change_content(std::string(text.size(), '-'));
  file();
  ASSERT_TRUE(notifier().store(kFile, 0, as_bytes(text)));
  EXPECT_EQ(read_file(), text);
  EXPECT_EQ(fs_.get(fs_.reads), 0);

  std::promise<std::string> retrieved;
  ASSERT_TRUE(notifier().retrieve(kFile, 7, 100, [&](Result<Retrieved> result) {
    if (!result) return retrieved.set_value(to_string(result.error()));
    EXPECT_EQ(result->node, kFile);
    EXPECT_EQ(result->offset, 7U);
    std::vector<std::byte> bytes(result->data.size());
    result->data.copy_to(bytes);
    retrieved.set_value(std::string(as_text(bytes)));
  }));
  EXPECT_EQ(retrieved.get_future().get(), text.substr(7));
  EXPECT_EQ(notifier().store(NodeId{99}, 0, as_bytes(text)), fail(ENOENT));
  EXPECT_EQ(notifier().retrieve(NodeId{99}, 0, 1, [](Result<Retrieved>) { ADD_FAILURE(); }), fail(ENOENT));
}

TEST_F(DevfuseNotificationTest, IncEpoch_CausesALookup) {
  lookups_of_stat();
  if (fs_.kernel_minor < 44) {
    EXPECT_EQ(notifier().inc_epoch(), fail(ENOSYS));
    return;
  }
  EXPECT_EQ(lookups_of_stat(), 0);
  ASSERT_TRUE(notifier().inc_epoch());
  EXPECT_EQ(lookups_of_stat(), 1);
}

TEST_F(DevfuseNotificationTest, Prune_CausesAForget) {
  lookups_of_stat();
  const NodeId nodes[] = {kFile};
  if (fs_.kernel_minor < 45) {
    EXPECT_EQ(notifier().prune(nodes), fail(ENOSYS));
    return;
  }
  ASSERT_TRUE(notifier().prune(nodes));
  fs_.await([this] { return fs_.forgets > 0; });
  EXPECT_EQ(lookups_of_stat(), 1);
}

TEST_F(DevfuseNotificationTest, Resend_BringsTheUnansweredRequestAgain) {
  if (fs_.kernel_minor < 40) {
    EXPECT_EQ(notifier().resend(), fail(ENOSYS));
    return;
  }
  file();
  {
    const std::lock_guard lock(fs_.mutex);
    fs_.hold_reads = true;
  }
  auto text = std::async(std::launch::async, [this] { return read_file(); });
  fs_.await([this] { return fs_.held.size() == 1; });
  ASSERT_TRUE(notifier().resend());
  fs_.await([this] { return fs_.held.size() == 2; });
  std::vector<Call<op::Read>> held;
  {
    const std::lock_guard lock(fs_.mutex);
    held.swap(fs_.held);
    fs_.hold_reads = false;
  }
  EXPECT_EQ(held[1].header.unique.get(), held[0].header.unique.get() | kUniqueResend);
  EXPECT_EQ(RawReply(std::move(held[0].reply)).error_code(EIO), ENOENT) << "no longer waited for";
  fs_.answer(std::move(held[1]));
  EXPECT_EQ(text.get(), "old data");
}

class DevfusePollTest : public DevfuseNotificationTest {
 protected:
  // poll(2) of the file by another thread.
  std::future<short> start_poll() {
    return std::async(std::launch::async, [fd = file()] {
      pollfd watched{fd, POLLIN, 0};
      return ::poll(&watched, 1, -1) == 1 ? watched.revents : short{0};
    });
  }
  void become_ready() {
    const std::lock_guard lock(fs_.mutex);
    fs_.ready_events = POLLIN;
  }
};

TEST_F(DevfusePollTest, PollWakeup_EndsAPoll) {
  auto revents = start_poll();
  fs_.await([this] { return !fs_.polls.empty(); });
  const fuse_poll_in asked = fs_.get(fs_.polls).front();
  EXPECT_EQ(asked.flags, static_cast<std::uint32_t>(FUSE_POLL_SCHEDULE_NOTIFY));
  EXPECT_NE(asked.events & POLLIN, 0U);
  // Woken while it is not ready, it asks again and goes on waiting.
  const std::size_t before = fs_.get(fs_.polls).size();
  ASSERT_TRUE(notifier().poll_wakeup(asked.kh));
  fs_.await([&] { return fs_.polls.size() > before; });
  become_ready();
  ASSERT_TRUE(notifier().poll_wakeup(asked.kh));
  EXPECT_EQ(revents.get(), POLLIN);
  EXPECT_TRUE(notifier().poll_wakeup(~asked.kh)) << "an unknown handle is no error";
}

TEST_F(DevfusePollTest, PollWakeup_FromInsideAnotherMethod_EndsAPoll) {
  auto revents = start_poll();
  fs_.await([this] { return !fs_.polls.empty(); });
  fs_.set_hook(fs_.in_statfs, [this, kh = fs_.get(fs_.polls).front().kh] {
    become_ready();
    EXPECT_TRUE(notifier().poll_wakeup(kh));
  });
  struct statfs status{};
  ASSERT_EQ(statfs(folder_, &status), 0);
  EXPECT_EQ(revents.get(), POLLIN);
}

TEST_F(DevfuseNotificationTest, AfterUnmount_IsEnotconn) {
  file();
  close(std::exchange(file_, -1));
  ASSERT_TRUE(made_->mount.unmount(Mount::Mode::lazy).has_value());
  server_.join();
  server_ = std::thread([] {});
  EXPECT_EQ(notifier().inval_inode(kFile), fail(ENOTCONN));
}

}  // namespace
}  // namespace fusewire::devfuse
