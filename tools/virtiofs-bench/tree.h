// Tree: the files that the workloads work on, made and removed through FUSE alone. What the server knows of
// it is what a kernel would hold: the directories, the files of known/ and the data file; all other files
// were forgotten after they had been made.
//
//   virtiofs-bench.PID.SERVER/
//     known/k00000...   empty files that stay looked up (getattr, lookup, open)
//     many/e00000...    empty files in one directory (readdirplus)
//     storm/d000/f000   a bigger tree (stat storm)
//     scratch/          what workloads make and remove themselves
//   virtiofs-bench.PID.data   each block of 4 KiB begins with its own number
//
// Servers that share one directory have the data file in common: whether its pages lie well in the host's
// memory is a matter of luck, which makes up to 40% of the time to copy them, and has to be the same for all.
//
// Used by one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "virtiofs-bench/client.h"
#include "virtiofs-bench/expected.h"

namespace fusewire::bench {

inline constexpr std::uint64_t kBlockSize = 4096;

struct TreeSizes {
  unsigned known = 1024;             // files of known/
  unsigned entries = 10'000;         // of many/
  unsigned storm_directories = 100;  // of storm/
  unsigned storm_files = 200;        // of each of them
  std::uint64_t data_bytes = std::uint64_t{128} << 20;
};

struct Tree {
  struct Node {
    std::string name;
    NodeId node;
  };

  TreeSizes sizes;
  std::string name, data_name;  // in the share's root
  NodeId top;
  bool made_data = false;  // by this tree, and not found
  NodeId known_directory, many, storm, scratch, data;
  std::vector<Node> known;              // each with one reference
  std::vector<std::string> many_names;  // of many/
  std::vector<Node> storm_directories;
  std::vector<std::string> storm_names;  // in each of them
};

// Makes and removes a tree, with as many requests at a time as there are slots, while nobody else uses the
// queue. All that it is given is borrowed.
class TreeBuilder {
 public:
  // `slots`: with room for some data.
  TreeBuilder(Client& client, driver::Queue& queue, const Link& link, Forgets& forgets, std::span<Slot> slots)
      : client_(client), queue_(queue), link_(link), forgets_(forgets), slots_(slots) {}

  // Makes what tree.sizes says under the names in it, and fills in the rest of `tree`.
  Expected<void> build(Tree& tree);
  // Removes all of it and gives every reference back.
  Expected<void> remove(Tree& tree);

 private:
  Expected<NodeId> make_directory(NodeId parent, const std::string& name);
  // Keeps the nodes, if `nodes` is there for that, or forgets them.
  Expected<void> make_files(NodeId parent, std::span<const std::string> names,
                            std::vector<Tree::Node>* nodes);
  Expected<void> remove_files(NodeId parent, std::span<const std::string> names);
  Expected<void> build_storm(Tree& tree);
  Expected<void> build_data(Tree& tree);
  Expected<void> remove_storm(Tree& tree);

  Client& client_;
  driver::Queue& queue_;
  const Link& link_;
  Forgets& forgets_;
  std::span<Slot> slots_;
};

}  // namespace fusewire::bench
