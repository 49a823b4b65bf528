// hello: a file system with one file. The least that there is to write: four methods.
#include <dirent.h>
#include <fusewire/sync_file_system.h>

#include <algorithm>
#include <string_view>

#include "run.h"

namespace {

using namespace fusewire;

constexpr NodeId kHello{2};
constexpr std::string_view kName = "hello";
constexpr std::string_view kText = "Hello, world!\n";

class HelloFs : public SyncFileSystem {
  static fuse_attr attributes(NodeId node) {
    fuse_attr attr{};
    attr.ino = node.get();
    attr.mode = node == kRootNode ? S_IFDIR | 0555 : S_IFREG | 0444;
    attr.nlink = node == kRootNode ? 2 : 1;
    attr.size = node == kHello ? kText.size() : 0;
    return attr;
  }

  Result<fuse_entry_out> do_lookup(const Request<op::Lookup>& request) override {
    if (request.header.node != kRootNode || request.tail.name != kName) return fail(ENOENT);
    return EntryAnswer{
        .node = kHello, .attr = attributes(kHello), .entry_valid = kForever, .attr_valid = kForever};
  }

  Result<fuse_attr_out> do_getattr(const Request<op::Getattr>& request) override {
    return AttrAnswer{.attr = attributes(request.header.node), .attr_valid = kForever};
  }

  // Nothing has to be done to open a file, so that OPEN is left out: the kernel takes ENOSYS as success and
  // asks no more.
  Result<Data> do_read(const Request<op::Read>& request) override {
    const std::size_t start = std::min<std::size_t>(request.in.offset, kText.size());
    return std::string(kText.substr(start, request.in.size));
  }

  Result<void> do_readdir(const Request<op::Readdir>& request, DirectoryBuilder& entries) override {
    const DirectoryEntry all[] = {
        {.ino = kRootNode.get(), .next = 1, .type = DT_DIR, .name = "."},
        {.ino = kRootNode.get(), .next = 2, .type = DT_DIR, .name = ".."},
        {.ino = kHello.get(), .next = 3, .type = DT_REG, .name = kName},
    };
    for (const DirectoryEntry& entry : all) {
      if (entry.next > request.in.offset && !entries.add(entry)) break;
    }
    return {};
  }
};

}  // namespace

int main(int argc, char** argv) {
  HelloFs file_system;
  return example::run(file_system, argc, argv);
}
