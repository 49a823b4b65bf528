#include "virtiofs-bench/tree.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtiofs-bench/loop.h"

namespace fusewire::bench {
namespace {

// Makes empty files in a directory, and keeps their nodes if asked to.
class MakeFiles final : public Workload {
 public:
  MakeFiles(NodeId parent, std::span<Tree::File> files) : parent_(parent), files_(files) {}
  bool next(Slot& slot) override {
    if (next_ == files_.size()) return false;
    if (slot.index() >= at_.size()) at_.resize(slot.index() + 1);
    at_[slot.index()] = next_;
    fuse_mknod_in in{};
    in.mode = S_IFREG | 0644;
    in.umask = 022;
    slot.request(FUSE_MKNOD, parent_).arg(in).name(files_[next_++].name).expect<fuse_entry_out>();
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    if (auto right = expect_error(slot, "MKNOD"); !right) return failed(right.error());
    Tree::File& file = files_[at_[slot.index()]];
    file.node = NodeId{slot.reply<fuse_entry_out>().nodeid};
    file.lookups = 1;
    return Progress{};
  }

 private:
  NodeId parent_;
  std::span<Tree::File> files_;
  std::size_t next_ = 0;
  std::vector<std::size_t> at_;
};

// Looks each file up and unlinks it, as a kernel does: a server may refuse to unlink what it was never asked
// for.
class RemoveFiles final : public Workload {
 public:
  RemoveFiles(NodeId parent, std::span<const std::string> names, Forgets& forgets)
      : parent_(parent), names_(names), forgets_(forgets) {}
  bool next(Slot& slot) override {
    if (slot.index() >= in_slot_.size()) in_slot_.resize(slot.index() + 1);
    InSlot& mine = in_slot_[slot.index()];
    if (!mine.found && next_ == names_.size()) return false;
    if (mine.found) {
      slot.request(FUSE_UNLINK, parent_).name(names_[mine.which]);
    } else {
      mine.which = next_++;
      slot.request(FUSE_LOOKUP, parent_).name(names_[mine.which]).expect<fuse_entry_out>();
    }
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    InSlot& mine = in_slot_[slot.index()];
    mine.found = !mine.found;
    if (auto right = expect_error(slot, mine.found ? "LOOKUP" : "UNLINK"); !right)
      return failed(right.error());
    if (mine.found) {
      mine.node = NodeId{slot.reply<fuse_entry_out>().nodeid};
      return Progress{.finished = false};
    }
    if (auto forgotten = forgets_.add(mine.node, 1); !forgotten) return failed(forgotten.error());
    return Progress{};
  }

 private:
  struct InSlot {
    std::size_t which = 0;
    NodeId node;
    bool found = false;  // looked up, not unlinked yet
  };
  NodeId parent_;
  std::span<const std::string> names_;
  Forgets& forgets_;
  std::size_t next_ = 0;
  std::vector<InSlot> in_slot_;
};

// Writes the data file from its beginning, each block with its number in front.
class FillData final : public Workload {
 public:
  FillData(NodeId node, FileHandle handle, std::uint64_t size, std::size_t piece)
      : node_(node), handle_(handle), size_(size), piece_(piece) {}
  bool next(Slot& slot) override {
    if (offset_ >= size_) return false;
    const std::size_t length = std::min<std::uint64_t>(piece_, size_ - offset_);
    for (std::size_t at = 0; at < length; at += kBlockSize) {
      const std::uint64_t number = (offset_ + at) / kBlockSize;
      std::memcpy(slot.data() + at, &number, sizeof number);
    }
    fuse_write_in in{};
    in.fh = handle_.get();
    in.offset = offset_;
    in.size = static_cast<std::uint32_t>(length);
    slot.request(FUSE_WRITE, node_).arg(in).send_data(length).expect<fuse_write_out>();
    offset_ += length;
    return true;
  }
  Expected<Progress> check(Slot& slot) override {
    if (auto right = expect_error(slot, "WRITE"); !right) return failed(right.error());
    return Progress{};
  }

 private:
  NodeId node_;
  FileHandle handle_;
  std::uint64_t size_;
  std::size_t piece_;
  std::uint64_t offset_ = 0;
};

std::vector<std::string> names_of(std::span<const Tree::File> files) {
  std::vector<std::string> names;
  for (const Tree::File& file : files) names.push_back(file.name);
  return names;
}

}  // namespace

Expected<void> TreeBuilder::run(Workload& workload) {
  LoopTotals totals;
  const std::atomic<bool> never{false};
  return drive(
      {.queue = queue_, .slots = slots_, .workload = workload, .stop = never, .socket_fd = socket_fd_},
      totals);
}

Expected<NodeId> TreeBuilder::directory(NodeId parent, const std::string& name) {
  const auto entry = client_.mkdir(parent, name);
  if (!entry) return failed(entry.error());
  return NodeId{entry->nodeid};
}

Expected<void> TreeBuilder::build(Tree& tree) {
  tree.name = fmt::format("virtiofs-bench.{}", ::getpid());
  const auto make = [this](NodeId parent, const char* name, NodeId& node) -> Expected<void> {
    const auto made = directory(parent, name);
    if (made) node = *made;
    return made ? Expected<void>{} : failed(made.error());
  };
  if (auto made = make(kRootNode, tree.name.c_str(), tree.top); !made) return made;
  if (auto made = make(tree.top, "many", tree.many); !made) return made;
  if (auto made = make(tree.top, "storm", tree.storm); !made) return made;
  if (auto made = make(tree.top, "scratch", tree.scratch); !made) return made;
  for (unsigned i = 0; i < tree.sizes.entries; ++i) tree.files.push_back({fmt::format("e{:05}", i), {}, 0});
  MakeFiles many(tree.many, tree.files);
  if (auto made = run(many); !made) return made;
  for (unsigned i = 0; i < tree.sizes.appenders; ++i)
    tree.appended.push_back({fmt::format("append{:04}", i), {}, 0});
  MakeFiles appended(tree.scratch, tree.appended);
  if (auto made = run(appended); !made) return made;
  if (auto made = build_storm(tree); !made) return made;
  return build_data(tree);
}

Expected<void> TreeBuilder::build_storm(Tree& tree) {
  for (unsigned i = 0; i < tree.sizes.storm_files; ++i) tree.storm_names.push_back(fmt::format("f{:03}", i));
  for (unsigned i = 0; i < tree.sizes.storm_directories; ++i) {
    const std::string name = fmt::format("d{:03}", i);
    const auto node = directory(tree.storm, name);
    if (!node) return failed(node.error());
    tree.storm_directories.push_back({name, *node});
    std::vector<Tree::File> files;
    for (const std::string& file : tree.storm_names) files.push_back({file, {}, 0});
    MakeFiles storm(*node, files);
    if (auto made = run(storm); !made) return made;
    // Its files shall not be known: looking them up is the workload.
    for (const Tree::File& file : files)
      if (auto forgotten = forgets_.add(file.node, file.lookups); !forgotten) return forgotten;
  }
  return forgets_.drain();
}

Expected<void> TreeBuilder::build_data(Tree& tree) {
  const auto made = client_.create(tree.top, "data");
  if (!made) return failed(made.error());
  tree.data = NodeId{made->entry.nodeid};
  const FileHandle handle{made->open.fh};
  std::size_t piece = std::size_t{128} << 10;
  for (const Slot& slot : slots_) piece = std::min(piece, slot.data_room());
  FillData fill(tree.data, handle, tree.sizes.data_bytes, piece);
  if (auto filled = run(fill); !filled) return filled;
  return client_.release(tree.data, handle);
}

Expected<void> TreeBuilder::remove(Tree& tree) {
  const auto remove_files = [this](NodeId parent, const std::vector<std::string>& names) {
    RemoveFiles removal(parent, names, forgets_);
    return run(removal);
  };
  if (auto done = remove_files(tree.many, names_of(tree.files)); !done) return done;
  if (auto done = remove_files(tree.scratch, names_of(tree.appended)); !done) return done;
  for (const Tree::Directory& directory : tree.storm_directories) {
    if (auto done = remove_files(directory.node, tree.storm_names); !done) return done;
    if (auto done = client_.rmdir(tree.storm, directory.name); !done) return done;
    if (auto done = forgets_.add(directory.node, 1); !done) return done;
  }
  for (const std::span<const Tree::File> files : {std::span<const Tree::File>(tree.files), {tree.appended}})
    for (const Tree::File& file : files)
      if (auto done = forgets_.add(file.node, file.lookups); !done) return done;
  if (auto done = client_.unlink(tree.top, "data"); !done) return done;
  for (const char* name : {"many", "storm", "scratch"})
    if (auto done = client_.rmdir(tree.top, name); !done) return done;
  if (auto done = client_.rmdir(kRootNode, tree.name); !done) return done;
  for (const NodeId node : {tree.data, tree.many, tree.storm, tree.scratch, tree.top})
    if (auto done = forgets_.add(node, 1); !done) return done;
  return forgets_.drain();
}

}  // namespace fusewire::bench
