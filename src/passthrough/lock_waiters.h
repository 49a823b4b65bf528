// LockWaiters: system calls that wait for a lock, each on a thread of its own, so that neither a queue nor
// the shared pool waits with them (what they wait for may well have to come through that queue or pool).
//
// A wait is broken off by a signal without SA_RESTART. One that arrives just before the system call begins to
// wait is lost, so a keeper thread sends it again until the waiter says that it is out.
//
// Threading: any. Lifetime: cancel() may come at any time, also after the wait is over and after the
// LockWaiters is gone: tickets are shared.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "fusewire/result.h"
#include "fusewire/slot.h"

namespace fusewire::passthrough {

class LockWaiters {
 public:
  // Waits that may exist at a time by default; the memory of one is small, but a thread it is.
  static constexpr std::size_t kMaxWaiters = 512;

  explicit LockWaiters(std::size_t max_waiters = kMaxWaiters);
  LockWaiters(const LockWaiters&) = delete;
  LockWaiters& operator=(const LockWaiters&) = delete;
  // As end_all().
  ~LockWaiters();

  class Ticket;
  using TicketPtr = std::shared_ptr<Ticket>;

  // A place for one wait, given back with the ticket's last reference; ENOLCK when all are taken.
  Result<TicketPtr> reserve();

  // One call that waits: 0, or the errno that it failed with. It runs again after an EINTR that nobody
  // ordered.
  using Attempt = std::move_only_function<int()>;
  // Takes the outcome: 0, the attempt's errno, or for a wait that was broken off EINTR (interrupted) or
  // ENOLCK (stopping: an EINTR would reach a process of a guest that lives on, without a signal behind it).
  using Finish = std::move_only_function<void(int error)>;
  // Runs both on a new thread, once for each ticket; `finish` right here with ENOLCK if there is no thread to
  // be had.
  void start(const TicketPtr& ticket, Attempt attempt, Finish finish);

  // Breaks the wait off, or makes it fail at once when it has not begun; of several reasons the first counts.
  // Nothing when it is over. Never blocks for long: fit for an interrupt handler.
  static void cancel(const TicketPtr& ticket, InterruptReason reason);

  // Breaks all waits off (InterruptReason::stopping) and returns when their threads are gone.
  void end_all();

  // Places taken.
  std::size_t waiting() const;

 private:
  struct Shared;

  // The body of a waiter's thread.
  static void wait(const TicketPtr& ticket, Attempt attempt, Finish finish);
  static int attempt_until_over(const TicketPtr& ticket, Attempt& attempt);
  // The body of the keeper's thread.
  static void keep(const std::shared_ptr<Shared>& shared);
  // Starts the keeper, if need be, and the waiter's thread. False when there is no thread to be had.
  bool start_threads(const TicketPtr& ticket, std::move_only_function<void()> body);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace fusewire::passthrough
