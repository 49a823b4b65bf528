// Requests of a guest that lies: malformed ones of every kind, names that try to escape, special files,
// invented nodes and handles, and memory that changes while it is looked at.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "daemon/client.h"

namespace fusewire::tests {
namespace {

class HostileRequests : public DaemonTest {
 protected:
  // A secret beside the shared directory, and something inside it.
  void boot_with_secret(std::vector<std::string> arguments = {}) {
    write_host("../secret", "secret");
    write_host("file", "content");
    std::filesystem::create_directory(host("dir"));
    std::filesystem::create_symlink("../secret", host("link"));
    boot(std::move(arguments), {.request_queues = 2, .queue = {.indirect_entries = 64}});
  }
  void expect_nothing_escaped() {
    EXPECT_EQ(read_host("../secret"), "secret");
    std::vector<std::string> beside;
    for (const auto& entry : std::filesystem::directory_iterator(share().parent_path()))
      beside.push_back(entry.path().filename());
    EXPECT_THAT(beside, ::testing::UnorderedElementsAre("share", "secret", "socket", "log"));
  }
};

const std::vector<std::string> kBadNames = {
    "", ".", "..", "/", "../secret", "a/b", "/etc/passwd", "dir/", "x/../../secret"};

TEST_F(HostileRequests, NamesThatAreNone_AreRefusedByEveryOperation) {
  boot_with_secret();
  const NodeId file = *client().walk("file");
  for (const std::string& name : kBadNames) {
    SCOPED_TRACE(name);
    const auto error = [&](const Request& request) { return client().send(request).error; };
    if (name != "." && name != "..") {
      EXPECT_EQ(error(make_request(FUSE_LOOKUP, kRootNode).name(name)), EINVAL);
    }
    EXPECT_EQ(error(make_request(FUSE_UNLINK, kRootNode).name(name)), EINVAL);
    EXPECT_EQ(error(make_request(FUSE_RMDIR, kRootNode).name(name)), EINVAL);
    EXPECT_EQ(error(make_request(FUSE_SYMLINK, kRootNode).name(name).name("target")), EINVAL);
    EXPECT_EQ(error(make_request(FUSE_MKDIR, kRootNode, fuse_mkdir_in{.mode = 0755, .umask = 0}).name(name)),
              EINVAL);
    fuse_mknod_in mknod{};
    mknod.mode = S_IFREG | 0644;
    EXPECT_EQ(error(make_request(FUSE_MKNOD, kRootNode, mknod).name(name)), EINVAL);
    fuse_create_in create{};
    create.flags = O_RDWR | O_CREAT;
    create.mode = S_IFREG | 0644;
    EXPECT_EQ(error(make_request(FUSE_CREATE, kRootNode, create).name(name)), EINVAL);
    EXPECT_EQ(error(make_request(FUSE_LINK, kRootNode, fuse_link_in{.oldnodeid = file.get()}).name(name)),
              EINVAL);
    const fuse_rename_in rename{.newdir = kRootNode.get()};
    EXPECT_EQ(error(make_request(FUSE_RENAME, kRootNode, rename).name(name).name("new")), EINVAL);
    EXPECT_EQ(error(make_request(FUSE_RENAME, kRootNode, rename).name("file").name(name)), EINVAL);
  }
  EXPECT_EQ(read_host("file"), "content");
  expect_nothing_escaped();
}

TEST_F(HostileRequests, DotDotOfTheRoot_IsTheRoot) {
  boot_with_secret();
  const auto parent = client().lookup(kRootNode, "..");
  if (parent) {
    EXPECT_EQ(parent->nodeid, kRootNode.get());
  }
  EXPECT_EQ(client().lookup(*client().walk("dir"), "..")->nodeid, kRootNode.get());
}

TEST_F(HostileRequests, SymbolicLinks_AreNeverFollowed) {
  boot_with_secret();
  const NodeId link = *client().walk("link");
  EXPECT_EQ(error_of(client().open(link, O_RDONLY)), ELOOP);
  EXPECT_EQ(error_of(client().opendir(link)), ENOTDIR);
  EXPECT_EQ(error_of(client().lookup(link, "x")), ENOTDIR);
  fuse_setattr_in truncate{};
  truncate.valid = FATTR_SIZE;
  EXPECT_FALSE(client().setattr(link, truncate).has_value());
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE;
  mode.mode = 0777;
  EXPECT_FALSE(client().setattr(link, mode).has_value());
  fuse_setattr_in times{};
  times.valid = FATTR_MTIME;
  EXPECT_TRUE(client().setattr(link, times).has_value());
  struct stat secret = stat_host("../secret");
  EXPECT_NE(secret.st_mtim.tv_sec, 0);
  EXPECT_NE(secret.st_mode & 07777, 0777u);
  // CREATE over it neither.
  EXPECT_FALSE(client().create(kRootNode, "link").has_value());
  expect_nothing_escaped();
}

TEST_F(HostileRequests, DirectorySwappedForALink_DoesNotLeadOut) {
  boot_with_secret();
  const NodeId dir = *client().walk("dir");
  std::filesystem::rename(host("dir"), host("old"));
  std::filesystem::create_symlink("..", host("dir"));
  EXPECT_EQ(error_of(client().lookup(dir, "secret")), ENOENT);
  EXPECT_TRUE(client().mkdir(dir, "made").has_value());
  EXPECT_TRUE(std::filesystem::is_directory(host("old/made")));
  EXPECT_FALSE(client().lookup(NodeId{client().lookup(kRootNode, "dir")->nodeid}, "secret").has_value());
  expect_nothing_escaped();
}

TEST_F(HostileRequests, SpecialFiles_AreNeverOpened) {
  FUSEWIRE_NEEDS_ROOT();
  boot_with_secret();
  ASSERT_EQ(::mkfifo(host("fifo").c_str(), 0666), 0);
  ASSERT_EQ(::mknod(host("device").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(::mknod(host("block").c_str(), S_IFBLK | 0666, makedev(7, 200)), 0);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = host("sock").string();
  ASSERT_LT(path.size(), sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  for (const char* name : {"fifo", "device", "block", "sock"}) {
    SCOPED_TRACE(name);
    const NodeId node = *client().walk(name);
    for (const std::uint32_t flags : {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC, O_RDONLY | O_NONBLOCK})
      EXPECT_FALSE(client().open(node, flags).has_value()) << flags;
    EXPECT_FALSE(client().opendir(node).has_value());
    fuse_setattr_in truncate{};
    truncate.valid = FATTR_SIZE;
    EXPECT_FALSE(client().setattr(node, truncate).has_value());
    EXPECT_EQ(client().send(make_request(FUSE_SYNCFS, node, fuse_syncfs_in{}).room(0)).replied, true);
    EXPECT_FALSE(client().create(kRootNode, name).has_value());
  }
  expect_alive();
}

TEST_F(HostileRequests, InventedNodesAndHandles_AreRefused) {
  boot_with_secret({"--posix-lock", "--xattr"});
  std::mt19937_64 random(3);
  const NodeId file = *client().walk("file");
  const auto opened = client().open(file);
  std::vector<std::uint64_t> numbers = {0, 1'000'000, ~std::uint64_t{0}, std::uint64_t{1} << 63};
  for (int i = 0; i < 20; ++i) numbers.push_back(random());
  for (const std::uint64_t number : numbers) {
    SCOPED_TRACE(number);
    EXPECT_EQ(error_of(client().getattr(NodeId{number})), ESTALE);
    EXPECT_EQ(error_of(client().lookup(NodeId{number}, "x")), ESTALE);
    EXPECT_EQ(error_of(client().open(NodeId{number})), ESTALE);
    EXPECT_EQ(error_of(client().read(file, number, 0, 10)), EBADF);
    EXPECT_EQ(error_of(client().write(file, number, 0, "x")), EBADF);
    EXPECT_EQ(error_of(client().readdir(kRootNode, number)), EBADF);
    EXPECT_EQ(client().lock(FUSE_SETLKW, file, number, 1, F_WRLCK), EBADF);
    EXPECT_EQ(client().release(file, number), EBADF);
  }
  // A handle of the wrong kind.
  const auto directory = client().opendir(kRootNode);
  EXPECT_EQ(client().readdir(kRootNode, opened->fh).has_value(), opened->fh == directory->fh);
  expect_alive();
}

TEST_F(HostileRequests, HugeSizes_AreRefusedOrBounded) {
  boot_with_secret({"--xattr"});
  const NodeId file = *client().walk("file");
  const auto opened = client().open(file);
  const auto memory = daemon().anonymous_memory();
  fuse_read_in read{};
  read.fh = opened->fh;
  read.size = 0xffff'ffff;
  EXPECT_EQ(client().send(make_request(FUSE_READ, file, read).room(100)).text(), "content");
  read.offset = ~std::uint64_t{0};
  EXPECT_NE(client().send(make_request(FUSE_READ, file, read).room(100)).error, 0);
  fuse_write_in write{};
  write.fh = opened->fh;
  write.size = 0xffff'ffff;
  EXPECT_EQ(client().send(make_request(FUSE_WRITE, file, write).bytes(as_bytes("x"))).error, EINVAL);
  write.size = 1;
  write.offset = ~std::uint64_t{0};
  EXPECT_NE(client().send(make_request(FUSE_WRITE, file, write).bytes(as_bytes("x"))).error, 0);
  fuse_getxattr_in get{};
  get.size = 0xffff'ffff;
  EXPECT_EQ(client().send(make_request(FUSE_GETXATTR, file, get).name("user.none")).error, ENODATA);
  EXPECT_EQ(client().send(make_request(FUSE_LISTXATTR, file, get)).error, 0);
  const std::uint32_t set[2] = {0xffff'ffff, 0};
  EXPECT_EQ(client().send(make_request(FUSE_SETXATTR, file, set).name("user.x")).error, EINVAL);
  EXPECT_FALSE(client()
                   .send(make_request(FUSE_BATCH_FORGET, NodeId{0},
                                      fuse_batch_forget_in{.count = 0xffff'ffff, .dummy = 0})
                             .room(-1))
                   .replied);
  fuse_fallocate_in allocate{};
  allocate.fh = opened->fh;
  allocate.length = ~std::uint64_t{0};
  EXPECT_NE(client().send(make_request(FUSE_FALLOCATE, file, allocate).room(0)).error, 0);
  fuse_setattr_in truncate{};
  truncate.valid = FATTR_SIZE;
  truncate.size = ~std::uint64_t{0};
  EXPECT_FALSE(client().setattr(file, truncate).has_value());
  fuse_copy_file_range_in copy{};
  copy.fh_in = copy.fh_out = opened->fh;
  copy.len = ~std::uint64_t{0};
  copy.off_out = ~std::uint64_t{0};
  EXPECT_NE(client().send(make_request(FUSE_COPY_FILE_RANGE_64, file, copy)).error, 0);
  if (!kSanitized) {
    EXPECT_LE(daemon().anonymous_memory(), memory + (16u << 20));
  }
  expect_alive();
}

TEST_F(HostileRequests, LengthsThatLie_AreEinval) {
  boot_with_secret();
  for (const std::uint32_t length : {1u, 39u, 41u, 1'000'000u, 0xffff'ffffu}) {
    const Answer answer =
        client().send(make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}).length(length));
    EXPECT_EQ(answer.error, EINVAL) << length;
  }
  EXPECT_EQ(client().send(make_request(FUSE_LOOKUP, kRootNode).bytes(as_bytes("no-nul"))).error, EINVAL);
  expect_alive();
}

TEST_F(HostileRequests, RandomBytes_NeverEndTheDaemon) {
  boot_with_secret({"--posix-lock", "--flock", "--xattr"});
  const NodeId file = *client().walk("file");
  const NodeId dir = *client().walk("dir");
  const auto opened = client().open(file);
  const auto directory = client().opendir(dir);
  // No file above 64 MiB, whatever is written, allocated or copied.
  const rlimit limit{64 << 20, 64 << 20};
  ASSERT_EQ(::prlimit(daemon().pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  std::mt19937 random(19700101);
  const std::uint64_t known[] = {file.get(), dir.get(), opened->fh, directory->fh, 0, 1, ~std::uint64_t{0}};
  for (int round = 0; round < (kSanitized ? 1500 : 10'000); ++round) {
    std::uint32_t opcode = random() % 64;
    // What begins a new session, and what would wait for a lock that this guest has itself.
    if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_SETLKW || opcode == FUSE_INTERRUPT)
      opcode = FUSE_LOOKUP;
    std::vector<std::byte> body(random() % 200);
    for (auto& byte : body) byte = static_cast<std::byte>(random() % 4 == 0 ? random() : 0);
    // Good numbers here and there, so that it gets further than the first check.
    for (std::size_t at = 0; at + 8 <= body.size(); at += 8)
      if (random() % 3 == 0) std::memcpy(body.data() + at, &known[random() % std::size(known)], 8);
    Request request = make_request(opcode, NodeId{known[random() % std::size(known)]});
    request.bytes(body).room(static_cast<int>(random() % 5000));
    if (random() % 8 == 0) request.length(random());
    const Cut cut = virtiofs::testing::kAllCuts[random() % std::size(virtiofs::testing::kAllCuts)];
    (void)guest().queue(1).send(request, cut);
    if (HasFailure()) break;
  }
  expect_nothing_escaped();
  expect_alive();
}

TEST_F(HostileRequests, MemoryThatChangesUnderTheDaemon_NeverEndsIt) {
  boot_with_secret({"--xattr"});
  const auto opened = client().open(*client().walk("file"));
  // One place in memory where a request of two names lies, and a thread that turns its bits over while the
  // daemon reads it.
  const auto piece = virtiofs::testing::allocate_from(guest().memory(), 4096);
  std::vector<std::vector<std::byte>> requests;
  requests.push_back(make_request(FUSE_LOOKUP, kRootNode).name("file").encode());
  requests.push_back(
      make_request(FUSE_RENAME2, kRootNode, fuse_rename2_in{}).name("nothing").name("new").encode());
  requests.push_back(make_request(FUSE_GETXATTR, kRootNode, fuse_getxattr_in{.size = 100, .padding = 0})
                         .name("user.x")
                         .encode());
  requests.push_back(Client::read_request(kRootNode, opened->fh, 0, 100).encode());
  requests.push_back(make_request(FUSE_BATCH_FORGET, NodeId{0}, fuse_batch_forget_in{.count = 1, .dummy = 0})
                         .arg(fuse_forget_one{.nodeid = 99, .nlookup = 1})
                         .encode());
  constexpr std::size_t kScribbled = 128;
  std::atomic<bool> done{false};
  std::thread scribbler([&] {
    std::mt19937 random(5);
    while (!done) {
      auto* byte = reinterpret_cast<std::uint8_t*>(piece.host) + random() % kScribbled;
      std::atomic_ref(*byte).fetch_xor(static_cast<std::uint8_t>(1u << random() % 8));
    }
  });
  GuestQueue& queue = guest().queue(1);
  for (int round = 0; round < (kSanitized ? 2000 : 20'000); ++round) {
    const auto& bytes = requests[static_cast<std::size_t>(round) % requests.size()];
    for (std::size_t i = 0; i < bytes.size(); ++i)
      std::atomic_ref(reinterpret_cast<std::uint8_t*>(piece.host)[i])
          .store(static_cast<std::uint8_t>(bytes[i]));
    const virtio::GuestBuffer readable{piece.guest, static_cast<std::uint32_t>(bytes.size())};
    const virtio::GuestBuffer writable{guestmem::GuestAddress(piece.guest.get() + 2048), 1024};
    const auto cookie = queue.next_cookie();
    ASSERT_TRUE(queue.driver().add({&readable, 1}, {&writable, 1}, cookie));
    if (queue.driver().kick_needed()) queue.kick();
    // An opcode may have become one that waits: INTERRUPT for a request to come, SETLKW is not offered here.
    (void)guest().queue(2).send(make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}));
    if (!queue.wait_used(cookie)) break;
  }
  done = true;
  scribbler.join();
  // It may have become an INIT or a DESTROY.
  EXPECT_EQ(guest().initialize().error, 0);
  expect_nothing_escaped();
  expect_alive();
}

}  // namespace
}  // namespace fusewire::tests
