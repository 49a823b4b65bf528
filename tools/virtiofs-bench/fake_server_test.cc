#include "virtiofs-bench/fake_server_test.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "fusewire/bytes.h"
#include "vhost_user/backend.h"

namespace fusewire::bench {
namespace {

template <class T>
void append(std::vector<std::byte>& out, const T& object) {
  const auto bytes = bytes_of(object);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// The beginning of `bytes` as a structure.
template <class T>
T front(const std::vector<std::byte>& bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
  return value;
}

// The NUL-ended name behind `offset` bytes of arguments.
std::string name_at(const std::vector<std::byte>& arguments, std::size_t offset) {
  const std::span<const std::byte> bytes(arguments);
  ByteReader reader(bytes.subspan(offset));
  return std::string(reader.take_c_string().value_or(""));
}

fuse_attr attributes(std::uint64_t node) {
  fuse_attr attr{};
  attr.ino = node + 1000;
  attr.mode = S_IFREG | 0644;
  attr.nlink = 1;
  return attr;
}

std::vector<std::byte> gather(const std::vector<iovec>& pieces, std::size_t limit) {
  std::vector<std::byte> bytes;
  for (const iovec& piece : pieces) {
    const auto* begin = static_cast<const std::byte*>(piece.iov_base);
    bytes.insert(bytes.end(), begin, begin + std::min(piece.iov_len, limit - bytes.size()));
  }
  return bytes;
}

void scatter(const std::vector<std::byte>& bytes, const std::vector<iovec>& pieces) {
  std::size_t done = 0;
  for (const iovec& piece : pieces) {
    const std::size_t size = std::min(piece.iov_len, bytes.size() - done);
    std::memcpy(piece.iov_base, bytes.data() + done, size);
    done += size;
  }
}

void signal(const UniqueFd& event) {
  if (event) {
    EXPECT_EQ(::eventfd_write(event.get(), 1), 0);
  }
}

}  // namespace

FakeServer::FakeServer(const FakeOptions& options)
    : options_(options),
      rings_(options.request_queues + 1),
      last_node_(options.first_number),
      last_handle_(options.first_number) {
  std::string home = "/tmp/fake-server.XXXXXX";
  if (::mkdtemp(home.data()) == nullptr) ADD_FAILURE() << "mkdtemp";
  home_ = home;
  path_ = home_ + "/socket";
  auto listener = vhost_user::Listener::bind(path_);
  if (!listener) ADD_FAILURE() << listener.error();
  listener_ = std::make_unique<vhost_user::Listener>(std::move(*listener));
  stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  nodes_[FUSE_ROOT_ID].references = 1;
  acceptor_ = std::thread([this] { accept(); });
}

FakeServer::~FakeServer() {
  signal(stop_);
  acceptor_.join();
  listener_.reset();
  std::filesystem::remove_all(home_);
}

void FakeServer::accept() {
  auto accepted = listener_->accept(stop_.get());
  UniqueFd socket = accepted ? std::move(*accepted).value_or(UniqueFd()) : UniqueFd();
  if (!socket) return;
  connection_ = UniqueFd(::dup(socket.get()));
  vhost_user::Backend(std::move(socket), *this, stop_.get()).run();
}

std::uint64_t FakeServer::features() const {
  return virtio::kVersion1 | virtio::kEventIdx | (options_.indirect ? virtio::kIndirectDesc : 0);
}

Result<void> FakeServer::start_queue(unsigned index, const virtio::RingSetup& setup, UniqueFd kick) {
  Ring& ring = rings_[index];
  auto queue = virtio::SplitQueue::create(
      setup, map_,
      {.event_idx = (acked_ & virtio::kEventIdx) != 0, .indirect = (acked_ & virtio::kIndirectDesc) != 0});
  if (!queue) return fail(EINVAL);
  ring.queue = std::make_unique<virtio::SplitQueue>(std::move(*queue));
  ring.kick = std::move(kick);
  ring.stop = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  ring.thread = std::thread([this, &ring] { serve(ring); });
  return {};
}

std::uint32_t FakeServer::stop_queue(unsigned index) {
  Ring& ring = rings_[index];
  signal(ring.stop);
  ring.thread.join();
  const std::uint32_t base = ring.queue->base();
  ring.queue.reset();
  return base;
}

void FakeServer::set_queue_call(unsigned index, UniqueFd call) {
  const std::lock_guard lock(mutex_);
  rings_[index].call = std::move(call);
}

void FakeServer::reset() {
  for (unsigned i = 0; i < rings_.size(); ++i)
    if (rings_[i].queue) stop_queue(i);
}

void FakeServer::serve(Ring& ring) {
  pollfd events[] = {{ring.kick.get(), POLLIN, 0}, {ring.stop.get(), POLLIN, 0}};
  virtio::Chain chain;
  do {
    std::uint64_t kicks = 0;
    if (events[0].revents != 0) {
      EXPECT_EQ(::eventfd_read(ring.kick.get(), &kicks), 0);
    }
    do {
      chain.clear();
      while (ring.queue->pop(chain, *map_) == virtio::Pop::chain) {
        serve_chain(ring, chain);
        chain.clear();
      }
      ring.queue->publish();
    } while (ring.queue->enable_kicks());
    const std::lock_guard lock(mutex_);
    if (ring.queue->needs_signal()) signal(ring.call);
  } while (::poll(events, 2, -1) > 0 && events[1].revents == 0);
}

void FakeServer::serve_chain(Ring& ring, const virtio::Chain& chain) {
  constexpr std::size_t kMostArguments = 4096;  // more than any request here has, its data aside
  const std::vector<std::byte> request = gather(chain.readable, kMostArguments);
  Exchange exchange;
  exchange.header = front<fuse_in_header>(request);
  exchange.arguments.assign(request.begin() + sizeof(fuse_in_header), request.end());
  const std::uint32_t opcode = exchange.header.opcode;
  {
    const std::lock_guard lock(mutex_);
    ++requests_[opcode];
    last_[opcode] = request;
    Cut& cut = cuts_[opcode] = {};
    for (const iovec& piece : chain.readable) cut.readable.push_back(piece.iov_len);
    for (const iovec& piece : chain.writable) cut.writable.push_back(piece.iov_len);
    EXPECT_EQ(exchange.header.len, chain.readable_size);
    handle(exchange);
  }
  const Fault::Kind fault = opcode == options_.fault.opcode ? options_.fault.kind : Fault::Kind::none;
  if (fault == Fault::Kind::hang_up) ::shutdown(connection_.get(), SHUT_RDWR);
  if (fault == Fault::Kind::hang_up || fault == Fault::Kind::silence) return;
  if (chain.writable.empty()) return ring.queue->push_used(chain.id, 0);

  if (fault == Fault::Kind::wrong_error) exchange.error = EIO;
  if (fault == Fault::Kind::error_with_body) exchange.error = ENOENT;
  if (fault == Fault::Kind::huge_error) exchange.error = 512;
  if (exchange.error != 0)
    exchange.reply.assign(fault == Fault::Kind::error_with_body ? 16 : 0, std::byte{1});
  if (fault == Fault::Kind::other_contents) exchange.reply.at(0) ^= std::byte{1};
  fuse_out_header out{};
  out.error = -exchange.error;
  out.unique = exchange.header.unique + (fault == Fault::Kind::other_unique ? 2 : 0);
  const std::size_t length = sizeof out + exchange.reply.size();
  out.len = static_cast<std::uint32_t>(length) + (fault == Fault::Kind::longer_length ? 8 : 0);
  std::vector<std::byte> bytes;
  append(bytes, out);
  bytes.insert(bytes.end(), exchange.reply.begin(), exchange.reply.end());
  EXPECT_LE(length, chain.writable_size);
  scatter(bytes, chain.writable);
  virtio::ChainId id = chain.id;
  if (fault == Fault::Kind::unknown_chain) id.head = static_cast<std::uint16_t>(id.head + 1);
  ring.queue->push_used(id, static_cast<std::uint32_t>(length));
}

void FakeServer::enter(Exchange& exchange, const std::string& name, bool make) {
  auto& children = nodes_[exchange.header.nodeid].children;
  if (make && !children.emplace(name, last_node_ + 1).second) {
    exchange.error = EEXIST;
    return;
  }
  const auto found = children.find(name);
  if (found == children.end()) {
    exchange.error = ENOENT;
    return;
  }
  last_node_ += make ? 1 : 0;
  ++nodes_[found->second].references;
  fuse_entry_out entry{};
  entry.nodeid = found->second;
  entry.attr = attributes(found->second);
  append(exchange.reply, entry);
}

void FakeServer::remove(Exchange& exchange, const std::string& name) {
  auto& children = nodes_[exchange.header.nodeid].children;
  const auto found = children.find(name);
  if (found == children.end())
    exchange.error = ENOENT;
  else if (nodes_[found->second].references <= 0)
    exchange.error = EIO;  // QEMU's C virtiofsd unlinks nothing that is not looked up.
  else if (!nodes_[found->second].children.empty())
    exchange.error = ENOTEMPTY;
  else
    children.erase(found);
}

void FakeServer::read_directory(Exchange& exchange) {
  const auto in = front<fuse_read_in>(exchange.arguments);
  std::uint64_t offset = 0;
  for (const auto& [name, node] : nodes_[exchange.header.nodeid].children) {
    if (offset++ < in.offset) continue;
    const std::size_t size = FUSE_DIRENT_ALIGN(sizeof(fuse_direntplus) + name.size());
    if (exchange.reply.size() + size > in.size) break;
    fuse_direntplus record{};
    record.entry_out.nodeid = node;
    record.dirent.off = offset;
    record.dirent.namelen = static_cast<std::uint32_t>(name.size());
    ++nodes_[node].references;
    std::vector<std::byte> bytes(size);
    std::memcpy(bytes.data(), &record, sizeof record);
    std::memcpy(bytes.data() + sizeof record, name.data(), name.size());
    exchange.reply.insert(exchange.reply.end(), bytes.begin(), bytes.end());
  }
}

void FakeServer::handle(Exchange& exchange) {
  const std::vector<std::byte>& arguments = exchange.arguments;
  std::vector<std::byte>& reply = exchange.reply;
  switch (exchange.header.opcode) {
    case FUSE_INIT: {
      fuse_init_out out{};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = FUSE_KERNEL_MINOR_VERSION;
      out.flags = FUSE_MAX_PAGES;
      out.max_write = options_.max_write;
      out.max_pages = options_.max_pages;
      return append(reply, out);
    }
    case FUSE_LOOKUP:
      return enter(exchange, name_at(arguments, 0), false);
    case FUSE_MKDIR:
      return enter(exchange, name_at(arguments, sizeof(fuse_mkdir_in)), true);
    case FUSE_MKNOD:
      return enter(exchange, name_at(arguments, sizeof(fuse_mknod_in)), true);
    case FUSE_CREATE:
      enter(exchange, name_at(arguments, sizeof(fuse_create_in)), true);
      if (exchange.error != 0) return;
      [[fallthrough]];
    case FUSE_OPEN:
    case FUSE_OPENDIR:
      ++open_handles_;
      return append(reply, fuse_open_out{++last_handle_, 0, 0});
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      --open_handles_;
      return;
    case FUSE_UNLINK:
    case FUSE_RMDIR:
      return remove(exchange, name_at(arguments, 0));
    case FUSE_FORGET:
      nodes_[exchange.header.nodeid].references -=
          static_cast<std::int64_t>(front<fuse_forget_in>(arguments).nlookup);
      return;
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
      fuse_attr_out out{};
      out.attr = attributes(exchange.header.nodeid);
      return append(reply, out);
    }
    case FUSE_WRITE:
      return append(reply, fuse_write_out{front<fuse_write_in>(arguments).size, 0});
    case FUSE_READ: {
      const auto in = front<fuse_read_in>(arguments);
      reply.resize(in.size);
      for (std::size_t at = 0; at < in.size; at += 4096) {
        const std::uint64_t block = (in.offset + at) / 4096;
        std::memcpy(reply.data() + at, &block, sizeof block);
      }
      return;
    }
    case FUSE_READDIRPLUS:
      return read_directory(exchange);
    case FUSE_FSYNC:
    case FUSE_DESTROY:
      return;
    default:
      exchange.error = ENOSYS;
  }
}

std::size_t FakeServer::names() const {
  const std::lock_guard lock(mutex_);
  return nodes_.at(FUSE_ROOT_ID).children.size();
}

std::size_t FakeServer::open_handles() const {
  const std::lock_guard lock(mutex_);
  return open_handles_;
}

std::int64_t FakeServer::references() const {
  const std::lock_guard lock(mutex_);
  std::int64_t sum = -1;
  for (const auto& [number, node] : nodes_) {
    EXPECT_GE(node.references, 0) << "node " << number << " was forgotten too often";
    sum += node.references;
  }
  return sum;
}

std::uint64_t FakeServer::requests(std::uint32_t opcode) const {
  const std::lock_guard lock(mutex_);
  const auto found = requests_.find(opcode);
  return found == requests_.end() ? 0 : found->second;
}

std::vector<std::byte> FakeServer::last(std::uint32_t opcode) const {
  const std::lock_guard lock(mutex_);
  return last_.at(opcode);
}

FakeServer::Cut FakeServer::cut(std::uint32_t opcode) const {
  const std::lock_guard lock(mutex_);
  return cuts_.at(opcode);
}

}  // namespace fusewire::bench
