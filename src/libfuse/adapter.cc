// Adapter: start, end, and what the file system forgets.

#include "libfuse/adapter.h"

#include <utility>
#include <vector>

#include "libfuse/conn_info.h"

namespace fusewire::libfuse {

void Adapter::use_pools(unsigned threads) {
  // Locks that are waited for wait for requests that come later: they need threads of their own.
  static constexpr unsigned kLockThreads = 64;
  lock_pool_ = std::make_unique<io::WorkerPool>(kLockThreads, "fw-lock");
  if (threads != 0) data_pool_ = std::make_unique<io::WorkerPool>(threads, "fw-pool");
}

Result<void> Adapter::init(Negotiation& negotiation) {
  fuse_conn_info conn = offered_connection(negotiation, session_.options.mount.max_read.value_or(0));
  set_defaults(conn, ops_);
  const fuse_conn_info defaults = conn;
  session_.set_notifier(negotiation.notifier());
  if (ops_.init != nullptr) ops_.init(session_.userdata, &conn);
  const auto agreed = accept_connection(conn, defaults, negotiation);
  session_.conn = conn;
  if (agreed) return {};
  fuse_log(FUSE_LOG_ERR, "fuse: %s\n", agreed.error().c_str());
  if (ops_.destroy != nullptr) ops_.destroy(session_.userdata);
  // A guest that asks for too little harms itself only; a mount is of no use then.
  if (!session_.serves_guest()) session_.end(-EPROTO);
  return fail(EPROTO);
}

void Adapter::destroy() {
  if (session_.known_ids != nullptr) {
    const KnownIds::Rest rest = session_.known_ids->take_all();
    for (const HandleId& id : rest.handles) release_for(id);
    for (const auto& [node, lookups] : rest.nodes) forget_for(node, lookups);
  }
  session_.set_notifier(nullptr);
  if (ops_.destroy != nullptr) ops_.destroy(session_.userdata);
}

void Adapter::forget_for(std::uint64_t node, std::uint64_t lookups) {
  if (ops_.forget == nullptr && ops_.forget_multi == nullptr) return;
  auto* req = new fuse_req(session_, node, 0);
  run(req, [&](fuse_req_t request) {
    if (ops_.forget != nullptr) return ops_.forget(request, node, lookups);
    fuse_forget_data item{.ino = node, .nlookup = lookups};
    ops_.forget_multi(request, 1, &item);
  });
}

void Adapter::release_for(const HandleId& id) {
  auto* callback = id.directory ? ops_.releasedir : ops_.release;
  if (callback == nullptr) return;
  auto* req = new fuse_req(session_, id.node, 0);
  fuse_file_info file{};
  file.fh = id.handle;
  run(req, [&](fuse_req_t request) { callback(request, id.node, &file); });
}

void Adapter::forget_node(NodeId node, std::uint64_t lookups) { forget_for(node.get(), lookups); }

void Adapter::forget(Call<op::Forget> call) {
  if (session_.known_ids != nullptr)
    return session_.known_ids->forget(call.header.node.get(), call.in.nlookup);
  if (ops_.forget == nullptr) return;
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.forget(r, call.header.node.get(), call.in.nlookup); });
}

void Adapter::batch_forget(Call<op::BatchForget> call) {
  const auto& items = call.tail.items;
  if (session_.known_ids != nullptr) {
    for (std::size_t i = 0; i < items.size(); ++i)
      session_.known_ids->forget(items[i].nodeid, items[i].nlookup);
    return;
  }
  if (ops_.forget_multi == nullptr) {
    for (std::size_t i = 0; i < items.size(); ++i) forget_for(items[i].nodeid, items[i].nlookup);
    return;
  }
  std::vector<fuse_forget_data> forgets(items.size());
  for (std::size_t i = 0; i < items.size(); ++i)
    forgets[i] = {.ino = items[i].nodeid, .nlookup = items[i].nlookup};
  if (auto* req = admit(call))
    run(req, [&](fuse_req_t r) { ops_.forget_multi(r, forgets.size(), forgets.data()); });
}

}  // namespace fusewire::libfuse
