// fuse_lowlevel_notify_*: the notifier (fusewire/notifier.h) in C.

#include <algorithm>
#include <cerrno>
#include <exception>
#include <memory>
#include <string_view>
#include <vector>

#include "libfuse/reply.h"
#include "libfuse/session.h"

using namespace fusewire;
using namespace fusewire::libfuse;

namespace {

int number_of(const Result<void>& result) { return result ? 0 : -result.error().value; }

// Calls `send` with the session's notifier.
template <class F>
int notify(fuse_session* session, F&& send) {
  if (session == nullptr) return -EINVAL;
  const std::shared_ptr<Notifier> notifier = session->notifier();
  if (notifier == nullptr) return -ENOTCONN;
  return number_of(send(*notifier));
}

void bring_retrieved(fuse_session& session, void* cookie, const Retrieved& got) {
  if (session.operations.retrieve_reply == nullptr) return;
  auto* req = new fuse_req(session, got.node.get(), FUSE_NOTIFY_REPLY);
  // One buffer, as programs expect it.
  req->copy = std::make_unique_for_overwrite<std::byte[]>(got.data.size() + 1);
  got.data.copy_to({req->copy.get(), got.data.size()});
  fuse_bufvec data = FUSE_BUFVEC_INIT(got.data.size());
  data.buf[0].mem = req->copy.get();
  session.operations.retrieve_reply(req, cookie, got.node.get(), static_cast<off_t>(got.offset), &data);
}

}  // namespace

extern "C" {

void fuse_pollhandle_destroy(struct fuse_pollhandle* ph) { delete ph; }

int fuse_lowlevel_notify_poll(struct fuse_pollhandle* ph) {
  if (ph == nullptr) return 0;
  return notify(ph->session, [ph](Notifier& n) { return n.poll_wakeup(ph->kernel_handle); });
}

int fuse_lowlevel_notify_inval_inode(struct fuse_session* se, fuse_ino_t ino, off_t off, off_t len) {
  return notify(se, [&](Notifier& n) { return n.inval_inode(NodeId{ino}, off, len); });
}

int fuse_lowlevel_notify_inval_entry(struct fuse_session* se, fuse_ino_t parent, const char* name,
                                     size_t namelen) {
  return notify(se, [&](Notifier& n) { return n.inval_entry(NodeId{parent}, {name, namelen}); });
}

#undef fuse_lowlevel_notify_expire_entry
int fuse_lowlevel_notify_expire_entry(struct fuse_session* se, fuse_ino_t parent, const char* name,
                                      size_t namelen, enum fuse_expire_flags flags) {
  if (flags != FUSE_LL_EXPIRE_ONLY) return fuse_lowlevel_notify_inval_entry(se, parent, name, namelen);
  return notify(se, [&](Notifier& n) { return n.expire_entry(NodeId{parent}, {name, namelen}); });
}

int fuse_lowlevel_notify_delete(struct fuse_session* se, fuse_ino_t parent, fuse_ino_t child,
                                const char* name, size_t namelen) {
  return notify(se,
                [&](Notifier& n) { return n.delete_entry(NodeId{parent}, NodeId{child}, {name, namelen}); });
}

int fuse_lowlevel_notify_store(struct fuse_session* se, fuse_ino_t ino, off_t offset,
                               struct fuse_bufvec* bufv, enum fuse_buf_copy_flags flags) try {
  if (se == nullptr || offset < 0) return -EINVAL;
  std::vector<std::byte> data(fuse_buf_size(bufv));
  fuse_bufvec to = FUSE_BUFVEC_INIT(data.size());
  to.buf[0].mem = data.data();
  const ssize_t copied = fuse_buf_copy(&to, bufv, flags);
  if (copied < 0) return static_cast<int>(copied);
  const std::span<const std::byte> stored = std::span(data).first(static_cast<std::size_t>(copied));
  return notify(
      se, [&](Notifier& n) { return n.store(NodeId{ino}, static_cast<std::uint64_t>(offset), stored); });
} catch (const std::exception&) {  // bad_alloc, or length_error
  return -ENOMEM;
}

int fuse_lowlevel_notify_retrieve(struct fuse_session* se, fuse_ino_t ino, size_t size, off_t offset,
                                  void* cookie) {
  if (offset < 0) return -EINVAL;
  const auto wanted = static_cast<std::uint32_t>(std::min<std::size_t>(size, UINT32_MAX));
  return notify(se, [&](Notifier& n) {
    return n.retrieve(NodeId{ino}, static_cast<std::uint64_t>(offset), wanted,
                      [se, cookie](Result<Retrieved> got) {
                        if (got) bring_retrieved(*se, cookie, *got);
                      });
  });
}

int fuse_lowlevel_notify_increment_epoch(struct fuse_session* se) {
  return notify(se, [](Notifier& n) { return n.inc_epoch(); });
}

int fuse_lowlevel_notify_prune(struct fuse_session* se, fuse_ino_t* nodeids, uint32_t count) try {
  std::vector<NodeId> nodes;
  nodes.reserve(count);
  for (uint32_t i = 0; i < count; ++i) nodes.emplace_back(nodeids[i]);
  return notify(se, [&](Notifier& n) { return n.prune(nodes); });
} catch (const std::exception&) {
  return -ENOMEM;
}

}  // extern "C"
