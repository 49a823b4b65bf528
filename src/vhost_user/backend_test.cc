#include "vhost_user/backend.h"

#include <sys/mman.h>

#include "vhost_user/backend_fixture_test.h"

namespace fusewire::vhost_user {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(BackendTest, Run_FrontEndGoes_DisconnectsTheDeviceAndDropsEverything) {
  set_up();
  ASSERT_TRUE(front->start_ring(1, ring.setup(), event.get(), event.get()));
  device.take_notes();

  EXPECT_EQ(disconnect().ending, Backend::Ending::front_end_gone);

  EXPECT_THAT(device.take_notes(), ElementsAre("disconnect", "call 0 none", "error 0 none", "call 1 none",
                                               "error 1 none", "call 2 none", "error 2 none", "memory 0"));
}

TEST_F(BackendTest, Run_StopEvent_EndsIt) {
  const std::uint64_t one = 1;
  ASSERT_EQ(write(stop.get(), &one, 8), 8);
  EXPECT_EQ(wait().ending, Backend::Ending::stopped);
}

TEST_F(BackendTest, Run_StopEventInMidMessage_EndsIt) {
  ASSERT_EQ(::send(front->connection().fd(), "\x01", 1, 0), 1);
  const std::uint64_t one = 1;
  ASSERT_EQ(write(stop.get(), &one, 8), 8);
  EXPECT_EQ(wait().ending, Backend::Ending::stopped);
}

TEST_F(BackendTest, Negotiate_OffersDeviceAndProtocolFeatures) {
  ASSERT_TRUE(front->negotiate(virtio::kVersion1 | virtio::kEventIdx));
  EXPECT_EQ(front->offered_features(), device.features() | kProtocolFeatures | kLogAll);
  EXPECT_EQ(front->offered_protocol_features(), kKnownProtocolFeatures & ~bit(ProtocolFeature::config));
  EXPECT_EQ(front->features(), virtio::kVersion1 | virtio::kEventIdx | kProtocolFeatures);
  EXPECT_THAT(device.take_notes(), ElementsAre("features 0x120000000"));
}

TEST_F(BackendTest, GetQueueNum_IsTheDevices) {
  set_up();
  EXPECT_EQ(front->get_queue_num(), 3u);
}

TEST_F(BackendTest, GetMaxMemSlots_IsWhatAMapTakes) {
  set_up();
  EXPECT_EQ(front->get_max_mem_slots(), guestmem::MemoryMap::kMaxRegions);
}

TEST_F(BackendTest, SetFeatures_NotOffered_AreRefused) {
  set_up();
  EXPECT_FALSE(front->set_features(virtio::kAccessPlatform | virtio::kVersion1));
  EXPECT_THAT(device.take_notes(), IsEmpty());
  EXPECT_FALSE(front->set_protocol_features(bit(ProtocolFeature::reply_ack) | std::uint64_t{1} << 21));
}

TEST_F(BackendTest, SetFeatures_WithoutProtocolFeatures_EnablesTheRings) {
  ASSERT_TRUE(front->set_features(virtio::kVersion1));
  ASSERT_TRUE(front->get_features());
  EXPECT_THAT(device.take_notes(), ElementsAre("features 0x100000000", "enable 0", "enable 1", "enable 2"));
}

TEST_F(BackendTest, SetFeatures_ChangeOnARunningRing_IsRefused) {
  set_up();
  ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), event.get()));
  EXPECT_TRUE(front->set_features(front->features()));
  EXPECT_FALSE(front->set_features(front->features() & ~virtio::kEventIdx));
}

TEST_F(BackendTest, Ring_StartsWithItsKick_QemuOrder) {
  set_up();
  virtio::RingSetup setup = ring.setup();
  setup.base = 40;
  ASSERT_TRUE(front->set_vring_call(1, event.get()));
  ASSERT_TRUE(front->set_vring_err(1, event.get()));
  ASSERT_TRUE(front->set_vring_num(1, setup.size));
  ASSERT_TRUE(front->set_vring_base(1, setup.base));
  ASSERT_TRUE(front->set_vring_addr(1, setup));
  EXPECT_THAT(device.take_notes(), ElementsAre("call 1", "error 1"));
  ASSERT_TRUE(front->set_vring_kick(1, event.get()));
  ASSERT_TRUE(front->set_vring_enable(1, true));
  EXPECT_THAT(device.take_notes(), ElementsAre("start 1 size 16 base 40", "enable 1"));
  setup.log_guest_addr = device.setup(1).log_guest_addr;
  EXPECT_EQ(device.setup(1), setup);
}

TEST_F(BackendTest, Ring_StartsWithItsKick_CloudHypervisorOrder) {
  set_up();
  ASSERT_TRUE(front->start_ring(2, ring.setup(), event.get(), event.get()));
  ASSERT_TRUE(front->set_vring_enable(2, true));
  EXPECT_THAT(device.take_notes(), ElementsAre("call 2", "start 2 size 16 base 0", "enable 2"));
}

TEST_F(BackendTest, Ring_KickBeforeTheMemory_StartsWithTheMemory) {
  ASSERT_TRUE(front->negotiate(virtio::kVersion1));
  virtio::RingSetup setup = ring.setup();
  setup.base = 5;
  ASSERT_TRUE(front->start_ring(0, setup, event.get(), event.get()));
  device.take_notes();
  ASSERT_TRUE(front->set_mem_table({{Frontend::share(memory)}}));
  EXPECT_THAT(device.take_notes(), ElementsAre("memory 1", "start 0 size 16 base 5"));
}

TEST_F(BackendTest, Ring_KickBeforeSizeAndAddresses_IsRefused) {
  set_up();
  EXPECT_FALSE(front->set_vring_kick(0, event.get()));
  ASSERT_TRUE(front->set_vring_num(0, 16));
  EXPECT_FALSE(front->set_vring_kick(0, event.get()));
  ASSERT_TRUE(front->set_vring_addr(0, ring.setup()));
  EXPECT_TRUE(front->set_vring_kick(0, event.get()));
}

TEST_F(BackendTest, Ring_WithoutKickEvent_IsPolled) {
  set_up();
  ASSERT_TRUE(front->start_ring(0, ring.setup(), -1, -1));
  EXPECT_THAT(device.take_notes(), ElementsAre("call 0 none", "start 0 size 16 base 0 polled"));
}

TEST_F(BackendTest, Ring_NewKickWhileRunning_GoesOnWhereItWas) {
  set_up();
  ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), -1));
  device.take_notes();
  ASSERT_TRUE(front->set_vring_kick(0, event.get()));
  EXPECT_THAT(device.take_notes(), ElementsAre("stop 0", "start 0 size 16 base 7"));
}

TEST_F(BackendTest, Ring_ThatCannotStart_IsRefused) {
  set_up();
  device.set_fail_start(true);
  EXPECT_FALSE(front->start_ring(0, ring.setup(), event.get(), -1));
  device.set_fail_start(false);
  device.take_notes();
  ASSERT_TRUE(front->set_vring_kick(0, event.get()));
  EXPECT_THAT(device.take_notes(), ElementsAre("start 0 size 16 base 0"));
}

TEST_F(BackendTest, GetVringBase_StopsTheRing) {
  set_up();
  ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), -1));
  device.take_notes();
  EXPECT_EQ(front->get_vring_base(0), 7);
  EXPECT_THAT(device.take_notes(), ElementsAre("stop 0"));
  EXPECT_EQ(front->get_vring_base(0), 7) << "stopped already";
  EXPECT_THAT(device.take_notes(), IsEmpty());
  ASSERT_TRUE(front->set_vring_kick(0, event.get()));
  EXPECT_THAT(device.take_notes(), ElementsAre("start 0 size 16 base 7"));
}

TEST_F(BackendTest, GetVringBase_OfARingThatNeverRan_IsItsBase) {
  set_up();
  EXPECT_EQ(front->get_vring_base(1), 0);
  ASSERT_TRUE(front->set_vring_base(1, 99));
  EXPECT_EQ(front->get_vring_base(1), 99);
}

TEST_F(BackendTest, PackedRing_HasAnySizeAndABaseOf32Bits) {
  set_up(0);
  virtio::RingSetup setup = ring.setup();
  for (const std::uint32_t size : {1u, 100u, 32768u}) {
    ASSERT_TRUE(front->set_vring_num(0, size));
  }
  EXPECT_FALSE(front->set_vring_num(0, 0));
  EXPECT_FALSE(front->set_vring_num(0, 32769));
  setup.size = 100;
  setup.base = 0xfff8'8005;
  ASSERT_TRUE(front->start_ring(0, setup, event.get(), -1));
  EXPECT_THAT(device.take_notes(), testing::Contains(fmt::format("start 0 size 100 base {}", 0xfff8'8005)));
  EXPECT_EQ(front->get_vring_base(0), 0xfff8'800c);
  EXPECT_THAT(device.take_notes(), ElementsAre("stop 0"));
}

TEST_F(BackendTest, RunningRing_SizeBaseAndAddresses_DoNotChange) {
  set_up();
  ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), -1));
  EXPECT_FALSE(front->set_vring_num(0, 32));
  EXPECT_FALSE(front->set_vring_base(0, 1));
  virtio::RingSetup other = ring.setup();
  other.desc_user_addr += 16;
  EXPECT_FALSE(front->set_vring_addr(0, other));
}

TEST_F(BackendTest, SetVringAddr_OnARunningRing_ChangesLogging) {
  set_up();
  virtio::RingSetup setup = ring.setup();
  ASSERT_TRUE(front->start_ring(0, setup, event.get(), -1));
  device.take_notes();
  setup.log_used = true;
  setup.log_guest_addr = guestmem::GuestAddress(0x123000);
  ASSERT_TRUE(front->set_vring_addr(0, setup));
  EXPECT_EQ(device.setup(0).log_guest_addr, setup.log_guest_addr);
  setup.log_used = false;
  ASSERT_TRUE(front->set_vring_addr(0, setup));
  EXPECT_THAT(device.take_notes(), ElementsAre("logging 0 on", "logging 0 off"));
}

TEST_F(BackendTest, DirtyLog_NeedsBothTheLogAndTheFeature) {
  set_up();
  UniqueFd log(memfd_create("log", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(log.get(), 4096), 0);
  const std::uint64_t features = front->features();

  ASSERT_TRUE(front->set_log_base(4096, 0, log.get()));
  EXPECT_THAT(device.take_notes(), IsEmpty());
  ASSERT_TRUE(front->set_features(features | kLogAll));
  EXPECT_THAT(device.take_notes(), testing::Contains("dirty log on"));
  const auto first = device.log();
  ASSERT_TRUE(front->set_log_base(2048, 1024, log.get()));  // A log of another size replaces it.
  EXPECT_NE(device.log(), first);
  ASSERT_TRUE(front->set_features(features));
  EXPECT_THAT(device.take_notes(), testing::Contains("dirty log off"));
  EXPECT_FALSE(front->set_log_base(4097, 0, log.get()));
}

TEST_F(BackendTest, SetMemTable_ReplacesTheMemory) {
  set_up();
  auto other = *guestmem::SharedMemory::create(guestmem::GuestAddress(0x10000000), 8192);
  ASSERT_TRUE(front->set_mem_table({{Frontend::share(memory), Frontend::share(other)}}));
  EXPECT_EQ(device.map()->region_count(), 2u);
  ASSERT_TRUE(front->set_mem_table({{Frontend::share(other)}}));
  EXPECT_EQ(device.map()->contiguous(memory.description().guest, 1), nullptr);
  EXPECT_NE(device.map()->contiguous(other.description().guest, 8192), nullptr);
}

TEST_F(BackendTest, SetMemTable_OverlapOrSmallFile_IsRefusedAndChangesNothing) {
  set_up();
  const auto before = device.map();
  EXPECT_FALSE(front->set_mem_table({{Frontend::share(memory), Frontend::share(memory)}}));
  auto region = Frontend::share(memory);
  region.description.size += 1;
  EXPECT_FALSE(front->set_mem_table({{region}}));
  EXPECT_EQ(device.map(), before);
}

TEST_F(BackendTest, SetMemTable_CountAndDescriptorsDisagree_IsRefused) {
  set_up();
  MemoryTable table{};
  for (std::uint32_t count : {0u, 2u, 33u, 0xffffffffu}) {
    table.count = count;
    const int fd = memory.fd().get();
    send_raw(5, kFlagNeedReply, bytes_of(table).first(8 + 2 * sizeof(Region)), {&fd, 1});
    Message reply;
    ASSERT_EQ(front->connection().receive(reply), Connection::Io::done);
    EXPECT_NE(reply.as<U64>().value, 0u);
  }
}

TEST_F(BackendTest, AddAndRemMemReg_ShareTheOldRegions) {
  ASSERT_TRUE(front->negotiate(virtio::kVersion1));
  ASSERT_TRUE(front->add_mem_reg(Frontend::share(memory)));
  const auto before = device.map();
  auto other = *guestmem::SharedMemory::create(guestmem::GuestAddress(0x10000000), 8192);
  ASSERT_TRUE(front->add_mem_reg(Frontend::share(other)));
  EXPECT_EQ(device.map()->region_count(), 2u);
  EXPECT_EQ(device.map()->contiguous(memory.description().guest, 1),
            before->contiguous(memory.description().guest, 1));
  EXPECT_FALSE(front->add_mem_reg(Frontend::share(other))) << "overlaps";
  EXPECT_TRUE(front->rem_mem_reg(other.description(), event.get())) << "with a stray descriptor";
  EXPECT_FALSE(front->rem_mem_reg(other.description())) << "gone already";
  EXPECT_EQ(device.map()->region_count(), 1u);
}

TEST_F(BackendTest, Status_IsKeptAndZeroResets) {
  set_up();
  EXPECT_EQ(front->get_status(), 0u);
  ASSERT_TRUE(front->set_status(0xf));
  EXPECT_EQ(front->get_status(), 0xfu);
  EXPECT_FALSE(front->set_status(0x100));
  device.take_notes();
  ASSERT_TRUE(front->set_status(0));
  EXPECT_EQ(front->get_status(), 0u);
  EXPECT_THAT(device.take_notes(), ElementsAre("reset"));
}

TEST_F(BackendTest, Reset_KeepsTheMemoryAndForgetsTheRings) {
  set_up();
  for (auto reset : {&Frontend::reset_device, &Frontend::reset_owner}) {
    ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), event.get()));
    device.take_notes();
    ASSERT_TRUE(((*front).*reset)());
    EXPECT_THAT(device.take_notes(), ElementsAre("reset"));
    EXPECT_EQ(front->get_vring_base(0), 0);
    EXPECT_FALSE(front->set_vring_kick(0, event.get())) << "its size and addresses are unknown again";
    ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), event.get()));
    EXPECT_THAT(device.take_notes(), testing::Contains("start 0 size 16 base 0"));
    EXPECT_EQ(front->get_vring_base(0), 7);
  }
}

TEST_F(BackendTest, GetConfig_WithoutConfig_IsNotOffered) {
  set_up();
  EXPECT_FALSE(front->has(ProtocolFeature::config));
}

TEST_F(BackendTest, GetConfig_GivesTheWantedBytes) {
  device.set_config("0123456789");
  set_up();
  ASSERT_TRUE(front->has(ProtocolFeature::config));
  EXPECT_EQ(as_text(*front->get_config(0, 10)), "0123456789");
  EXPECT_EQ(as_text(*front->get_config(4, 3)), "456");
  EXPECT_FALSE(front->get_config(4, 7));
  EXPECT_FALSE(front->get_config(11, 1));
  EXPECT_FALSE(front->get_config(0xffffffff, 10));
  EXPECT_EQ(as_text(*front->get_config(9, 1)), "9") << "the connection lives";
}

TEST_F(BackendTest, GetConfig_WithoutRoomInTheRequest_IsAnswered) {
  device.set_config("0123456789");
  set_up();
  ConfigAccess access{};
  access.size = 10;
  send_raw(24, 0, bytes_of(access).first(12));
  Message reply;
  ASSERT_EQ(front->connection().receive(reply), Connection::Io::done);
  EXPECT_EQ(as_text(std::span(reply.payload).subspan(12)), "0123456789");
  send_raw(24, 0, bytes_of(access).first(13));
  ASSERT_EQ(front->connection().receive(reply), Connection::Io::done);
  EXPECT_TRUE(reply.payload.empty());
}

TEST_F(BackendTest, SetConfig_IsRefusedButDoesNotEndTheConnection) {
  device.set_config("0123456789");
  set_up();
  EXPECT_FALSE(front->set_config(0, as_bytes("x")));
  ASSERT_TRUE(front->set_protocol_features(kKnownProtocolFeatures & ~bit(ProtocolFeature::reply_ack)));
  EXPECT_TRUE(front->set_config(0, as_bytes("x"))) << "nobody asked";
  EXPECT_EQ(as_text(*front->get_config(0, 1)), "0");
}

TEST_F(BackendTest, SetBackendReqFd_IsKeptWhileConnected) {
  set_up();
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd mine(ends[0]);
  {
    const UniqueFd theirs(ends[1]);
    ASSERT_TRUE(front->set_backend_req_fd(theirs.get()));
  }
  EXPECT_EQ(::send(mine.get(), "x", 1, MSG_NOSIGNAL), 1);
  disconnect();
  EXPECT_EQ(::send(mine.get(), "x", 1, MSG_NOSIGNAL), -1);
}

TEST_F(BackendTest, Reconnect_BeginsAnew) {
  set_up();
  ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), event.get()));
  disconnect();
  connect();
  set_up();
  EXPECT_EQ(front->get_vring_base(0), 0);
  ASSERT_TRUE(front->start_ring(0, ring.setup(), event.get(), event.get()));
}

}  // namespace
}  // namespace fusewire::vhost_user
