// What several examples have in common: a directory of a few writable files with fixed names, which are nodes
// 2, 3 and so on.
#pragma once

#include <dirent.h>
#include <fusewire/sync_file_system.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace example {

class FewFiles : public fusewire::SyncFileSystem {
 protected:
  explicit FewFiles(std::vector<std::string_view> names) : names_(std::move(names)) {}

  // What the file holds now.
  virtual std::string content_of(fusewire::NodeId node) = 0;
  // How long the kernel may believe what it is told of a file.
  virtual fusewire::Validity validity() const { return {}; }

  static std::string taken(const fusewire::Request<fusewire::op::Write>& request) {
    std::string text(request.in.size, '\0');
    request.tail.data.take_front(std::as_writable_bytes(std::span(text)));
    return text;
  }

  fusewire::Result<fusewire::Data> do_read(const fusewire::Request<fusewire::op::Read>& request) override {
    const std::string content = content_of(request.header.node);
    const std::size_t start = std::min<std::size_t>(request.in.offset, content.size());
    return content.substr(start, request.in.size);
  }

 private:
  fuse_attr attributes(fusewire::NodeId node) {
    fuse_attr attr{};
    attr.ino = node.get();
    attr.mode = node == fusewire::kRootNode ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr.nlink = node == fusewire::kRootNode ? 2 : 1;
    if (node != fusewire::kRootNode) attr.size = content_of(node).size();
    return attr;
  }

  fusewire::Result<fuse_entry_out> do_lookup(
      const fusewire::Request<fusewire::op::Lookup>& request) override {
    const auto found = std::find(names_.begin(), names_.end(), request.tail.name);
    if (request.header.node != fusewire::kRootNode || found == names_.end()) return fusewire::fail(ENOENT);
    const fusewire::NodeId node{static_cast<std::uint64_t>(found - names_.begin()) + 2};
    return fusewire::EntryAnswer{
        .node = node, .attr = attributes(node), .entry_valid = fusewire::kForever, .attr_valid = validity()};
  }
  fusewire::Result<fuse_attr_out> do_getattr(
      const fusewire::Request<fusewire::op::Getattr>& request) override {
    return fusewire::AttrAnswer{.attr = attributes(request.header.node), .attr_valid = validity()};
  }
  // Sizes and times cannot be set; O_TRUNC asks for it.
  fusewire::Result<fuse_attr_out> do_setattr(
      const fusewire::Request<fusewire::op::Setattr>& request) override {
    return fusewire::AttrAnswer{.attr = attributes(request.header.node), .attr_valid = validity()};
  }
  fusewire::Result<void> do_readdir(const fusewire::Request<fusewire::op::Readdir>& request,
                                    fusewire::DirectoryBuilder& entries) override {
    for (std::uint64_t at = request.in.offset; at < names_.size(); ++at) {
      if (!entries.add({.ino = at + 2, .next = at + 1, .type = DT_REG, .name = names_[at]})) break;
    }
    return {};
  }

  const std::vector<std::string_view> names_;
};

}  // namespace example
