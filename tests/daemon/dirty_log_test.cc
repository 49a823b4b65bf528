// The dirty log: whatever the daemon writes to guest memory while it is on is marked, page by page.
#include <cstring>

#include "daemon/client.h"
#include "guestmem/dirty_log.h"

namespace fusewire::tests {
namespace {

class DirtyLog : public DaemonTest {
 protected:
  static constexpr std::size_t kPage = guestmem::DirtyLog::kPageSize;

  void boot_with_file(const GuestOptions& options) {
    data = pattern(200'000);
    write_host("file", data);
    boot({"--keep-listening"}, options);
    node = *client().walk("file");
    handle = client().open(node)->fh;
  }

  // Serves `request` with the log clean before, and compares memory page by page: each page that the daemon
  // has changed must be marked. Returns how many changed, and in `marked` how many are marked.
  std::size_t changed_by(const Request& request, Cut cut, std::size_t& marked) {
    GuestQueue& queue = guest().queue(1);
    const auto ticket = queue.stage(request, cut);
    queue.driver().disable_interrupts();
    guest().clear_dirty_log();
    const auto base = guest().memory().description().guest;
    const std::byte* memory = guest().memory().host(base);
    const std::vector<std::byte> before(memory, memory + guest().memory().size());
    queue.publish();
    const std::uint32_t published = queue.driver().drained_base();
    EXPECT_TRUE(queue.wait_without_signal());
    EXPECT_EQ(guest().stop_ring(1), published);  // the daemon is done with the ring, its marks are made

    std::size_t changed = 0;
    marked = 0;
    const std::size_t avail = queue.driver().setup().avail_user_addr - guest().memory().description().user;
    for (std::size_t at = 0; at < before.size(); at += kPage) {
      const bool dirty = guest().is_dirty(guestmem::GuestAddress(base.get() + at));
      marked += dirty;
      // The driver itself has moved the available index on.
      if (at / kPage == avail / kPage && !dirty) continue;
      if (std::memcmp(memory + at, before.data() + at, kPage) == 0) continue;
      ++changed;
      EXPECT_TRUE(dirty) << "offset " << at << " was written and is not marked";
    }
    guest().start_ring(1);
    const Answer answer = client().wait(ticket);
    EXPECT_EQ(answer.error, 0);
    return changed;
  }
  std::string data;
  NodeId node;
  std::uint64_t handle = 0;
};

TEST_F(DirtyLog, EveryCut_MarksWhatWasWritten) {
  for (const unsigned kind : {0u, 1u, 2u, 3u}) {
    GuestOptions options;
    options.dirty_log = true;
    options.queue = {
        .event_idx = kind % 2 == 0, .indirect_entries = 100, .arena = 2 << 20, .packed = kind >= 2};
    boot_with_file(options);
    for (const Cut cut : virtiofs::testing::kAllCuts) {
      SCOPED_TRACE(name_of(cut));
      std::size_t marked = 0;
      const std::size_t changed = changed_by(Client::read_request(node, handle, 0, 200'000), cut, marked);
      EXPECT_GE(changed, 200'000 / kPage);
      // And not simply everything.
      EXPECT_LE(marked, 2 * changed + 8);
    }
    std::size_t marked = 0;
    EXPECT_GE(changed_by(Client::write_request(node, handle, 0, as_bytes(data)), Cut::pages, marked), 2u);
    EXPECT_LE(marked, 8u);
  }
}

TEST_F(DirtyLog, TurnedOnWhileRunning_MarksFromThenOn) {
  boot_with_file({.queue = {.arena = 2 << 20}});
  guest().clear_dirty_log();
  EXPECT_TRUE(client().read(node, handle, 0, 1000).has_value());
  const auto base = guest().memory().description().guest;
  const auto any_marked = [&] {
    for (std::size_t at = 0; at < guest().memory().size(); at += kPage)
      if (guest().is_dirty(guestmem::GuestAddress(base.get() + at))) return true;
    return false;
  };
  EXPECT_FALSE(any_marked());
  guest().set_logging(true);
  std::size_t marked = 0;
  EXPECT_GE(changed_by(Client::read_request(node, handle, 0, 100'000), Cut::like_linux, marked),
            100'000 / kPage);
  // The migration has failed, and the guest goes on.
  guest().set_logging(false);
  guest().clear_dirty_log();
  EXPECT_TRUE(client().read(node, handle, 0, 1000).has_value());
  EXPECT_FALSE(any_marked());
}

}  // namespace
}  // namespace fusewire::tests
