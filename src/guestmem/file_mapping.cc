#include "guestmem/file_mapping.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <limits>

#include "base/checked.h"
#include "fusewire/result.h"

namespace fusewire::guestmem {
namespace {

// The multiple that offsets and sizes of a mapping of this file must keep to. hugetlbfs wants whole huge
// pages, in mmap(2) as in munmap(2).
std::uint64_t mapping_granule(int fd) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  struct statfs file_system{};
  if (fstatfs(fd, &file_system) != 0 || file_system.f_type != HUGETLBFS_MAGIC) return page;
  const auto huge = static_cast<std::uint64_t>(file_system.f_bsize);
  return huge > page && (huge & (huge - 1)) == 0 ? huge : page;
}

}  // namespace

std::expected<FileMapping, std::string> map_file(const UniqueFd& fd, std::uint64_t offset,
                                                 std::uint64_t size) {
  if (size == 0) return std::unexpected("it has no bytes");
  const auto end = checked_add(offset, size);
  // off_t and size_t are 64 bits; off_t has a sign.
  if (!end || *end > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()))
    return std::unexpected(fmt::format("offset {:#x} and size {:#x} overflow", offset, size));

  struct stat file{};
  if (fstat(fd.get(), &file) != 0) return std::unexpected("fstat: " + to_string(Errno{errno}));
  // Character devices (DAX) have no size here; their drivers check the range in mmap(2).
  if (S_ISREG(file.st_mode) && static_cast<std::uint64_t>(file.st_size) < *end)
    return std::unexpected(fmt::format("its file has {:#x} bytes, it ends at {:#x}", file.st_size, *end));

  const std::uint64_t granule = mapping_granule(fd.get());
  const std::uint64_t begin = offset & ~(granule - 1);
  const auto padded = checked_add(*end - begin, granule - 1);
  if (!padded) return std::unexpected("its size overflows");
  const std::size_t mapped_size = *padded & ~(granule - 1);
  void* mapping = mmap(nullptr, mapped_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(),
                       static_cast<off_t>(begin));
  if (mapping == MAP_FAILED) return std::unexpected("mmap: " + to_string(Errno{errno}));
  // A core dump of ours must neither be as large as the guest nor carry its secrets. Failure costs only that.
  (void)madvise(mapping, mapped_size, MADV_DONTDUMP);
  return FileMapping{mapping, mapped_size, static_cast<std::byte*>(mapping) + (offset - begin)};
}

}  // namespace fusewire::guestmem
