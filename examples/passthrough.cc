// passthrough: shows a directory of this host, --source=DIR, through the library. virtiofsd has the whole of
// it; this one shows how InodeTable, open handles and file ranges go together.
//
// A node is an O_PATH descriptor, found by device and inode number. Names are looked up one at a time below
// such a descriptor, so that no request leaves the directory, and only regular files are opened: whoever
// sends the requests may be another machine.
#include <dirent.h>
#include <fcntl.h>
#include <fusewire/c_string.h>
#include <fusewire/file_times.h>
#include <fusewire/inode_table.h>
#include <fusewire/sync_file_system.h>
#include <fusewire/unique_fd.h>
#include <sys/statvfs.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "run.h"

namespace {

using namespace fusewire;

struct Key {
  dev_t device;
  ino_t inode;
  friend bool operator==(const Key&, const Key&) = default;
};
struct KeyHash {
  std::size_t operator()(const Key& key) const { return key.inode * 31 + key.device; }
};
struct Inode {
  UniqueFd fd;
  std::uint32_t mode;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd.get()); }
};

// Open files and directories by the number that the kernel gets for them. Descriptors themselves would let it
// name any file of this process.
class Handles {
 public:
  FileHandle insert(UniqueFd fd) {
    const std::lock_guard lock(mutex_);
    open_.emplace(++last_, std::make_shared<UniqueFd>(std::move(fd)));
    return FileHandle{last_};
  }
  // Stays open as long as it is held, whatever RELEASE says meanwhile.
  std::shared_ptr<UniqueFd> find(std::uint64_t handle) {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(handle);
    return found == open_.end() ? nullptr : found->second;
  }
  void erase(std::uint64_t handle) {
    const std::lock_guard lock(mutex_);
    open_.erase(handle);
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    open_.clear();
  }

 private:
  std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, std::shared_ptr<UniqueFd>> open_;
};

class PassthroughFs : public SyncFileSystem {
 public:
  PassthroughFs(UniqueFd root, const struct stat& stat)
      : table_({stat.st_dev, stat.st_ino},
               std::make_shared<Inode>(Inode{.fd = std::move(root), .mode = stat.st_mode})) {}

  void destroy() override {
    handles_.clear();
    table_.forget_all();
  }
  void forget_node(NodeId node, std::uint64_t lookups) override { table_.forget(node, lookups); }

 private:
  static constexpr Validity kValid = std::chrono::seconds(1);  // others change the files too

  Result<fuse_entry_out> entry_for(NodeId parent, std::string_view name) {
    const auto directory = table_.find(parent);
    if (!directory) return fail(ESTALE);
    if (name == "." || name == "..") return fail(EINVAL);
    UniqueFd fd(openat(directory->fd.get(), c_string(name), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat stat{};
    if (!fd || fstat(fd.get(), &stat) != 0) return fail_errno();
    // What is open already keeps its number; the descriptor is dropped then.
    const auto known =
        table_.acquire({stat.st_dev, stat.st_ino},
                       std::make_shared<Inode>(Inode{.fd = std::move(fd), .mode = stat.st_mode}));
    return EntryAnswer{.node = known.id,
                       .generation = known.generation,
                       .attr = attr_of(stat),
                       .entry_valid = kValid,
                       .attr_valid = kValid};
  }
  // The entry that a system call on the parent's descriptor has just made. It belongs to the caller.
  template <class Op, class Make>
  Result<fuse_entry_out> make(const Request<Op>& request, std::string_view name, const Make& make_entry) {
    const auto directory = table_.find(request.header.node);
    if (!directory) return fail(ESTALE);
    if (make_entry(directory->fd.get()) != 0) return fail_errno();
    if (geteuid() == 0 && fchownat(directory->fd.get(), c_string(name), request.header.uid.get(),
                                   request.header.gid.get(), AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno();
    }
    return entry_for(request.header.node, name);
  }
  Result<UniqueFd> open_node(NodeId node, std::uint32_t type, int flags) {
    const auto inode = table_.find(node);
    if (!inode) return fail(ESTALE);
    if ((inode->mode & S_IFMT) != type) return fail(EACCES);
    UniqueFd fd(::open(inode->path().c_str(), flags | O_CLOEXEC));
    if (!fd) return fail_errno();
    return fd;
  }
  template <class Op>
  Result<fuse_attr_out> attributes_of(const Request<Op>& request) {
    const auto inode = table_.find(request.header.node);
    struct stat stat{};
    if (!inode) return fail(ESTALE);
    if (fstat(inode->fd.get(), &stat) != 0) return fail_errno();
    return AttrAnswer{.attr = attr_of(stat), .attr_valid = kValid};
  }
  static Result<void> done(int result) {
    if (result != 0) return fail_errno();
    return {};
  }

  Result<fuse_entry_out> do_lookup(const Request<op::Lookup>& request) override {
    return entry_for(request.header.node, request.tail.name);
  }
  Result<fuse_attr_out> do_getattr(const Request<op::Getattr>& request) override {
    return attributes_of(request);
  }
  Result<fuse_attr_out> do_setattr(const Request<op::Setattr>& request) override {
    const auto inode = table_.find(request.header.node);
    if (!inode) return fail(ESTALE);
    const fuse_setattr_in& in = request.in;
    const auto has = [&in](std::uint32_t bit) { return (in.valid & bit) != 0; };
    // Through /proc, which follows a symbolic link: its mode and size cannot be set, and its times are left.
    if (S_ISLNK(inode->mode) && !has(FATTR_UID | FATTR_GID)) return fail(EOPNOTSUPP);
    const std::string path = inode->path();
    if (has(FATTR_MODE) && chmod(path.c_str(), in.mode & 07777) != 0) return fail_errno();
    if (has(FATTR_UID | FATTR_GID) && fchownat(inode->fd.get(), "", has(FATTR_UID) ? in.uid : -1,
                                               has(FATTR_GID) ? in.gid : -1, AT_EMPTY_PATH) != 0) {
      return fail_errno();
    }
    if (has(FATTR_SIZE)) {
      if (!S_ISREG(inode->mode)) return fail(EINVAL);
      if (truncate(path.c_str(), static_cast<off_t>(in.size)) != 0) return fail_errno();
    }
    if (has(FATTR_ATIME | FATTR_MTIME)) {
      const auto times = times_to_set(in);
      if (utimensat(AT_FDCWD, path.c_str(), times.data(), 0) != 0) return fail_errno();
    }
    return attributes_of(request);
  }

  Result<fuse_entry_out> do_mknod(const Request<op::Mknod>& request) override {
    if (!S_ISREG(request.in.mode) && !S_ISFIFO(request.in.mode)) return fail(EPERM);
    return make(request, request.tail.name,
                [&](int parent) { return mknodat(parent, c_string(request.tail.name), request.in.mode, 0); });
  }
  Result<fuse_entry_out> do_mkdir(const Request<op::Mkdir>& request) override {
    return make(request, request.tail.name,
                [&](int parent) { return mkdirat(parent, c_string(request.tail.name), request.in.mode); });
  }
  Result<fuse_entry_out> do_symlink(const Request<op::Symlink>& request) override {
    return make(request, request.tail.name, [&](int parent) {
      return symlinkat(c_string(request.tail.target), parent, c_string(request.tail.name));
    });
  }
  Result<fuse_entry_out> do_link(const Request<op::Link>& request) override {
    const auto inode = table_.find(NodeId{request.in.oldnodeid}), parent = table_.find(request.header.node);
    if (!inode || !parent) return fail(ESTALE);
    if (linkat(AT_FDCWD, inode->path().c_str(), parent->fd.get(), c_string(request.tail.name),
               AT_SYMLINK_FOLLOW) != 0) {
      return fail_errno();
    }
    return entry_for(request.header.node, request.tail.name);
  }
  Result<void> do_unlink(const Request<op::Unlink>& request) override { return remove(request, 0); }
  Result<void> do_rmdir(const Request<op::Rmdir>& request) override { return remove(request, AT_REMOVEDIR); }
  template <class Op>
  Result<void> remove(const Request<Op>& request, int flags) {
    const auto parent = table_.find(request.header.node);
    if (!parent) return fail(ESTALE);
    return done(unlinkat(parent->fd.get(), c_string(request.tail.name), flags));
  }
  Result<void> do_rename(const Request<op::Rename>& request) override {
    const auto from = table_.find(request.header.node), to = table_.find(NodeId{request.in.newdir});
    if (!from || !to) return fail(ESTALE);
    return done(renameat(from->fd.get(), c_string(request.tail.old_name), to->fd.get(),
                         c_string(request.tail.new_name)));
  }
  Result<std::string> do_readlink(const Request<op::Readlink>& request) override {
    const auto inode = table_.find(request.header.node);
    if (!inode) return fail(ESTALE);
    std::string target(PATH_MAX, '\0');
    const ssize_t size = readlinkat(inode->fd.get(), "", target.data(), target.size());
    if (size < 0) return fail_errno();
    target.resize(static_cast<std::size_t>(size));
    return target;
  }

  Result<fuse_open_out> do_open(const Request<op::Open>& request) override {
    // O_APPEND is the kernel's business, which says where each write goes.
    auto fd =
        open_node(request.header.node, S_IFREG, static_cast<int>(request.in.flags) & (O_ACCMODE | O_TRUNC));
    if (!fd) return fail(fd.error());
    return OpenAnswer{.handle = handles_.insert(std::move(*fd))};
  }
  Result<void> do_release(const Request<op::Release>& request) override {
    handles_.erase(request.in.fh);
    return {};
  }
  // The bytes go from the file to the kernel or the machine without a stop here. The descriptor must be open
  // until they are sent: RELEASE comes after the last READ.
  Result<Data> do_read(const Request<op::Read>& request) override {
    const auto fd = handles_.find(request.in.fh);
    if (!fd) return fail(EBADF);
    return FileRange{
        .fd = fd->get(), .offset = static_cast<std::int64_t>(request.in.offset), .size = request.in.size};
  }
  Result<std::uint32_t> do_write(const Request<op::Write>& request) override {
    const auto fd = handles_.find(request.in.fh);
    if (!fd) return fail(EBADF);
    const auto payload = request.tail.data.head();
    const ssize_t written = pwritev(fd->get(), payload.data(), static_cast<int>(payload.size()),
                                    static_cast<off_t>(request.in.offset));
    if (written < 0) return fail_errno();
    return static_cast<std::uint32_t>(written);
  }
  Result<void> do_fsync(const Request<op::Fsync>& request) override {
    const auto fd = handles_.find(request.in.fh);
    if (!fd) return fail(EBADF);
    return done((request.in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0 ? ::fdatasync(fd->get())
                                                                     : ::fsync(fd->get()));
  }

  Result<void> do_readdir(const Request<op::Readdir>& request, DirectoryBuilder& entries) override {
    auto fd = open_node(request.header.node, S_IFDIR, O_RDONLY | O_DIRECTORY);
    if (!fd) return fail(fd.error());
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd->release()), closedir);
    if (!stream) return fail_errno();
    if (request.in.offset != 0) seekdir(stream.get(), static_cast<long>(request.in.offset));
    for (;;) {
      errno = 0;
      const dirent* const entry = ::readdir(stream.get());
      if (entry == nullptr) return done(errno);
      if (!entries.add({.ino = entry->d_ino,
                        .next = static_cast<std::uint64_t>(entry->d_off),
                        .type = entry->d_type,
                        .name = entry->d_name})) {
        return {};
      }
    }
  }
  Result<fuse_statfs_out> do_statfs(const Request<op::Statfs>& request) override {
    const auto inode = table_.find(request.header.node);
    struct statvfs from{};
    if (!inode) return fail(ESTALE);
    if (fstatvfs(inode->fd.get(), &from) != 0) return fail_errno();
    return fuse_statfs_out{.st = statfs_of(from)};
  }

  Handles handles_;
  InodeTable<Key, Inode, KeyHash> table_;
};

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kOption = "--source=";
  if (argc < 2 || !std::string_view(argv[1]).starts_with(kOption)) {
    std::fprintf(stderr, "usage: %s --source=DIR MOUNTPOINT [-o OPTION,...] or --socket-path=PATH\n",
                 argv[0]);
    return 2;
  }
  UniqueFd root(open(argv[1] + kOption.size(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat stat{};
  if (!root || fstat(root.get(), &stat) != 0) {
    std::perror(argv[1]);
    return 1;
  }
  umask(0);  // the kernel has applied the caller's
  PassthroughFs file_system(std::move(root), stat);
  argv[1] = argv[0];
  return example::run(file_system, argc - 1, argv + 1);
}
