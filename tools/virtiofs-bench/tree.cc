#include "virtiofs-bench/tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "virtiofs-bench/loop.h"
#include "virtiofs-bench/tree_jobs.h"

namespace fusewire::bench {
namespace {

std::vector<std::string> numbered(char letter, unsigned digits, unsigned count) {
  std::vector<std::string> names;
  names.reserve(count);
  for (unsigned i = 0; i < count; ++i) names.push_back(fmt::format("{}{:0{}}", letter, i, digits));
  return names;
}

// Runs a job to its end, even when the user wants to stop: half a tree cannot be removed.
Expected<void> complete(Workload& job, driver::Queue& queue, std::span<Slot> slots, const Link& link) {
  const std::atomic<bool> never{false};
  const Link unhurried{link.socket_fd, never};
  LoopTotals totals;
  return drive({.queue = queue, .slots = slots, .workload = job, .stop = never, .link = unhurried}, totals);
}

}  // namespace

Expected<NodeId> TreeBuilder::make_directory(NodeId parent, const std::string& name) {
  const auto entry = client_.mkdir(parent, name);
  if (!entry) return failed(entry.error());
  return NodeId{entry->nodeid};
}

Expected<void> TreeBuilder::make_files(NodeId parent, std::span<const std::string> names,
                                       std::vector<Tree::Node>* nodes) {
  MakeFiles job(parent, names, nodes, forgets_);
  if (auto made = complete(job, queue_, slots_, link_); !made) return made;
  return forgets_.drain();
}

Expected<void> TreeBuilder::remove_files(NodeId parent, std::span<const std::string> names) {
  RemoveFiles job(parent, names, forgets_);
  return complete(job, queue_, slots_, link_);
}

Expected<void> TreeBuilder::build(Tree& tree) {
  const auto top = make_directory(kRootNode, tree.name);
  if (!top) return failed(top.error());
  tree.top = *top;
  const struct {
    const char* name;
    NodeId& node;
  } directories[] = {
      {"known", tree.known_directory}, {"many", tree.many}, {"storm", tree.storm}, {"scratch", tree.scratch}};
  for (const auto& [name, node] : directories) {
    const auto made = make_directory(tree.top, name);
    if (!made) return failed(made.error());
    node = *made;
  }
  const std::vector<std::string> known = numbered('k', 5, tree.sizes.known);
  for (const std::string& name : known) tree.known.push_back({name, {}});
  if (auto made = make_files(tree.known_directory, known, &tree.known); !made) return made;
  tree.many_names = numbered('e', 5, tree.sizes.entries);
  if (auto made = make_files(tree.many, tree.many_names, nullptr); !made) return made;
  if (auto made = build_storm(tree); !made) return made;
  return build_data(tree);
}

Expected<void> TreeBuilder::build_storm(Tree& tree) {
  tree.storm_names = numbered('f', 3, tree.sizes.storm_files);
  for (const std::string& name : numbered('d', 3, tree.sizes.storm_directories)) {
    const auto node = make_directory(tree.storm, name);
    if (!node) return failed(node.error());
    tree.storm_directories.push_back({name, *node});
    if (auto made = make_files(*node, tree.storm_names, nullptr); !made) return made;
  }
  return {};
}

Expected<void> TreeBuilder::build_data(Tree& tree) {
  client_.slot().request(FUSE_LOOKUP, kRootNode).name(tree.data_name).expect<fuse_entry_out>();
  if (auto looked = client_.send(); !looked) return looked;
  const auto found = client_.slot().expect_reply<fuse_entry_out>("LOOKUP");
  if (found && found->attr.size == tree.sizes.data_bytes) {
    tree.data = NodeId{found->nodeid};
    return {};
  }
  const auto made = client_.create(kRootNode, tree.data_name);
  if (!made) return failed(made.error());
  tree.made_data = true;
  tree.data = NodeId{made->entry.nodeid};
  const FileHandle handle{made->open.fh};
  std::size_t piece = std::size_t{128} << 10;
  for (const Slot& slot : slots_) piece = std::min(piece, slot.data_room());
  FillData job(tree.data, handle, tree.sizes.data_bytes, piece);
  if (auto filled = complete(job, queue_, slots_, link_); !filled) return filled;
  return client_.release(tree.data, handle);
}

Expected<void> TreeBuilder::remove_storm(Tree& tree) {
  for (const Tree::Node& directory : tree.storm_directories) {
    if (auto done = remove_files(directory.node, tree.storm_names); !done) return done;
    if (auto done = client_.rmdir(tree.storm, directory.name); !done) return done;
    if (auto done = forgets_.add(directory.node, 1); !done) return done;
  }
  return {};
}

Expected<void> TreeBuilder::remove(Tree& tree) {
  std::vector<std::string> known;
  known.reserve(tree.known.size());
  for (const Tree::Node& file : tree.known) known.push_back(file.name);
  if (auto done = remove_files(tree.known_directory, known); !done) return done;
  if (auto done = remove_files(tree.many, tree.many_names); !done) return done;
  if (auto done = remove_storm(tree); !done) return done;
  if (tree.made_data)
    if (auto done = client_.unlink(kRootNode, tree.data_name); !done) return done;
  for (const char* name : {"known", "many", "storm", "scratch"})
    if (auto done = client_.rmdir(tree.top, name); !done) return done;
  if (auto done = client_.rmdir(kRootNode, tree.name); !done) return done;
  for (const Tree::Node& file : tree.known)
    if (auto done = forgets_.add(file.node, 1); !done) return done;
  for (const NodeId node : {tree.data, tree.known_directory, tree.many, tree.storm, tree.scratch, tree.top})
    if (auto done = forgets_.add(node, 1); !done) return done;
  return forgets_.drain();
}

}  // namespace fusewire::bench
