#include "passthrough/storage_kind.h"

#include <linux/magic.h>
#include <sys/vfs.h>

namespace fusewire::passthrough {

namespace {

// File systems without a constant in <linux/magic.h>.
constexpr long kBcachefs = 0xca451a4e;
constexpr long kExfat = 0x2011bab0;
constexpr long kZfs = 0x2fc12fc1;

// statfs::f_type; 0, which is none, when the host does not say.
long type_of(int fd) {
  struct statfs stat = {};
  return ::fstatfs(fd, &stat) == 0 ? static_cast<long>(stat.f_type) : 0;
}

}  // namespace

StorageKind storage_kind_of(int fd) {
  switch (type_of(fd)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
      return StorageKind::memory;
    case EXT4_SUPER_MAGIC:  // and ext2, ext3
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
    case SQUASHFS_MAGIC:
    case EROFS_SUPER_MAGIC_V1:
    case ISOFS_SUPER_MAGIC:
    case MSDOS_SUPER_MAGIC:
    case REISERFS_SUPER_MAGIC:
    case NILFS_SUPER_MAGIC:
    case kBcachefs:
    case kExfat:
    case kZfs:
      return StorageKind::local;
    default:
      return StorageKind::remote;
  }
}

bool has_lasting_file_handles(int fd) {
  switch (type_of(fd)) {
    case TMPFS_MAGIC:
    case EXT4_SUPER_MAGIC:  // and ext2, ext3
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case kBcachefs:
    case kZfs:
      return true;
    default:
      return false;
  }
}

}  // namespace fusewire::passthrough
