// The step from a Call to a function and back: for each row of ops.def the FileSystem's method calls
// do_method and sends what it returns.
#include "fusewire/sync_file_system.h"

#include <type_traits>

namespace fusewire {
namespace {

// The answers that are not simply reply.ok(value).
template <class Reply>
void send(Reply&& reply, const auto& value) {
  std::move(reply).ok(value);
}
void send(ReplyData&& reply, const Data& value) { value.send(std::move(reply)); }
void send(ReplyData&& reply, const std::string& value) { std::move(reply).ok(as_bytes(value)); }
void send(ReplyIoctl&& reply, const IoctlAnswer& value) { std::move(reply).ok(value.result, value.data); }

// Directories: the entries that are there go out, whatever came after them.
template <class Op, class Method>
void serve_directory(Call<Op>& call, const Request<Op>& request, const Method& method) {
  DirectoryBuilder entries(call.reply);
  const Result<void> read = method(request, entries);
  if (!entries.empty() || (read && !entries.full())) {
    std::move(call.reply).ok(entries.bytes());
  } else {
    std::move(call.reply).error(read ? Errno{EINVAL} : read.error());
  }
}

// GETXATTR and LISTXATTR: size 0 asks how large the value is.
void serve_xattr(ReplyXattr&& reply, std::uint32_t size, const std::string& value) {
  if (size == 0) {
    std::move(reply).size(static_cast<std::uint32_t>(value.size()));
  } else {
    std::move(reply).ok(as_bytes(value));
  }
}

// `method(request)`, for directories `method(request, entries)`, is do_method of the operation.
template <class Op, class Method>
void serve(Call<Op> call, const Method& method) {
  const Request<Op> request{.header = call.header, .in = call.in, .tail = call.tail, .reply = call.reply};
  if constexpr (std::is_same_v<Op, op::Readdir> || std::is_same_v<Op, op::Readdirplus>) {
    serve_directory(call, request, method);
  } else {
    const auto answer = method(request);
    if (!answer) return std::move(call.reply).error(answer.error());
    if constexpr (std::is_same_v<typename Op::Reply, ReplyXattr>) {
      serve_xattr(std::move(call.reply), call.in.size, *answer);
    } else if constexpr (std::is_same_v<typename Op::Reply, ReplyEmpty>) {
      std::move(call.reply).ok();
    } else {
      send(std::move(call.reply), *answer);
    }
  }
}

}  // namespace

void Data::send(ReplyData&& reply) const {
  if (const auto* const bytes = std::get_if<std::string>(&content_))
    return std::move(reply).ok(as_bytes(*bytes));
  if (const auto* const range = std::get_if<FileRange>(&content_)) return std::move(reply).ok(*range);
  if (const auto* const size = std::get_if<std::size_t>(&content_)) return std::move(reply).ok(*size);
  const auto& shared = std::get<Shared>(content_);
  // SAFETY: an iovec that is sent from is not written to.
  const iovec part{.iov_base = const_cast<std::byte*>(shared.bytes.data()), .iov_len = shared.bytes.size()};
  std::move(reply).ok(std::span(&part, 1));
}

void SyncFileSystem::forget(Call<op::Forget> call) { FileSystem::forget(std::move(call)); }
void SyncFileSystem::batch_forget(Call<op::BatchForget> call) { FileSystem::batch_forget(std::move(call)); }

#define FUSE_SYNC(method, Type)                                                                \
  void SyncFileSystem::method(Call<op::Type> call) {                                           \
    serve(std::move(call), [this](auto&&... arguments) { return do_##method(arguments...); }); \
  }
FUSE_SYNC(lookup, Lookup)
FUSE_SYNC(getattr, Getattr)
FUSE_SYNC(setattr, Setattr)
FUSE_SYNC(readlink, Readlink)
FUSE_SYNC(symlink, Symlink)
FUSE_SYNC(mknod, Mknod)
FUSE_SYNC(mkdir, Mkdir)
FUSE_SYNC(unlink, Unlink)
FUSE_SYNC(rmdir, Rmdir)
FUSE_SYNC(rename, Rename)
FUSE_SYNC(link, Link)
FUSE_SYNC(open, Open)
FUSE_SYNC(read, Read)
FUSE_SYNC(write, Write)
FUSE_SYNC(statfs, Statfs)
FUSE_SYNC(release, Release)
FUSE_SYNC(fsync, Fsync)
FUSE_SYNC(setxattr, Setxattr)
FUSE_SYNC(getxattr, Getxattr)
FUSE_SYNC(listxattr, Listxattr)
FUSE_SYNC(removexattr, Removexattr)
FUSE_SYNC(flush, Flush)
FUSE_SYNC(opendir, Opendir)
FUSE_SYNC(readdir, Readdir)
FUSE_SYNC(releasedir, Releasedir)
FUSE_SYNC(fsyncdir, Fsyncdir)
FUSE_SYNC(getlk, Getlk)
FUSE_SYNC(setlk, Setlk)
FUSE_SYNC(setlkw, Setlkw)
FUSE_SYNC(access, Access)
FUSE_SYNC(create, Create)
FUSE_SYNC(bmap, Bmap)
FUSE_SYNC(ioctl, Ioctl)
FUSE_SYNC(poll, Poll)
FUSE_SYNC(fallocate, Fallocate)
FUSE_SYNC(readdirplus, Readdirplus)
FUSE_SYNC(rename2, Rename2)
FUSE_SYNC(lseek, Lseek)
FUSE_SYNC(copy_file_range, CopyFileRange)
FUSE_SYNC(setupmapping, Setupmapping)
FUSE_SYNC(removemapping, Removemapping)
FUSE_SYNC(syncfs, Syncfs)
FUSE_SYNC(tmpfile, Tmpfile)
FUSE_SYNC(statx, Statx)
FUSE_SYNC(copy_file_range_64, CopyFileRange64)
FUSE_SYNC(cuse_init, CuseInit)
#undef FUSE_SYNC

#define FUSE_SYNC_DEFAULT(method, Type, Value) \
  Result<Value> SyncFileSystem::do_##method(const Request<op::Type>&) { return fail(ENOSYS); }
FUSE_SYNC_DEFAULT(lookup, Lookup, fuse_entry_out)
FUSE_SYNC_DEFAULT(getattr, Getattr, fuse_attr_out)
FUSE_SYNC_DEFAULT(setattr, Setattr, fuse_attr_out)
FUSE_SYNC_DEFAULT(readlink, Readlink, std::string)
FUSE_SYNC_DEFAULT(symlink, Symlink, fuse_entry_out)
FUSE_SYNC_DEFAULT(mknod, Mknod, fuse_entry_out)
FUSE_SYNC_DEFAULT(mkdir, Mkdir, fuse_entry_out)
FUSE_SYNC_DEFAULT(unlink, Unlink, void)
FUSE_SYNC_DEFAULT(rmdir, Rmdir, void)
FUSE_SYNC_DEFAULT(rename, Rename, void)
FUSE_SYNC_DEFAULT(link, Link, fuse_entry_out)
FUSE_SYNC_DEFAULT(open, Open, fuse_open_out)
FUSE_SYNC_DEFAULT(read, Read, Data)
FUSE_SYNC_DEFAULT(write, Write, std::uint32_t)
FUSE_SYNC_DEFAULT(statfs, Statfs, fuse_statfs_out)
FUSE_SYNC_DEFAULT(release, Release, void)
FUSE_SYNC_DEFAULT(fsync, Fsync, void)
FUSE_SYNC_DEFAULT(setxattr, Setxattr, void)
FUSE_SYNC_DEFAULT(getxattr, Getxattr, std::string)
FUSE_SYNC_DEFAULT(listxattr, Listxattr, std::string)
FUSE_SYNC_DEFAULT(removexattr, Removexattr, void)
FUSE_SYNC_DEFAULT(flush, Flush, void)
FUSE_SYNC_DEFAULT(opendir, Opendir, fuse_open_out)
FUSE_SYNC_DEFAULT(releasedir, Releasedir, void)
FUSE_SYNC_DEFAULT(fsyncdir, Fsyncdir, void)
FUSE_SYNC_DEFAULT(getlk, Getlk, fuse_lk_out)
FUSE_SYNC_DEFAULT(setlk, Setlk, void)
FUSE_SYNC_DEFAULT(setlkw, Setlkw, void)
FUSE_SYNC_DEFAULT(access, Access, void)
FUSE_SYNC_DEFAULT(create, Create, CreateOut)
FUSE_SYNC_DEFAULT(bmap, Bmap, fuse_bmap_out)
FUSE_SYNC_DEFAULT(ioctl, Ioctl, IoctlAnswer)
FUSE_SYNC_DEFAULT(poll, Poll, fuse_poll_out)
FUSE_SYNC_DEFAULT(fallocate, Fallocate, void)
FUSE_SYNC_DEFAULT(rename2, Rename2, void)
FUSE_SYNC_DEFAULT(lseek, Lseek, fuse_lseek_out)
FUSE_SYNC_DEFAULT(copy_file_range, CopyFileRange, std::uint32_t)
FUSE_SYNC_DEFAULT(setupmapping, Setupmapping, void)
FUSE_SYNC_DEFAULT(removemapping, Removemapping, void)
FUSE_SYNC_DEFAULT(syncfs, Syncfs, void)
FUSE_SYNC_DEFAULT(tmpfile, Tmpfile, CreateOut)
FUSE_SYNC_DEFAULT(statx, Statx, StatxOut)
FUSE_SYNC_DEFAULT(copy_file_range_64, CopyFileRange64, CopyFileRangeOut)
FUSE_SYNC_DEFAULT(cuse_init, CuseInit, cuse_init_out)
#undef FUSE_SYNC_DEFAULT
Result<void> SyncFileSystem::do_readdir(const Request<op::Readdir>&, DirectoryBuilder&) {
  return fail(ENOSYS);
}
Result<void> SyncFileSystem::do_readdirplus(const Request<op::Readdirplus>&, DirectoryBuilder&) {
  return fail(ENOSYS);
}

}  // namespace fusewire
