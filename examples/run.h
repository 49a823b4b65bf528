// The command line that the examples share:
//
//   PROGRAM MOUNTPOINT [-o OPTION,...]   mounts the file system on this host, as mount.fuse(8) describes
//   PROGRAM --socket-path=PATH           serves it to a virtual machine (vhost-user, virtio-fs)
//
// Either way it runs in the foreground until it is unmounted, the machine goes away, or SIGINT, SIGTERM or
// SIGHUP comes.
#pragma once

#include <fusewire/session.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace example {

inline fusewire::Session* running = nullptr;

inline int run(fusewire::FileSystem& file_system, int argc, char** argv) {
  std::string mountpoint;
  fusewire::ServeSettings serve;
  fusewire::MountSettings mount;
  bool usage = argc < 2;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--socket-path=")) {
      serve.socket_path = argument.substr(argument.find('=') + 1);
    } else if (argument == "-o" && i + 1 < argc) {
      mount.options += (mount.options.empty() ? "" : ",") + std::string(argv[++i]);
    } else if (mountpoint.empty() && !argument.starts_with('-')) {
      mountpoint = argument;
    } else {
      usage = true;
    }
  }
  if (usage || mountpoint.empty() == serve.socket_path.empty()) {
    std::fprintf(stderr, "usage: %s MOUNTPOINT [-o OPTION,...]\n       %s --socket-path=PATH\n", argv[0],
                 argv[0]);
    return 2;
  }

  auto session = mountpoint.empty() ? fusewire::Session::serve(file_system, serve)
                                    : fusewire::Session::mount(file_system, mountpoint, mount);
  if (!session) {
    std::fprintf(stderr, "%s: %s\n", argv[0], session.error().c_str());
    return 1;
  }
  running = session->get();
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    std::signal(number, [](int) { running->stop(); });
  }
  const auto ended = (*session)->run();
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_IGN);
  if (!ended) {
    std::fprintf(stderr, "%s: %s\n", argv[0], ended.error().c_str());
    return 1;
  }
  return 0;
}

}  // namespace example
