// append-fsync: what a database's log does. Each slot appends to a file of its own, and waits for FSYNC
// before it goes on. A file of 16 MiB is cut to nothing again, which is not counted.
#include <fmt/format.h>

#include "virtiofs-bench/blocks.h"
#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

constexpr std::uint64_t kMaxSize = std::uint64_t{16} << 20;

class AppendFsync final : public Workload {
 public:
  explicit AppendFsync(const Part& part)
      : forgets_(part.forgets), parent_(part.tree.scratch), thread_(part.thread), in_slot_(part.depth) {}

  Expected<void> prepare(Client& client) override {
    for (std::size_t i = 0; i < in_slot_.size(); ++i) {
      const auto made = client.create(parent_, name(i));
      if (!made) return failed(made.error());
      in_slot_[i].node = NodeId{made->entry.nodeid};
      in_slot_[i].handle = FileHandle{made->open.fh};
    }
    return {};
  }
  Expected<void> finish(Client& client) override {
    for (std::size_t i = 0; i < in_slot_.size(); ++i) {
      if (auto done = client.release(in_slot_[i].node, in_slot_[i].handle); !done) return done;
      if (auto done = client.unlink(parent_, name(i)); !done) return done;
      if (auto done = forgets_.add(in_slot_[i].node, 1); !done) return done;
    }
    return forgets_.drain();
  }

  bool next(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    switch (mine.step) {
      case Step::write:
        number_blocks(slot.data(), mine.size, kBlockSize);
        write_request(slot, mine.node, mine.handle, mine.size, kBlockSize);
        break;
      case Step::fsync: {
        fuse_fsync_in in{};
        in.fh = mine.handle.get();
        slot.request(FUSE_FSYNC, mine.node).arg(in);
        break;
      }
      case Step::truncate: {
        fuse_setattr_in in{};
        in.valid = FATTR_SIZE | FATTR_FH;
        in.fh = mine.handle.get();
        slot.request(FUSE_SETATTR, mine.node).arg(in).expect<fuse_attr_out>();
        break;
      }
    }
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    switch (mine.step) {
      case Step::write:
        if (auto right = check_written(slot, kBlockSize); !right) return failed(right.error());
        mine.size += kBlockSize;
        mine.step = Step::fsync;
        return Progress{.finished = false};
      case Step::fsync:
        if (auto right = slot.expect_error("FSYNC", 0); !right) return failed(right.error());
        mine.step = mine.size < kMaxSize ? Step::write : Step::truncate;
        return Progress{.bytes = kBlockSize};
      case Step::truncate:
        break;
    }
    const auto attributes = slot.expect_reply<fuse_attr_out>("SETATTR");
    if (!attributes) return failed(attributes.error());
    mine.size = 0;
    mine.step = Step::write;
    return Progress{.operations = 0};
  }

 private:
  enum class Step { write, fsync, truncate };
  struct InSlot {
    Step step = Step::write;
    NodeId node;
    FileHandle handle;
    std::uint64_t size = 0;
  };
  std::string name(std::size_t slot) const { return fmt::format("append-t{}s{}", thread_, slot); }

  Forgets& forgets_;
  NodeId parent_;
  unsigned thread_;
  std::vector<InSlot> in_slot_;
};

}  // namespace

MadeWorkload make_append_fsync(const Part& part) { return std::make_unique<AppendFsync>(part); }

}  // namespace fusewire::bench
