// GETXATTR, LISTXATTR, SETXATTR and REMOVEXATTR, for inodes of every type. Off unless asked for: ENOSYS,
// which the kernel remembers.
//
// The guest's kernel has checked what its process may do with which name; what the daemon may not do, the
// host refuses.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "fusewire/bytes.h"
#include "passthrough/answer.h"
#include "passthrough/credentials.h"
#include "passthrough/passthrough.h"
#include "passthrough/proc_cwd.h"

namespace fusewire::passthrough {
namespace {

// XATTR_SIZE_MAX and XATTR_LIST_MAX: no value and no list is longer, however much a guest asks for.
constexpr std::size_t kMostBytes = 65536;

constexpr std::string_view kAccessAcl = "system.posix_acl_access";
constexpr std::string_view kDefaultAcl = "system.posix_acl_default";

// Without FUSE_POSIX_ACL the guest's kernel neither checks nor keeps ACLs: they would be set on the host and
// not hold.
bool is_refused(std::string_view name, const Config& config) {
  return !config.posix_acl && (name == kAccessAcl || name == kDefaultAcl);
}

// The path of an inode for one *xattr call on this thread. Follows nothing, opens nothing.
class XattrTarget {
 public:
  static Result<XattrTarget> of(Result<ReachedInode> inode, const ProcSelfFd& proc) {
    if (!inode) return fail(inode.error());
    if (const auto entered = enter_proc_self_fd(proc); !entered) return fail(entered.error());
    return XattrTarget(std::move(*inode));
  }

  const char* path() const { return name_.c_str(); }
  int fd() const { return inode_.fd.get(); }

 private:
  explicit XattrTarget(ReachedInode inode) : inode_(std::move(inode)), name_(inode_.fd.get()) {}

  ReachedInode inode_;
  ProcSelfFd::Name name_;
};

// `read(buffer, size)`: getxattr(2) or listxattr(2). The value, at most `limit` bytes of it: ERANGE if it is
// longer.
template <class Read>
Result<std::vector<char>> read_value(std::size_t limit, const Read& read) {
  std::vector<char> value(std::min(limit, kMostBytes));
  const ssize_t size = read(value.data(), value.size());
  if (size < 0) return fail_errno();
  value.resize(static_cast<std::size_t>(size));
  return value;
}

// Takes the names that would be refused out of a list of NUL-terminated names.
void drop_refused(std::vector<char>& names, const Config& config) {
  auto kept = names.begin();
  for (auto name = names.begin(); name != names.end();) {
    const auto end = std::find(name, names.end(), '\0');
    const auto next = end == names.end() ? end : end + 1;
    if (!is_refused({&*name, static_cast<std::size_t>(end - name)}, config))
      kept = std::copy(name, next, kept);
    name = next;
  }
  names.erase(kept, names.end());
}

std::span<const std::byte> bytes_of_value(const std::vector<char>& value) {
  return as_bytes(std::string_view(value.data(), value.size()));
}

Result<void> set(const XattrTarget& target, const Call<op::Setxattr>& call) {
  const char* const name = call.tail.name.data();
  const auto value = call.tail.value;
  if (::setxattr(target.path(), name, value.data(), value.size(), static_cast<int>(call.in.flags)) != 0)
    return fail_errno();
  return {};
}

// Clears S_ISGID where it is still set.
Result<void> clear_set_group_id(const XattrTarget& target) {
  const auto stat = stat_of(target.fd());
  if (!stat) return fail(stat.error());
  if ((stat->stx_mode & S_ISGID) == 0) return {};
  const mode_t mode = stat->stx_mode & 07777 & ~mode_t{S_ISGID};
  if (::fchmodat(AT_FDCWD, target.path(), mode, 0) != 0) return fail_errno();
  return {};
}

// FUSE_SETXATTR_ACL_KILL_SGID: the caller is not in the file's group. Acting in the caller's group and
// without CAP_FSETID, the host's kernel clears the bit together with setting the ACL.
Result<void> set_acl_and_kill_sgid(const XattrTarget& target, const Call<op::Setxattr>& call) {
  {
    const auto group = ScopedCredentials::assume(GuestUid{0}, call.header.gid, std::nullopt);
    const ScopedFsetidDrop kill_privileges(true);
    if (const auto done = set(target, call); !done) return fail(done.error());
  }
  // It was not, if the daemon could not take on the group, or if that is its own.
  return clear_set_group_id(target);
}

}  // namespace

Result<ReachedInode> PassthroughFs::reach_for_xattr(NodeId node) {
  if (!config().xattr) return fail(ENOSYS);
  return reach(node);
}

void PassthroughFs::getxattr(Call<op::Getxattr> call) {
  const auto target = XattrTarget::of(reach_for_xattr(call.header.node), proc_);
  if (!target) return std::move(call.reply).error(for_guest(target.error()));
  if (is_refused(call.tail.name, config())) return std::move(call.reply).error(EOPNOTSUPP);
  const char* const name = call.tail.name.data();
  if (call.in.size == 0) {
    const ssize_t size = ::getxattr(target->path(), name, nullptr, 0);
    if (size < 0) return std::move(call.reply).error(Errno{errno});
    return std::move(call.reply).size(static_cast<std::uint32_t>(size));
  }
  const auto value = read_value(call.in.size, [&](char* buffer, std::size_t size) {
    return ::getxattr(target->path(), name, buffer, size);
  });
  if (!value) return std::move(call.reply).error(value.error());
  std::move(call.reply).ok(bytes_of_value(*value));
}

void PassthroughFs::listxattr(Call<op::Listxattr> call) {
  const auto target = XattrTarget::of(reach_for_xattr(call.header.node), proc_);
  if (!target) return std::move(call.reply).error(for_guest(target.error()));
  // Whole, since names may be taken out: what is left may fit, and its size is what a guest asks for with
  // size 0.
  auto names = read_value(
      kMostBytes, [&](char* buffer, std::size_t size) { return ::listxattr(target->path(), buffer, size); });
  if (!names) return std::move(call.reply).error(names.error());
  drop_refused(*names, config());
  if (call.in.size == 0) return std::move(call.reply).size(static_cast<std::uint32_t>(names->size()));
  std::move(call.reply).ok(bytes_of_value(*names));
}

void PassthroughFs::setxattr(Call<op::Setxattr> call) {
  const auto target = XattrTarget::of(reach_for_xattr(call.header.node), proc_);
  if (!target) return std::move(call.reply).error(for_guest(target.error()));
  if (const auto writable = check_writable(); !writable) return std::move(call.reply).error(writable.error());
  if (is_refused(call.tail.name, config())) return std::move(call.reply).error(EOPNOTSUPP);
  const bool kill_sgid =
      call.tail.name == kAccessAcl && (call.in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
  answer(call, kill_sgid ? set_acl_and_kill_sgid(*target, call) : set(*target, call));
}

void PassthroughFs::removexattr(Call<op::Removexattr> call) {
  const auto target = XattrTarget::of(reach_for_xattr(call.header.node), proc_);
  if (!target) return std::move(call.reply).error(for_guest(target.error()));
  if (const auto writable = check_writable(); !writable) return std::move(call.reply).error(writable.error());
  if (is_refused(call.tail.name, config())) return std::move(call.reply).error(EOPNOTSUPP);
  const char* const name = call.tail.name.data();
  if (::removexattr(target->path(), name) != 0) return std::move(call.reply).error(Errno{errno});
  std::move(call.reply).ok();
}

}  // namespace fusewire::passthrough
