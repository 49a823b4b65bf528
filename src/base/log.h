// Logging for every layer: levels, one process-wide sink (standard error or syslog), and a limiter for
// messages that a hostile peer could repeat. Thread-safe. spdlog stays behind log.cc.
//
// Nothing here throws for want of memory, because that is what a message may have to say: lines of a few
// hundred bytes need none, and a longer one for which there is none is left out.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace fusewire::log {

enum class Level { trace, debug, info, warn, error, off };

// "trace", "debug", "info", "warn"/"warning", "error"/"err", "off"; anything else is nullopt.
std::optional<Level> parse_level(std::string_view name);

void set_level(Level level);
// True when a message of `level` would be written: ask before computing a costly message.
bool enabled(Level level);
// Sends all further messages to `receiver`, from any thread, instead of standard error; null: no longer. The
// message has no time, level or newline in it.
using Receiver = void (*)(Level level, std::string_view message);
void use_receiver(Receiver receiver);
// Sends all further messages to syslog(3) under `ident` instead of standard error.
void use_syslog(const std::string& ident);

void write(Level level, std::string_view message);
// Writes `format` with its arguments, and how many messages were not logged before it.
void write_formatted(Level level, std::uint64_t swallowed, fmt::string_view format, fmt::format_args args);

template <class... Args>
void emit(Level level, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(level)) write_formatted(level, 0, format, fmt::make_format_args(args...));
}
template <class... Args>
void trace(fmt::format_string<Args...> format, Args&&... args) {
  emit(Level::trace, format, std::forward<Args>(args)...);
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  emit(Level::debug, format, std::forward<Args>(args)...);
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  emit(Level::info, format, std::forward<Args>(args)...);
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  emit(Level::warn, format, std::forward<Args>(args)...);
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  emit(Level::error, format, std::forward<Args>(args)...);
}

// Lets through at most `burst` messages per `interval`. One static object per place that logs what a peer
// did.
class RateLimit {
 public:
  explicit RateLimit(std::uint32_t burst = 5, std::chrono::milliseconds interval = std::chrono::seconds(5))
      : burst_(burst), interval_ns_(std::chrono::nanoseconds(interval).count()) {}

  // The number of messages swallowed since the last one let through, or nullopt when this one is to be
  // swallowed.
  std::optional<std::uint64_t> allow();

 private:
  const std::uint32_t burst_;
  const std::int64_t interval_ns_;
  std::atomic<std::int64_t> window_start_ns_{0};
  std::atomic<std::uint32_t> in_window_{0};
  std::atomic<std::uint64_t> swallowed_{0};
};

template <class... Args>
void emit_limited(RateLimit& limit, Level level, fmt::format_string<Args...> format, Args&&... args) {
  if (!enabled(level)) return;
  const auto swallowed = limit.allow();
  if (swallowed) write_formatted(level, *swallowed, format, fmt::make_format_args(args...));
}
template <class... Args>
void warn_limited(RateLimit& limit, fmt::format_string<Args...> format, Args&&... args) {
  emit_limited(limit, Level::warn, format, std::forward<Args>(args)...);
}

}  // namespace fusewire::log
