// memory: a read-write file system in memory. InodeTable keeps what the kernel knows: a file that is removed
// lives on in the table until the kernel forgets it, which is when nobody has it open any more.
//
// One lock guards the whole tree. OPEN, CREATE and OPENDIR are left out: the kernel does without them, and
// makes files with MKNOD.
#include <fusewire/inode_table.h>
#include <fusewire/sync_file_system.h>

#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "run.h"

namespace {

using namespace fusewire;

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;  // in one file

struct Node {
  fuse_attr attr{};
  std::string content;  // of a file, or a symbolic link's target
  // A directory's entries by name and by the position that READDIR goes on from, which an entry keeps while
  // others come and go. 1 and 2 are "." and "..".
  struct Entry {
    std::string name;
    std::shared_ptr<Node> node;
  };
  std::map<std::uint64_t, Entry> entries;
  std::map<std::string, std::uint64_t, std::less<>> positions;
  std::uint64_t next_position = 3;

  bool is_directory() const { return S_ISDIR(attr.mode); }
};
using NodePtr = std::shared_ptr<Node>;

class MemoryFs : public SyncFileSystem {
 public:
  void destroy() override { table_.forget_all(); }
  void forget_node(NodeId node, std::uint64_t lookups) override { table_.forget(node, lookups); }

 private:
  // For each method: the tree's lock, and the node that the request is about, null if there is none.
  template <class Op>
  NodePtr node_of(const Request<Op>& request) {
    return table_.find(request.header.node);
  }

  static void touch(fuse_attr& attr, bool content) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    attr.ctime = static_cast<std::uint64_t>(now.tv_sec);
    attr.ctimensec = static_cast<std::uint32_t>(now.tv_nsec);
    if (content) attr.mtime = attr.ctime, attr.mtimensec = attr.ctimensec;
  }
  NodePtr make(std::uint32_t mode, const Header& header) {
    auto node = std::make_shared<Node>();
    node->attr.ino = ++last_ino_;
    node->attr.mode = mode;
    node->attr.nlink = S_ISDIR(mode) ? 2 : 1;
    node->attr.uid = header.uid.get();
    node->attr.gid = header.gid.get();
    node->attr.blksize = 4096;
    touch(node->attr, true);
    node->attr.atime = node->attr.mtime, node->attr.atimensec = node->attr.mtimensec;
    return node;
  }
  static void resize(Node& node, std::uint64_t size) {
    node.content.resize(size);
    node.attr.size = size;
    node.attr.blocks = (size + 511) / 512;
    touch(node.attr, true);
  }

  static Node::Entry* find(Node& parent, std::string_view name) {
    const auto found = parent.positions.find(name);
    return found == parent.positions.end() ? nullptr : &parent.entries.at(found->second);
  }
  static void insert(Node& parent, std::string_view name, NodePtr node) {
    const std::uint64_t position = parent.next_position++;
    if (node->is_directory()) ++parent.attr.nlink;
    parent.entries.emplace(position, Node::Entry{.name = std::string(name), .node = std::move(node)});
    parent.positions.emplace(name, position);
    touch(parent.attr, true);
  }
  static void erase(Node& parent, std::string_view name) {
    const auto found = parent.positions.find(name);
    if (parent.entries.at(found->second).node->is_directory()) --parent.attr.nlink;
    parent.entries.erase(found->second);
    parent.positions.erase(found);
    touch(parent.attr, true);
  }

  // Every answer that gives the kernel an entry counts one lookup.
  Result<fuse_entry_out> entry_for(const NodePtr& node) {
    const auto known = table_.acquire(node->attr.ino, node);
    return EntryAnswer{.node = known.id,
                       .generation = known.generation,
                       .attr = node->attr,
                       .entry_valid = kForever,
                       .attr_valid = kForever};
  }
  template <class Op>
  Result<fuse_entry_out> add(const Request<Op>& request, std::uint32_t mode, std::string_view name,
                             std::string content = {}) {
    const std::lock_guard lock(mutex_);
    const NodePtr parent = node_of(request);
    if (!parent) return fail(ESTALE);
    if (parent->attr.nlink == 0) return fail(ENOENT);
    if (find(*parent, name) != nullptr) return fail(EEXIST);
    const NodePtr node = make(mode, request.header);
    resize(*node, content.size());
    node->content = std::move(content);
    insert(*parent, name, node);
    return entry_for(node);
  }
  template <class Op>
  Result<void> remove(const Request<Op>& request, bool directory) {
    const std::lock_guard lock(mutex_);
    const NodePtr parent = node_of(request);
    if (!parent) return fail(ESTALE);
    const Node::Entry* const entry = find(*parent, request.tail.name);
    if (entry == nullptr) return fail(ENOENT);
    if (const int error = removable(*entry->node, directory); error != 0) return fail(error);
    unlink_node(*entry->node);
    erase(*parent, request.tail.name);
    return {};
  }
  static int removable(const Node& node, bool as_directory) {
    if (node.is_directory() != as_directory) return as_directory ? ENOTDIR : EISDIR;
    return node.entries.empty() ? 0 : ENOTEMPTY;
  }
  static void unlink_node(Node& node) {
    node.attr.nlink -= node.is_directory() ? 2 : 1;
    touch(node.attr, false);
  }

  Result<fuse_entry_out> do_lookup(const Request<op::Lookup>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr parent = node_of(request);
    if (!parent) return fail(ESTALE);
    const Node::Entry* const entry = find(*parent, request.tail.name);
    if (entry == nullptr) return fail(ENOENT);
    return entry_for(entry->node);
  }
  Result<fuse_attr_out> do_getattr(const Request<op::Getattr>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr node = node_of(request);
    if (!node) return fail(ESTALE);
    return AttrAnswer{.attr = node->attr, .attr_valid = kForever};
  }
  Result<fuse_attr_out> do_setattr(const Request<op::Setattr>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr node = node_of(request);
    if (!node) return fail(ESTALE);
    const fuse_setattr_in& in = request.in;
    fuse_attr& attr = node->attr;
    if ((in.valid & FATTR_SIZE) != 0) {
      if (in.size > kMostBytes) return fail(EFBIG);
      resize(*node, in.size);
    }
    touch(attr, false);
    if ((in.valid & FATTR_MODE) != 0) attr.mode = (attr.mode & S_IFMT) | (in.mode & 07777);
    if ((in.valid & FATTR_UID) != 0) attr.uid = in.uid;
    if ((in.valid & FATTR_GID) != 0) attr.gid = in.gid;
    // "Now" is ctime, which was just set.
    const bool atime_now = (in.valid & FATTR_ATIME_NOW) != 0, mtime_now = (in.valid & FATTR_MTIME_NOW) != 0;
    if (atime_now) attr.atime = attr.ctime, attr.atimensec = attr.ctimensec;
    if (mtime_now) attr.mtime = attr.ctime, attr.mtimensec = attr.ctimensec;
    if ((in.valid & FATTR_ATIME) != 0 && !atime_now) attr.atime = in.atime, attr.atimensec = in.atimensec;
    if ((in.valid & FATTR_MTIME) != 0 && !mtime_now) attr.mtime = in.mtime, attr.mtimensec = in.mtimensec;
    return AttrAnswer{.attr = attr, .attr_valid = kForever};
  }

  Result<fuse_entry_out> do_mknod(const Request<op::Mknod>& request) override {
    return add(request, request.in.mode, request.tail.name);
  }
  Result<fuse_entry_out> do_mkdir(const Request<op::Mkdir>& request) override {
    return add(request, S_IFDIR | (request.in.mode & 07777), request.tail.name);
  }
  Result<fuse_entry_out> do_symlink(const Request<op::Symlink>& request) override {
    return add(request, S_IFLNK | 0777, request.tail.name, std::string(request.tail.target));
  }
  Result<std::string> do_readlink(const Request<op::Readlink>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr node = node_of(request);
    if (!node) return fail(ESTALE);
    return node->content;
  }
  Result<fuse_entry_out> do_link(const Request<op::Link>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr parent = node_of(request), node = table_.find(NodeId{request.in.oldnodeid});
    if (!parent || !node) return fail(ESTALE);
    if (find(*parent, request.tail.name) != nullptr) return fail(EEXIST);
    ++node->attr.nlink;
    touch(node->attr, false);
    insert(*parent, request.tail.name, node);
    return entry_for(node);
  }
  Result<void> do_unlink(const Request<op::Unlink>& request) override { return remove(request, false); }
  Result<void> do_rmdir(const Request<op::Rmdir>& request) override { return remove(request, true); }
  Result<void> do_rename(const Request<op::Rename>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr from = node_of(request), to = table_.find(NodeId{request.in.newdir});
    if (!from || !to) return fail(ESTALE);
    const Node::Entry* const entry = find(*from, request.tail.old_name);
    if (entry == nullptr) return fail(ENOENT);
    const NodePtr node = entry->node;
    if (const Node::Entry* const there = find(*to, request.tail.new_name)) {
      if (there->node == node) return {};  // two links of one file: rename(2) does nothing
      if (const int error = removable(*there->node, node->is_directory()); error != 0) return fail(error);
      unlink_node(*there->node);
      erase(*to, request.tail.new_name);
    }
    erase(*from, request.tail.old_name);
    insert(*to, request.tail.new_name, node);
    touch(node->attr, false);
    return {};
  }

  Result<Data> do_read(const Request<op::Read>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr node = node_of(request);
    if (!node) return fail(ESTALE);
    if (request.in.offset >= node->content.size()) return Data(std::string());
    const auto rest = as_bytes(node->content).subspan(request.in.offset);
    return Data::in_room(
        request.room().copy_from(rest.first(std::min<std::size_t>(rest.size(), request.in.size))));
  }
  Result<std::uint32_t> do_write(const Request<op::Write>& request) override {
    const std::lock_guard lock(mutex_);
    const NodePtr node = node_of(request);
    if (!node) return fail(ESTALE);
    const fuse_write_in& in = request.in;
    if (in.offset > kMostBytes || in.size > kMostBytes - in.offset) return fail(EFBIG);
    resize(*node, std::max<std::uint64_t>(in.offset + in.size, node->content.size()));
    request.tail.data.take_front(
        std::as_writable_bytes(std::span(node->content)).subspan(in.offset, in.size));
    return in.size;
  }

  Result<void> do_readdir(const Request<op::Readdir>& request, DirectoryBuilder& entries) override {
    const std::lock_guard lock(mutex_);
    const NodePtr node = node_of(request);
    if (!node) return fail(ESTALE);
    const std::uint64_t offset = request.in.offset;
    const auto add = [&](std::uint64_t position, std::string_view name, const fuse_attr& attr) {
      return entries.add({.ino = attr.ino, .next = position, .type = attr.mode >> 12, .name = name});
    };
    if (offset < 1 && !add(1, ".", node->attr)) return {};
    if (offset < 2 && !add(2, "..", node->attr)) return {};
    for (auto at = node->entries.upper_bound(offset); at != node->entries.end(); ++at) {
      if (!add(at->first, at->second.name, at->second.node->attr)) break;
    }
    return {};
  }
  Result<fuse_statfs_out> do_statfs(const Request<op::Statfs>&) override {
    fuse_statfs_out out{};
    out.st.bsize = out.st.frsize = 4096;
    out.st.namelen = 255;
    return out;
  }

  std::mutex mutex_;
  std::uint64_t last_ino_ = 0;
  const NodePtr root_ = make(S_IFDIR | 0755, Header{});
  InodeTable<std::uint64_t, Node> table_{root_->attr.ino, root_};
};

}  // namespace

int main(int argc, char** argv) {
  MemoryFs file_system;
  return example::run(file_system, argc, argv);
}
