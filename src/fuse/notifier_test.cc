// Notifications from the Notifier to the channel's bytes, and retrieved data on its way back.
#include "fusewire/notifier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>

#include "fuse/testing/harness.h"

namespace fusewire {
namespace {

using testing::Harness;
using testing::Request;
using Bytes = std::vector<std::byte>;

// Keeps what is sent, for the test to look at.
class RecordingChannel final : public NotificationChannel {
 public:
  std::size_t limit = 1 << 20;
  std::function<Result<void>()> verdict = [] { return Result<void>(); };

  std::size_t max_size() const override { return limit; }
  Result<void> send(std::span<const iovec> message) override {
    Bytes bytes;
    for (const iovec& piece : message) {
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      bytes.insert(bytes.end(), from, from + piece.iov_len);
    }
    {
      const std::lock_guard lock(mutex_);
      sent_.push_back(std::move(bytes));
      by_.push_back(std::this_thread::get_id());
      changed_.notify_all();
    }
    return verdict();
  }
  // The oldest message that was not taken yet, waited for.
  Bytes take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !sent_.empty(); });
    Bytes bytes = std::move(sent_.front());
    sent_.pop_front();
    last_by_ = by_.front();
    by_.pop_front();
    return bytes;
  }
  std::size_t waiting() {
    const std::lock_guard lock(mutex_);
    return sent_.size();
  }
  std::thread::id last_by() const { return last_by_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Bytes> sent_;
  std::deque<std::thread::id> by_;
  std::thread::id last_by_;
};

class NotifyingFs final : public FileSystem {
 public:
  std::shared_ptr<Notifier> notifier;
  std::function<void(Notifier&)> in_init, in_access;
  std::function<void()> in_destroy;
  int init_error = 0;

  Result<void> init(Negotiation& negotiation) override {
    notifier = negotiation.notifier();
    if (in_init) in_init(*notifier);
    if (init_error != 0) return fail(init_error);
    return {};
  }
  void destroy() override {
    if (in_destroy) in_destroy();
  }
  void access(Call<op::Access> call) override {
    if (in_access) in_access(*notifier);
    std::move(call.reply).ok();
  }
};

class NotifierTest : public ::testing::Test {
 protected:
  NotifierTest() { kernel_.engine().set_notification_channel(&channel_); }

  template <class Arguments>
  static Bytes message(std::uint32_t code, const Arguments& arguments, std::string_view rest = {}) {
    Bytes bytes(sizeof(fuse_out_header));
    const auto add = [&bytes](std::span<const std::byte> more) {
      bytes.insert(bytes.end(), more.begin(), more.end());
    };
    if constexpr (!std::is_empty_v<Arguments>) add(bytes_of(arguments));
    add(as_bytes(rest));
    const fuse_out_header header{.len = static_cast<std::uint32_t>(bytes.size()),
                                 .error = static_cast<std::int32_t>(code),
                                 .unique = 0};
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
  }
  static fuse_notify_retrieve_out retrieve_in(const Bytes& sent) {
    fuse_notify_retrieve_out out{};
    EXPECT_EQ(sent.size(), sizeof(fuse_out_header) + sizeof out);
    std::memcpy(&out, sent.data() + sizeof(fuse_out_header), sizeof out);
    return out;
  }
  // The kernel's answer to a retrieve.
  static Request notify_reply(std::uint64_t unique, std::uint64_t offset, std::string_view data) {
    return Request(FUSE_NOTIFY_REPLY)
        .unique(unique)
        .arg(fuse_notify_retrieve_in{.dummy1 = 0,
                                     .offset = offset,
                                     .size = static_cast<std::uint32_t>(data.size()),
                                     .dummy2 = 0,
                                     .dummy3 = 0,
                                     .dummy4 = 0})
        .bytes(as_bytes(data));
  }
  // What a callback got: the text, or the errno.
  struct Got {
    int calls = 0;
    int error = 0;
    std::string text;
  };
  static Notifier::RetrieveCallback into(Got& got) {
    return [&got](Result<Retrieved> result) {
      ++got.calls;
      if (!result) {
        got.error = result.error().value;
        return;
      }
      Bytes bytes(result->data.size());
      result->data.copy_to(bytes);
      got.text = as_text(bytes);
    };
  }
  testing::Answer send_access() { return kernel_.send(Request(FUSE_ACCESS).arg(fuse_access_in{})); }

  RecordingChannel channel_;
  NotifyingFs fs_;
  Harness kernel_{fs_};
};

TEST_F(NotifierTest, EveryKind_HasTheKernelsBytes) {
  kernel_.init();
  Notifier& notifier = *fs_.notifier;
  const NodeId parent{7}, child{9};
  EXPECT_TRUE(notifier.poll_wakeup(0x1234));
  EXPECT_EQ(channel_.take(), message(1, fuse_notify_poll_wakeup_out{.kh = 0x1234}));
  EXPECT_TRUE(notifier.inval_inode(child, -1, 0));
  EXPECT_EQ(channel_.take(), message(2, fuse_notify_inval_inode_out{.ino = 9, .off = -1, .len = 0}));
  EXPECT_TRUE(notifier.inval_entry(parent, "name"));
  EXPECT_EQ(channel_.take(), message(3, fuse_notify_inval_entry_out{.parent = 7, .namelen = 4, .flags = 0},
                                     std::string_view("name\0", 5)));
  EXPECT_TRUE(notifier.expire_entry(parent, "n"));
  EXPECT_EQ(channel_.take(), message(3, fuse_notify_inval_entry_out{.parent = 7, .namelen = 1, .flags = 1},
                                     std::string_view("n\0", 2)));
  EXPECT_TRUE(notifier.delete_entry(parent, child, "gone"));
  EXPECT_EQ(channel_.take(),
            message(6, fuse_notify_delete_out{.parent = 7, .child = 9, .namelen = 4, .padding = 0},
                    std::string_view("gone\0", 5)));
  EXPECT_TRUE(notifier.store(child, 4096, as_bytes("data")));
  EXPECT_EQ(channel_.take(),
            message(4, fuse_notify_store_out{.nodeid = 9, .offset = 4096, .size = 4, .padding = 0}, "data"));
  EXPECT_TRUE(notifier.resend());
  EXPECT_EQ(channel_.take(), message(7, NoArgs{}));
  EXPECT_TRUE(notifier.inc_epoch());
  EXPECT_EQ(channel_.take(), message(8, NoArgs{}));
  const NodeId nodes[] = {parent, child};
  EXPECT_TRUE(notifier.prune(nodes));
  struct {
    NotifyPruneOut out{.count = 2, .padding = 0, .spare = 0};
    std::uint64_t nodes[2]{7, 9};
  } prune;
  EXPECT_EQ(channel_.take(), message(9, prune));
}

TEST_F(NotifierTest, Store_OfMorePiecesThanASystemCallTakes_IsOneMessage) {
  kernel_.init();
  std::string text(3000, 'x');
  std::vector<iovec> pieces;
  for (char& c : text) pieces.push_back({&c, 1});
  ASSERT_TRUE(fs_.notifier->store(NodeId{2}, 0, pieces));
  EXPECT_EQ(channel_.take(),
            message(4, fuse_notify_store_out{.nodeid = 2, .offset = 0, .size = 3000, .padding = 0}, text));
}

TEST_F(NotifierTest, BadArguments_AreRefusedAndNothingIsSent) {
  kernel_.init();
  Notifier& notifier = *fs_.notifier;
  const NodeId node{2}, none{0};
  for (const std::string_view name : {std::string_view(""), std::string_view("."), std::string_view(".."),
                                      std::string_view("a/b"), std::string_view("a\0b", 3)}) {
    EXPECT_EQ(notifier.inval_entry(node, name), fail(EINVAL)) << name;
    EXPECT_EQ(notifier.expire_entry(node, name), fail(EINVAL)) << name;
    EXPECT_EQ(notifier.delete_entry(node, node, name), fail(EINVAL)) << name;
  }
  EXPECT_EQ(notifier.inval_entry(node, std::string(1025, 'n')), fail(ENAMETOOLONG));
  EXPECT_EQ(notifier.inval_inode(none), fail(EINVAL));
  EXPECT_EQ(notifier.inval_entry(none, "n"), fail(EINVAL));
  EXPECT_EQ(notifier.expire_entry(none, "n"), fail(EINVAL));
  EXPECT_EQ(notifier.delete_entry(none, node, "n"), fail(EINVAL));
  EXPECT_EQ(notifier.delete_entry(node, none, "n"), fail(EINVAL));
  EXPECT_EQ(notifier.inval_inode(node, 2, INT64_MAX - 1), fail(EINVAL));
  EXPECT_EQ(notifier.store(none, 0, as_bytes("x")), fail(EINVAL));
  EXPECT_EQ(notifier.store(node, INT64_MAX, as_bytes("x")), fail(EINVAL));
  Got got;
  EXPECT_EQ(notifier.retrieve(none, 0, 1, into(got)), fail(EINVAL));
  EXPECT_EQ(notifier.retrieve(node, INT64_MAX, 1, into(got)), fail(EINVAL));
  channel_.limit = 99;
  EXPECT_EQ(notifier.store(node, 0, Bytes(60)), fail(EMSGSIZE));
  EXPECT_EQ(channel_.waiting(), 0U);
  EXPECT_EQ(got.calls, 0);
  EXPECT_TRUE(notifier.store(node, 0, Bytes(59)));
  EXPECT_TRUE(notifier.inval_inode(node, 2, INT64_MAX - 2));
}

TEST_F(NotifierTest, LongestName_IsSent) {
  kernel_.init();
  const std::string name(1024, 'n');
  EXPECT_TRUE(fs_.notifier->inval_entry(NodeId{1}, name));
  EXPECT_EQ(channel_.take(), message(3, fuse_notify_inval_entry_out{.parent = 1, .namelen = 1024, .flags = 0},
                                     name + std::string(1, '\0')));
}

TEST_F(NotifierTest, WhatTheKernelIsTooOldFor_IsEnosys) {
  kernel_.init(static_cast<std::uint64_t>(Cap::init_ext), 43);
  EXPECT_EQ(fs_.notifier->expire_entry(NodeId{1}, "n"), fail(ENOSYS));
  EXPECT_EQ(fs_.notifier->resend(), fail(ENOSYS));
  EXPECT_EQ(fs_.notifier->inc_epoch(), fail(ENOSYS));
  EXPECT_EQ(fs_.notifier->prune({}), fail(ENOSYS));
  kernel_.init(Harness::kAllCaps, 44);
  EXPECT_TRUE(fs_.notifier->inc_epoch());
  EXPECT_EQ(fs_.notifier->prune({}), fail(ENOSYS));
}

TEST_F(NotifierTest, WithoutAChannel_IsEnosys_InsideAMethodToo) {
  kernel_.engine().set_notification_channel(nullptr);
  Result<void> inside;
  fs_.in_access = [&](Notifier& notifier) { inside = notifier.inval_inode(NodeId{1}); };
  kernel_.init();
  EXPECT_EQ(send_access().error, 0);
  EXPECT_EQ(inside, fail(ENOSYS));
  EXPECT_EQ(fs_.notifier->inval_inode(NodeId{1}), fail(ENOSYS));
}

TEST_F(NotifierTest, OutsideAMethod_GivesTheKernelsVerdict_OnTheCallersThread) {
  kernel_.init();
  channel_.verdict = [] { return Result<void>(fail(ENOENT)); };
  EXPECT_EQ(fs_.notifier->inval_inode(NodeId{44}), fail(ENOENT));
  channel_.take();
  EXPECT_EQ(channel_.last_by(), std::this_thread::get_id());
}

// The kernel's verdict waits for the method that the notification is sent from.
TEST_F(NotifierTest, InsideAMethod_DoesNotWaitForTheKernel) {
  std::promise<void> answered;
  channel_.verdict = [done = answered.get_future().share()] {
    done.wait();
    return Result<void>();
  };
  Result<void> inside = fail(EIO);
  fs_.in_access = [&](Notifier& notifier) {
    inside = notifier.inval_inode(NodeId{1});
    EXPECT_TRUE(notifier.inval_inode(NodeId{2}));
  };
  kernel_.init();
  EXPECT_EQ(send_access().error, 0);
  EXPECT_TRUE(inside);
  answered.set_value();
  for (const std::uint64_t node : {1U, 2U}) {
    EXPECT_EQ(channel_.take(), message(2, fuse_notify_inval_inode_out{.ino = node, .off = 0, .len = 0}));
    EXPECT_NE(channel_.last_by(), std::this_thread::get_id());
  }
}

TEST_F(NotifierTest, InsideAMethod_TheQueueIsBounded) {
  std::promise<void> first_may_go;
  channel_.verdict = [may_go = first_may_go.get_future().share()] {
    may_go.wait();
    return Result<void>();
  };
  std::size_t queued = 0;
  Result<void> last;
  fs_.in_access = [&](Notifier& notifier) {
    while (queued <= Notifier::kMaxQueued + 1 && (last = notifier.poll_wakeup(queued))) ++queued;
  };
  kernel_.init();
  send_access();
  EXPECT_EQ(last, fail(EAGAIN));
  // The thread may have taken the first meanwhile.
  EXPECT_GE(queued, Notifier::kMaxQueued);
  EXPECT_LE(queued, Notifier::kMaxQueued + 1);
  first_may_go.set_value();
  for (std::size_t i = 0; i < queued; ++i)
    ASSERT_EQ(channel_.take(), message(1, fuse_notify_poll_wakeup_out{.kh = i}));
}

TEST_F(NotifierTest, InsideAMethod_TheQueuedBytesAreBounded) {
  std::promise<void> first_may_go;
  channel_.limit = Notifier::kMaxQueuedBytes;
  channel_.verdict = [may_go = first_may_go.get_future().share()] {
    may_go.wait();
    return Result<void>();
  };
  std::vector<int> errors;
  fs_.in_access = [&](Notifier& notifier) {
    const Bytes data(Notifier::kMaxQueuedBytes / 3);
    for (int i = 0; i < 5; ++i) {
      const auto stored = notifier.store(NodeId{1}, 0, data);
      errors.push_back(stored ? 0 : stored.error().value);
    }
  };
  kernel_.init();
  send_access();
  first_may_go.set_value();
  EXPECT_EQ(errors.front(), 0);
  EXPECT_EQ(errors.back(), EAGAIN);
}

TEST_F(NotifierTest, InsideInit_IsSentOnceInitIsAnswered) {
  fs_.in_init = [](Notifier& notifier) {
    EXPECT_TRUE(notifier.inval_inode(NodeId{5}));
    std::thread([&notifier] { EXPECT_TRUE(notifier.inval_inode(NodeId{6})); }).join();
  };
  kernel_.init();
  EXPECT_EQ(channel_.take(), message(2, fuse_notify_inval_inode_out{.ino = 5, .off = 0, .len = 0}));
  EXPECT_EQ(channel_.take(), message(2, fuse_notify_inval_inode_out{.ino = 6, .off = 0, .len = 0}));
}

TEST_F(NotifierTest, InsideAnInitThatFails_IsDropped) {
  fs_.init_error = EPERM;
  fs_.in_init = [](Notifier& notifier) { EXPECT_TRUE(notifier.inval_inode(NodeId{5})); };
  EXPECT_EQ(kernel_.init().error, EPERM);
  EXPECT_EQ(fs_.notifier->inval_inode(NodeId{5}), fail(ENOTCONN));
  fs_.init_error = 0;
  fs_.in_init = [](Notifier& notifier) { EXPECT_TRUE(notifier.inval_inode(NodeId{6})); };
  kernel_.init();
  EXPECT_EQ(channel_.take(), message(2, fuse_notify_inval_inode_out{.ino = 6, .off = 0, .len = 0}));
}

TEST_F(NotifierTest, AfterTheKernelWent_IsEnotconn_AndAnotherKernelHasItsOwn) {
  kernel_.init();
  const auto first = fs_.notifier;
  kernel_.init();  // a reboot
  EXPECT_EQ(first->inval_inode(NodeId{1}), fail(ENOTCONN));
  EXPECT_TRUE(fs_.notifier->inval_inode(NodeId{1}));
  kernel_.send(Request(FUSE_DESTROY));
  EXPECT_EQ(fs_.notifier->inval_inode(NodeId{1}), fail(ENOTCONN));
  Got got;
  EXPECT_EQ(fs_.notifier->retrieve(NodeId{1}, 0, 1, into(got)), fail(ENOTCONN));
  EXPECT_EQ(got.calls, 0);
}

TEST(NotifierAlone, OutlivesItsEngine) {
  NotifyingFs fs;
  RecordingChannel channel;
  {
    Harness kernel(fs);
    kernel.engine().set_notification_channel(&channel);
    fs.in_access = [](Notifier& notifier) { EXPECT_TRUE(notifier.inval_inode(NodeId{1})); };
    kernel.init();
    kernel.send(Request(FUSE_ACCESS).arg(fuse_access_in{}));
  }
  EXPECT_EQ(fs.notifier->inval_inode(NodeId{1}), fail(ENOTCONN));
}

TEST_F(NotifierTest, SetChannel_WaitsForTheSendsUnderWay) {
  kernel_.init();
  std::promise<void> inside, may_go;
  std::atomic<bool> returned{false};
  channel_.verdict = [&] {
    inside.set_value();
    may_go.get_future().wait();
    returned = true;
    return Result<void>();
  };
  std::thread sender([&] { EXPECT_TRUE(fs_.notifier->inval_inode(NodeId{1})); });
  inside.get_future().wait();
  std::thread release([&] { may_go.set_value(); });
  kernel_.engine().set_notification_channel(nullptr);
  EXPECT_TRUE(returned);
  sender.join();
  release.join();
}

TEST_F(NotifierTest, Retrieve_BringsTheData_Once) {
  kernel_.init();
  Got got;
  ASSERT_TRUE(fs_.notifier->retrieve(NodeId{3}, 100, 10, into(got)));
  const auto asked = retrieve_in(channel_.take());
  EXPECT_EQ(asked.nodeid, 3U);
  EXPECT_EQ(asked.offset, 100U);
  EXPECT_EQ(asked.size, 10U);
  EXPECT_FALSE(kernel_.send(notify_reply(asked.notify_unique + 1, 100, "stray")).replied);
  EXPECT_EQ(got.calls, 0);
  EXPECT_FALSE(kernel_.send(notify_reply(asked.notify_unique, 100, "cached").pieces(7)).replied);
  EXPECT_EQ(got.calls, 1);
  EXPECT_EQ(got.text, "cached");
  kernel_.send(notify_reply(asked.notify_unique, 100, "again"));
  EXPECT_EQ(got.calls, 1);
}

TEST_F(NotifierTest, Retrieve_InsideAMethod_WhoseMessageFails_TellsTheCallback) {
  channel_.verdict = [] { return Result<void>(fail(ENOENT)); };
  std::promise<int> error;
  fs_.in_access = [&](Notifier& notifier) {
    EXPECT_TRUE(notifier.retrieve(NodeId{3}, 0, 10, [&](Result<Retrieved> result) {
      error.set_value(result ? 0 : result.error().value);
    }));
  };
  kernel_.init();
  send_access();
  EXPECT_EQ(error.get_future().get(), ENOENT);
}

TEST_F(NotifierTest, Retrieve_WhoseMessageFails_ReturnsThatAndForgetsTheCallback) {
  kernel_.init();
  channel_.verdict = [] { return Result<void>(fail(ENOENT)); };
  Got got;
  EXPECT_EQ(fs_.notifier->retrieve(NodeId{3}, 0, 10, into(got)), fail(ENOENT));
  kernel_.send(notify_reply(retrieve_in(channel_.take()).notify_unique, 0, "x"));
  EXPECT_EQ(got.calls, 0);
}

TEST_F(NotifierTest, Retrieve_MalformedAnswers_AreEproto) {
  kernel_.init();
  const auto answered = [&](const std::function<Request(std::uint64_t)>& reply) {
    Got got;
    EXPECT_TRUE(fs_.notifier->retrieve(NodeId{3}, 8, 4, into(got)));
    EXPECT_FALSE(kernel_.send(reply(retrieve_in(channel_.take()).notify_unique)).replied);
    EXPECT_EQ(got.calls, 1);
    return got.error;
  };
  EXPECT_EQ(answered([](std::uint64_t id) { return notify_reply(id, 8, "12345"); }), EPROTO);
  EXPECT_EQ(answered([](std::uint64_t id) { return notify_reply(id, 9, "1"); }), EPROTO);
  EXPECT_EQ(answered([](std::uint64_t id) { return Request(FUSE_NOTIFY_REPLY).unique(id); }), EPROTO);
  EXPECT_EQ(answered([](std::uint64_t id) {
              return Request(FUSE_NOTIFY_REPLY)
                  .unique(id)
                  .arg(fuse_notify_retrieve_in{
                      .dummy1 = 0, .offset = 8, .size = 4, .dummy2 = 0, .dummy3 = 0, .dummy4 = 0})
                  .bytes(as_bytes("123"));
            }),
            EPROTO);
  EXPECT_EQ(answered([](std::uint64_t id) { return notify_reply(id, 8, ""); }), 0);
}

TEST_F(NotifierTest, Retrieves_AreBounded_AndTheKernelsEndEndsThem) {
  kernel_.init();
  std::vector<Got> got(Notifier::kMaxRetrieves + 1);
  for (std::size_t i = 0; i < Notifier::kMaxRetrieves; ++i)
    ASSERT_TRUE(fs_.notifier->retrieve(NodeId{3}, 0, 1, into(got[i])));
  EXPECT_EQ(fs_.notifier->retrieve(NodeId{3}, 0, 1, into(got.back())), fail(EAGAIN));
  // One answer makes room for one more.
  kernel_.send(notify_reply(retrieve_in(channel_.take()).notify_unique, 0, "a"));
  ASSERT_TRUE(fs_.notifier->retrieve(NodeId{3}, 0, 1, into(got.back())));
  fs_.in_destroy = [&] { EXPECT_EQ(got.back().error, ENOTCONN) << "told before destroy()"; };
  kernel_.send(Request(FUSE_DESTROY));
  EXPECT_EQ(got.front().text, "a");
  for (std::size_t i = 1; i < got.size(); ++i) {
    EXPECT_EQ(got[i].calls, 1);
    EXPECT_EQ(got[i].error, ENOTCONN);
  }
}

}  // namespace
}  // namespace fusewire
