#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "fuse3/fuse_common.h"
#include "fusewire/unique_fd.h"

namespace fusewire::libfuse {
namespace {

constexpr fuse_buf_copy_flags kDefault{};

fuse_buf memory(char* at, std::size_t size) { return {size, fuse_buf_flags{}, at, -1, 0}; }
fuse_buf file(int fd, std::size_t size, int flags = 0, off_t pos = 0) {
  return {size, static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | flags), nullptr, fd, pos};
}

// A fuse_bufvec of several members.
class Vec {
 public:
  explicit Vec(const std::vector<fuse_buf>& members)
      : storage_(static_cast<fuse_bufvec*>(
            std::calloc(1, sizeof(fuse_bufvec) + members.size() * sizeof(fuse_buf)))) {
    storage_->count = members.size();
    for (std::size_t i = 0; i < members.size(); ++i) *(storage_->buf + i) = members[i];
  }
  fuse_bufvec* get() { return storage_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<fuse_bufvec, Free> storage_;
};

struct Pipe {
  Pipe() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    out = UniqueFd(ends[0]);
    in = UniqueFd(ends[1]);
  }
  UniqueFd out, in;
};

UniqueFd file_with(const std::string& content) {
  UniqueFd fd(memfd_create("buffer_test", MFD_CLOEXEC));
  EXPECT_EQ(pwrite(fd.get(), content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  return fd;
}

std::string content_of(int fd) {
  std::string text(256, '\0');
  const ssize_t n = pread(fd, text.data(), text.size(), 0);
  text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return text;
}

TEST(Buffer, Size_IsTheSumAndSaturates) {
  EXPECT_EQ(fuse_buf_size(Vec({}).get()), 0U);
  EXPECT_EQ(fuse_buf_size(Vec({memory(nullptr, 3), file(-1, 4)}).get()), 7U);
  EXPECT_EQ(fuse_buf_size(Vec({memory(nullptr, SIZE_MAX), memory(nullptr, 2)}).get()), SIZE_MAX);
}

TEST(Buffer, Init_IsOneStretchOfMemory) {
  const fuse_bufvec vec = FUSE_BUFVEC_INIT(12);

  EXPECT_EQ(vec.count, 1U);
  EXPECT_EQ(vec.idx + vec.off, 0U);
  EXPECT_EQ(vec.buf[0].size, 12U);
  EXPECT_EQ(vec.buf[0].flags, 0);
  EXPECT_EQ(vec.buf[0].fd, -1);
}

TEST(Buffer, Copy_MemoryInUnevenPieces) {
  char from[] = "abcdefghij";
  std::array<char, 12> to{};
  Vec src({memory(from, 3), memory(from, 0), memory(from + 3, 7)});
  Vec dst({memory(to.data(), 5), memory(to.data() + 5, 7)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), kDefault), 10);

  EXPECT_STREQ(to.data(), "abcdefghij");
  EXPECT_EQ(dst.get()->idx, 1U);
  EXPECT_EQ(dst.get()->off, 5U);
}

TEST(Buffer, Copy_GoesOnWhereItStood) {
  char from[] = "abcdef";
  std::array<char, 8> to{};
  Vec src({memory(from, 6)});
  Vec first({memory(to.data(), 4)});
  Vec second({memory(to.data() + 4, 4)});

  EXPECT_EQ(fuse_buf_copy(first.get(), src.get(), kDefault), 4);
  EXPECT_EQ(fuse_buf_copy(second.get(), src.get(), kDefault), 2);
  EXPECT_EQ(fuse_buf_copy(second.get(), src.get(), kDefault), 0);

  EXPECT_STREQ(to.data(), "abcdef");
}

TEST(Buffer, Copy_OntoItselfCounts) {
  char text[] = "abc";
  Vec vec({memory(text, 3), memory(text, 2)});

  EXPECT_EQ(fuse_buf_copy(vec.get(), vec.get(), kDefault), 5);
}

TEST(Buffer, MemoryToFile_AtItsPosition) {
  char text[] = "XYZ";
  const UniqueFd fd = file_with("abcdef");
  Vec src({memory(text, 1), memory(text + 1, 2)});
  Vec dst({file(fd.get(), 10, FUSE_BUF_FD_SEEK, 2)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), kDefault), 3);

  EXPECT_EQ(content_of(fd.get()), "abXYZf");
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 0);
}

TEST(Buffer, FileToMemory_EndsAtEndOfFile) {
  const UniqueFd fd = file_with("abcdef");
  std::array<char, 16> to{};
  Vec src({file(fd.get(), 16, FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY, 4)});
  Vec dst({memory(to.data(), 15)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), kDefault), 2);

  EXPECT_STREQ(to.data(), "ef");
}

TEST(Buffer, FileToMemory_WithoutSeekMovesTheDescriptor) {
  const UniqueFd fd = file_with("abcdef");
  std::array<char, 4> to{};
  Vec src({file(fd.get(), 3)});
  Vec dst({memory(to.data(), 4)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), kDefault), 3);

  EXPECT_STREQ(to.data(), "abc");
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 3);
}

TEST(Buffer, ShortRead_GoesOnOnlyWithRetry) {
  for (const int flags : {0, int{FUSE_BUF_FD_RETRY}}) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd a(ends[0]), b(ends[1]);
    ASSERT_EQ(write(a.get(), "abc", 3), 3);
    ASSERT_EQ(write(a.get(), "def", 3), 3);
    std::array<char, 8> to{};
    Vec src({file(b.get(), 6, flags)});
    Vec dst({memory(to.data(), 6)});

    EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), kDefault), flags == 0 ? 3 : 6);

    EXPECT_STREQ(to.data(), flags == 0 ? "abc" : "abcdef");
  }
}

TEST(Buffer, PipeToFile_ByEachWay) {
  for (const int flags : {0, int{FUSE_BUF_FORCE_SPLICE}, int{FUSE_BUF_NO_SPLICE},
                          FUSE_BUF_SPLICE_MOVE | FUSE_BUF_SPLICE_NONBLOCK}) {
    const Pipe pipe;
    ASSERT_EQ(write(pipe.in.get(), "abcdef", 6), 6);
    const UniqueFd fd = file_with("......");
    Vec src({file(pipe.out.get(), 5)});
    Vec dst({file(fd.get(), 5, FUSE_BUF_FD_SEEK, 1)});

    EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), static_cast<fuse_buf_copy_flags>(flags)), 5) << flags;

    EXPECT_EQ(content_of(fd.get()), ".abcde") << flags;
  }
}

TEST(Buffer, FileToFile_CopiesUnlessSpliceIsForced) {
  const UniqueFd from = file_with("abcdef");
  const UniqueFd to = file_with("");
  Vec src({file(from.get(), 6, FUSE_BUF_FD_SEEK)});
  Vec dst({file(to.get(), 6, FUSE_BUF_FD_SEEK)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), FUSE_BUF_FORCE_SPLICE), -EINVAL);
  EXPECT_EQ(content_of(to.get()), "");
  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), kDefault), 6);
  EXPECT_EQ(content_of(to.get()), "abcdef");
}

TEST(Buffer, FileToFile_MoreThanOneBlock) {
  const std::string long_text(100'000, 'x');
  const UniqueFd from = file_with(long_text + "end");
  const UniqueFd to = file_with("");
  Vec src({file(from.get(), SIZE_MAX, FUSE_BUF_FD_RETRY)});
  Vec dst({file(to.get(), SIZE_MAX)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), FUSE_BUF_NO_SPLICE), 100'003);

  std::array<char, 4> tail{};
  EXPECT_EQ(pread(to.get(), tail.data(), 3, 100'000), 3);
  EXPECT_STREQ(tail.data(), "end");
}

TEST(Buffer, Error_OnlyWhenNothingWasCopied) {
  char text[] = "abcdef";
  std::array<char, 8> to{};
  Vec src({memory(text, 6)});
  Vec bad({file(-1, 6)});
  Vec half({memory(to.data(), 2), file(-1, 4)});

  EXPECT_EQ(fuse_buf_copy(bad.get(), src.get(), kDefault), -EBADF);
  EXPECT_EQ(fuse_buf_copy(half.get(), src.get(), kDefault), 2);
  EXPECT_EQ(fuse_buf_copy(half.get(), src.get(), kDefault), -EBADF);
}

TEST(Buffer, EmptyPipe_IsAnErrorWithoutBlocking) {
  const Pipe pipe;
  const UniqueFd fd = file_with("");
  Vec src({file(pipe.out.get(), 5)});
  Vec dst({file(fd.get(), 5)});

  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), FUSE_BUF_SPLICE_NONBLOCK), -EAGAIN);
  EXPECT_EQ(fuse_buf_copy(dst.get(), src.get(), FUSE_BUF_NO_SPLICE), -EAGAIN);
}

}  // namespace
}  // namespace fusewire::libfuse
