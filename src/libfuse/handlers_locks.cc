// Adapter: record locks and flock, which come as one operation; and what a C file system cannot serve.

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <utility>

#include "libfuse/adapter.h"

namespace fusewire::libfuse {
namespace {

struct flock flock_of(const fuse_file_lock& lock) {
  struct flock out{};
  out.l_type = static_cast<short>(lock.type);
  out.l_whence = SEEK_SET;
  out.l_start = static_cast<off_t>(lock.start);
  out.l_len =
      lock.end >= static_cast<std::uint64_t>(INT64_MAX) ? 0 : static_cast<off_t>(lock.end - lock.start + 1);
  out.l_pid = static_cast<pid_t>(lock.pid);
  return out;
}

// flock(2)'s operation; 0 for a type that there is not.
int flock_operation(std::uint32_t type, bool sleep) {
  const int wait = sleep ? 0 : LOCK_NB;
  switch (type) {
    case F_RDLCK:
      return LOCK_SH | wait;
    case F_WRLCK:
      return LOCK_EX | wait;
    case F_UNLCK:
      return LOCK_UN | wait;
    default:
      return 0;
  }
}

}  // namespace

void Adapter::getlk(Call<op::Getlk> call) {
  if (ops_.getlk == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  fuse_file_info file{};
  file.fh = call.in.fh;
  file.lock_owner = call.in.owner;
  struct flock lock = flock_of(call.in.lk);
  run(req, [&](fuse_req_t r) { ops_.getlk(r, r->node, &file, &lock); });
}

template <class Op>
void Adapter::set_lock(Call<Op> call, bool sleep) {
  const bool whole_file = (call.in.lk_flags & FUSE_LK_FLOCK) != 0;
  if (whole_file ? ops_.flock == nullptr : ops_.setlk == nullptr) return std::move(call.reply).error(ENOSYS);
  const int operation = flock_operation(call.in.lk.type, sleep);
  if (operation == 0 || call.in.lk.end < call.in.lk.start) return std::move(call.reply).error(EINVAL);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  run_blocking(req, sleep ? lock_pool_.get() : nullptr,
               [this, in = call.in, whole_file, operation, sleep](fuse_req_t r) {
                 fuse_file_info file{};
                 file.fh = in.fh;
                 file.lock_owner = in.owner;
                 if (whole_file) return ops_.flock(r, r->node, &file, operation);
                 struct flock lock = flock_of(in.lk);
                 ops_.setlk(r, r->node, &file, &lock, sleep ? 1 : 0);
               });
}
void Adapter::setlk(Call<op::Setlk> call) { set_lock(std::move(call), false); }
void Adapter::setlkw(Call<op::Setlkw> call) { set_lock(std::move(call), true); }

void Adapter::setupmapping(Call<op::Setupmapping> call) { std::move(call.reply).error(ENOSYS); }
void Adapter::removemapping(Call<op::Removemapping> call) { std::move(call.reply).error(ENOSYS); }
void Adapter::syncfs(Call<op::Syncfs> call) {
  if (session_.variant.syncfs == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call);
  if (req == nullptr) return;
  run_blocking(req, data_pool_.get(), [this](fuse_req_t r) { session_.variant.syncfs(r, r->node); });
}
void Adapter::cuse_init(Call<op::CuseInit> call) { std::move(call.reply).error(ENOSYS); }

}  // namespace fusewire::libfuse
