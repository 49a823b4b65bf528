// Workloads that read and write the data file. Every block carries its own number, in what is written and in
// what is expected, so that a read of the wrong place is seen.
#include <fmt/format.h>

#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

class RandomData final : public Workload {
 public:
  RandomData(const Part& part, unsigned write_percent)
      : node_(part.tree.data),
        blocks_(part.tree.sizes.data_bytes / kBlockSize),
        write_percent_(write_percent),
        random_(part.thread + 1),
        in_slot_(part.depth) {}

  Expected<void> prepare(Client& client) override {
    const auto handle = client.open(node_);
    if (!handle) return failed(handle.error());
    handle_ = *handle;
    return {};
  }
  Expected<void> finish(Client& client) override { return client.release(node_, handle_); }

  bool next(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    mine.block = random_.below(blocks_);
    mine.write = random_.below(100) < write_percent_;
    if (mine.write) {
      fuse_write_in in{};
      in.fh = handle_.get();
      in.offset = mine.block * kBlockSize;
      in.size = kBlockSize;
      std::memcpy(slot.data(), &mine.block, sizeof mine.block);
      slot.request(FUSE_WRITE, node_).arg(in).send_data(kBlockSize).expect<fuse_write_out>();
    } else {
      fuse_read_in in{};
      in.fh = handle_.get();
      in.offset = mine.block * kBlockSize;
      in.size = kBlockSize;
      slot.request(FUSE_READ, node_).arg(in).expect_data(kBlockSize);
    }
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    const InSlot& mine = in_slot_[slot.index()];
    if (auto right = expect_error(slot, mine.write ? "WRITE" : "READ"); !right) return failed(right.error());
    if (mine.write && slot.reply<fuse_write_out>().size != kBlockSize)
      return failed("WRITE: written in part");
    if (!mine.write && slot.body_size() != kBlockSize) return failed("READ: read in part");
    std::uint64_t number = 0;
    std::memcpy(&number, slot.data(), sizeof number);
    if (!mine.write && number != mine.block)
      return failed(fmt::format("READ: block {} where {} was asked for", number, mine.block));
    return Progress{.bytes = kBlockSize};
  }

 private:
  struct InSlot {
    std::uint64_t block = 0;
    bool write = false;
  };
  NodeId node_;
  std::uint64_t blocks_;
  unsigned write_percent_;
  Random random_;
  std::vector<InSlot> in_slot_;
  FileHandle handle_;
};

}  // namespace

MadeWorkload make_randread(const Part& part) { return std::make_unique<RandomData>(part, 0); }
MadeWorkload make_randwrite(const Part& part) { return std::make_unique<RandomData>(part, 100); }

}  // namespace fusewire::bench
