#include "io/page_cache.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace fusewire::io {
namespace {

// Of <linux/mman.h> and <asm/unistd.h>, from Linux 6.5 on.
#ifndef SYS_cachestat
constexpr long SYS_cachestat = 451;
#endif
struct CacheRange {
  std::uint64_t offset;
  std::uint64_t size;
};
struct CacheCounts {
  std::uint64_t cached;
  std::uint64_t dirty;
  std::uint64_t writeback;
  std::uint64_t evicted;
  std::uint64_t recently_evicted;
};

}  // namespace

bool is_cached(int fd, std::uint64_t offset, std::size_t size) {
  if (size == 0) return true;
  const CacheRange range{.offset = offset, .size = size};
  CacheCounts counts{};
  if (::syscall(SYS_cachestat, fd, &range, &counts, 0U) != 0) return false;
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return counts.cached == (offset + size - 1) / page - offset / page + 1;
}

}  // namespace fusewire::io
