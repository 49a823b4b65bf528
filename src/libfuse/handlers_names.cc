// Adapter: entries and what they name.

#include <cerrno>
#include <utility>

#include "fusewire/c_string.h"
#include "libfuse/adapter.h"

namespace fusewire::libfuse {

void Adapter::lookup(Call<op::Lookup> call) {
  if (ops_.lookup == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.lookup(r, r->node, c_string(call.tail.name)); });
}

void Adapter::readlink(Call<op::Readlink> call) {
  if (ops_.readlink == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call)) run(req, [&](fuse_req_t r) { ops_.readlink(r, r->node); });
}

void Adapter::mknod(Call<op::Mknod> call) {
  if (ops_.mknod == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call);
  if (req == nullptr) return;
  req->context.umask = call.in.umask;
  run(req,
      [&](fuse_req_t r) { ops_.mknod(r, r->node, c_string(call.tail.name), call.in.mode, call.in.rdev); });
}

void Adapter::mkdir(Call<op::Mkdir> call) {
  if (ops_.mkdir == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call);
  if (req == nullptr) return;
  req->context.umask = call.in.umask;
  run(req, [&](fuse_req_t r) { ops_.mkdir(r, r->node, c_string(call.tail.name), call.in.mode); });
}

void Adapter::unlink(Call<op::Unlink> call) {
  if (ops_.unlink == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.unlink(r, r->node, c_string(call.tail.name)); });
}

void Adapter::rmdir(Call<op::Rmdir> call) {
  if (ops_.rmdir == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.rmdir(r, r->node, c_string(call.tail.name)); });
}

void Adapter::symlink(Call<op::Symlink> call) {
  if (ops_.symlink == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) {
      ops_.symlink(r, c_string(call.tail.target), r->node, c_string(call.tail.name));
    });
}

template <class Op>
void Adapter::rename_with(Call<Op> call, unsigned flags) {
  if (ops_.rename == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call, Uses::node(call.in.newdir)))
    run(req, [&](fuse_req_t r) {
      ops_.rename(r, r->node, c_string(call.tail.old_name), call.in.newdir, c_string(call.tail.new_name),
                  flags);
    });
}
void Adapter::rename(Call<op::Rename> call) { rename_with(std::move(call), 0); }
void Adapter::rename2(Call<op::Rename2> call) {
  const unsigned flags = call.in.flags;
  rename_with(std::move(call), flags);
}

void Adapter::link(Call<op::Link> call) {
  if (ops_.link == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call, Uses::node(call.in.oldnodeid)))
    run(req, [&](fuse_req_t r) { ops_.link(r, call.in.oldnodeid, r->node, c_string(call.tail.name)); });
}

void Adapter::create(Call<op::Create> call) {
  if (ops_.create == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call);
  if (req == nullptr) return;
  req->context.umask = call.in.umask;
  fuse_file_info file{};
  file.flags = static_cast<int>(call.in.flags);
  file.kill_priv = (call.in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  run(req, [&](fuse_req_t r) { ops_.create(r, r->node, c_string(call.tail.name), call.in.mode, &file); });
}

void Adapter::tmpfile(Call<op::Tmpfile> call) {
  if (ops_.tmpfile == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call);
  if (req == nullptr) return;
  req->context.umask = call.in.umask;
  fuse_file_info file{};
  file.flags = static_cast<int>(call.in.flags);
  run(req, [&](fuse_req_t r) { ops_.tmpfile(r, r->node, call.in.mode, &file); });
}

}  // namespace fusewire::libfuse
