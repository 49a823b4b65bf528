// Replies whose size varies, and the negotiation.

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "libfuse/c_file_system_test.h"

namespace fusewire::libfuse::testing {
namespace {

void (*reply_with)(fuse_req_t) = nullptr;
unsigned wanted = 0;

// Sends a READ of `size` bytes to a file system that answers it with `reply`.
Answer read_with(void (*reply)(fuse_req_t), std::uint32_t size = 4096, std::size_t pieces = 0) {
  Operations ops{};
  reply_with = reply;
  ops.read = [](fuse_req_t req, fuse_ino_t, size_t, off_t, fuse_file_info*) { reply_with(req); };
  CFileSystem fs(ops);
  EXPECT_EQ(fs.init().error, 0);
  fuse_read_in in{};
  in.size = size;
  return fs.send(Request(FUSE_READ).arg(in).pieces(pieces));
}

int file_with(const char* text) {
  static UniqueFd file;
  file.reset(memfd_create("reply_test", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), text, std::strlen(text)), static_cast<ssize_t>(std::strlen(text)));
  return file.get();
}

TEST(Reply, Buf_SendsTheBytes) {
  EXPECT_EQ(read_with([](fuse_req_t req) { fuse_reply_buf(req, "hello", 5); }).text(), "hello");
  EXPECT_EQ(read_with([](fuse_req_t req) { fuse_reply_buf(req, nullptr, 0); }).body.size(), 0U);
}

TEST(Reply, Iov_SendsThePartsInOrder) {
  const Answer answer = read_with([](fuse_req_t req) {
    std::string one = "one ", two = "two";
    const iovec parts[] = {{one.data(), one.size()}, {two.data(), two.size()}};
    fuse_reply_iov(req, parts, 2);
  });
  EXPECT_EQ(answer.text(), "one two");
}

TEST(Reply, Data_FromAFileRange) {
  const Answer answer = read_with(
      [](fuse_req_t req) {
        fuse_bufvec data = FUSE_BUFVEC_INIT(4);
        data.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
        data.buf[0].fd = file_with("0123456789");
        data.buf[0].pos = 3;
        fuse_reply_data(req, &data, FUSE_BUF_SPLICE_MOVE);
      },
      4096, 3);
  EXPECT_EQ(answer.text(), "3456");
}

TEST(Reply, Data_LongerThanAnyMemory_IsENOMEM) {
  const Answer answer = read_with([](fuse_req_t req) {
    auto* data = static_cast<fuse_bufvec*>(std::calloc(1, sizeof(fuse_bufvec) + sizeof(fuse_buf)));
    data->count = 2;
    data->buf[0].size = SIZE_MAX / 2;
    data->buf[1].size = 1;
    EXPECT_EQ(fuse_lowlevel_notify_store(&req->session, 1, 0, data, fuse_buf_copy_flags{}), -ENOMEM);
    fuse_reply_data(req, data, fuse_buf_copy_flags{});
    std::free(data);
  });
  EXPECT_EQ(answer.error, ENOMEM);
}

TEST(Reply, Data_PastTheEndOfTheFile_IsShort) {
  const Answer answer = read_with([](fuse_req_t req) {
    fuse_bufvec data = FUSE_BUFVEC_INIT(100);
    data.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
    data.buf[0].fd = file_with("0123456789");
    data.buf[0].pos = 8;
    fuse_reply_data(req, &data, fuse_buf_copy_flags{});
  });
  EXPECT_EQ(answer.error, 0);
  EXPECT_EQ(answer.text(), "89");
}

TEST(Reply, LargerThanTheRoom_IsEIO) {
  const Answer answer = read_with([](fuse_req_t req) {
    const std::string much(100'000, 'x');
    fuse_reply_buf(req, much.data(), much.size());
  });
  EXPECT_EQ(answer.error, EIO);
}

TEST(Reply, ErrorNumberThatIsNone_IsERANGE) {
  EXPECT_EQ(read_with([](fuse_req_t req) { fuse_reply_err(req, -5); }).error, ERANGE);
  EXPECT_EQ(read_with([](fuse_req_t req) { fuse_reply_err(req, 1000); }).error, ERANGE);
  EXPECT_EQ(read_with([](fuse_req_t req) { fuse_reply_err(req, EACCES); }).error, EACCES);
}

TEST(Reply, IoctlRetry_ListsTheMemory) {
  const Answer answer = read_with([](fuse_req_t req) {
    // SAFETY: numbers of another address space.
    const iovec in{reinterpret_cast<void*>(0x1000), 8};
    const iovec out{reinterpret_cast<void*>(0x2000), 16};
    fuse_reply_ioctl_retry(req, &in, 1, &out, 1);
  });
  EXPECT_EQ(answer.body,
            bytes_together(
                fuse_ioctl_out{.result = 0, .flags = FUSE_IOCTL_RETRY, .in_iovs = 1, .out_iovs = 1},
                fuse_ioctl_iovec{.base = 0x1000, .len = 8}, fuse_ioctl_iovec{.base = 0x2000, .len = 16}));
}

TEST(Reply, Lock_HasBothEnds) {
  const Answer answer = read_with([](fuse_req_t req) {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_start = 5;
    lock.l_len = 0;
    lock.l_pid = 3;
    fuse_reply_lock(req, &lock);
  });
  fuse_lk_out out{};
  out.lk = {.start = 5, .end = INT64_MAX, .type = F_WRLCK, .pid = 3};
  EXPECT_EQ(answer.body, bytes_together(out));
}

TEST(Direntry, IsPaddedAndNotWrittenWhereItDoesNotFit) {
  char room[64];
  std::memset(room, 'x', sizeof room);
  struct stat st{};
  st.st_ino = 17;
  st.st_mode = S_IFDIR | 0755;

  EXPECT_EQ(fuse_add_direntry(nullptr, nullptr, 0, "name", &st, 1), 32U);
  EXPECT_EQ(fuse_add_direntry(nullptr, room, 31, "name", &st, 1), 32U);
  EXPECT_EQ(room[0], 'x');
  EXPECT_EQ(fuse_add_direntry(nullptr, room, sizeof room, "name", &st, 9), 32U);

  fuse_dirent entry{};
  std::memcpy(&entry, room, FUSE_NAME_OFFSET);
  EXPECT_EQ(entry.ino, 17U);
  EXPECT_EQ(entry.off, 9U);
  EXPECT_EQ(entry.namelen, 4U);
  EXPECT_EQ(entry.type, static_cast<std::uint32_t>(DT_DIR));
  EXPECT_EQ(std::string(room + FUSE_NAME_OFFSET, 8), std::string("name\0\0\0\0", 8));
  EXPECT_EQ(room[32], 'x');
}

TEST(Direntry, PlusCarriesTheEntry) {
  char room[256];
  fuse_entry_param made{};
  made.ino = 5;
  made.attr.st_ino = 6;
  made.attr.st_mode = S_IFREG;

  EXPECT_EQ(fuse_add_direntry_plus(nullptr, room, 100, "n", &made, 1), 160U);
  EXPECT_EQ(fuse_add_direntry_plus(nullptr, room, sizeof room, "n", &made, 1), 160U);

  fuse_direntplus entry{};
  std::memcpy(&entry, room, FUSE_NAME_OFFSET_DIRENTPLUS);
  EXPECT_EQ(entry.entry_out.nodeid, 5U);
  EXPECT_EQ(entry.dirent.ino, 6U);
  EXPECT_EQ(entry.dirent.type, static_cast<std::uint32_t>(DT_REG));
  EXPECT_EQ(room[FUSE_NAME_OFFSET_DIRENTPLUS], 'n');
}

TEST(Init, WantsWhatTheCallbacksAllow) {
  Operations ops{};
  ops.init = [](void*, fuse_conn_info* conn) { wanted = conn->want; };
  const unsigned always = FUSE_CAP_ASYNC_READ | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV |
                          FUSE_CAP_ASYNC_DIO | FUSE_CAP_IOCTL_DIR | FUSE_CAP_ATOMIC_O_TRUNC |
                          FUSE_CAP_PARALLEL_DIROPS;
  EXPECT_EQ(CFileSystem(ops).init().error, 0);
  EXPECT_EQ(wanted, always);

  ops.flock = [](fuse_req_t, fuse_ino_t, fuse_file_info*, int) {};
  ops.readdirplus = [](fuse_req_t, fuse_ino_t, size_t, off_t, fuse_file_info*) {};
  EXPECT_EQ(CFileSystem(ops).init().error, 0);
  EXPECT_EQ(wanted, always | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_READDIRPLUS);
}

TEST(Init, ReplyCarriesWhatTheFileSystemSet) {
  Operations ops{};
  ops.init = [](void*, fuse_conn_info* conn) {
    conn->want = FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_POSIX_ACL;
    conn->max_write = 65536;
    conn->max_background = 20;
    conn->time_gran = 1000;
  };
  const auto out = CFileSystem(ops).init().as<fuse_init_out>();
  const auto ours = static_cast<std::uint32_t>(FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_INIT_EXT);
  EXPECT_EQ(out.flags & ~ours, static_cast<std::uint32_t>(FUSE_WRITEBACK_CACHE | FUSE_POSIX_ACL));
  EXPECT_EQ(out.max_write, 65536U);
  EXPECT_EQ(out.max_background, 20);
  EXPECT_EQ(out.congestion_threshold, 15);
  EXPECT_EQ(out.time_gran, 1000U);
}

TEST(Init, CongestionThresholdAboveTheMaximum_IsTheMaximum) {
  Operations ops{};
  ops.init = [](void*, fuse_conn_info* conn) {
    conn->max_background = 20;
    conn->congestion_threshold = 40;
  };
  EXPECT_EQ(CFileSystem(ops).init().as<fuse_init_out>().congestion_threshold, 20);
}

TEST(Init, WishThatTheKernelDoesNotOffer_IsEPROTOAndEndsTheSession) {
  Operations ops{};
  ops.init = [](void*, fuse_conn_info* conn) { conn->want |= FUSE_CAP_WRITEBACK_CACHE; };
  CFileSystem fs(ops);
  EXPECT_EQ(fs.harness().init(FUSE_INIT_EXT).error, EPROTO);
  EXPECT_EQ(fuse_session_exited(&fs.session()), 1);
  EXPECT_EQ(fs.session().error(), -EPROTO);
}

}  // namespace
}  // namespace fusewire::libfuse::testing
