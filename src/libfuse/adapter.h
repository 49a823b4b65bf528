// Adapter: a C file system (fuse_lowlevel_ops) as a FileSystem. Every Call becomes a callback with a
// fuse_req.
//
// A callback runs on the thread that the call came on. While a virtual machine is served, calls of which the
// program has said that it is not ready for several at once (fuse_session_loop) take turns, and those that
// may block go to a pool of threads where there is one.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "fusewire/file_system.h"
#include "io/worker_pool.h"
#include "libfuse/request.h"
#include "libfuse/session.h"

namespace fusewire::libfuse {

class Adapter final : public FileSystem {
 public:
  explicit Adapter(fuse_session& session) : session_(session), ops_(session.operations) {}

  // One callback at a time from now on; and: pools for what may block. Before the first call.
  void serialize() { serialized_ = true; }
  void use_pools(unsigned threads);

  // For KnownIds, and for the end of a guest: calls without a kernel behind them.
  void forget_for(std::uint64_t node, std::uint64_t lookups);
  void release_for(const HandleId& id);

  Result<void> init(Negotiation& negotiation) override;
  void destroy() override;
  void forget_node(NodeId node, std::uint64_t lookups) override;
#define FUSE_OP(method, Type, opcode, In, Tail, Reply) void method(Call<op::Type> call) override;
#include "fusewire/ops.def"

 private:
  using HandleCallback = void (*)(fuse_req_t, fuse_ino_t, fuse_file_info*);
  // The request for the callback of `call`, which then no longer can be answered by itself; null when the
  // guest named what it must not, which is answered.
  template <class Op>
  fuse_req_t admit(Call<Op>& call, const Uses& uses = {});
  // Runs the callback of `req`: `callback(req)`.
  template <class F>
  void run(fuse_req_t req, F&& callback);
  // The same, on another thread where there is one for it. `callback` owns all that it needs.
  template <class F>
  void run_blocking(fuse_req_t req, io::WorkerPool* pool, F callback);

  // The same for one that may come with an open file: `callback(req, file)`, null without.
  template <class Op, class F>
  void run_with_file(Call<Op>& call, bool has_file, F&& callback);

  template <class Op>
  void set_lock(Call<Op> call, bool sleep);
  template <class Op>
  void rename_with(Call<Op> call, unsigned flags);
  template <class Op>
  void copy_range(Call<Op> call);
  template <class Op>
  void create_with(Call<Op> call);
  template <class Op>
  void release_with(Call<Op> call, const HandleId& id, HandleCallback callback);
  template <class Op>
  void fsync_with(Call<Op> call, const HandleId& id,
                  void (*callback)(fuse_req_t, fuse_ino_t, int, fuse_file_info*));
  template <class Op>
  void read_with(Call<Op> call, const HandleId& id,
                 void (*callback)(fuse_req_t, fuse_ino_t, size_t, off_t, fuse_file_info*));
  template <class Op>
  void open_with(Call<Op> call, HandleCallback callback);

  fuse_session& session_;
  const Operations& ops_;
  bool serialized_ = false;
  std::mutex turn_;
  std::unique_ptr<io::WorkerPool> lock_pool_;
  std::unique_ptr<io::WorkerPool> data_pool_;
};

template <class Op>
fuse_req_t Adapter::admit(Call<Op>& call, const Uses& uses) {
  Pins pins;
  if (session_.known_ids != nullptr) {
    if (const int error = session_.known_ids->pin(call.header.node.get(), uses, pins); error != 0) {
      if constexpr (Op::Reply::kHasReply) std::move(call.reply).error(error);
      return nullptr;
    }
  }
  auto* req = new fuse_req(session_, call.header, Op::kOpcode);
  req->pins.emplace(std::move(pins));
  if constexpr (Op::Reply::kHasReply) {
    req->set_reply(RawReply(std::move(call.reply)));
  } else {
    req->set_reply(std::move(call.reply));
  }
  return req;
}

template <class F>
void Adapter::run(fuse_req_t req, F&& callback) {
  req->ref();
  const std::unique_ptr<fuse_req, void (*)(fuse_req*)> frame(req, [](fuse_req* held) { held->unref(); });
  if (serialized_) {
    const std::lock_guard turn(turn_);
    callback(req);
  } else {
    callback(req);
  }
  req->watch();
}

template <class F>
void Adapter::run_blocking(fuse_req_t req, io::WorkerPool* pool, F callback) {
  if (pool == nullptr) return run(req, callback);
  req->watch();
  pool->submit([this, req, callback = std::move(callback)]() mutable { run(req, callback); });
}

}  // namespace fusewire::libfuse
