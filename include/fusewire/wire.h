// The FUSE wire protocol: <linux/fuse.h>, and what protocol 7.39 to 7.45 added after the installed header was
// cut. Every structure that we put on the wire or take from it has its size pinned below.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fusewire/strong.h"

namespace fusewire {

// The protocol version that this engine speaks. An older kernel gets its own minor back.
inline constexpr std::uint32_t kMajor = FUSE_KERNEL_VERSION;
inline constexpr std::uint32_t kMinor = 45;
// Older kernels are refused with EPROTO: from 7.27 on, every structure has one size.
inline constexpr std::uint32_t kOldestMinor = 27;

// Numbers from the kernel that must not be mixed up.
using RequestId = Strong<struct RequestIdTag, std::uint64_t>;    // fuse_in_header::unique
using NodeId = Strong<struct NodeIdTag, std::uint64_t>;          // fuse_in_header::nodeid
using FileHandle = Strong<struct FileHandleTag, std::uint64_t>;  // fuse_open_out::fh
using LockOwner = Strong<struct LockOwnerTag, std::uint64_t>;    // fuse_lk_in::owner and its kin
using GuestUid = Strong<struct GuestUidTag, std::uint32_t>;
using GuestGid = Strong<struct GuestGidTag, std::uint32_t>;

inline constexpr NodeId kRootNode{FUSE_ROOT_ID};

// INIT capability bits, flags in the low and flags2 in the high word, named as the kernel names them without
// FUSE_.
enum class Cap : std::uint64_t {
  async_read = 1ULL << 0,
  posix_locks = 1ULL << 1,
  file_ops = 1ULL << 2,
  atomic_o_trunc = 1ULL << 3,
  export_support = 1ULL << 4,
  big_writes = 1ULL << 5,
  dont_mask = 1ULL << 6,
  splice_write = 1ULL << 7,
  splice_move = 1ULL << 8,
  splice_read = 1ULL << 9,
  flock_locks = 1ULL << 10,
  ioctl_dir = 1ULL << 11,
  auto_inval_data = 1ULL << 12,
  do_readdirplus = 1ULL << 13,
  readdirplus_auto = 1ULL << 14,
  async_dio = 1ULL << 15,
  writeback_cache = 1ULL << 16,
  no_open_support = 1ULL << 17,
  parallel_dirops = 1ULL << 18,
  handle_killpriv = 1ULL << 19,
  posix_acl = 1ULL << 20,
  abort_error = 1ULL << 21,
  max_pages = 1ULL << 22,
  cache_symlinks = 1ULL << 23,
  no_opendir_support = 1ULL << 24,
  explicit_inval_data = 1ULL << 25,
  map_alignment = 1ULL << 26,
  submounts = 1ULL << 27,
  handle_killpriv_v2 = 1ULL << 28,
  setxattr_ext = 1ULL << 29,
  init_ext = 1ULL << 30,
  security_ctx = 1ULL << 32,
  has_inode_dax = 1ULL << 33,
  create_supp_group = 1ULL << 34,     // 7.38
  has_expire_only = 1ULL << 35,       // 7.38
  direct_io_allow_mmap = 1ULL << 36,  // 7.39
  passthrough = 1ULL << 37,           // 7.40
  no_export_support = 1ULL << 38,     // 7.40
  has_resend = 1ULL << 39,            // 7.40
  allow_idmap = 1ULL << 40,           // 7.41
  over_io_uring = 1ULL << 41,         // 7.42
  request_timeout = 1ULL << 42,       // 7.43
};

// Opcodes later than the installed header, under the kernel's names.
#if FUSE_KERNEL_MINOR_VERSION < 39
inline constexpr std::uint32_t FUSE_STATX = 52;
#endif
#if FUSE_KERNEL_MINOR_VERSION < 45
inline constexpr std::uint32_t FUSE_COPY_FILE_RANGE_64 = 53;
#endif

// Notification codes later than the installed header (enum fuse_notify_code), which as enumerators could not
// be asked for by the preprocessor.
inline constexpr std::uint32_t kNotifyResend = 7;    // FUSE_NOTIFY_RESEND (7.40)
inline constexpr std::uint32_t kNotifyIncEpoch = 8;  // FUSE_NOTIFY_INC_EPOCH (7.44)
inline constexpr std::uint32_t kNotifyPrune = 9;     // FUSE_NOTIFY_PRUNE (7.45)
// FUSE_UNIQUE_RESEND: in fuse_in_header::unique of what FUSE_NOTIFY_RESEND made the kernel send again. The
// answer has it too.
inline constexpr std::uint64_t kUniqueResend = std::uint64_t{1} << 63;

// struct fuse_notify_prune_out (7.45), followed by `count` node ids.
struct NotifyPruneOut {
  std::uint32_t count;
  std::uint32_t padding;
  std::uint64_t spare;
};

// struct fuse_statx_in (7.39)
struct StatxIn {
  std::uint32_t getattr_flags;
  std::uint32_t reserved;
  std::uint64_t fh;
  std::uint32_t sx_flags;
  std::uint32_t sx_mask;
};

// struct fuse_sx_time (7.39)
struct StatxTime {
  std::int64_t tv_sec;
  std::uint32_t tv_nsec;
  std::int32_t reserved;
};

// struct fuse_statx (7.39), the layout of struct statx up to dev_minor
struct StatxAttr {
  std::uint32_t mask;
  std::uint32_t blksize;
  std::uint64_t attributes;
  std::uint32_t nlink;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint16_t mode;
  std::uint16_t spare0;
  std::uint64_t ino;
  std::uint64_t size;
  std::uint64_t blocks;
  std::uint64_t attributes_mask;
  StatxTime atime;
  StatxTime btime;
  StatxTime ctime;
  StatxTime mtime;
  std::uint32_t rdev_major;
  std::uint32_t rdev_minor;
  std::uint32_t dev_major;
  std::uint32_t dev_minor;
  std::uint64_t spare2[14];
};

// struct fuse_statx_out (7.39)
struct StatxOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::uint64_t spare[2];
  StatxAttr stat;
};

// struct fuse_copy_file_range_out (7.45)
struct CopyFileRangeOut {
  std::uint64_t bytes_copied;
};

// CREATE's reply: fuse_entry_out followed by fuse_open_out.
struct CreateOut {
  fuse_entry_out entry;
  fuse_open_out open;
};

// FOPEN_PASSTHROUGH (7.40), and where fuse_open_out::backing_id of that version stands.
inline constexpr std::uint32_t kOpenPassthrough = 1U << 7;
inline void set_backing_file(fuse_open_out& out, std::uint32_t id) {
  out.open_flags |= kOpenPassthrough;
  std::memcpy(reinterpret_cast<std::byte*>(&out) + 12, &id, sizeof id);  // SAFETY: the structure's last word
}

// Extensions behind the names of CREATE, MKNOD, MKDIR, SYMLINK and TMPFILE (7.36 and 7.38). An extension is
// this header and its content, `size` bytes in all, padded to 8. Types 0 to 31 are that many security
// contexts.
struct ExtensionHeader {  // struct fuse_ext_header, struct fuse_secctx_header
  std::uint32_t size;
  std::uint32_t type;
};
inline constexpr std::uint32_t kMaxSecurityContexts = 31;
inline constexpr std::uint32_t kExtensionGroups = 32;  // FUSE_EXT_GROUPS: u32 count, u32 gid[count]

static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);
static_assert(offsetof(fuse_in_header, total_extlen) == 36 && offsetof(fuse_in_header, nodeid) == 16);
static_assert(sizeof(fuse_attr) == 88 && sizeof(fuse_entry_out) == 128 && sizeof(fuse_attr_out) == 104);
static_assert(sizeof(fuse_init_in) == 64 && sizeof(fuse_init_out) == 64 &&
              offsetof(fuse_init_out, flags2) == 32);
static_assert(sizeof(fuse_open_in) == 8 && sizeof(fuse_open_out) == 16 && sizeof(CreateOut) == 144);
static_assert(sizeof(fuse_read_in) == 40 && sizeof(fuse_write_in) == 40 && sizeof(fuse_write_out) == 8);
static_assert(sizeof(fuse_setattr_in) == 88 && sizeof(fuse_getattr_in) == 16);
static_assert(sizeof(fuse_create_in) == 16 && sizeof(fuse_mknod_in) == 16 && sizeof(fuse_mkdir_in) == 8);
static_assert(sizeof(fuse_rename_in) == 8 && sizeof(fuse_rename2_in) == 16 && sizeof(fuse_link_in) == 8);
static_assert(sizeof(fuse_release_in) == 24 && sizeof(fuse_flush_in) == 24 && sizeof(fuse_fsync_in) == 16);
static_assert(sizeof(fuse_setxattr_in) == 16 && sizeof(fuse_getxattr_in) == 8 &&
              sizeof(fuse_getxattr_out) == 8);
static_assert(sizeof(fuse_lk_in) == 48 && sizeof(fuse_lk_out) == 24 && sizeof(fuse_access_in) == 8);
static_assert(sizeof(fuse_interrupt_in) == 8 && sizeof(fuse_bmap_in) == 16 && sizeof(fuse_bmap_out) == 8);
static_assert(sizeof(fuse_ioctl_in) == 32 && sizeof(fuse_ioctl_out) == 16 && sizeof(fuse_poll_in) == 24);
static_assert(sizeof(fuse_poll_out) == 8 && sizeof(fuse_forget_in) == 8 && sizeof(fuse_forget_one) == 16);
static_assert(sizeof(fuse_batch_forget_in) == 8 && sizeof(fuse_fallocate_in) == 32 &&
              sizeof(fuse_statfs_out) == 80);
static_assert(sizeof(fuse_lseek_in) == 24 && sizeof(fuse_lseek_out) == 8 &&
              sizeof(fuse_copy_file_range_in) == 56);
static_assert(sizeof(fuse_setupmapping_in) == 40 && sizeof(fuse_removemapping_in) == 4);
static_assert(sizeof(fuse_removemapping_one) == 16 && sizeof(fuse_syncfs_in) == 8 &&
              sizeof(cuse_init_in) == 16);
static_assert(sizeof(fuse_notify_retrieve_in) == 40 && sizeof(fuse_secctx) == 8 &&
              sizeof(ExtensionHeader) == 8);
static_assert(sizeof(fuse_notify_poll_wakeup_out) == 8 && sizeof(fuse_notify_inval_inode_out) == 24);
static_assert(sizeof(fuse_notify_inval_entry_out) == 16 && sizeof(fuse_notify_delete_out) == 24);
static_assert(sizeof(fuse_notify_store_out) == 24 && sizeof(fuse_notify_retrieve_out) == 32 &&
              sizeof(NotifyPruneOut) == 16);
static_assert(sizeof(fuse_dirent) == 24 && sizeof(fuse_direntplus) == 152);
static_assert(sizeof(StatxIn) == 24 && sizeof(StatxAttr) == 256 && sizeof(StatxOut) == 288);
static_assert(offsetof(StatxAttr, atime) == 64 && offsetof(StatxAttr, rdev_major) == 128);

}  // namespace fusewire
