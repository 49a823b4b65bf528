#include "fusewire/file_system.h"

namespace fusewire {
namespace {

// The answer for what a file system leaves out. A request without an answer is over when its reply is
// dropped.
template <class Op>
void not_implemented(Call<Op> call) {
  if constexpr (Op::Reply::kHasReply) std::move(call.reply).error(ENOSYS);
}

}  // namespace

Result<void> FileSystem::init(Negotiation&) { return {}; }
void FileSystem::destroy() {}
std::unique_ptr<ThreadWork> FileSystem::thread_work() { return nullptr; }
void FileSystem::forget_node(NodeId, std::uint64_t) {}

void FileSystem::forget(Call<op::Forget> call) { forget_node(call.header.node, call.in.nlookup); }
void FileSystem::batch_forget(Call<op::BatchForget> call) {
  for (std::size_t i = 0; i < call.tail.items.size(); ++i) {
    const fuse_forget_one item = call.tail.items[i];
    forget_node(NodeId{item.nodeid}, item.nlookup);
  }
}

#define FUSE_DEFAULT(method, Type) \
  void FileSystem::method(Call<op::Type> call) { not_implemented(std::move(call)); }
FUSE_DEFAULT(lookup, Lookup)
FUSE_DEFAULT(getattr, Getattr)
FUSE_DEFAULT(setattr, Setattr)
FUSE_DEFAULT(readlink, Readlink)
FUSE_DEFAULT(symlink, Symlink)
FUSE_DEFAULT(mknod, Mknod)
FUSE_DEFAULT(mkdir, Mkdir)
FUSE_DEFAULT(unlink, Unlink)
FUSE_DEFAULT(rmdir, Rmdir)
FUSE_DEFAULT(rename, Rename)
FUSE_DEFAULT(link, Link)
FUSE_DEFAULT(open, Open)
FUSE_DEFAULT(read, Read)
FUSE_DEFAULT(write, Write)
FUSE_DEFAULT(statfs, Statfs)
FUSE_DEFAULT(release, Release)
FUSE_DEFAULT(fsync, Fsync)
FUSE_DEFAULT(setxattr, Setxattr)
FUSE_DEFAULT(getxattr, Getxattr)
FUSE_DEFAULT(listxattr, Listxattr)
FUSE_DEFAULT(removexattr, Removexattr)
FUSE_DEFAULT(flush, Flush)
FUSE_DEFAULT(opendir, Opendir)
FUSE_DEFAULT(readdir, Readdir)
FUSE_DEFAULT(releasedir, Releasedir)
FUSE_DEFAULT(fsyncdir, Fsyncdir)
FUSE_DEFAULT(getlk, Getlk)
FUSE_DEFAULT(setlk, Setlk)
FUSE_DEFAULT(setlkw, Setlkw)
FUSE_DEFAULT(access, Access)
FUSE_DEFAULT(create, Create)
FUSE_DEFAULT(bmap, Bmap)
FUSE_DEFAULT(ioctl, Ioctl)
FUSE_DEFAULT(poll, Poll)
FUSE_DEFAULT(fallocate, Fallocate)
FUSE_DEFAULT(readdirplus, Readdirplus)
FUSE_DEFAULT(rename2, Rename2)
FUSE_DEFAULT(lseek, Lseek)
FUSE_DEFAULT(copy_file_range, CopyFileRange)
FUSE_DEFAULT(setupmapping, Setupmapping)
FUSE_DEFAULT(removemapping, Removemapping)
FUSE_DEFAULT(syncfs, Syncfs)
FUSE_DEFAULT(tmpfile, Tmpfile)
FUSE_DEFAULT(statx, Statx)
FUSE_DEFAULT(copy_file_range_64, CopyFileRange64)
FUSE_DEFAULT(cuse_init, CuseInit)
#undef FUSE_DEFAULT

}  // namespace fusewire
