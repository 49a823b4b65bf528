#include "passthrough/directory_stream.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"

namespace fusewire::passthrough {

namespace {

// struct linux_dirent64 up to d_name
struct RecordHead {
  std::uint64_t ino;
  std::uint64_t off;
  std::uint16_t reclen;
  std::uint8_t type;
};
constexpr std::size_t kNameOffset = 19;
static_assert(offsetof(RecordHead, type) + sizeof(RecordHead::type) == kNameOffset);

constexpr auto kMaxSeek = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());

std::atomic<int> kept_batches{0};

}  // namespace

DirectoryStream::DirectoryStream(UniqueFd fd) : fd_(std::move(fd)) {}

DirectoryStream::~DirectoryStream() { drop_batch(); }

Result<void> DirectoryStream::seek(std::uint64_t position) {
  if (position == position_ && (position != 0 || at_start_)) return {};
  // The cast keeps the bits: a file system with unsigned positions sees the one that it gave out.
  if (::lseek(fd_.get(), static_cast<off_t>(position), SEEK_SET) < 0) return fail_errno();
  drop_batch();
  position_ = position;
  at_start_ = position == 0;
  must_seek_ = false;
  return {};
}

Result<const DirectoryEntry*> DirectoryStream::peek() {
  if (batch_next_ == batch_end_) {
    const auto filled = fill();
    if (!filled) return fail(filled.error());
    if (!*filled) return nullptr;
  }
  RecordHead head;
  const std::byte* const record = batch_.get() + batch_next_;
  FUSEWIRE_CHECK(batch_end_ - batch_next_ > kNameOffset);
  std::memcpy(&head, record, kNameOffset);
  FUSEWIRE_CHECK(head.reclen > kNameOffset && head.reclen <= batch_end_ - batch_next_);
  // SAFETY: char may alias; the kernel ends each name with a NUL inside its record.
  const char* const name = reinterpret_cast<const char*>(record + kNameOffset);
  entry_ = {.ino = head.ino,
            .next = head.off,
            .type = head.type,
            .name = {name, ::strnlen(name, head.reclen - kNameOffset)}};
  return &entry_;
}

void DirectoryStream::advance() {
  FUSEWIRE_CHECK(batch_next_ < batch_end_);
  RecordHead head;
  std::memcpy(&head, batch_.get() + batch_next_, kNameOffset);
  batch_next_ += head.reclen;
  position_ = head.off;
  at_start_ = false;
}

// False at the end of the directory.
Result<bool> DirectoryStream::fill() {
  if (must_seek_) {
    if (::lseek(fd_.get(), static_cast<off_t>(position_), SEEK_SET) < 0) return fail_errno();
    must_seek_ = false;
  }
  if (!batch_) batch_ = std::make_unique_for_overwrite<std::byte[]>(kBatchSize);
  const long got = ::syscall(SYS_getdents64, fd_.get(), batch_.get(), kBatchSize);
  if (got < 0) return fail_errno();
  at_start_ = false;
  batch_next_ = 0;
  batch_end_ = static_cast<std::size_t>(got);
  return got != 0;
}

void DirectoryStream::rest() {
  if (!batch_) return;
  if (batch_next_ == batch_end_) return drop_batch();
  if (counted_) return;
  // SAFETY: relaxed, a count that orders nothing.
  counted_ = true;
  const bool too_many = kept_batches.fetch_add(1, std::memory_order_relaxed) >= kMaxKeptBatches;
  // A position that lseek(2) does not take cannot be come back to.
  if (!too_many || position_ > kMaxSeek) return;
  drop_batch();
  must_seek_ = true;
}

void DirectoryStream::drop_batch() {
  batch_.reset();
  batch_next_ = batch_end_ = 0;
  if (counted_) kept_batches.fetch_sub(1, std::memory_order_relaxed);  // SAFETY: as in rest()
  counted_ = false;
}

}  // namespace fusewire::passthrough
