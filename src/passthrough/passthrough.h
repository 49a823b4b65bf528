// PassthroughFs: the file system that serves a directory of the host.
//
// On the data path it stands last: the session calls its methods, it makes the system calls, and READ and
// WRITE move data between the file and the guest's pages. Its methods are in these files:
//   passthrough.cc   creation and end
//   negotiation.cc   INIT
//   lookup.cc        LOOKUP, FORGET, and how an inode becomes an entry
//   attributes.cc    GETATTR, SETATTR, STATX, ACCESS, STATFS
//   namespace.cc     links, renames, removals
//   create.cc        what makes new inodes
//   open.cc          OPEN, RELEASE, SYNCFS
//   data.cc          what concerns open files; READ and WRITE are in data_read.cc and data_write.cc
//   directory.cc     READDIR and its kin
//   xattr.cc         extended attributes
//   lock.cc          GETLK, SETLK, SETLKW
// Inodes are kept by InodeTable, and reached through PathDescriptors.
//
// Threading: methods run in parallel, on queue threads and on the pool; init() and destroy() run alone. All
// state is in tables that lock for themselves. What may block for long goes to the pool.
//
// Nothing outside the shared directory is reached: names are single components, resolved with *at calls from
// descriptors (never from path texts), no symbolic link is followed, and only regular files and directories
// are opened.
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fusewire/file_system.h"
#include "fusewire/result.h"
#include "fusewire/unique_fd.h"
#include "passthrough/config.h"
#include "passthrough/handle_table.h"
#include "passthrough/inode.h"
#include "passthrough/inode_table.h"
#include "passthrough/mount_table.h"
#include "passthrough/open_file.h"
#include "passthrough/path_descriptors.h"
#include "passthrough/proc_self_fd.h"
#include "passthrough/security_label.h"

namespace fusewire::io {
class WorkerPool;
}

namespace fusewire::passthrough {

class LockTable;       // lock_table.h
struct OpenDirectory;  // open_directory.h

class PassthroughFs final : public FileSystem {
 public:
  // Opens the shared directory. The error is a text for the person who started the daemon. Call it in the
  // process (after fork) that serves, while /proc is there. Raises no limit and changes no credentials of the
  // process.
  //
  // Comes after the process has raised RLIMIT_NOFILE, of which it leaves some for the daemon itself, and
  // settled its credentials.
  static std::expected<std::unique_ptr<PassthroughFs>, std::string> create(Config config);
  ~PassthroughFs() override;

  Result<void> init(Negotiation& negotiation) override;
  void destroy() override;
  std::unique_ptr<ThreadWork> thread_work() override;

  void lookup(Call<op::Lookup> call) override;
  void forget_node(NodeId node, std::uint64_t lookups) override;
  void getattr(Call<op::Getattr> call) override;
  void setattr(Call<op::Setattr> call) override;
  void readlink(Call<op::Readlink> call) override;
  void symlink(Call<op::Symlink> call) override;
  void mknod(Call<op::Mknod> call) override;
  void mkdir(Call<op::Mkdir> call) override;
  void unlink(Call<op::Unlink> call) override;
  void rmdir(Call<op::Rmdir> call) override;
  void rename(Call<op::Rename> call) override;
  void rename2(Call<op::Rename2> call) override;
  void link(Call<op::Link> call) override;
  void open(Call<op::Open> call) override;
  void read(Call<op::Read> call) override;
  void write(Call<op::Write> call) override;
  void statfs(Call<op::Statfs> call) override;
  void release(Call<op::Release> call) override;
  void fsync(Call<op::Fsync> call) override;
  void setxattr(Call<op::Setxattr> call) override;
  void getxattr(Call<op::Getxattr> call) override;
  void listxattr(Call<op::Listxattr> call) override;
  void removexattr(Call<op::Removexattr> call) override;
  void flush(Call<op::Flush> call) override;
  void opendir(Call<op::Opendir> call) override;
  void readdir(Call<op::Readdir> call) override;
  void readdirplus(Call<op::Readdirplus> call) override;
  void releasedir(Call<op::Releasedir> call) override;
  void fsyncdir(Call<op::Fsyncdir> call) override;
  void getlk(Call<op::Getlk> call) override;
  void setlk(Call<op::Setlk> call) override;
  void setlkw(Call<op::Setlkw> call) override;
  void access(Call<op::Access> call) override;
  void create(Call<op::Create> call) override;
  void fallocate(Call<op::Fallocate> call) override;
  void lseek(Call<op::Lseek> call) override;
  void copy_file_range(Call<op::CopyFileRange> call) override;
  void copy_file_range_64(Call<op::CopyFileRange64> call) override;
  void syncfs(Call<op::Syncfs> call) override;
  void tmpfile(Call<op::Tmpfile> call) override;
  void statx(Call<op::Statx> call) override;

  // What the guest knows and has open, for tests and statistics.
  std::size_t known_inodes() const { return inodes_.size(); }
  std::size_t open_files() const { return files_.size(); }
  std::size_t open_directories() const { return directories_.size(); }

 private:
  PassthroughFs(Config config, ProcSelfFd proc, UniqueFd root, std::unique_ptr<const SecurityLabels> labels);

  // Finds out whether file handles work here, if they are wanted.
  std::expected<void, std::string> settle_file_handles();
  Result<void> try_file_handles();
  // A handle is what keeps an inode first of all.
  bool keeps_handles() const {
    return file_handles_ == FileHandleMode::prefer || file_handles_ == FileHandleMode::mandatory;
  }

  // What INIT settled with this kernel; constant from init() to destroy().
  struct Negotiated {
    bool writeback = false;
    bool killpriv_v2 = false;
    bool dont_mask = false;  // modes come unmasked, with the umask beside them
    bool security_ctx = false;
    bool submounts = false;
    std::uint32_t generation = 0;
    std::shared_ptr<BackingFiles> backing_files;  // null: there are none
  };

  const Config& config() const { return config_; }
  const Negotiated& negotiated() const { return negotiated_; }
  io::WorkerPool& pool() { return *pool_; }
  LockTable& locks() { return *locks_; }

  // Tables. An unknown node is ESTALE, an unknown handle EBADF.
  Result<InodePtr> inode(NodeId node) const;
  // The same with a descriptor of it, so that ENFILE and EMFILE come too.
  Result<ReachedInode> reach(NodeId node);
  Result<std::shared_ptr<OpenFile>> file(std::uint64_t handle) const;
  Result<std::shared_ptr<OpenDirectory>> directory(std::uint64_t handle) const;
  // EROFS when the share is read-only.
  Result<void> check_writable() const;

  // `fd`, to be kept until the guest releases it; ENFILE when so few descriptors are left that the daemon
  // needs the rest for itself. Everything that lives longer than its request goes through this.
  Result<UniqueFd> keep(UniqueFd fd) const;
  // Opens an inode for I/O; see PathDescriptors::open. Not counted as kept.
  Result<UniqueFd> open_inode(const InodePtr& inode, int flags) const {
    return descriptors_.open(inode, flags);
  }

  // Looks `name` up below a directory of mount `parent_mount`, whose descriptor (path or real) is
  // `directory_fd`, and counts one lookup of what it finds: the caller owes forget_node(entry.nodeid, 1) if
  // the reply does not reach the guest. "." and ".." have no special meaning here. Errors: those of
  // openat(2); ENFILE.
  Result<fuse_entry_out> entry_for(MountId parent_mount, int directory_fd, const char* name);

  // The attributes as the wire has them, without flags.
  static fuse_attr attr_from_stat(const struct statx& stat);
  // attr_from_stat with the time for which the guest may trust it.
  fuse_attr_out attr_out(const struct statx& stat) const;
  // FOPEN_* for a file or a directory just opened, by cache policy.
  std::uint32_t open_reply_flags(bool is_directory) const;

  // --- lookup.cc
  Result<fuse_entry_out> do_lookup(NodeId parent, const char* name);
  Result<fuse_entry_out> entry_of_parent(const ReachedInode& directory);
  // One lookup more of an inode at hand; ESTALE when the guest has forgotten it meanwhile.
  Result<fuse_entry_out> entry_of_known(const ReachedInode& known, MountId parent_mount);
  // As entry_for, for an O_PATH descriptor of the inode itself, below an inode of mount `parent_mount`.
  Result<fuse_entry_out> entry_for_fd(MountId parent_mount, UniqueFd path_fd);
  bool acquire_by_handle(const InodePtr& known, int directory_fd, const char* name);
  // The inode that `stat` describes and `path_fd` is open on, with one lookup more; entered if it is new,
  // which may take `path_fd`.
  Result<InodePtr> acquire(const struct statx& stat, UniqueFd& path_fd);
  // The same for a regular file that is open for I/O and stays so.
  Result<InodePtr> acquire_open(const struct statx& stat, int opened_fd, bool has_name);
  Result<InodeTable::Reach> reach_for(const struct statx& stat, UniqueFd& path_fd);
  void entered(const InodePtr& inode);
  Result<HostHandle> handle_of(Mount& mount, int fd, mode_t type);
  fuse_entry_out entry_out(const Inode& inode, const struct statx& stat, MountId parent_mount) const;

  // --- namespace.cc
  // ENOTDIR when `node` is no directory.
  Result<ReachedInode> parent_directory(NodeId node);
  // The same, and EROFS when the share is read-only.
  Result<ReachedInode> writable_parent(NodeId node);
  Result<void> remove_name(NodeId parent, const char* name, int flags);
  Result<void> do_rename(NodeId old_parent, NodeId new_parent, const EntryNames& names, std::uint32_t flags);
  Result<fuse_entry_out> do_link(NodeId target, NodeId parent, const char* name);

  // --- create.cc
  struct AsGuest;
  Result<AsGuest> as_guest(const Header& header, const CreateExtensions& extensions,
                           std::uint32_t umask) const;
  // `make(directory)` makes the inode and returns 0, or sets errno.
  template <class Make>
  Result<fuse_entry_out> make_entry(const Header& header, const char* name, std::uint32_t umask,
                                    const CreateExtensions& extensions, const Make& make);
  static void take_back(int directory, const char* name, const struct statx& made);
  Result<CreateOut> do_create(const Header& header, const fuse_create_in& in, const NewEntry& entry);
  Result<CreateOut> create_new(const Header& header, const fuse_create_in& in, const char* name,
                               const CreateExtensions& extensions, int create_flags);
  Result<CreateOut> create_existing(const Header& header, const fuse_create_in& in, const char* name);
  Result<InodePtr> enter_created(const struct statx& stat, const UniqueFd& opened, bool has_name);

  // --- open.cc
  Result<fuse_open_out> do_open(NodeId node, const fuse_open_in& in);
  // What the guest asked of OPEN and CREATE: its O_* and its FUSE_OPEN_*.
  struct GuestOpen {
    std::uint32_t flags;
    std::uint32_t open_flags;
  };
  // `flags`: those for the host that follow from `guest`. The descriptor may be kept.
  Result<UniqueFd> open_regular(const InodePtr& inode, int flags, const GuestOpen& guest) const;
  fuse_open_out enter_open_file(UniqueFd fd, const Inode& inode, int flags);
  // The file, open behind `fd`, that the kernel is to read and write itself; null: it is not.
  std::shared_ptr<const BackingFile> backing_for(const Inode& inode, int fd);
  Result<void> do_syncfs(NodeId node) const;

  // --- attributes.cc
  Result<struct statx> stat_node(NodeId node, std::optional<std::uint64_t> handle, unsigned mask,
                                 int sync_flags);
  Result<fuse_attr_out> do_setattr(NodeId node, const fuse_setattr_in& in);
  // What SETATTR changes: an inode, by an O_PATH descriptor or that of an open file.
  struct Target {
    int fd;
    mode_t type;     // S_IFMT
    int open_flags;  // those that `fd` was opened with
  };
  bool is_write_back(const fuse_setattr_in& in) const;
  Result<fuse_attr_out> times_of_removed(NodeId node, const fuse_setattr_in& in) const;
  Result<fuse_attr_out> set_attributes(const Target& target, const fuse_setattr_in& in) const;
  Result<void> change_owner(const Target& target, const fuse_setattr_in& in) const;
  Result<void> change_mode(const Target& target, std::uint32_t mode) const;
  Result<void> change_size(const Target& target, const fuse_setattr_in& in) const;
  Result<void> change_times(const Target& target, const fuse_setattr_in& in) const;

  // --- lock.cc
  template <class Op>
  void set_offered_lock(Call<Op> call);

  // --- xattr.cc
  // reach(), or ENOSYS without config().xattr.
  Result<ReachedInode> reach_for_xattr(NodeId node);

  const Config config_;
  const ProcSelfFd proc_;
  const UniqueFd root_;
  const std::unique_ptr<const SecurityLabels> labels_;  // null without config().security_label
  Negotiated negotiated_;
  const std::uint64_t timeout_s_;  // of names and attributes
  const std::uint32_t timeout_ns_;
  const int descriptor_limit_;                           // what keep() gives out is below this
  FileHandleMode file_handles_ = FileHandleMode::never;  // what is done, after what was asked for
  MountTable mounts_;
  MountRef root_mount_;  // with file handles: keeps the shared directory's mount held
  InodeTable inodes_;
  PathDescriptors descriptors_;
  HandleTable<OpenFile> files_;
  HandleTable<OpenDirectory> directories_;
  std::mutex backing_mutex_;  // one by one it is decided who reads and writes a file
  std::unique_ptr<LockTable> locks_;
  std::unique_ptr<io::WorkerPool> pool_;  // last: its threads end before what they use
};

}  // namespace fusewire::passthrough
