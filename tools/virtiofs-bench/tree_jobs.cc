#include "virtiofs-bench/tree_jobs.h"

#include <sys/stat.h>

#include <algorithm>

#include "virtiofs-bench/blocks.h"

namespace fusewire::bench {

bool MakeFiles::next(Slot& slot) {
  if (next_ == names_.size()) return false;
  if (slot.index() >= in_slot_.size()) in_slot_.resize(slot.index() + 1);
  in_slot_[slot.index()] = next_;
  fuse_mknod_in in{};
  in.mode = S_IFREG | 0644;
  in.umask = 022;
  slot.request(FUSE_MKNOD, parent_).arg(in).name(names_[next_++]).expect<fuse_entry_out>();
  return true;
}

Expected<Progress> MakeFiles::check(Slot& slot) {
  const auto entry = slot.expect_reply<fuse_entry_out>("MKNOD");
  if (!entry) return failed(entry.error());
  const NodeId node{entry->nodeid};
  if (nodes_ != nullptr) {
    (*nodes_)[in_slot_[slot.index()]].node = node;
  } else if (auto forgotten = forgets_.add(node, 1); !forgotten) {
    return failed(forgotten.error());
  }
  return Progress{};
}

bool RemoveFiles::next(Slot& slot) {
  if (slot.index() >= in_slot_.size()) in_slot_.resize(slot.index() + 1);
  InSlot& mine = in_slot_[slot.index()];
  if (mine.found) {
    slot.request(FUSE_UNLINK, parent_).name(names_[mine.which]);
    return true;
  }
  if (next_ == names_.size()) return false;
  mine.which = next_++;
  slot.request(FUSE_LOOKUP, parent_).name(names_[mine.which]).expect<fuse_entry_out>();
  return true;
}

Expected<Progress> RemoveFiles::check(Slot& slot) {
  InSlot& mine = in_slot_[slot.index()];
  mine.found = !mine.found;
  if (mine.found) {
    const auto entry = slot.expect_reply<fuse_entry_out>("LOOKUP");
    if (!entry) return failed(entry.error());
    mine.node = NodeId{entry->nodeid};
    return Progress{.finished = false};
  }
  if (auto right = slot.expect_error("UNLINK", 0); !right) return failed(right.error());
  if (auto forgotten = forgets_.add(mine.node, 1); !forgotten) return failed(forgotten.error());
  return Progress{};
}

bool FillData::next(Slot& slot) {
  if (offset_ >= size_) return false;
  const std::size_t length = std::min<std::uint64_t>(piece_, size_ - offset_);
  number_blocks(slot.data(), offset_, length);
  write_request(slot, node_, handle_, offset_, length);
  offset_ += length;
  return true;
}

Expected<Progress> FillData::check(Slot& slot) {
  const auto written = slot.expect_reply<fuse_write_out>("WRITE");
  if (!written) return failed(written.error());
  return Progress{};
}

}  // namespace fusewire::bench
