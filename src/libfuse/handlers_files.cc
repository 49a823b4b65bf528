// Adapter: open files and directories, and their data.

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "libfuse/adapter.h"

namespace fusewire::libfuse {
namespace {

fuse_file_info file_of(std::uint64_t handle, std::uint32_t flags = 0, std::uint64_t lock_owner = 0) {
  fuse_file_info file{};
  file.fh = handle;
  file.flags = static_cast<int>(flags);
  file.lock_owner = lock_owner;
  return file;
}

std::byte* copy_of(fuse_req_t req, const IoVecs& data) {
  req->copy = std::make_unique_for_overwrite<std::byte[]>(data.size() + 1);
  data.copy_to({req->copy.get(), data.size()});
  return req->copy.get();
}

// The data in one piece, where it is or in a copy that lives as long as the request.
const char* in_one_piece(fuse_req_t req, const IoVecs& data) {
  const auto parts = data.vectors();
  const void* memory = parts.size() == 1 ? parts.front().iov_base : copy_of(req, data);
  return static_cast<const char*>(memory);
}

// The data as a list of buffers, in memory that lives as long as the request.
fuse_bufvec* buffers_of(fuse_req_t req, const IoVecs& data) {
  const auto parts = data.vectors();
  const std::size_t more = parts.empty() ? 0 : parts.size() - 1;
  req->copy = std::make_unique<std::byte[]>(sizeof(fuse_bufvec) + more * sizeof(fuse_buf));
  // SAFETY: memory from new[], aligned for anything; both structures are plain data.
  auto* list = reinterpret_cast<fuse_bufvec*>(req->copy.get());
  *list = FUSE_BUFVEC_INIT(0);
  list->count = more + 1;
  fuse_buf* buffer = list->buf;
  for (const iovec& part : parts) {
    *buffer = {};
    buffer->fd = -1;
    buffer->mem = part.iov_base;
    buffer->size = part.iov_len;
    ++buffer;
  }
  return list;
}

}  // namespace

template <class Op>
void Adapter::open_with(Call<Op> call, HandleCallback callback) {
  auto* req = admit(call);
  if (req == nullptr) return;
  fuse_file_info file = file_of(0, call.in.flags);
  file.kill_priv = (call.in.open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  run(req, [&](fuse_req_t r) {
    if (callback != nullptr) return callback(r, r->node, &file);
    fuse_reply_open(r, &file);
  });
}
void Adapter::open(Call<op::Open> call) { open_with(std::move(call), ops_.open); }
void Adapter::opendir(Call<op::Opendir> call) { open_with(std::move(call), ops_.opendir); }

template <class Op>
void Adapter::release_with(Call<Op> call, const HandleId& id, HandleCallback callback) {
  const auto go = [this, callback](Call<Op>&& owned) {
    auto* req = new fuse_req(session_, owned.header, Op::kOpcode);
    req->set_reply(RawReply(std::move(owned.reply)));
    fuse_file_info file = file_of(owned.in.fh, owned.in.flags, owned.in.lock_owner);
    file.flush = (owned.in.release_flags & FUSE_RELEASE_FLUSH) != 0;
    file.flock_release = (owned.in.release_flags & FUSE_RELEASE_FLOCK_UNLOCK) != 0;
    run(req, [&](fuse_req_t r) {
      if (callback != nullptr) return callback(r, r->node, &file);
      fuse_reply_err(r, 0);
    });
  };
  if (session_.known_ids == nullptr) return go(std::move(call));
  // Held by a pointer: what was refused stays here, to be answered.
  const auto held = std::make_shared<std::optional<Call<Op>>>(std::move(call));
  const bool known = session_.known_ids->release(id, [held, go] { go(*std::exchange(*held, std::nullopt)); });
  if (!known) std::move((*held)->reply).error(EBADF);
}
void Adapter::release(Call<op::Release> call) {
  const HandleId id{call.header.node.get(), call.in.fh};
  release_with(std::move(call), id, ops_.release);
}
void Adapter::releasedir(Call<op::Releasedir> call) {
  const HandleId id{call.header.node.get(), call.in.fh, true};
  release_with(std::move(call), id, ops_.releasedir);
}

template <class Op>
void Adapter::read_with(Call<Op> call, const HandleId& id,
                        void (*callback)(fuse_req_t, fuse_ino_t, size_t, off_t, fuse_file_info*)) {
  if (callback == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle(id));
  if (req == nullptr) return;
  const fuse_read_in in = call.in;
  run_blocking(req, data_pool_.get(), [in, callback](fuse_req_t r) {
    fuse_file_info file = file_of(in.fh, in.flags, in.lock_owner);
    callback(r, r->node, in.size, static_cast<off_t>(in.offset), &file);
  });
}
void Adapter::read(Call<op::Read> call) {
  const HandleId id{call.header.node.get(), call.in.fh};
  read_with(std::move(call), id, ops_.read);
}
void Adapter::readdir(Call<op::Readdir> call) {
  const HandleId id{call.header.node.get(), call.in.fh, true};
  read_with(std::move(call), id, ops_.readdir);
}
void Adapter::readdirplus(Call<op::Readdirplus> call) {
  const HandleId id{call.header.node.get(), call.in.fh, true};
  read_with(std::move(call), id, ops_.readdirplus);
}

void Adapter::write(Call<op::Write> call) {
  if (ops_.write == nullptr && ops_.write_buf == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  run_blocking(req, data_pool_.get(), [this, in = call.in, data = call.tail.data](fuse_req_t r) {
    fuse_file_info file = file_of(in.fh, in.flags, in.lock_owner);
    file.writepage = (in.write_flags & FUSE_WRITE_CACHE) != 0;
    file.kill_priv = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    const auto offset = static_cast<off_t>(in.offset);
    if (ops_.write_buf != nullptr) return ops_.write_buf(r, r->node, buffers_of(r, data), offset, &file);
    ops_.write(r, r->node, in_one_piece(r, data), data.size(), offset, &file);
  });
}

void Adapter::flush(Call<op::Flush> call) {
  if (ops_.flush == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  run_blocking(req, data_pool_.get(), [this, in = call.in](fuse_req_t r) {
    fuse_file_info file = file_of(in.fh, 0, in.lock_owner);
    file.flush = 1;
    ops_.flush(r, r->node, &file);
  });
}

template <class Op>
void Adapter::fsync_with(Call<Op> call, const HandleId& id,
                         void (*callback)(fuse_req_t, fuse_ino_t, int, fuse_file_info*)) {
  if (callback == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle(id));
  if (req == nullptr) return;
  run_blocking(req, data_pool_.get(), [in = call.in, callback](fuse_req_t r) {
    fuse_file_info file = file_of(in.fh);
    callback(r, r->node, static_cast<int>(in.fsync_flags & FUSE_FSYNC_FDATASYNC), &file);
  });
}
void Adapter::fsync(Call<op::Fsync> call) {
  const HandleId id{call.header.node.get(), call.in.fh};
  fsync_with(std::move(call), id, ops_.fsync);
}
void Adapter::fsyncdir(Call<op::Fsyncdir> call) {
  const HandleId id{call.header.node.get(), call.in.fh, true};
  fsync_with(std::move(call), id, ops_.fsyncdir);
}

void Adapter::fallocate(Call<op::Fallocate> call) {
  if (ops_.fallocate == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  run_blocking(req, data_pool_.get(), [this, in = call.in](fuse_req_t r) {
    fuse_file_info file = file_of(in.fh);
    ops_.fallocate(r, r->node, static_cast<int>(in.mode), static_cast<off_t>(in.offset),
                   static_cast<off_t>(in.length), &file);
  });
}

template <class Op>
void Adapter::copy_range(Call<Op> call) {
  if (ops_.copy_file_range == nullptr) return std::move(call.reply).error(ENOSYS);
  Uses uses = Uses::node(call.in.nodeid_out);
  uses.handles = {HandleId{call.header.node.get(), call.in.fh_in},
                  HandleId{call.in.nodeid_out, call.in.fh_out}};
  uses.handle_count = 2;
  auto* req = admit(call, uses);
  if (req == nullptr) return;
  run_blocking(req, data_pool_.get(), [this, in = call.in](fuse_req_t r) {
    fuse_file_info from = file_of(in.fh_in);
    fuse_file_info to = file_of(in.fh_out);
    ops_.copy_file_range(r, r->node, static_cast<off_t>(in.off_in), &from, in.nodeid_out,
                         static_cast<off_t>(in.off_out), &to, in.len, static_cast<int>(in.flags));
  });
}
void Adapter::copy_file_range(Call<op::CopyFileRange> call) { copy_range(std::move(call)); }
void Adapter::copy_file_range_64(Call<op::CopyFileRange64> call) { copy_range(std::move(call)); }

void Adapter::lseek(Call<op::Lseek> call) {
  if (ops_.lseek == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  fuse_file_info file = file_of(call.in.fh);
  run(req, [&](fuse_req_t r) {
    ops_.lseek(r, r->node, static_cast<off_t>(call.in.offset), static_cast<int>(call.in.whence), &file);
  });
}

void Adapter::bmap(Call<op::Bmap> call) {
  if (ops_.bmap == nullptr) return std::move(call.reply).error(ENOSYS);
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.bmap(r, r->node, call.in.blocksize, call.in.block); });
}

void Adapter::ioctl(Call<op::Ioctl> call) {
  if (ops_.ioctl == nullptr) return std::move(call.reply).error(ENOSYS);
  const bool directory = (call.in.flags & FUSE_IOCTL_DIR) != 0;
  if (directory && (session_.conn.want & FUSE_CAP_IOCTL_DIR) == 0) return std::move(call.reply).error(ENOTTY);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh, directory}));
  if (req == nullptr) return;
  // A copy: what the program reads twice must not change in between.
  const void* input = call.in.in_size != 0 ? copy_of(req, call.tail.data) : nullptr;
  fuse_file_info file = file_of(call.in.fh);
  run(req, [&](fuse_req_t r) {
    // SAFETY: a number of the caller's address space, which nobody here follows.
    auto* argument = reinterpret_cast<void*>(static_cast<std::uintptr_t>(call.in.arg));
    ops_.ioctl(r, r->node, call.in.cmd, argument, &file, call.in.flags, input, call.in.in_size,
               call.in.out_size);
  });
}

void Adapter::poll(Call<op::Poll> call) {
  if (ops_.poll == nullptr) return std::move(call.reply).error(ENOSYS);
  auto* req = admit(call, Uses::handle({call.header.node.get(), call.in.fh}));
  if (req == nullptr) return;
  fuse_file_info file = file_of(call.in.fh);
  file.poll_events = call.in.events;
  fuse_pollhandle* handle = nullptr;
  if ((call.in.flags & FUSE_POLL_SCHEDULE_NOTIFY) != 0)
    handle = new fuse_pollhandle{.kernel_handle = call.in.kh, .session = &session_};
  run(req, [&](fuse_req_t r) { ops_.poll(r, r->node, &file, handle); });
}

}  // namespace fusewire::libfuse
