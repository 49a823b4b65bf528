#include "devfuse/uring_channel.h"

#include <sys/sysinfo.h>

namespace fusewire::devfuse {

Result<std::unique_ptr<UringChannel>> UringChannel::create(Engine& engine, const UringQueueSettings& like) {
  auto channel = std::make_unique<UringChannel>();
  // The kernel's num_possible_cpus(): it wants that many queues, for processors that are offline too.
  const auto count = static_cast<unsigned>(get_nprocs_conf());
  for (unsigned cpu = 0; cpu < count; ++cpu) {
    UringQueueSettings settings = like;
    settings.cpu = cpu;
    settings.number = like.number + cpu;
    auto queue = std::make_unique<UringQueue>(engine, std::move(settings));
    if (const auto started = queue->start(); !started) return fail(started.error().value);
    channel->queues_.push_back(std::move(queue));
  }
  return channel;
}

void UringChannel::serve() {
  for (const auto& queue : queues_) queue->serve();
}

void UringChannel::pause(bool end_waits) {
  for (const auto& queue : queues_) queue->pause(end_waits);
}

void UringChannel::close() {
  for (const auto& queue : queues_) queue->close();
}

std::size_t UringChannel::lent() const {
  std::size_t count = 0;
  for (const auto& queue : queues_) count += queue->lent();
  return count;
}

}  // namespace fusewire::devfuse
