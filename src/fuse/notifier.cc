#include "fusewire/notifier.h"

#include <array>
#include <climits>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "base/log.h"
#include "fuse/outbox.h"
#include "fuse/request_scope.h"
#include "fusewire/bytes.h"

namespace fusewire {
namespace {

constexpr std::uint64_t kMaxOffset = INT64_MAX;

iovec piece_of(std::span<const std::byte> bytes) {
  // SAFETY: a channel only reads what the pieces of a message point to.
  return {.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
}
template <class T>
iovec piece_of_object(const T& object) {
  return piece_of(bytes_of(object));
}

std::size_t size_of(std::span<const iovec> pieces) {
  std::size_t size = 0;
  for (const iovec& piece : pieces) size += piece.iov_len;
  return size;
}

std::vector<std::byte> gather(std::span<const iovec> pieces) {
  std::vector<std::byte> bytes;
  bytes.reserve(size_of(pieces));
  for (const iovec& piece : pieces) {
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    bytes.insert(bytes.end(), from, from + piece.iov_len);
  }
  return bytes;
}

Result<void> check_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return fail(EINVAL);
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return fail(EINVAL);
  if (name.size() > Notifier::kMaxName) return fail(ENAMETOOLONG);
  return {};
}

}  // namespace

Notifier::Notifier(std::shared_ptr<Outbox> outbox, std::uint32_t kernel_minor, bool can_expire,
                   bool can_resend)
    : outbox_(std::move(outbox)),
      kernel_minor_(kernel_minor),
      can_expire_(can_expire),
      can_resend_(can_resend) {}

Notifier::~Notifier() = default;

Result<void> Notifier::submit(std::uint32_t code, std::span<const iovec> body, std::uint64_t retrieve) {
  if (state() == State::gone) return fail(ENOTCONN);
  const std::size_t size = sizeof(fuse_out_header) + size_of(body);
  if (const auto admitted = outbox_->admits(size); !admitted) return admitted;
  const fuse_out_header header{
      .len = static_cast<std::uint32_t>(size), .error = static_cast<std::int32_t>(code), .unique = 0};
  try {
    std::vector<iovec> message;
    message.reserve(body.size() + 1);
    message.push_back(piece_of_object(header));
    message.insert(message.end(), body.begin(), body.end());
    if (state() == State::initializing || RequestScope::inside())
      return outbox_->post({.from = shared_from_this(), .bytes = gather(message), .retrieve = retrieve});
    if (message.size() <= UIO_MAXIOV) return outbox_->send(message);
    const std::vector<std::byte> bytes = gather(message);
    const iovec whole = piece_of(bytes);
    return outbox_->send({&whole, 1});
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

Result<void> Notifier::submit_entry(std::uint32_t code, std::span<const std::byte> arguments,
                                    std::string_view name) {
  // The name's NUL is sent, too, but not counted in its length.
  static constexpr std::byte kNul{0};
  const std::array body{piece_of(arguments), piece_of(as_bytes(name)), piece_of({&kNul, 1})};
  return submit(code, body);
}

Result<void> Notifier::poll_wakeup(std::uint64_t kernel_handle) {
  const fuse_notify_poll_wakeup_out out{.kh = kernel_handle};
  const iovec body = piece_of_object(out);
  return submit(FUSE_NOTIFY_POLL, {&body, 1});
}

Result<void> Notifier::inval_inode(NodeId node, std::int64_t offset, std::int64_t length) {
  if (node.get() == 0) return fail(EINVAL);
  if (offset >= 0 && length > INT64_MAX - offset) return fail(EINVAL);
  const fuse_notify_inval_inode_out out{.ino = node.get(), .off = offset, .len = length};
  const iovec body = piece_of_object(out);
  return submit(FUSE_NOTIFY_INVAL_INODE, {&body, 1});
}

Result<void> Notifier::inval_entry(NodeId parent, std::string_view name) {
  if (parent.get() == 0) return fail(EINVAL);
  if (const auto checked = check_name(name); !checked) return checked;
  const fuse_notify_inval_entry_out out{
      .parent = parent.get(), .namelen = static_cast<std::uint32_t>(name.size()), .flags = 0};
  return submit_entry(FUSE_NOTIFY_INVAL_ENTRY, bytes_of(out), name);
}

Result<void> Notifier::expire_entry(NodeId parent, std::string_view name) {
  if (!can_expire_) return fail(ENOSYS);
  if (parent.get() == 0) return fail(EINVAL);
  if (const auto checked = check_name(name); !checked) return checked;
  const fuse_notify_inval_entry_out out{
      .parent = parent.get(), .namelen = static_cast<std::uint32_t>(name.size()), .flags = FUSE_EXPIRE_ONLY};
  return submit_entry(FUSE_NOTIFY_INVAL_ENTRY, bytes_of(out), name);
}

Result<void> Notifier::delete_entry(NodeId parent, NodeId child, std::string_view name) {
  if (parent.get() == 0 || child.get() == 0) return fail(EINVAL);
  if (const auto checked = check_name(name); !checked) return checked;
  const fuse_notify_delete_out out{.parent = parent.get(),
                                   .child = child.get(),
                                   .namelen = static_cast<std::uint32_t>(name.size()),
                                   .padding = 0};
  return submit_entry(FUSE_NOTIFY_DELETE, bytes_of(out), name);
}

Result<void> Notifier::store(NodeId node, std::uint64_t offset, std::span<const std::byte> data) {
  const iovec piece = piece_of(data);
  return store(node, offset, {&piece, 1});
}

Result<void> Notifier::store(NodeId node, std::uint64_t offset, std::span<const iovec> data) {
  const std::size_t size = size_of(data);
  if (node.get() == 0 || offset > kMaxOffset || size > kMaxOffset - offset) return fail(EINVAL);
  if (size > UINT32_MAX) return fail(EMSGSIZE);
  const fuse_notify_store_out out{
      .nodeid = node.get(), .offset = offset, .size = static_cast<std::uint32_t>(size), .padding = 0};
  try {
    std::vector<iovec> body;
    body.reserve(data.size() + 1);
    body.push_back(piece_of_object(out));
    body.insert(body.end(), data.begin(), data.end());
    return submit(FUSE_NOTIFY_STORE, body);
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
}

Result<void> Notifier::resend() {
  return can_resend_ ? submit(kNotifyResend, {}) : Result<void>(fail(ENOSYS));
}

Result<void> Notifier::inc_epoch() {
  return kernel_minor_ >= 44 ? submit(kNotifyIncEpoch, {}) : Result<void>(fail(ENOSYS));
}

Result<void> Notifier::prune(std::span<const NodeId> nodes) {
  if (kernel_minor_ < 45) return fail(ENOSYS);
  if (nodes.size() > UINT32_MAX) return fail(EMSGSIZE);
  const NotifyPruneOut out{.count = static_cast<std::uint32_t>(nodes.size()), .padding = 0, .spare = 0};
  static_assert(sizeof(NodeId) == sizeof(std::uint64_t));
  const std::array body{piece_of_object(out), piece_of(std::as_bytes(nodes))};
  return submit(kNotifyPrune, body);
}

Result<void> Notifier::retrieve(NodeId node, std::uint64_t offset, std::uint32_t size,
                                RetrieveCallback done) {
  if (node.get() == 0 || offset > kMaxOffset || size > kMaxOffset - offset) return fail(EINVAL);
  const std::uint64_t unique = outbox_->next_retrieve();
  try {
    const std::lock_guard lock(mutex_);
    if (state() == State::gone) return fail(ENOTCONN);
    if (retrieves_.size() >= kMaxRetrieves) return fail(EAGAIN);
    // Known before it is sent: the answer may be here before the call returns.
    retrieves_.emplace(unique,
                       Retrieve{.node = node, .offset = offset, .size = size, .done = std::move(done)});
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM);
  }
  const fuse_notify_retrieve_out out{
      .notify_unique = unique, .nodeid = node.get(), .offset = offset, .size = size, .padding = 0};
  const iovec body = piece_of_object(out);
  const Result<void> sent = submit(FUSE_NOTIFY_RETRIEVE, {&body, 1}, unique);
  // What is no longer there has been told to the callback already: the session ended meanwhile.
  if (!sent && take_retrieve(unique)) return sent;
  return {};
}

std::optional<Notifier::Retrieve> Notifier::take_retrieve(std::uint64_t unique) {
  const std::lock_guard lock(mutex_);
  const auto found = retrieves_.find(unique);
  if (found == retrieves_.end()) return std::nullopt;
  std::optional<Retrieve> taken(std::move(found->second));
  retrieves_.erase(found);
  return taken;
}

void Notifier::finish_retrieve(std::uint64_t unique, const fuse_notify_retrieve_in* in, IoVecs data) {
  auto retrieve = take_retrieve(unique);
  if (!retrieve) return log::debug("NOTIFY_REPLY to nothing that was asked: {}", unique);
  if (in == nullptr || in->offset != retrieve->offset || in->size > retrieve->size ||
      in->size > data.size()) {
    static log::RateLimit limit;
    log::warn_limited(limit, "malformed NOTIFY_REPLY");
    return retrieve->done(fail(EPROTO));
  }
  data.truncate(in->size);
  retrieve->done(Retrieved{.node = retrieve->node, .offset = retrieve->offset, .data = data});
}

void Notifier::fail_retrieve(std::uint64_t unique, Errno error) {
  if (auto retrieve = take_retrieve(unique)) retrieve->done(fail(error));
}

void Notifier::connect() {
  state_.store(State::connected, std::memory_order_release);
  outbox_->wake();
}

void Notifier::disconnect() {
  std::unordered_map<std::uint64_t, Retrieve> unanswered;
  {
    const std::lock_guard lock(mutex_);
    state_.store(State::gone, std::memory_order_release);
    unanswered.swap(retrieves_);
  }
  outbox_->wake();
  for (auto& [unique, retrieve] : unanswered) retrieve.done(fail(ENOTCONN));
}

}  // namespace fusewire
