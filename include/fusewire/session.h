// Session: a FileSystem in service, mounted on this host or offered to a virtual machine.
//
// Threading: run() by one thread, once; stop() by anyone, meanwhile or before. The file system's methods run
// on threads of the session.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "fusewire/file_system.h"

namespace fusewire {

struct MountSettings {
  // Options as mount.fuse(8) documents them, separated by commas: "allow_other,fsname=x". Unknown ones are
  // refused by name. With "io_uring" (and "io_uring_q_depth=N": 8 unless given) requests come over io_uring,
  // one queue and thread for each processor, where the kernel has it; a handler that waits holds up its
  // processor's requests. "allow_root" lets other users in no further than what the kernel has cached for
  // root and this one: it needs "default_permissions" beside it where that is to be secret. While requests
  // come fast, threads wait awake for the next one, "poll_us=N" (50 unless given, 0: never) microseconds at
  // most.
  std::string options{};
  // The most threads that serve requests, started as they are needed; 1: only the one that run() is.
  unsigned threads = 10;
  bool clone_fd = false;      // a /dev/fuse for each thread
  bool splice = true;         // large parts of files as answers are not copied
  std::size_t max_write = 0;  // the most bytes in a WRITE or READ; 0: as many as the kernel allows
  // How long the end waits for what the kernel still has to write back, and then for calls that are not
  // answered yet. These are given up after it, and answering them later does nothing.
  std::chrono::milliseconds grace{5000};
};

struct ServeSettings {
  // Where the front-end connects (QEMU: -chardev socket,path=...). A socket file that nobody listens on is
  // replaced; ours is removed at the end.
  std::string socket_path{};
  // Or a listening AF_UNIX stream socket, which the session takes over; -1: there is none.
  int listening_fd = -1;
  // Whether run() waits for the next front-end when one has gone; else it returns then.
  bool keep_listening = false;
  // Request queues offered to the guest, each with a thread of its own.
  unsigned request_queues = 1;
  // The name that the guest mounts, if the front-end does not know it; at most 36 bytes.
  std::string tag{};
  // The longest notification (notifier.h) that goes to a guest which negotiates VIRTIO_FS_F_NOTIFICATION
  // (Linux up to 6.18 does not), at least 2048 bytes; 0: it is not offered.
  std::uint32_t notification_buffer = 64 * 1024;
  // How long the end, and a front-end's leaving, waits for calls that are not answered yet. These are given
  // up after it, and answering them later does nothing.
  std::chrono::milliseconds grace{5000};
};

class Session {
 public:
  // Mounts `file_system`, which must outlive the session, on a directory, or on a regular file if the root is
  // one: with mount(2) as root, else through
  // fusermount3. A mountpoint /dev/fd/N is an open /dev/fuse that somebody else has mounted; it becomes the
  // session's. What a process of this user that died has left mounted there is taken away. Errors are one
  // line for the user.
  //
  // A program that goes to the background may fork before run(): nothing of the session runs by then, unless
  // FileSystem::init has started a thread or posted a notification. The child runs it; the other process must
  // not destroy its session, which would unmount, but end by _exit(2).
  //
  // With mount(2) and Linux 6.18.25, 7.0.2 or 7.1 on, FileSystem::init has been called on return, by another
  // thread, and its refusal is an error; nothing has been mounted then. Elsewhere it is called in run(),
  // which ends with its refusal; what is mounted meanwhile answers ECONNREFUSED.
  static std::expected<std::unique_ptr<Session>, std::string> mount(FileSystem& file_system,
                                                                    const std::string& mountpoint,
                                                                    const MountSettings& settings = {});
  // Listens for vhost-user front-ends, which are served one after the other. Only one that leaves in order
  // ends run() (see keep_listening): one that breaks the protocol is logged, loses its connection, and the
  // next one is waited for. Who merely connects to see whether the socket is alive is not noticed. Errors are
  // one line for the user.
  static std::expected<std::unique_ptr<Session>, std::string> serve(FileSystem& file_system,
                                                                    const ServeSettings& settings);

  // Serves requests until the file system is unmounted, the front-end has gone, or stop() was called. The
  // error says what else ended it.
  virtual std::expected<void, std::string> run() = 0;
  // Makes run() return: what the kernel has cached is written back, and the mount taken away. From any
  // thread, and from a signal handler. Calls that are being served are told (ReplyBase::interrupted); a
  // method that never returns keeps run() from returning.
  virtual void stop() = 0;

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  // Unmounts (lazily: who uses the file system gets ENOTCONN), if run() has not done that. run() must not be
  // running. Ends with FileSystem::destroy().
  virtual ~Session() = default;

 protected:
  Session() = default;
};

}  // namespace fusewire
