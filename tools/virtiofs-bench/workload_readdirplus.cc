// readdirplus and readdirplus-cold: each slot reads the big directory from its beginning to its end, again
// and again. A node is forgotten as often as a pass has given it out: by readdirplus after the next pass, so
// that each pass but the first finds what is known, as with a guest that has memory for names; by
// readdirplus-cold as soon as its reply has been read, so that each pass finds files that the server does not
// know.
#include <fcntl.h>
#include <fmt/format.h>

#include "fusewire/bytes.h"
#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

class ReadDirPlus final : public Workload {
 public:
  ReadDirPlus(const Part& part, bool cold)
      : cold_(cold),
        forgets_(part.forgets),
        directory_(part.tree.many),
        entries_(part.tree.sizes.entries),
        bytes_(part.readdir_bytes),
        in_slot_(part.depth) {}
  bool next(Slot& slot) override;
  Expected<Progress> check(Slot& slot) override;
  // Closes what the end of the run left open.
  Expected<void> finish(Client& client) override;

 private:
  enum class Step { open, read, release };
  struct InSlot {
    Step step = Step::open;
    std::uint64_t handle = 0;
    std::uint64_t offset = 0;
    std::uint64_t seen = 0;                       // entries of this pass
    std::vector<NodeId> given{}, given_before{};  // nodes of this pass, and of the one before
  };
  Expected<Progress> check_read(const Slot& slot, InSlot& mine);
  Expected<void> forget(std::vector<NodeId>& nodes);

  bool cold_;
  Forgets& forgets_;
  NodeId directory_;
  std::uint64_t entries_;
  std::size_t bytes_;
  std::vector<InSlot> in_slot_;
};

fuse_release_in release_in(std::uint64_t handle) {
  fuse_release_in in{};
  in.fh = handle;
  in.flags = O_RDONLY | O_DIRECTORY;
  return in;
}

bool ReadDirPlus::next(Slot& slot) {
  InSlot& mine = in_slot_[slot.index()];
  switch (mine.step) {
    case Step::open:
      slot.request(FUSE_OPENDIR, directory_)
          .arg(fuse_open_in{O_RDONLY | O_DIRECTORY, 0})
          .expect<fuse_open_out>();
      break;
    case Step::read: {
      fuse_read_in in{};
      in.fh = mine.handle;
      in.offset = mine.offset;
      in.size = static_cast<std::uint32_t>(bytes_);
      slot.request(FUSE_READDIRPLUS, directory_).arg(in).expect_data(bytes_);
      break;
    }
    case Step::release:
      slot.request(FUSE_RELEASEDIR, directory_).arg(release_in(mine.handle));
      break;
  }
  return true;
}

Expected<Progress> ReadDirPlus::check(Slot& slot) {
  InSlot& mine = in_slot_[slot.index()];
  switch (mine.step) {
    case Step::open: {
      const auto opened = slot.expect_reply<fuse_open_out>("OPENDIR");
      if (!opened) return failed(opened.error());
      mine.step = Step::read;
      mine.handle = opened->fh;
      mine.offset = 0;
      mine.seen = 0;
      return Progress{.operations = 0};
    }
    case Step::read:
      return check_read(slot, mine);
    case Step::release:
      break;
  }
  if (auto right = slot.expect_error("RELEASEDIR", 0); !right) return failed(right.error());
  mine.step = Step::open;
  return Progress{.operations = 0};
}

// The records as the kernel walks them: parse_dirplusfile() in fs/fuse/readdir.c.
Expected<Progress> ReadDirPlus::check_read(const Slot& slot, InSlot& mine) {
  if (auto right = slot.expect_error("READDIRPLUS", 0); !right) return failed(right.error());
  ByteReader reader({slot.data(), slot.body_size()});
  Progress progress{.operations = 0};
  const bool at_end = reader.remaining() == 0;
  while (reader.remaining() != 0) {
    const auto bytes = reader.take(sizeof(fuse_direntplus));
    if (!bytes) return failed("READDIRPLUS: a record is cut short");
    fuse_direntplus record;
    std::memcpy(&record, bytes->data(), sizeof record);
    const auto name = reader.take(record.dirent.namelen);
    if (!name || name->empty()) return failed("READDIRPLUS: a record's name is cut short");
    const std::size_t used = sizeof record + name->size();
    if (!reader.take(FUSE_DIRENT_ALIGN(used) - used))
      return failed("READDIRPLUS: a record's padding is cut short");
    mine.offset = record.dirent.off;
    if (as_text(*name) != "." && as_text(*name) != "..") ++progress.operations;
    if (record.entry_out.nodeid == 0) continue;
    mine.given.push_back(NodeId{record.entry_out.nodeid});
  }
  mine.seen += progress.operations;
  if (cold_)
    if (auto forgotten = forget(mine.given); !forgotten) return failed(forgotten.error());
  if (!at_end) return progress;
  if (mine.seen != entries_)
    return failed(fmt::format("READDIRPLUS: a pass gave {} entries of {}", mine.seen, entries_));
  if (auto forgotten = forget(mine.given_before); !forgotten) return failed(forgotten.error());
  mine.given.swap(mine.given_before);
  mine.step = Step::release;
  return progress;
}

Expected<void> ReadDirPlus::forget(std::vector<NodeId>& nodes) {
  for (const NodeId node : nodes)
    if (auto forgotten = forgets_.add(node, 1); !forgotten) return forgotten;
  forgets_.publish();
  nodes.clear();
  return {};
}

Expected<void> ReadDirPlus::finish(Client& client) {
  for (InSlot& mine : in_slot_) {
    for (std::vector<NodeId>* nodes : {&mine.given_before, &mine.given})
      if (auto forgotten = forget(*nodes); !forgotten) return forgotten;
    if (mine.step == Step::open) continue;
    client.slot().request(FUSE_RELEASEDIR, directory_).arg(release_in(mine.handle));
    if (auto closed = client.call("RELEASEDIR"); !closed) return closed;
  }
  return {};
}

}  // namespace

MadeWorkload make_readdirplus(const Part& part) { return std::make_unique<ReadDirPlus>(part, false); }
MadeWorkload make_readdirplus_cold(const Part& part) { return std::make_unique<ReadDirPlus>(part, true); }

}  // namespace fusewire::bench
