#include "virtiofs-bench/subject.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <filesystem>

namespace fusewire::bench {
namespace {

// "virtiofsd" of "/usr/lib/qemu/virtiofsd --socket-path=..."
std::string program_of(const std::string& command) {
  return std::filesystem::path(command.substr(0, command.find(' '))).filename();
}

// Who listens at the other end; 0: not known.
pid_t listener_of(int socket_fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

}  // namespace

Expected<std::unique_ptr<Subject>> Subject::open(const Options& options, std::size_t index, const Site& site,
                                                 const driver::ServerOptions& wanted) {
  std::unique_ptr<Subject> subject(new Subject(site.interrupted));
  const std::string* command = options.command(index);
  subject->name_ = index < options.names.size() ? options.names[index]
                   : command != nullptr         ? program_of(*command)
                                                : options.socket;
  if (command != nullptr) {
    auto process = ServerProcess::start(*command, site.directory, site.share);
    if (!process) return subject->failure(process.error());
    subject->process_.emplace(std::move(*process));
  }
  if (auto connected = subject->connect(options, wanted); !connected)
    return subject->failure(connected.error());
  return subject;
}

Expected<void> Subject::connect(const Options& options, const driver::ServerOptions& wanted) {
  auto frontend = process_ ? process_->connect() : vhost_user::Frontend::connect(options.socket);
  if (!frontend) return failed(frontend.error());
  auto server = driver::Server::connect(std::move(*frontend), wanted);
  if (!server) return failed(server.error());
  server_ = std::move(*server);
  link_.socket_fd = server_->socket_fd();
  pid_ = process_ ? process_->pid() : options.pid != 0 ? options.pid : listener_of(link_.socket_fd);
  return {};
}

std::unexpected<std::string> Subject::failure(const std::string& what) {
  std::string text = fmt::format("{}: {}", name_, what);
  if (!process_) return failed(std::move(text));
  std::string how;
  if (process_->ended(how)) text += fmt::format("\nThe server {}.", how);
  if (const std::string output = process_->output(); !output.empty())
    text += fmt::format("\nIts output ends with:\n{}", output);
  return failed(std::move(text));
}

Meter::Meter(Subject& subject)
    : subject_(subject), processes_(process_tree(subject.pid())), notifications_(notifications()) {
  restart_peak(processes_);
  cpu_ = cpu_time(processes_);
  begin_ = std::chrono::steady_clock::now();
}

RunResult Meter::read() const {
  RunResult result;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  result.cpu_seconds = std::chrono::duration<double>(cpu_time(processes_) - cpu_).count();
  const Notifications now = notifications();
  result.kicks = now.kicks - notifications_.kicks;
  result.interrupts = now.interrupts - notifications_.interrupts;
  result.footprint = footprint(processes_);
  return result;
}

Meter::Notifications Meter::notifications() const {
  driver::Server& server = subject_.server();
  Notifications sum{server.hiprio().kicks(), server.hiprio().interrupts()};
  for (unsigned i = 0; i < server.request_queues(); ++i) {
    sum.kicks += server.request_queue(i).kicks();
    sum.interrupts += server.request_queue(i).interrupts();
  }
  return sum;
}

}  // namespace fusewire::bench
