// Request -> callback -> whole reply, one by one.

#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <future>
#include <mutex>
#include <string>
#include <thread>

#include "libfuse/c_file_system_test.h"

namespace fusewire::libfuse::testing {
namespace {

// What the last callback saw; tests run one after the other.
struct Seen {
  std::string name, second_name, data;
  std::uint64_t node = 0, second_node = 0;
  long number = 0, flags = 0;
  fuse_file_info file{};
  fuse_ctx context{};
  struct stat attributes{};
  struct flock lock{};
  fuse_req_t request = nullptr;
  int calls = 0;
};
Seen seen;

class Adapter : public ::testing::Test {
 protected:
  void SetUp() override { seen = {}; }
  static fuse_entry_param entry(std::uint64_t node) {
    fuse_entry_param made{};
    made.ino = node;
    made.generation = 7;
    made.attr.st_ino = node;
    made.attr.st_mode = S_IFREG | 0640;
    made.attr.st_size = 11;
    made.attr_timeout = 1.5;
    made.entry_timeout = 2.25;
    return made;
  }
  static fuse_entry_out entry_out(std::uint64_t node) {
    fuse_entry_out out{};
    out.nodeid = node;
    out.generation = 7;
    out.attr_valid = 1;
    out.attr_valid_nsec = 500'000'000;
    out.entry_valid = 2;
    out.entry_valid_nsec = 250'000'000;
    out.attr.ino = node;
    out.attr.mode = S_IFREG | 0640;
    out.attr.size = 11;
    return out;
  }
};

TEST_F(Adapter, Lookup_CallsBackAndRepliesTheEntry) {
  Operations ops{};
  ops.lookup = [](fuse_req_t req, fuse_ino_t parent, const char* name) {
    seen.node = parent;
    seen.name = name;
    seen.context = *fuse_req_ctx(req);
    const fuse_entry_param made = entry(42);
    seen.number = fuse_reply_entry(req, &made);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);

  const Answer answer = fs.send(Request(FUSE_LOOKUP).uid(5).gid(6).name("file"));

  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.body, bytes_together(entry_out(42)));
  EXPECT_EQ(seen.number, 0);
  EXPECT_EQ(seen.name, "file");
  EXPECT_EQ(seen.node, FUSE_ROOT_ID);
  EXPECT_EQ(seen.context.uid, 5U);
  EXPECT_EQ(seen.context.gid, 6U);
  EXPECT_EQ(seen.context.pid, 4321);
}

TEST_F(Adapter, MissingCallbacks_AreENOSYSButWhereSuccessIsMeant) {
  CFileSystem fs(Operations{});
  ASSERT_EQ(fs.init().error, 0);

  EXPECT_EQ(fs.send(Request(FUSE_LOOKUP).name("x")).error, ENOSYS);
  EXPECT_EQ(fs.send(Request(FUSE_GETATTR).arg(fuse_getattr_in{})).error, ENOSYS);
  EXPECT_EQ(fs.send(Request(FUSE_ACCESS).arg(fuse_access_in{})).error, ENOSYS);
  EXPECT_EQ(fs.send(Request(FUSE_FLUSH).arg(fuse_flush_in{})).error, ENOSYS);
  EXPECT_EQ(fs.send(Request(FUSE_STATX).arg(StatxIn{})).error, ENOSYS);
  EXPECT_FALSE(fs.send(Request(FUSE_FORGET).arg(fuse_forget_in{})).replied);
  for (const std::uint32_t opcode : {FUSE_OPEN, FUSE_OPENDIR}) {
    const Answer opened = fs.send(Request(opcode).arg(fuse_open_in{}));
    EXPECT_EQ(opened.error, 0);
    EXPECT_EQ(opened.body, bytes_together(fuse_open_out{}));
  }
  for (const std::uint32_t opcode : {FUSE_RELEASE, FUSE_RELEASEDIR})
    EXPECT_EQ(fs.send(Request(opcode).arg(fuse_release_in{})).error, 0);
  fuse_statfs_out none{};
  none.st.bsize = 512;
  none.st.namelen = 255;
  EXPECT_EQ(fs.send(Request(FUSE_STATFS)).body, bytes_together(none));
}

TEST_F(Adapter, Create_HasUmaskAndRepliesEntryAndHandle) {
  Operations ops{};
  ops.create = [](fuse_req_t req, fuse_ino_t, const char* name, mode_t mode, fuse_file_info* file) {
    seen.name = name;
    seen.number = mode;
    seen.context = *fuse_req_ctx(req);
    seen.flags = file->flags;
    const fuse_entry_param made = entry(9);
    file->fh = 77;
    file->direct_io = 1;
    file->keep_cache = 1;
    file->noflush = 1;
    fuse_reply_create(req, &made, file);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);

  const Answer answer =
      fs.send(Request(FUSE_CREATE)
                  .arg(fuse_create_in{.flags = O_RDWR, .mode = 0100644, .umask = 022, .open_flags = 0})
                  .name("new"));

  const fuse_open_out open{
      .fh = 77, .open_flags = FOPEN_DIRECT_IO | FOPEN_KEEP_CACHE | FOPEN_NOFLUSH, .padding = 0};
  EXPECT_EQ(answer.body, bytes_together(entry_out(9), open));
  EXPECT_EQ(seen.name, "new");
  EXPECT_EQ(seen.number, 0100644);
  EXPECT_EQ(seen.context.umask, 022U);
  EXPECT_EQ(seen.flags, O_RDWR);
}

TEST_F(Adapter, Setattr_PassesOnlyWhatTheInterfaceKnows) {
  Operations ops{};
  ops.setattr = [](fuse_req_t req, fuse_ino_t, struct stat* attributes, int to_set, fuse_file_info* file) {
    seen.attributes = *attributes;
    seen.flags = to_set;
    if (file != nullptr) seen.file = *file;
    fuse_reply_attr(req, attributes, 3.0);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE | FATTR_FH | FATTR_LOCKOWNER | FATTR_MTIME;
  in.fh = 5;
  in.size = 1000;
  in.mtime = 123;
  in.mtimensec = 456;

  const Answer answer = fs.send(Request(FUSE_SETATTR).arg(in));

  fuse_attr_out out{};
  out.attr_valid = 3;
  out.attr.size = 1000;
  out.attr.mtime = 123;
  out.attr.mtimensec = 456;
  EXPECT_EQ(answer.body, bytes_together(out));
  EXPECT_EQ(seen.flags, FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME);
  EXPECT_EQ(seen.file.fh, 5U);
}

TEST_F(Adapter, Write_InPieces_ReachesWriteInOne) {
  Operations ops{};
  ops.write = [](fuse_req_t req, fuse_ino_t, const char* data, size_t size, off_t offset,
                 fuse_file_info* file) {
    seen.data.assign(data, size);
    seen.number = offset;
    seen.file = *file;
    fuse_reply_write(req, size);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  const std::string text = "a text that comes in pieces";
  fuse_write_in in{};
  in.fh = 3;
  in.offset = 100;
  in.size = static_cast<std::uint32_t>(text.size());
  in.write_flags = FUSE_WRITE_CACHE;

  const Answer answer = fs.send(Request(FUSE_WRITE).arg(in).bytes(as_bytes(text)).pieces(7));

  EXPECT_EQ(answer.body, bytes_together(fuse_write_out{.size = in.size, .padding = 0}));
  EXPECT_EQ(seen.data, text);
  EXPECT_EQ(seen.number, 100);
  EXPECT_EQ(seen.file.fh, 3U);
  EXPECT_EQ(seen.file.writepage, 1U);
}

TEST_F(Adapter, WriteBuf_IsPreferredAndGetsThePieces) {
  Operations ops{};
  ops.write = [](fuse_req_t req, fuse_ino_t, const char*, size_t, off_t, fuse_file_info*) {
    fuse_reply_err(req, EIO);
  };
  ops.write_buf = [](fuse_req_t req, fuse_ino_t, fuse_bufvec* data, off_t, fuse_file_info*) {
    std::string text(fuse_buf_size(data), ' ');
    fuse_bufvec to = FUSE_BUFVEC_INIT(text.size());
    to.buf[0].mem = text.data();
    seen.number = static_cast<long>(data->count);
    fuse_reply_write(req, static_cast<size_t>(fuse_buf_copy(&to, data, fuse_buf_copy_flags{})));
    seen.data = text;
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  const std::string text(100, 'w');
  fuse_write_in in{};
  in.size = 100;

  const Answer answer = fs.send(Request(FUSE_WRITE).arg(in).bytes(as_bytes(text)).pieces(30));

  EXPECT_EQ(answer.body, bytes_together(fuse_write_out{.size = 100, .padding = 0}));
  EXPECT_EQ(seen.data, text);
  EXPECT_GT(seen.number, 1);
}

TEST_F(Adapter, Flock_AndRecordLocks_ReachTheirCallbacks) {
  Operations ops{};
  ops.flock = [](fuse_req_t req, fuse_ino_t, fuse_file_info* file, int operation) {
    seen.number = operation;
    seen.file = *file;
    fuse_reply_err(req, 0);
  };
  ops.setlk = [](fuse_req_t req, fuse_ino_t, fuse_file_info*, struct flock* lock, int sleep) {
    seen.lock = *lock;
    seen.flags = sleep;
    fuse_reply_err(req, EAGAIN);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  fuse_lk_in in{};
  in.owner = 99;
  in.lk = {.start = 10, .end = 19, .type = F_WRLCK, .pid = 12};

  EXPECT_EQ(fs.send(Request(FUSE_SETLKW).arg(in)).error, EAGAIN);
  EXPECT_EQ(seen.lock.l_start, 10);
  EXPECT_EQ(seen.lock.l_len, 10);
  EXPECT_EQ(seen.lock.l_type, F_WRLCK);
  EXPECT_EQ(seen.flags, 1);

  in.lk_flags = FUSE_LK_FLOCK;
  EXPECT_EQ(fs.send(Request(FUSE_SETLK).arg(in)).error, 0);
  EXPECT_EQ(seen.number, LOCK_EX | LOCK_NB);
  EXPECT_EQ(seen.file.lock_owner, 99U);
}

TEST_F(Adapter, Rename2_PassesFlagsAndBothNames) {
  Operations ops{};
  ops.rename = [](fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
                  const char* new_name, unsigned flags) {
    seen.node = parent;
    seen.second_node = new_parent;
    seen.name = name;
    seen.second_name = new_name;
    seen.flags = flags;
    fuse_reply_err(req, 0);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);

  const Answer answer = fs.send(Request(FUSE_RENAME2, NodeId{3})
                                    .arg(fuse_rename2_in{.newdir = 4, .flags = 2, .padding = 0})
                                    .name("a")
                                    .name("b"));

  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(seen.node, 3U);
  EXPECT_EQ(seen.second_node, 4U);
  EXPECT_EQ(seen.name + seen.second_name, "ab");
  EXPECT_EQ(seen.flags, 2);
}

TEST_F(Adapter, Forgets_ReachForgetMultiOrForgetOneByOne) {
  Operations ops{};
  ops.forget = [](fuse_req_t req, fuse_ino_t node, uint64_t lookups) {
    seen.data += std::to_string(node) + "-" + std::to_string(lookups) + " ";
    fuse_reply_none(req);
  };
  const Request batch = Request(FUSE_BATCH_FORGET)
                            .arg(fuse_batch_forget_in{.count = 2, .dummy = 0})
                            .arg(fuse_forget_one{.nodeid = 5, .nlookup = 2})
                            .arg(fuse_forget_one{.nodeid = 6, .nlookup = 1});
  {
    CFileSystem fs(ops);
    ASSERT_EQ(fs.init().error, 0);
    EXPECT_FALSE(fs.send(batch).replied);
    EXPECT_FALSE(fs.send(Request(FUSE_FORGET, NodeId{8}).arg(fuse_forget_in{.nlookup = 3})).replied);
  }
  EXPECT_EQ(seen.data, "5-2 6-1 8-3 ");
  ops.forget_multi = [](fuse_req_t req, size_t count, fuse_forget_data* items) {
    for (size_t i = 0; i < count; ++i) seen.number += static_cast<long>(items[i].ino);
    fuse_reply_none(req);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  EXPECT_FALSE(fs.send(batch).replied);
  EXPECT_EQ(seen.number, 11);
}

TEST_F(Adapter, Ioctl_GetsItsInputAndItsRoom) {
  Operations ops{};
  ops.ioctl = [](fuse_req_t req, fuse_ino_t, unsigned command, void*, fuse_file_info*, unsigned,
                 const void* input, size_t in_size, size_t out_size) {
    seen.number = command;
    seen.data.assign(static_cast<const char*>(input), in_size);
    seen.flags = static_cast<long>(out_size);
    fuse_reply_ioctl(req, 5, "out", 3);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  fuse_ioctl_in in{};
  in.cmd = 1234;
  in.in_size = 4;
  in.out_size = 64;

  const Answer answer = fs.send(Request(FUSE_IOCTL).arg(in).bytes(as_bytes("data")).pieces(45));

  auto expected = bytes_together(fuse_ioctl_out{.result = 5, .flags = 0, .in_iovs = 0, .out_iovs = 0});
  for (const char c : {'o', 'u', 't'}) expected.push_back(static_cast<std::byte>(c));
  EXPECT_EQ(answer.body, expected);
  EXPECT_EQ(seen.number, 1234);
  EXPECT_EQ(seen.data, "data");
  EXPECT_EQ(seen.flags, 64);
}

// A request that is answered later, by another thread.
TEST_F(Adapter, Reply_FromAnotherThread_AfterTheCallback) {
  Operations ops{};
  ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) { seen.request = req; };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);

  const auto slot = fs.harness().start(Request(FUSE_UNLINK).name("x"));
  EXPECT_FALSE(slot->answered());
  std::thread([] { fuse_reply_err(seen.request, EPERM); }).join();

  EXPECT_EQ(slot->wait().error, EPERM);
}

TEST_F(Adapter, Interrupt_CallsTheFunctionWhichMayReply) {
  Operations ops{};
  ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) {
    seen.request = req;
    fuse_req_interrupt_func(
        req,
        [](fuse_req_t request, void* data) {
          ++*static_cast<int*>(data);
          seen.number = fuse_req_interrupted(request);
          fuse_reply_err(request, EINTR);
        },
        &seen.calls);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  const Request request = Request(FUSE_UNLINK).name("x");

  const auto slot = fs.harness().start(request);
  ASSERT_FALSE(slot->answered());
  fs.send(Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = request.unique()}));

  EXPECT_EQ(slot->wait().error, EINTR);
  EXPECT_EQ(seen.calls, 1);
  EXPECT_EQ(seen.number, 1);
}

// The usual wait queue: its lock is held by who replies, and wanted by the interrupt function.
TEST_F(Adapter, Interrupt_WhoseFunctionWaitsForALock_KeepsNobodyFromReplying) {
  struct Queue {
    std::mutex mutex;
    std::promise<void> entered;
  };
  static Queue queue;
  Operations ops{};
  ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) {
    seen.request = req;
    fuse_req_interrupt_func(
        req,
        [](fuse_req_t, void*) {
          queue.entered.set_value();
          const std::lock_guard lock(queue.mutex);
        },
        nullptr);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  const Request request = Request(FUSE_UNLINK).name("x");
  const auto slot = fs.harness().start(request);
  std::thread interrupting;
  {
    const std::lock_guard lock(queue.mutex);
    interrupting = std::thread(
        [&] { fs.send(Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = request.unique()})); });
    queue.entered.get_future().wait();
    EXPECT_EQ(fuse_req_interrupted(seen.request), 1);
    // Another request finds its way meanwhile.
    EXPECT_EQ(fs.send(Request(FUSE_RMDIR).name("y")).error, ENOSYS);
    EXPECT_EQ(fuse_reply_err(seen.request, EINTR), 0);
  }
  EXPECT_EQ(slot->wait().error, EINTR);
  interrupting.join();
}

TEST_F(Adapter, Interrupt_WithNoInterrupt_IsNotTold) {
  Operations ops{};
  ops.init = [](void*, fuse_conn_info* conn) { conn->no_interrupt = 1; };
  ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) {
    seen.request = req;
    fuse_req_interrupt_func(req, [](fuse_req_t, void* data) { ++*static_cast<int*>(data); }, &seen.calls);
  };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  const Request request = Request(FUSE_UNLINK).name("x");
  const auto slot = fs.harness().start(request);

  fs.send(Request(FUSE_INTERRUPT).arg(fuse_interrupt_in{.unique = request.unique()}));

  EXPECT_EQ(seen.calls, 0);
  EXPECT_EQ(fuse_req_interrupted(seen.request), 0);
  fuse_reply_err(seen.request, ENOENT);
  EXPECT_EQ(slot->wait().error, ENOENT);
}

// The end of the session does not wait for a file system that never replies; a late reply does no harm.
TEST_F(Adapter, SessionEnd_AnswersWhatIsOpenAndTheLateReplyIsENOENT) {
  Operations ops{};
  ops.unlink = [](fuse_req_t req, fuse_ino_t, const char*) { seen.request = req; };
  ops.destroy = [](void*) { ++seen.calls; };
  CFileSystem fs(ops);
  ASSERT_EQ(fs.init().error, 0);
  const auto slot = fs.harness().start(Request(FUSE_UNLINK).name("x"));

  fs.harness().engine().reset();

  EXPECT_EQ(slot->wait().error, EINTR);
  EXPECT_EQ(seen.calls, 1);
  EXPECT_EQ(fuse_reply_err(seen.request, 0), -ENOENT);
}

}  // namespace
}  // namespace fusewire::libfuse::testing
