// SyncFileSystem: a FileSystem whose methods are functions: each gets a request and returns the answer, or an
// errno. For whoever has the answer at hand when the method returns; to answer later, or from another thread,
// override FileSystem's method of that operation instead, which gets the Call. Both mix in one file system.
//
//   class Hello : public fusewire::SyncFileSystem {
//     Result<fuse_attr_out> do_getattr(const Request<op::Getattr>& request) override {
//       if (request.header.node != kRootNode) return fail(ESTALE);
//       return AttrAnswer{.attr = root_attributes()};
//     }
//   };
//
// Threading: methods run in parallel on the transport's threads, as FileSystem's do.
//
// Defaults: each method returns ENOSYS, which the kernel remembers for good for many operations: see
// file_system.h. FORGET and BATCH_FORGET have no answer; they come to FileSystem::forget_node().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "fusewire/answers.h"
#include "fusewire/directory_builder.h"
#include "fusewire/file_system.h"

namespace fusewire {

// What a method is asked for. It and all that it refers to are valid until the method returns.
template <class Op>
struct Request {
  const Header& header;
  const typename Op::In& in;
  // Names, values, and the payload of a WRITE, whose list may be consumed.
  typename Op::Tail& tail;
  typename Op::Reply& reply;

  // True once the caller gave up, or the session ends: a method that takes long should return EINTR.
  bool interrupted() const { return reply.interrupted(); }
  // READ: where the data may be put in place, from its start (at most as much as is asked for). Return
  // Data::in_room() then.
  IoVecs room() const
    requires std::is_same_v<typename Op::Reply, ReplyData>
  {
    return reply.room();
  }
};

// The answer to a READ. Shorter than what is asked for means that the file ends there; longer becomes EIO.
class Data {
 public:
  // These bytes.
  Data(std::string bytes) : content_(std::move(bytes)) {}  // NOLINT(google-explicit-constructor)
  // Bytes of a file, by splice(2) where the transport can; nothing is copied by us.
  Data(const FileRange& range) : content_(range) {}  // NOLINT(google-explicit-constructor)
  // The first `size` bytes of Request::room() hold the answer.
  static Data in_room(std::size_t size) { return Data(size); }
  // Bytes that stay where they are: `owner` keeps them alive and unchanged until they are sent, and is let go
  // of then.
  static Data shared(std::shared_ptr<const void> owner, std::span<const std::byte> bytes) {
    return Data(Shared{.owner = std::move(owner), .bytes = bytes});
  }

  // Answers with it.
  void send(ReplyData&& reply) const;

 private:
  struct Shared {
    std::shared_ptr<const void> owner;
    std::span<const std::byte> bytes;
  };
  explicit Data(std::size_t size) : content_(size) {}
  explicit Data(Shared shared) : content_(std::move(shared)) {}

  std::variant<std::size_t, std::string, FileRange, Shared> content_;
};

class SyncFileSystem : public FileSystem {
 public:
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) void method(Call<op::Type> call) override;
#include "fusewire/ops.def"

 protected:
  // What the answers are that are not structures of the protocol: for a WRITE and COPY_FILE_RANGE the number
  // of bytes taken; for READLINK the target; for GETXATTR the whole value and for LISTXATTR the names, each
  // with its NUL, whatever size is asked for (ERANGE and the question for the size alone are dealt with).
  //
  // READDIR and READDIRPLUS add entries from fuse_read_in::offset on until one is refused. An error after
  // some were added is not lost: the entries are sent, and the kernel comes again behind them.
  virtual Result<fuse_entry_out> do_lookup(const Request<op::Lookup>& request);
  virtual Result<fuse_attr_out> do_getattr(const Request<op::Getattr>& request);
  virtual Result<fuse_attr_out> do_setattr(const Request<op::Setattr>& request);
  virtual Result<std::string> do_readlink(const Request<op::Readlink>& request);
  virtual Result<fuse_entry_out> do_symlink(const Request<op::Symlink>& request);
  virtual Result<fuse_entry_out> do_mknod(const Request<op::Mknod>& request);
  virtual Result<fuse_entry_out> do_mkdir(const Request<op::Mkdir>& request);
  virtual Result<void> do_unlink(const Request<op::Unlink>& request);
  virtual Result<void> do_rmdir(const Request<op::Rmdir>& request);
  virtual Result<void> do_rename(const Request<op::Rename>& request);
  virtual Result<fuse_entry_out> do_link(const Request<op::Link>& request);
  virtual Result<fuse_open_out> do_open(const Request<op::Open>& request);
  virtual Result<Data> do_read(const Request<op::Read>& request);
  virtual Result<std::uint32_t> do_write(const Request<op::Write>& request);
  virtual Result<fuse_statfs_out> do_statfs(const Request<op::Statfs>& request);
  virtual Result<void> do_release(const Request<op::Release>& request);
  virtual Result<void> do_fsync(const Request<op::Fsync>& request);
  virtual Result<void> do_setxattr(const Request<op::Setxattr>& request);
  virtual Result<std::string> do_getxattr(const Request<op::Getxattr>& request);
  virtual Result<std::string> do_listxattr(const Request<op::Listxattr>& request);
  virtual Result<void> do_removexattr(const Request<op::Removexattr>& request);
  virtual Result<void> do_flush(const Request<op::Flush>& request);
  virtual Result<fuse_open_out> do_opendir(const Request<op::Opendir>& request);
  virtual Result<void> do_readdir(const Request<op::Readdir>& request, DirectoryBuilder& entries);
  virtual Result<void> do_releasedir(const Request<op::Releasedir>& request);
  virtual Result<void> do_fsyncdir(const Request<op::Fsyncdir>& request);
  virtual Result<fuse_lk_out> do_getlk(const Request<op::Getlk>& request);
  virtual Result<void> do_setlk(const Request<op::Setlk>& request);
  virtual Result<void> do_setlkw(const Request<op::Setlkw>& request);
  virtual Result<void> do_access(const Request<op::Access>& request);
  virtual Result<CreateOut> do_create(const Request<op::Create>& request);
  virtual Result<fuse_bmap_out> do_bmap(const Request<op::Bmap>& request);
  virtual Result<IoctlAnswer> do_ioctl(const Request<op::Ioctl>& request);
  virtual Result<fuse_poll_out> do_poll(const Request<op::Poll>& request);
  virtual Result<void> do_fallocate(const Request<op::Fallocate>& request);
  virtual Result<void> do_readdirplus(const Request<op::Readdirplus>& request, DirectoryBuilder& entries);
  virtual Result<void> do_rename2(const Request<op::Rename2>& request);
  virtual Result<fuse_lseek_out> do_lseek(const Request<op::Lseek>& request);
  virtual Result<std::uint32_t> do_copy_file_range(const Request<op::CopyFileRange>& request);
  virtual Result<void> do_setupmapping(const Request<op::Setupmapping>& request);
  virtual Result<void> do_removemapping(const Request<op::Removemapping>& request);
  virtual Result<void> do_syncfs(const Request<op::Syncfs>& request);
  virtual Result<CreateOut> do_tmpfile(const Request<op::Tmpfile>& request);
  virtual Result<StatxOut> do_statx(const Request<op::Statx>& request);
  virtual Result<CopyFileRangeOut> do_copy_file_range_64(const Request<op::CopyFileRange64>& request);
  virtual Result<cuse_init_out> do_cuse_init(const Request<op::CuseInit>& request);
};

}  // namespace fusewire
