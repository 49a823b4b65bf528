// INIT: what the kernel offers, what the file system wants, and the reply that follows from both.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "fusewire/result.h"
#include "fusewire/wire.h"

namespace fusewire {

class BackingFiles;
class Notifier;

// The name of a capability as the kernel header has it, for messages: "FUSE_POSIX_ACL".
std::string_view name_of(Cap cap);

class Negotiation {
 public:
  // `in`: the kernel's INIT. What the kernel cannot have meant is masked: flags2 without FUSE_INIT_EXT.
  explicit Negotiation(const fuse_init_in& in);

  std::uint32_t kernel_minor() const { return kernel_minor_; }
  // What the transport has no means for counts as not offered.
  bool offered(Cap cap) const { return (offered_ & static_cast<std::uint64_t>(cap)) != 0; }
  bool enabled(Cap cap) const { return (enabled_ & static_cast<std::uint64_t>(cap)) != 0; }

  // Turns `cap` on if the kernel offers it. Returns whether it is on. Cap::passthrough and
  // Cap::writeback_cache exclude each other: what comes second stays off.
  bool want(Cap cap);
  // Turns `cap` on, or makes INIT fail with a message that names `cap` and `purpose` ("--posix-acl").
  bool require(Cap cap, std::string_view purpose);
  // The text for what require() missed; empty when nothing was.
  const std::string& missing() const { return missing_; }

  // What tells this kernel something without being asked; see notifier.h. Never null in FileSystem::init.
  const std::shared_ptr<Notifier>& notifier() const { return notifier_; }

  // Turns Cap::passthrough on, so that the file system may give the kernel files to read and write itself;
  // see backing_file.h. EOPNOTSUPP where there is no such thing: over virtio, with a kernel before Linux 6.9,
  // with Cap::writeback_cache on.
  Result<std::shared_ptr<BackingFiles>> want_backing_files();

  // Sizes in bytes and limits as in struct fuse_init_out; set them in FileSystem::init.
  std::uint32_t max_write = 1 << 20;
  std::uint32_t max_readahead;  // as the kernel says; may be made smaller
  std::uint16_t max_background = 1024;
  std::uint16_t congestion_threshold = 768;
  std::uint32_t time_granularity_ns = 1;
  // With Cap::passthrough: how many file systems may lie above each other, this one and what is below its
  // backing files; the kernel takes 1 or 2 (fuse_init_out::max_stack_depth, 7.40).
  std::uint32_t max_stack_depth = 1;
  // With Cap::request_timeout: seconds after which the kernel aborts a connection that does not answer; 0:
  // never (fuse_init_out::request_timeout, 7.43).
  std::uint16_t request_timeout_s = 0;

  // The reply for the kernel; its max_pages covers max_write.
  fuse_init_out reply() const;

 private:
  friend class Engine;

  // Makes it as if the kernel did not offer `cap`.
  void withhold(Cap cap) { offered_ &= ~static_cast<std::uint64_t>(cap); }

  std::shared_ptr<Notifier> notifier_;
  std::shared_ptr<BackingFiles> backing_files_;  // null: the transport has none
  std::uint32_t kernel_minor_;
  std::uint64_t offered_;
  std::uint64_t enabled_ = 0;
  std::string missing_;
};

}  // namespace fusewire
