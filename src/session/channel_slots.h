// ChannelSlots: the requests that a mounted session has taken from its channel, each with memory of its own,
// used again for later ones.
//
// Thread-safe. Its end waits for the slots that are out, which the engine must have been told to finish.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "devfuse/channel.h"
#include "fusewire/slot.h"

namespace fusewire::session {

class ChannelSlots {
 public:
  explicit ChannelSlots(const devfuse::Channel& channel);
  ~ChannelSlots();

  // The next request, for Engine::submit(). Errors: those of Channel::read().
  Result<Slot*> receive();

  // The most that the kernel may write in one request, as Negotiation has it unless the file system says
  // less.
  static constexpr std::size_t kMaxWrite = std::size_t{1} << 20;

 private:
  class MemorySlot;
  std::unique_ptr<MemorySlot> take();
  void give_back(MemorySlot* slot);

  // Slots kept for the next requests; their memory is only as much as was used of it.
  static constexpr std::size_t kMostKept = 64;

  const devfuse::Channel& channel_;
  std::mutex mutex_;
  std::condition_variable all_back_;
  std::size_t out_ = 0;
  std::vector<std::unique_ptr<MemorySlot>> free_;
};

}  // namespace fusewire::session
