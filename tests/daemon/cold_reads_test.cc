// Reads that wait for a disk: many at once, in the io_uring of the queue's thread, and what must not wait for
// them for ever. On a file system in memory nothing waits, and the answers must be the same.
#include <cstring>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

constexpr std::size_t kPiece = 16 * 1024;
constexpr unsigned kPieces = kSanitized ? 64 : 256;

class ColdReads : public DaemonTest {
 protected:
  ColdReads() { write_host("file", data_); }

  // Has the host forget the file's pages, where it has them on a disk.
  void make_cold() const {
    const UniqueFd file(::open(host("file").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::fdatasync(file.get()), 0);
    ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    // The host's readahead would have most pieces there before they are asked for.
    ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM), 0);
  }

  // Boots, opens the file and has every piece read at once, on `queue`.
  void start_reads(unsigned queue, std::uint32_t open_flags = O_RDONLY) {
    node_ = *client().walk("file");
    const auto opened = client().open(node_, open_flags);
    ASSERT_TRUE(opened.has_value());
    handle_ = opened->fh;
    make_cold();
    reader_.emplace(guest(), queue);
    for (unsigned i = 0; i < kPieces; ++i) {
      // From the end on, so that no readahead helps.
      const unsigned piece = kPieces - 1 - i;
      tickets_.emplace_back(piece,
                            reader_->start(Client::read_request(node_, handle_, piece * kPiece, kPiece)));
    }
  }

  // `may_be_late`: a read may have come after an INIT, when its handle was unknown already.
  void expect_answers(bool may_be_late = false) {
    for (const auto& [piece, ticket] : tickets_) {
      const Answer answer = reader_->wait(ticket);
      if (may_be_late && answer.error == EBADF) continue;
      EXPECT_EQ(answer.error, 0);
      EXPECT_TRUE(answer.text() == data_.substr(piece * kPiece, kPiece)) << "piece " << piece;
    }
  }

  // Enough memory for all of them.
  static GuestOptions options(unsigned queues = 1) {
    return {.request_queues = queues,
            .queue = {.size = 512, .indirect_entries = 64, .arena = 2 * kPieces * kPiece}};
  }

  const std::string data_ = pattern(kPieces * kPiece);
  NodeId node_{};
  std::uint64_t handle_ = 0;
  std::optional<Client> reader_;
  std::vector<std::pair<unsigned, GuestQueue::Ticket>> tickets_;
};

TEST_F(ColdReads, ManyAtOnce_GetTheirOwnBytes) {
  boot({}, options());
  start_reads(1);
  expect_answers();
}

TEST_F(ColdReads, ManyAtOnceWithoutThreads_GetTheirOwnBytes) {
  boot({"--thread-pool-size=0"}, options());
  start_reads(1);
  expect_answers();
}

TEST_F(ColdReads, DirectIo_ManyAtOnce_GetTheirOwnBytes) {
  boot({"--allow-direct-io"}, options());
  start_reads(1, O_RDONLY | O_DIRECT);
  expect_answers();
}

TEST_F(ColdReads, DirectIo_AcrossTheEnd_IsShort) {
  constexpr std::size_t kTail = 700;  // not a whole number of blocks
  write_host("odd", data_.substr(0, kPiece + kTail));
  boot({"--allow-direct-io"}, options());
  const NodeId node = *client().walk("odd");
  const auto opened = client().open(node, O_RDONLY | O_DIRECT);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(client().read(node, opened->fh, 0, 4 * kPiece), data_.substr(0, kPiece + kTail));
  EXPECT_EQ(client().read(node, opened->fh, kPiece, kPiece), data_.substr(kPiece, kTail));
  EXPECT_EQ(client().read(node, opened->fh, 4 * kPiece, kPiece), "");
}

TEST_F(ColdReads, ANewInitOnTheSameQueue_WaitsForThemAndIsAnswered) {
  boot({}, options());
  start_reads(1);
  EXPECT_EQ(guest().initialize().error, 0);
  expect_answers();
}

TEST_F(ColdReads, ANewInitOnAnotherQueue_WaitsForThemAndIsAnswered) {
  boot({}, options(2));
  start_reads(2);
  EXPECT_EQ(guest().initialize().error, 0);
  // While it was kept out by INIT, the queue's thread had to go on with its reads.
  const Answer after =
      reader_->send(make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}).room(sizeof(fuse_attr_out)));
  EXPECT_EQ(after.error, 0);
  expect_answers(true);
}

TEST_F(ColdReads, StoppedRing_GetsAllOfThemBackFirst) {
  boot({}, options());
  start_reads(1);
  const std::uint32_t base = guest().stop_ring(1);
  for (const auto& [piece, ticket] : tickets_) {
    const auto answer = guest().queue(1).take(ticket);
    if (!answer) continue;  // not taken off the ring before it stopped
    EXPECT_TRUE(answer->text() == data_.substr(piece * kPiece, kPiece));
  }
  guest().set_base(1, base);
  guest().start_ring(1);
  guest().queue(1).kick();
  expect_alive();
}

TEST_F(ColdReads, FrontEndThatLeaves_IsNotWaitedForByThem) {
  start_daemon({"--keep-listening"}, options());
  boot({}, options());
  start_reads(1);
  leave();
  boot({}, options());
  expect_alive();
}

}  // namespace
}  // namespace fusewire::tests
