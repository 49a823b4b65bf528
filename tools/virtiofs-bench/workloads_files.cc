// Workloads whose operation is several requests about one file: open-release, create-unlink, stat-storm.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "virtiofs-bench/workloads.h"

namespace fusewire::bench {
namespace {

class OpenRelease final : public Workload {
 public:
  explicit OpenRelease(const Part& part)
      : files_(part.tree.known), random_(part.thread + 1), in_slot_(part.depth) {}
  bool next(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    if (mine.open) {
      fuse_release_in in{};
      in.fh = mine.handle;
      in.flags = O_RDONLY;
      slot.request(FUSE_RELEASE, mine.node).arg(in);
    } else {
      mine.node = files_[random_.below(files_.size())].node;
      slot.request(FUSE_OPEN, mine.node).arg(fuse_open_in{O_RDONLY, 0}).expect<fuse_open_out>();
    }
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    mine.open = !mine.open;
    if (mine.open) {
      const auto opened = slot.expect_reply<fuse_open_out>("OPEN");
      if (!opened) return failed(opened.error());
      mine.handle = opened->fh;
      return Progress{.finished = false};
    }
    if (auto right = slot.expect_error("RELEASE", 0); !right) return failed(right.error());
    return Progress{};
  }

 private:
  struct InSlot {
    NodeId node;
    std::uint64_t handle = 0;
    bool open = false;
  };
  std::span<const Tree::Node> files_;
  Random random_;
  std::vector<InSlot> in_slot_;
};

class CreateUnlink final : public Workload {
 public:
  explicit CreateUnlink(const Part& part)
      : forgets_(part.forgets), parent_(part.tree.scratch), thread_(part.thread), in_slot_(part.depth) {}
  bool next(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    switch (mine.step) {
      case Step::create: {
        mine.name = fmt::format("t{}n{}", thread_, made_++);
        fuse_create_in in{};
        in.flags = O_CREAT | O_EXCL | O_WRONLY;
        in.mode = S_IFREG | 0644;
        in.umask = 022;
        slot.request(FUSE_CREATE, parent_).arg(in).name(mine.name).expect<CreateOut>();
        break;
      }
      case Step::release: {
        fuse_release_in in{};
        in.fh = mine.handle;
        in.flags = O_WRONLY;
        slot.request(FUSE_RELEASE, mine.node).arg(in);
        break;
      }
      case Step::unlink:
        slot.request(FUSE_UNLINK, parent_).name(mine.name);
        break;
    }
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    switch (mine.step) {
      case Step::create: {
        const auto made = slot.expect_reply<CreateOut>("CREATE");
        if (!made) return failed(made.error());
        mine.node = NodeId{made->entry.nodeid};
        mine.handle = made->open.fh;
        mine.step = Step::release;
        return Progress{.finished = false};
      }
      case Step::release:
        if (auto right = slot.expect_error("RELEASE", 0); !right) return failed(right.error());
        mine.step = Step::unlink;
        return Progress{.finished = false};
      case Step::unlink:
        if (auto right = slot.expect_error("UNLINK", 0); !right) return failed(right.error());
        mine.step = Step::create;
        break;
    }
    if (auto forgotten = forgets_.add(mine.node, 1); !forgotten) return failed(forgotten.error());
    forgets_.publish();
    return Progress{};
  }

 private:
  enum class Step { create, release, unlink };
  struct InSlot {
    Step step = Step::create;
    std::string name;
    NodeId node;
    std::uint64_t handle = 0;
  };
  Forgets& forgets_;
  NodeId parent_;
  unsigned thread_;
  std::uint64_t made_ = 0;
  std::vector<InSlot> in_slot_;
};

class StatStorm final : public Workload {
 public:
  explicit StatStorm(const Part& part)
      : forgets_(part.forgets), tree_(part.tree), random_(part.thread + 1), in_slot_(part.depth) {}
  bool next(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    if (mine.found) {
      slot.request(FUSE_GETATTR, mine.node).arg(fuse_getattr_in{}).expect<fuse_attr_out>();
    } else {
      const auto& directory = tree_.storm_directories[random_.below(tree_.storm_directories.size())];
      const std::string& name = tree_.storm_names[random_.below(tree_.storm_names.size())];
      slot.request(FUSE_LOOKUP, directory.node).name(name).expect<fuse_entry_out>();
    }
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    mine.found = !mine.found;
    if (mine.found) {
      const auto entry = slot.expect_reply<fuse_entry_out>("LOOKUP");
      if (!entry) return failed(entry.error());
      mine.node = NodeId{entry->nodeid};
      mine.inode = entry->attr.ino;
      return Progress{.finished = false};
    }
    const auto attributes = slot.expect_reply<fuse_attr_out>("GETATTR");
    if (!attributes) return failed(attributes.error());
    if (attributes->attr.ino != mine.inode)
      return failed(fmt::format("GETATTR: inode {} where LOOKUP said {}", attributes->attr.ino, mine.inode));
    if (auto forgotten = forgets_.add(mine.node, 1); !forgotten) return failed(forgotten.error());
    forgets_.publish();
    return Progress{};
  }

 private:
  struct InSlot {
    NodeId node;
    std::uint64_t inode = 0;
    bool found = false;  // looked up: GETATTR is next
  };
  Forgets& forgets_;
  const Tree& tree_;
  Random random_;
  std::vector<InSlot> in_slot_;
};

}  // namespace

MadeWorkload make_open_release(const Part& part) { return std::make_unique<OpenRelease>(part); }
MadeWorkload make_create_unlink(const Part& part) { return std::make_unique<CreateUnlink>(part); }
MadeWorkload make_stat_storm(const Part& part) { return std::make_unique<StatStorm>(part); }

}  // namespace fusewire::bench
