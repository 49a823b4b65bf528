#include "daemon/client.h"

#include <cstring>
#include <fstream>
#include <sstream>

namespace fusewire::tests {
namespace {

template <class Out>
Result<Out> result_of(const Answer& answer) {
  if (answer.error != 0) return fail(answer.error);
  if (answer.body.size() < sizeof(Out)) {
    ADD_FAILURE() << "a reply of " << answer.body.size() << " bytes, not " << sizeof(Out);
    return fail(EBADMSG);
  }
  return answer.as<Out>();
}

template <class Out>
Request with_room(Request request) {
  return std::move(request.room(sizeof(Out)));
}

}  // namespace

Request make_request(std::uint32_t opcode, NodeId node) {
  return Request(opcode, node).uid(::geteuid()).gid(::getegid());
}

Result<fuse_entry_out> Client::lookup(NodeId parent, std::string_view name) {
  return result_of<fuse_entry_out>(
      send(with_room<fuse_entry_out>(make_request(FUSE_LOOKUP, parent).name(name))));
}

Result<NodeId> Client::walk(const std::filesystem::path& path) {
  NodeId node = kRootNode;
  for (const auto& part : path) {
    const auto entry = lookup(node, part.string());
    if (!entry) return fail(entry.error());
    node = NodeId{entry->nodeid};
  }
  return node;
}

Result<fuse_attr> Client::getattr(NodeId node) {
  const auto out = result_of<fuse_attr_out>(
      send(with_room<fuse_attr_out>(make_request(FUSE_GETATTR, node, fuse_getattr_in{}))));
  if (!out) return fail(out.error());
  return out->attr;
}

Result<fuse_attr> Client::setattr(NodeId node, const fuse_setattr_in& in) {
  const auto out =
      result_of<fuse_attr_out>(send(with_room<fuse_attr_out>(make_request(FUSE_SETATTR, node, in))));
  if (!out) return fail(out.error());
  return out->attr;
}

Result<CreateOut> Client::create(NodeId parent, std::string_view name, std::uint32_t flags,
                                 std::uint32_t mode) {
  fuse_create_in in{};
  in.flags = flags | O_CREAT;
  in.mode = S_IFREG | mode;
  return result_of<CreateOut>(send(with_room<CreateOut>(make_request(FUSE_CREATE, parent, in).name(name))));
}

Result<fuse_entry_out> Client::mkdir(NodeId parent, std::string_view name, std::uint32_t mode) {
  fuse_mkdir_in in{};
  in.mode = mode;
  return result_of<fuse_entry_out>(
      send(with_room<fuse_entry_out>(make_request(FUSE_MKDIR, parent, in).name(name))));
}

Result<fuse_open_out> Client::open(NodeId node, std::uint32_t flags) {
  fuse_open_in in{};
  in.flags = flags;
  return result_of<fuse_open_out>(send(with_room<fuse_open_out>(make_request(FUSE_OPEN, node, in))));
}

Result<fuse_open_out> Client::opendir(NodeId node) {
  return result_of<fuse_open_out>(
      send(with_room<fuse_open_out>(make_request(FUSE_OPENDIR, node, fuse_open_in{}))));
}

int Client::release(NodeId node, std::uint64_t handle) {
  fuse_release_in in{};
  in.fh = handle;
  return send(make_request(FUSE_RELEASE, node, in).room(0)).error;
}

int Client::releasedir(NodeId node, std::uint64_t handle) {
  fuse_release_in in{};
  in.fh = handle;
  return send(make_request(FUSE_RELEASEDIR, node, in).room(0)).error;
}

void Client::forget(NodeId node, std::uint64_t lookups) {
  const Answer answer = send(make_request(FUSE_FORGET, node, fuse_forget_in{.nlookup = lookups}).room(-1));
  EXPECT_FALSE(answer.replied);
}

Request Client::read_request(NodeId node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
  fuse_read_in in{};
  in.fh = handle;
  in.offset = offset;
  in.size = size;
  return std::move(make_request(FUSE_READ, node, in).room(static_cast<int>(size)));
}

Request Client::write_request(NodeId node, std::uint64_t handle, std::uint64_t offset,
                              std::span<const std::byte> data, std::uint32_t flags) {
  fuse_write_in in{};
  in.fh = handle;
  in.offset = offset;
  in.size = static_cast<std::uint32_t>(data.size());
  in.flags = flags;
  return with_room<fuse_write_out>(make_request(FUSE_WRITE, node, in).bytes(data));
}

Result<std::string> Client::read(NodeId node, std::uint64_t handle, std::uint64_t offset,
                                 std::uint32_t size) {
  const Answer answer = send(read_request(node, handle, offset, size));
  if (answer.error != 0) return fail(answer.error);
  return std::string(answer.text());
}

Result<std::uint32_t> Client::write(NodeId node, std::uint64_t handle, std::uint64_t offset,
                                    std::string_view data, std::uint32_t flags) {
  const auto out =
      result_of<fuse_write_out>(send(write_request(node, handle, offset, as_bytes(data), flags)));
  if (!out) return fail(out.error());
  return out->size;
}

Result<std::vector<DirectoryEntry>> Client::readdir(NodeId node, std::uint64_t handle, bool plus,
                                                    std::uint64_t offset, std::uint32_t size) {
  std::vector<DirectoryEntry> entries;
  for (;;) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    const Answer answer =
        send(make_request(plus ? FUSE_READDIRPLUS : FUSE_READDIR, node, in).room(static_cast<int>(size)));
    if (answer.error != 0) return fail(answer.error);
    if (answer.body.empty()) return entries;
    ByteReader reader(answer.body);
    while (reader.remaining() != 0) {
      DirectoryEntry entry;
      if (plus) {
        const auto attributes = reader.read<fuse_entry_out>();
        if (!attributes) return fail(EBADMSG);
        entry.entry = *attributes;
      }
      const auto header = reader.take(FUSE_NAME_OFFSET);
      if (!header) return fail(EBADMSG);
      fuse_dirent fixed{};
      std::memcpy(&fixed, header->data(), FUSE_NAME_OFFSET);
      const auto name = reader.take(fixed.namelen);
      if (!name || fixed.namelen == 0) return fail(EBADMSG);
      (void)reader.take(FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + fixed.namelen) - FUSE_NAME_OFFSET -
                        fixed.namelen);
      entry.name = as_text(*name);
      entry.ino = fixed.ino;
      entry.type = fixed.type;
      entry.offset = offset = fixed.off;
      entries.push_back(std::move(entry));
    }
  }
}

Request Client::lock_request(std::uint32_t opcode, NodeId node, std::uint64_t handle, std::uint64_t owner,
                             std::uint32_t type, std::uint64_t start, std::uint64_t end,
                             std::uint32_t flags) {
  fuse_lk_in in{};
  in.fh = handle;
  in.owner = owner;
  in.lk = {.start = start, .end = end, .type = type, .pid = 4321};
  in.lk_flags = flags;
  return std::move(make_request(opcode, node, in).room(opcode == FUSE_GETLK ? sizeof(fuse_lk_out) : 0));
}

int Client::lock(std::uint32_t opcode, NodeId node, std::uint64_t handle, std::uint64_t owner,
                 std::uint32_t type, std::uint64_t start, std::uint64_t end, std::uint32_t flags) {
  return send(lock_request(opcode, node, handle, owner, type, start, end, flags)).error;
}

DaemonTest::~DaemonTest() = default;

void DaemonTest::write_host(std::string_view name, std::string_view content) const {
  std::ofstream file(host(name), std::ios::binary);
  file << content;
  EXPECT_TRUE(file.flush().good()) << name;
}

std::string DaemonTest::read_host(std::string_view name) const {
  std::ifstream file(host(name), std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

struct stat DaemonTest::stat_host(std::string_view name) const {
  struct stat stat = {};
  EXPECT_EQ(::lstat(host(name).c_str(), &stat), 0) << name;
  return stat;
}

DaemonProcess& DaemonTest::start_daemon(std::vector<std::string> arguments, const GuestOptions& options) {
  arguments.insert(arguments.begin(), {"--shared-dir=" + share().string(),
                                       "--num-request-queues=" + std::to_string(options.request_queues)});
  daemon_ = std::make_unique<DaemonProcess>(scratch_.path(), arguments);
  return *daemon_;
}

void DaemonTest::boot(std::vector<std::string> arguments, const GuestOptions& options) {
  leave();
  if (!daemon_) start_daemon(std::move(arguments), options);
  guest_ = std::make_unique<MockGuest>(*daemon_, options);
  client_ = std::make_unique<Client>(*guest_);
}

void DaemonTest::expect_alive() {
  ASSERT_TRUE(daemon_->running()) << daemon_->log();
  EXPECT_TRUE(client_->getattr(kRootNode).has_value());
}

std::string pattern(std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  std::uint64_t state = 0x9e3779b97f4a7c15ULL * (seed + 1);
  for (char& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

}  // namespace fusewire::tests
