// Tree: the files that the workloads work on, made and removed through FUSE alone, below a directory of its
// own in the share. Node ids stay known (and are forgotten at the end), as a kernel knows what it has in use.
//
//   virtiofs-bench.PID/
//     many/e00000...   empty files (readdirplus, lookup, getattr, open)
//     storm/d000/f000  a bigger tree (stat storm)
//     scratch/         what create+unlink makes, and one file to append to for each slot
//     data             each block of 4 KiB begins with its own number
#pragma once

#include <string>
#include <vector>

#include "virtiofs-bench/client.h"
#include "virtiofs-bench/expected.h"

namespace fusewire::bench {

struct TreeSizes {
  unsigned entries = 10'000;         // of many/
  unsigned storm_directories = 100;  // of storm/
  unsigned storm_files = 200;        // of each
  unsigned appenders = 0;            // files to append to
  std::uint64_t data_bytes = std::uint64_t{128} << 20;
};

struct Tree {
  TreeSizes sizes;
  std::string name;
  NodeId top, many, storm, scratch, data;
  // A node for each name that the workloads look up, with the references that the server counts for us.
  struct File {
    std::string name;
    NodeId node;
    std::uint64_t lookups = 0;
  };
  struct Directory {
    std::string name;
    NodeId node;
  };
  std::vector<File> files;                   // of many/
  std::vector<Directory> storm_directories;  // of storm/
  std::vector<std::string> storm_names;      // in each of them
  std::vector<File> appended;                // in scratch/
};

inline constexpr std::uint64_t kBlockSize = 4096;

class Workload;

// Makes and removes a tree, with many requests at a time. Used by one thread, while nobody else uses the
// queue.
class TreeBuilder {
 public:
  // `slots`: with room for some data. All are borrowed.
  TreeBuilder(Client& client, driver::Queue& queue, int socket_fd, Forgets& forgets, std::span<Slot> slots)
      : client_(client), queue_(queue), socket_fd_(socket_fd), forgets_(forgets), slots_(slots) {}

  // Makes what tree.sizes says, and fills in the rest of `tree`.
  Expected<void> build(Tree& tree);
  // Removes all of it and gives every reference back.
  Expected<void> remove(Tree& tree);

 private:
  Expected<void> run(Workload& workload);
  Expected<NodeId> directory(NodeId parent, const std::string& name);
  Expected<void> build_storm(Tree& tree);
  Expected<void> build_data(Tree& tree);

  Client& client_;
  driver::Queue& queue_;
  int socket_fd_;
  Forgets& forgets_;
  std::span<Slot> slots_;
};

}  // namespace fusewire::bench
