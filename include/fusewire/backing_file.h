// Backing files: files that the kernel reads, writes and maps itself once OPEN or CREATE was answered with
// one (FUSE_PASSTHROUGH, Linux 6.9). READ and WRITE do not come then, and nothing of the file is cached
// twice.
//
// FileSystem::init asks for them by Negotiation::want_backing_files() and keeps what it gets. OPEN asks it
// for the node's BackingFile, answers with a BackedOpenAnswer (answers.h), and keeps the file until RELEASE.
// Where there is none, at init or for one file, it answers as usual and serves the reads itself.
//
// The kernel's rules, by which an open(2) fails with EIO otherwise: all that have a node open have it open
// with the same backing file (BackingFiles::open sees to that), or all without one. So the answer to OPEN may
// change only after the last RELEASE of the node; an open with direct_io must not meet a backed one either.
// The kernel uses the file with the credentials of the thread that called BackingFiles::open, whatever access
// mode it was opened with there: what may be read and written follows from the flags of the request alone.
// With Cap::handle_killpriv or handle_killpriv_v2 nobody clears set-user-ID bits at a write, unless that
// thread lacks CAP_FSETID: then every write does. Without them the kernel clears them, but asks for
// security.capability (GETXATTR) at each write if the file system has extended attributes.
//
// Threading: all methods from any thread, at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "fusewire/backing_channel.h"
#include "fusewire/result.h"
#include "fusewire/wire.h"

namespace fusewire {

class BackingFiles;

// One file that the kernel holds. It lets go of it when this is destroyed; after the end of the mount, which
// is the end of all of them, that does nothing.
class BackingFile {
 public:
  BackingFile(const BackingFile&) = delete;
  BackingFile& operator=(const BackingFile&) = delete;
  ~BackingFile();

  // The kernel's number for it (fuse_open_out::backing_id).
  std::uint32_t id() const { return id_; }

 private:
  friend class BackingFiles;
  BackingFile(std::shared_ptr<BackingFiles> owner, NodeId node) : owner_(std::move(owner)), node_(node) {}

  const std::shared_ptr<BackingFiles> owner_;
  const NodeId node_;
  std::uint32_t id_ = 0;  // 0: the kernel has not got it
};

// The backing files of one mount, from FileSystem::init to destroy(). Afterwards open() fails.
class BackingFiles : public std::enable_shared_from_this<BackingFiles> {
 public:
  BackingFiles(const BackingFiles&) = delete;
  BackingFiles& operator=(const BackingFiles&) = delete;

  // The backing file of `node`: the one that somebody holds still, else a new one, the regular file behind
  // `fd` (O_PATH will do). Never null. Errors: ENOTCONN the mount has gone; the kernel's, after which this
  // file is to be served by the file system itself: EPERM the process lacks CAP_SYS_ADMIN, ELOOP the file
  // lies on a file system that is stacked already (overlayfs, another FUSE with backing files), EINVAL or
  // EOPNOTSUPP it cannot be a backing file, ENOMEM.
  Result<std::shared_ptr<const BackingFile>> open(NodeId node, int fd);
  // The one of `node` that somebody holds; null: nobody does.
  std::shared_ptr<const BackingFile> find(NodeId node);

 private:
  friend class BackingFile;
  friend class Engine;
  explicit BackingFiles(BackingChannel* channel) : channel_(channel) {}

  // For the engine: the mount or its transport goes. Returns when nobody uses the channel any more.
  void disconnect();
  Result<std::uint32_t> give(int fd);
  void close(NodeId node, std::uint32_t id);

  // Held shared by who uses the channel: to close a file may take long.
  std::shared_mutex channel_mutex_;
  BackingChannel* channel_;

  std::mutex nodes_mutex_;
  std::unordered_map<std::uint64_t, std::weak_ptr<const BackingFile>> nodes_;
};

}  // namespace fusewire
