#include "fuse/engine.h"

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <optional>
#include <thread>

#include "fuse/testing/harness.h"

namespace fusewire {
namespace {

using testing::Answer;
using testing::Harness;
using testing::MemorySlot;
using testing::Request;

// Keeps GETATTR unanswered until told, to see what the engine does with a request in flight.
class HoldingFs : public FileSystem {
 public:
  int inits = 0, destroys = 0, forgets = 0;
  std::optional<ReplyAttr> held;
  bool throw_bad_alloc = false;
  Cap required = Cap::async_read;
  std::function<void(InterruptReason)> handler;

  Result<void> init(Negotiation& negotiation) override {
    ++inits;
    negotiation.require(required, "--an-option");
    return {};
  }
  void destroy() override { ++destroys; }
  void getattr(Call<op::Getattr> call) override {
    if (handler) call.reply.set_interrupt_handler(handler);
    held.emplace(std::move(call.reply));
  }
  void forget_node(NodeId, std::uint64_t) override { ++forgets; }
  void unlink(Call<op::Unlink>) override {
    if (throw_bad_alloc) throw std::bad_alloc();
    // The call is dropped unanswered.
  }
  void access(Call<op::Access> call) override { std::move(call.reply).ok(); }
  void rmdir(Call<op::Rmdir> call) override { std::move(call.reply).error(4711); }
  void fsync(Call<op::Fsync> call) override {
    auto& reply = call.reply;
    std::move(reply).ok();
    // NOLINTBEGIN(bugprone-use-after-move): what a file system must not do
    EXPECT_FALSE(reply.interrupted());
    reply.set_interrupt_handler([](InterruptReason) { ADD_FAILURE() << "of an answered call"; });
    std::move(reply).error(EPERM);
    // NOLINTEND(bugprone-use-after-move)
  }
};

class EngineTest : public ::testing::Test {
 protected:
  HoldingFs fs_;
  Harness kernel_{fs_};

  static Request getattr() { return Request(FUSE_GETATTR).arg(fuse_getattr_in{}); }
  static Request access() { return Request(FUSE_ACCESS).arg(fuse_access_in{}); }
  static Request interrupt(std::uint64_t unique) {
    return Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = unique});
  }
  void release_held() {
    std::move(*fs_.held).error(ENODATA);
    fs_.held.reset();
  }
  static fuse_init_in init_in(std::uint32_t major, std::uint32_t minor) {
    fuse_init_in in{};
    in.major = major;
    in.minor = minor;
    in.flags = 1;
    return in;
  }
};

TEST_F(EngineTest, Request_BeforeInit_IsEio) {
  EXPECT_EQ(kernel_.send(access()).error, EIO);
  EXPECT_FALSE(kernel_.send(Request(FUSE_FORGET).arg(fuse_forget_in{.nlookup = 1})).replied);
  EXPECT_EQ(kernel_.send(Request(FUSE_DESTROY)).error, EIO);
  EXPECT_EQ(fs_.forgets, 0);
}

TEST_F(EngineTest, Init_OldestMinor_IsAccepted_OlderIsEproto) {
  EXPECT_EQ(kernel_.send(Request(FUSE_INIT).arg(init_in(7, 26))).error, EPROTO);
  EXPECT_EQ(kernel_.send(Request(FUSE_INIT).arg(init_in(6, 45))).error, EPROTO);
  EXPECT_EQ(fs_.inits, 0);
  const Answer answer = kernel_.send(Request(FUSE_INIT).arg(init_in(7, 27)));
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.as<fuse_init_out>().minor, 27U);
}

TEST_F(EngineTest, Init_SixteenByteLayout_IsAccepted_ShorterIsNot) {
  const fuse_init_in in = init_in(7, 31);
  EXPECT_EQ(kernel_.send(Request(FUSE_INIT).bytes(bytes_of(in).first(15))).error, EINVAL);
  EXPECT_EQ(kernel_.send(Request(FUSE_INIT).bytes(bytes_of(in).first(16))).error, 0);
  EXPECT_EQ(kernel_.send(access()).error, 0);
}

TEST_F(EngineTest, Init_LaterMajor_GetsOurs_AndTheSecondInitCounts) {
  const Answer first = kernel_.send(Request(FUSE_INIT).arg(init_in(8, 3)));
  EXPECT_EQ(first.error, 0);
  EXPECT_EQ(first.as<fuse_init_out>().major, 7U);
  EXPECT_EQ(first.as<fuse_init_out>().minor, 45U);
  EXPECT_EQ(fs_.inits, 0);
  EXPECT_EQ(kernel_.send(access()).error, EIO);
  EXPECT_EQ(kernel_.init().error, 0);
  EXPECT_EQ(kernel_.send(access()).error, 0);
}

TEST_F(EngineTest, Init_Again_IsAReboot) {
  EXPECT_EQ(kernel_.init().error, 0);
  EXPECT_EQ(kernel_.init().error, 0);
  EXPECT_EQ(fs_.inits, 2);
  EXPECT_EQ(fs_.destroys, 1);
  EXPECT_EQ(kernel_.send(access()).error, 0);
}

TEST_F(EngineTest, Init_WhatTheKernelLacks_IsRefused) {
  fs_.required = Cap::posix_acl;
  EXPECT_EQ(kernel_.init(static_cast<std::uint64_t>(Cap::async_read)).error, EOPNOTSUPP);
  EXPECT_EQ(kernel_.send(access()).error, EIO);
  EXPECT_EQ(fs_.destroys, 1);
}

TEST_F(EngineTest, Destroy_EndsTheSession) {
  kernel_.init();
  const Answer answer = kernel_.send(Request(FUSE_DESTROY));
  EXPECT_TRUE(answer.replied);
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(fs_.destroys, 1);
  EXPECT_EQ(kernel_.send(access()).error, EIO);
}

TEST_F(EngineTest, Init_WaitsForRequestsInFlight_AndEndsTheirWaits) {
  std::promise<InterruptReason> reason;
  fs_.handler = [&](InterruptReason why) { reason.set_value(why); };
  kernel_.init();
  const auto slot = kernel_.start(getattr());
  std::thread reboot([&] { EXPECT_EQ(kernel_.init().error, 0); });
  EXPECT_EQ(reason.get_future().get(), InterruptReason::stopping);
  EXPECT_EQ(fs_.destroys, 0);
  release_held();
  reboot.join();
  EXPECT_EQ(slot->wait().error, ENODATA);
  EXPECT_EQ(fs_.destroys, 1);
}

TEST_F(EngineTest, Reply_Dropped_IsEio_AndBadAllocIsEnomem) {
  kernel_.init();
  EXPECT_EQ(kernel_.send(Request(FUSE_UNLINK).name("x")).error, EIO);
  fs_.throw_bad_alloc = true;
  EXPECT_EQ(kernel_.send(Request(FUSE_UNLINK).name("x")).error, ENOMEM);
}

TEST_F(EngineTest, Reply_ErrorThatTheKernelWouldNotTake_IsEio) {
  kernel_.init();
  EXPECT_EQ(kernel_.send(Request(FUSE_RMDIR).name("x")).error, EIO);
}

TEST_F(EngineTest, Reply_ASecondTime_DoesNothing) {
  kernel_.init();
  EXPECT_EQ(kernel_.send(Request(FUSE_FSYNC).arg(fuse_fsync_in{})).error, 0);
  EXPECT_EQ(kernel_.send(access()).error, 0);
}

TEST_F(EngineTest, UnknownOpcode_IsEnosys) {
  kernel_.init();
  for (const std::uint32_t opcode : {0U, 7U, 19U, 54U, 4095U, 4097U, 436207616U, 0xffffffffU}) {
    const Answer answer = kernel_.send(Request(opcode));
    EXPECT_TRUE(answer.replied) << opcode;
    EXPECT_EQ(answer.error, ENOSYS) << opcode;
  }
}

TEST_F(EngineTest, Interrupt_InFlight_MarksTheRequest_AndGetsNoReply) {
  std::promise<InterruptReason> reason;
  fs_.handler = [&](InterruptReason why) { reason.set_value(why); };
  kernel_.init();
  const Request request = getattr();
  const auto slot = kernel_.start(request);
  EXPECT_FALSE(fs_.held->interrupted());
  EXPECT_FALSE(kernel_.send(interrupt(request.unique())).replied);
  EXPECT_TRUE(fs_.held->interrupted());
  EXPECT_EQ(reason.get_future().get(), InterruptReason::interrupted);
  release_held();
  EXPECT_EQ(slot->wait().error, ENODATA);
}

TEST_F(EngineTest, Interrupt_ThatOvertakesItsRequest_MarksItOnArrival) {
  kernel_.init();
  const Request request = getattr();
  const auto early = kernel_.start(interrupt(request.unique()));
  EXPECT_FALSE(early->answered());
  const auto slot = kernel_.start(request);
  EXPECT_TRUE(fs_.held->interrupted());
  EXPECT_FALSE(early->wait().replied);
  release_held();
  slot->wait();
}

TEST_F(EngineTest, Interrupt_Unmatched_IsEagainWithTheNextRequest) {
  kernel_.init();
  const auto late = kernel_.start(interrupt(987654321));
  EXPECT_FALSE(late->answered());
  EXPECT_EQ(kernel_.send(access()).error, 0);
  const Answer answer = late->wait();
  EXPECT_TRUE(answer.replied);
  EXPECT_EQ(answer.error, EAGAIN);
}

TEST_F(EngineTest, Interrupt_Pending_IsBounded) {
  kernel_.init();
  std::vector<std::unique_ptr<MemorySlot>> slots;
  for (unsigned i = 0; i < 65; ++i) slots.push_back(kernel_.start(interrupt(1'000'001 + 2 * i)));
  EXPECT_EQ(slots[0]->wait().error, EAGAIN);
  EXPECT_FALSE(slots[1]->answered());
  kernel_.engine().end_waits(1);
  for (const auto& slot : slots) EXPECT_EQ(slot->wait().error, EAGAIN);
}

TEST_F(EngineTest, EndWaits_TouchesOnlyItsQueue) {
  kernel_.init();
  const auto slot = kernel_.start(getattr().queue(2));
  kernel_.engine().end_waits(3);
  EXPECT_FALSE(fs_.held->interrupted());
  kernel_.engine().end_waits(std::nullopt);
  EXPECT_TRUE(fs_.held->interrupted());
  // A handler that comes too late is called at once.
  std::optional<InterruptReason> reason;
  fs_.held->set_interrupt_handler([&](InterruptReason why) { reason = why; });
  EXPECT_EQ(reason, InterruptReason::stopping);
  release_held();
  slot->wait();
}

TEST_F(EngineTest, Reply_FromAnotherThread_ReachesTheSlot) {
  kernel_.init();
  const auto slot = kernel_.start(getattr());
  std::thread other([&] {
    std::move(*fs_.held).ok(fuse_attr_out{.attr_valid = 7, .attr_valid_nsec = 0, .dummy = 0, .attr = {}});
  });
  const Answer answer = slot->wait();
  other.join();
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.body.size(), sizeof(fuse_attr_out));
  EXPECT_EQ(answer.as<fuse_attr_out>().attr_valid, 7U);
}

TEST_F(EngineTest, Requests_AndReboots_InParallel_LoseNothing) {
  kernel_.init();
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  for (unsigned queue = 1; queue <= 3; ++queue) {
    threads.emplace_back([&, queue] {
      for (int i = 0; i < 2000; ++i) {
        if (queue == 1 && i % 100 == 0) {
          EXPECT_EQ(kernel_.init().error, 0);
        } else if (kernel_.send(access().queue(queue)).error == 0) {
          ++answered;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(answered.load(), 3 * 2000 - 20);
  EXPECT_EQ(fs_.inits, fs_.destroys + 1);
}

TEST(Negotiation, Reply_CoversMaxWriteWithMaxPages) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 38;
  in.max_readahead = 4096;
  in.flags = (1U << 22) | (1U << 30) | 1U;
  in.flags2 = 1U << 4;
  Negotiation negotiation(in);
  EXPECT_TRUE(negotiation.want(Cap::direct_io_allow_mmap));
  EXPECT_FALSE(negotiation.want(Cap::security_ctx));
  EXPECT_FALSE(negotiation.want(Cap::posix_acl));
  const fuse_init_out out = negotiation.reply();
  EXPECT_EQ(out.minor, 38U);
  EXPECT_EQ(out.max_write, 1U << 20);
  EXPECT_EQ(out.max_pages, 256);
  EXPECT_EQ(out.flags, (1U << 22) | (1U << 30));
  EXPECT_EQ(out.flags2, 1U << 4);
  EXPECT_EQ(out.max_readahead, 4096U);
}

TEST(Negotiation, Flags2_WithoutInitExt_MeanNothing) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 35;
  in.flags2 = ~0U;
  Negotiation negotiation(in);
  EXPECT_FALSE(negotiation.want(Cap::direct_io_allow_mmap));
  EXPECT_EQ(negotiation.reply().max_pages, 0);
  EXPECT_EQ(negotiation.reply().max_write, 32U * 4096);
}

TEST(Negotiation, Missing_NamesCapabilityAndPurpose) {
  fuse_init_in in{};
  in.major = 7;
  in.minor = 30;
  Negotiation negotiation(in);
  negotiation.require(Cap::posix_acl, "--posix-acl");
  EXPECT_NE(negotiation.missing().find("FUSE_POSIX_ACL"), std::string::npos);
  EXPECT_NE(negotiation.missing().find("--posix-acl"), std::string::npos);
}

}  // namespace
}  // namespace fusewire
