// Adapter: attributes, extended attributes, and the file system's own.

#include <cerrno>
#include <utility>

#include "fusewire/c_string.h"
#include "fusewire/file_times.h"
#include "libfuse/adapter.h"

namespace fusewire::libfuse {
namespace {

// The FATTR_* bits that have a FUSE_SET_ATTR_* of the same number.
constexpr std::uint32_t kSettable = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
                                    FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME |
                                    FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME |
                                    FUSE_SET_ATTR_KILL_SUID;
static_assert(FUSE_SET_ATTR_MTIME_NOW == FATTR_MTIME_NOW && FUSE_SET_ATTR_CTIME == FATTR_CTIME &&
              FUSE_SET_ATTR_KILL_SUID == FATTR_KILL_SUIDGID);

struct stat stat_of(const fuse_setattr_in& in) {
  struct stat st{};
  st.st_mode = in.mode;
  st.st_uid = in.uid;
  st.st_gid = in.gid;
  st.st_size = static_cast<off_t>(in.size);
  st.st_atim = time_of(in.atime, in.atimensec);
  st.st_mtim = time_of(in.mtime, in.mtimensec);
  st.st_ctim = time_of(in.ctime, in.ctimensec);
  return st;
}

}  // namespace

// `has_file`: the request names the open file that it came by.
template <class Op, class F>
void Adapter::run_with_file(Call<Op>& call, bool has_file, F&& callback) {
  const HandleId id{call.header.node.get(), call.in.fh};
  auto* req = admit(call, has_file ? Uses::handle(id) : Uses());
  if (req == nullptr) return;
  fuse_file_info file{};
  file.fh = call.in.fh;
  run(req, [&](fuse_req_t r) { callback(r, has_file ? &file : nullptr); });
}

void Adapter::getattr(Call<op::Getattr> call) {
  if (ops_.getattr == nullptr) return std::move(call.reply).error(ENOSYS);
  run_with_file(call, (call.in.getattr_flags & FUSE_GETATTR_FH) != 0,
                [&](fuse_req_t r, fuse_file_info* file) { ops_.getattr(r, r->node, file); });
}

void Adapter::setattr(Call<op::Setattr> call) {
  if (ops_.setattr == nullptr) return std::move(call.reply).error(ENOSYS);
  run_with_file(call, (call.in.valid & FATTR_FH) != 0, [&](fuse_req_t r, fuse_file_info* file) {
    struct stat st = stat_of(call.in);
    ops_.setattr(r, r->node, &st, static_cast<int>(call.in.valid & kSettable), file);
  });
}

void Adapter::statx(Call<op::Statx> call) {
  if (ops_.statx == nullptr) return std::move(call.reply).error(ENOSYS);
  run_with_file(
      call, (call.in.getattr_flags & FUSE_GETATTR_FH) != 0, [&](fuse_req_t r, fuse_file_info* file) {
        ops_.statx(r, r->node, static_cast<int>(call.in.sx_flags), static_cast<int>(call.in.sx_mask), file);
      });
}

void Adapter::access(Call<op::Access> call) {
  if (ops_.access == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.access(r, r->node, static_cast<int>(call.in.mask)); });
}

void Adapter::statfs(Call<op::Statfs> call) {
  auto* req = admit(call);
  if (req == nullptr) return;
  run(req, [&](fuse_req_t r) {
    if (ops_.statfs != nullptr) return ops_.statfs(r, r->node);
    struct statvfs none{};
    none.f_namemax = 255;
    none.f_bsize = 512;
    fuse_reply_statfs(r, &none);
  });
}

void Adapter::setxattr(Call<op::Setxattr> call) {
  const auto with_flags = session_.variant.setxattr;
  if (ops_.setxattr == nullptr && with_flags == nullptr) return std::move(call.reply).error(ENOSYS);
  // SAFETY: char may alias any object.
  const auto* const value = reinterpret_cast<const char*>(call.tail.value.data());
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) {
      if (with_flags != nullptr)
        return with_flags(r, r->node, c_string(call.tail.name), value, call.tail.value.size(),
                          static_cast<int>(call.in.flags), call.in.setxattr_flags);
      ops_.setxattr(r, r->node, c_string(call.tail.name), value, call.tail.value.size(),
                    static_cast<int>(call.in.flags));
    });
}

void Adapter::getxattr(Call<op::Getxattr> call) {
  if (ops_.getxattr == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.getxattr(r, r->node, c_string(call.tail.name), call.in.size); });
}

void Adapter::listxattr(Call<op::Listxattr> call) {
  if (ops_.listxattr == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call)) run(req, [&](fuse_req_t r) { ops_.listxattr(r, r->node, call.in.size); });
}

void Adapter::removexattr(Call<op::Removexattr> call) {
  if (ops_.removexattr == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.removexattr(r, r->node, c_string(call.tail.name)); });
}

}  // namespace fusewire::libfuse
