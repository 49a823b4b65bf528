#include "virtiofs-bench/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>

#include "fusewire/result.h"

namespace fusewire::bench {
namespace {

struct ForgetRequest {
  fuse_in_header header;
  fuse_forget_in forget;
};
static_assert(sizeof(ForgetRequest) == 48);
constexpr std::size_t kForgetStride = 64;

// What Linux 6.12 asks of a virtio-fs server without DAX (fuse_new_init() in fs/fuse/inode.c).
constexpr std::uint64_t kLinuxCaps = [] {
  std::uint64_t bits = 0;
  for (const Cap cap :
       {Cap::async_read,          Cap::posix_locks,        Cap::atomic_o_trunc,  Cap::export_support,
        Cap::big_writes,          Cap::dont_mask,          Cap::splice_write,    Cap::splice_move,
        Cap::splice_read,         Cap::flock_locks,        Cap::ioctl_dir,       Cap::auto_inval_data,
        Cap::do_readdirplus,      Cap::readdirplus_auto,   Cap::async_dio,       Cap::writeback_cache,
        Cap::no_open_support,     Cap::parallel_dirops,    Cap::handle_killpriv, Cap::posix_acl,
        Cap::abort_error,         Cap::max_pages,          Cap::cache_symlinks,  Cap::no_opendir_support,
        Cap::explicit_inval_data, Cap::handle_killpriv_v2, Cap::setxattr_ext,    Cap::init_ext,
        Cap::security_ctx,        Cap::create_supp_group,  Cap::has_expire_only, Cap::direct_io_allow_mmap,
        Cap::no_export_support,   Cap::has_resend,         Cap::allow_idmap,     Cap::submounts})
    bits |= static_cast<std::uint64_t>(cap);
  return bits;
}();
constexpr std::uint32_t kLinuxMinor = 41;  // 6.12's

}  // namespace

Expected<void> still_there(const Link& link) {
  pollfd event{link.socket_fd, POLLRDHUP, 0};
  if (::poll(&event, 1, 0) > 0) return failed("the server went away with requests in its hands");
  return {};
}

Expected<void> wait_for_used(driver::Queue& queue, const Link& link) {
  constexpr auto kSlice = std::chrono::milliseconds(500);
  constexpr int kSlices = 60, kSlicesWhenInterrupted = 4;
  for (int i = 0, hurried = 0; i < kSlices && hurried < kSlicesWhenInterrupted; ++i) {
    if (queue.wait(kSlice, link.socket_fd)) return {};
    if (queue.broken()) return failed("the server returned a chain that it did not have");
    if (auto there = still_there(link); !there) return there;
    if (link.interrupted.load(std::memory_order_relaxed)) ++hurried;
  }
  return failed("the server does not answer");
}

Expected<void> Client::send() {
  unique_ += 2;
  if (!slot_.stage(queue_, unique_)) return failed("the ring has no room for a request");
  queue_.publish();
  std::optional<driver::Queue::Used> used = queue_.take();
  while (!used) {
    if (auto waited = wait_for_used(queue_, link_); !waited)
      return failed(fmt::format("{}: {}", slot_.describe(), waited.error()));
    used = queue_.take();
    if (!used && queue_.broken()) return failed("the server returned a chain that it did not have");
  }
  return slot_.check(used->length);
}

Expected<void> Client::call(std::string_view what) {
  if (auto sent = send(); !sent) return failed(fmt::format("{}: {}", what, sent.error()));
  if (slot_.error() != 0) return failed(fmt::format("{}: {}", what, to_string(Errno{slot_.error()})));
  return {};
}

Expected<fuse_init_out> Client::init() {
  fuse_init_in in{};
  in.major = kMajor;
  in.minor = kLinuxMinor;
  in.max_readahead = 128 * 1024;
  in.flags = static_cast<std::uint32_t>(kLinuxCaps);
  in.flags2 = static_cast<std::uint32_t>(kLinuxCaps >> 32);
  slot_.request(FUSE_INIT, NodeId{0}).arg(in).expect<fuse_init_out>();
  if (auto done = call("INIT"); !done) return std::unexpected(done.error());
  const auto out = slot_.reply<fuse_init_out>();
  if (out.major != kMajor) return failed(fmt::format("INIT: the server speaks FUSE {}", out.major));
  return out;
}

Expected<fuse_entry_out> Client::mkdir(NodeId parent, std::string_view name) {
  slot_.request(FUSE_MKDIR, parent).arg(fuse_mkdir_in{0755, 022}).name(name).expect<fuse_entry_out>();
  if (auto done = call(fmt::format("MKDIR {}", name)); !done) return std::unexpected(done.error());
  return slot_.reply<fuse_entry_out>();
}

Expected<CreateOut> Client::create(NodeId parent, std::string_view name) {
  fuse_create_in in{};
  in.flags = O_RDWR | O_CREAT | O_EXCL;
  in.mode = S_IFREG | 0644;
  in.umask = 022;
  slot_.request(FUSE_CREATE, parent).arg(in).name(name).expect<CreateOut>();
  if (auto done = call(fmt::format("CREATE {}", name)); !done) return std::unexpected(done.error());
  return slot_.reply<CreateOut>();
}

Expected<FileHandle> Client::open(NodeId node) {
  fuse_open_in in{};
  in.flags = O_RDWR;
  slot_.request(FUSE_OPEN, node).arg(in).expect<fuse_open_out>();
  if (auto done = call("OPEN"); !done) return std::unexpected(done.error());
  return FileHandle{slot_.reply<fuse_open_out>().fh};
}

Expected<void> Client::release(NodeId node, FileHandle handle) {
  fuse_release_in in{};
  in.fh = handle.get();
  in.flags = O_RDWR;
  slot_.request(FUSE_RELEASE, node).arg(in);
  return call("RELEASE");
}

Expected<void> Client::unlink(NodeId parent, std::string_view name) {
  slot_.request(FUSE_UNLINK, parent).name(name);
  return call(fmt::format("UNLINK {}", name));
}

Expected<void> Client::rmdir(NodeId parent, std::string_view name) {
  slot_.request(FUSE_RMDIR, parent).name(name);
  return call(fmt::format("RMDIR {}", name));
}

Expected<void> Client::destroy() {
  slot_.request(FUSE_DESTROY, NodeId{0});
  return call("DESTROY");
}

Forgets::Forgets(driver::Queue& queue, const Link& link, guestmem::SharedMemory::Piece memory, unsigned depth)
    : queue_(queue), link_(link), memory_(memory) {
  for (unsigned i = depth; i-- > 0;) free_.push_back(i);
}

void Forgets::take() {
  while (const auto used = queue_.take()) free_.push_back(static_cast<unsigned>(used->cookie));
}

Expected<void> Forgets::add(NodeId node, std::uint64_t lookups) {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) take();
  if (free_.empty()) {
    queue_.publish();
    if (auto waited = wait_for_used(queue_, link_); !waited) return waited;
    take();
    if (free_.empty()) return failed("the server broke the high-priority queue");
  }
  const unsigned place = free_.back();
  ForgetRequest request{};
  request.header.len = sizeof request;
  request.header.opcode = FUSE_FORGET;
  request.header.nodeid = node.get();
  request.header.unique = unique_ += 2;
  request.forget.nlookup = lookups;
  std::memcpy(memory_.host + place * kForgetStride, &request, sizeof request);
  const virtio::GuestBuffer buffer{guestmem::GuestAddress(memory_.guest.get() + place * kForgetStride),
                                   sizeof request};
  if (!queue_.stage({&buffer, 1}, {}, place)) return failed("the high-priority queue has no room");
  free_.pop_back();
  return {};
}

void Forgets::publish() {
  const std::lock_guard lock(mutex_);
  queue_.publish();
}

Expected<void> Forgets::drain() {
  const std::lock_guard lock(mutex_);
  queue_.publish();
  for (take(); queue_.outstanding() != 0; take())
    if (auto waited = wait_for_used(queue_, link_); !waited) return waited;
  return {};
}

}  // namespace fusewire::bench
