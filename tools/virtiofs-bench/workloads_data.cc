// Workloads that read and write the data file, at random or from one end to the other.
#include "virtiofs-bench/blocks.h"
#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

// A file that stays open for a whole run.
class DataWorkload : public Workload {
 public:
  explicit DataWorkload(const Part& part) : node_(part.tree.data), in_slot_(part.depth) {}
  Expected<void> prepare(Client& client) override {
    const auto handle = client.open(node_);
    if (!handle) return failed(handle.error());
    handle_ = *handle;
    return {};
  }
  Expected<void> finish(Client& client) override { return client.release(node_, handle_); }
  Expected<Progress> check(Slot& slot) override {
    const InSlot& mine = in_slot_[slot.index()];
    auto right = mine.write ? check_written(slot, mine.length) : check_read(slot, mine.offset, mine.length);
    if (!right) return failed(right.error());
    return Progress{.bytes = mine.length};
  }

 protected:
  void send(Slot& slot, bool write, std::uint64_t offset, std::size_t length) {
    in_slot_[slot.index()] = {offset, length, write};
    if (!write) return read_request(slot, node_, handle_, offset, length);
    number_blocks(slot.data(), offset, length);
    write_request(slot, node_, handle_, offset, length);
  }

 private:
  struct InSlot {
    std::uint64_t offset = 0;
    std::size_t length = 0;
    bool write = false;
  };
  NodeId node_;
  std::vector<InSlot> in_slot_;
  FileHandle handle_;
};

class RandomData final : public DataWorkload {
 public:
  RandomData(const Part& part, unsigned write_percent)
      : DataWorkload(part),
        blocks_(part.tree.sizes.data_bytes / kBlockSize),
        write_percent_(write_percent),
        random_(part.thread + 1) {}
  bool next(Slot& slot) override {
    const bool write = random_.below(100) < write_percent_;
    send(slot, write, random_.below(blocks_) * kBlockSize, kBlockSize);
    return true;
  }

 private:
  std::uint64_t blocks_;
  unsigned write_percent_;
  Random random_;
};

// Each thread goes through its own part of the file, and begins again at its end.
class SequentialData final : public DataWorkload {
 public:
  SequentialData(const Part& part, bool write, std::size_t piece)
      : DataWorkload(part),
        write_(write),
        piece_(piece),
        pieces_(std::max<std::uint64_t>(part.tree.sizes.data_bytes / piece / part.threads, 1)),
        first_(pieces_ * part.thread % (part.tree.sizes.data_bytes / piece)) {}
  bool next(Slot& slot) override {
    send(slot, write_, (first_ + at_) * piece_, piece_);
    at_ = (at_ + 1) % pieces_;
    return true;
  }

 private:
  bool write_;
  std::size_t piece_;
  std::uint64_t pieces_, first_;
  std::uint64_t at_ = 0;
};

constexpr std::size_t k128k = std::size_t{128} << 10;
constexpr std::size_t k1m = std::size_t{1} << 20;

}  // namespace

MadeWorkload make_randread4k(const Part& part) { return std::make_unique<RandomData>(part, 0); }
MadeWorkload make_randwrite4k(const Part& part) { return std::make_unique<RandomData>(part, 100); }
MadeWorkload make_mixed7030(const Part& part) { return std::make_unique<RandomData>(part, 30); }
MadeWorkload make_seqread128k(const Part& part) {
  return std::make_unique<SequentialData>(part, false, k128k);
}
MadeWorkload make_seqread1m(const Part& part) { return std::make_unique<SequentialData>(part, false, k1m); }
MadeWorkload make_seqwrite128k(const Part& part) {
  return std::make_unique<SequentialData>(part, true, k128k);
}
MadeWorkload make_seqwrite1m(const Part& part) { return std::make_unique<SequentialData>(part, true, k1m); }

}  // namespace fusewire::bench
