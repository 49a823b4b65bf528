#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include <iterator>
#include <memory>
#include <new>

#include "base/check.h"
#include "fusewire/result.h"

namespace fusewire {

std::string to_string(Errno error) noexcept {
  char buffer[128];
  try {
    // GNU strerror_r: returns the text, which need not stand in the buffer.
    return strerror_r(error.value, buffer, sizeof buffer);
  } catch (const std::bad_alloc&) {
    return "no memory";  // so short that it needs none
  }
}

void check_failed(const char* condition, const char* file, int line) {
  log::write(log::Level::error,
             fmt::format("internal error: {}:{}: {} does not hold", file, line, condition));
  std::abort();
}

namespace log {
namespace {

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto made = std::make_shared<spdlog::logger>("fusewire", sink);
    made->set_pattern("[%Y-%m-%dT%H:%M:%S.%eZ %^%l%$] %v", spdlog::pattern_time_type::utc);
    made->set_level(spdlog::level::trace);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return instance;
}

std::atomic<Level>& threshold() {
  static std::atomic<Level> level{Level::info};
  return level;
}

std::atomic<Receiver>& receiver_of_all() {
  static std::atomic<Receiver> receiver{nullptr};
  return receiver;
}

std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

}  // namespace

std::optional<Level> parse_level(std::string_view name) {
  if (name == "trace") return Level::trace;
  if (name == "debug") return Level::debug;
  if (name == "info") return Level::info;
  if (name == "warn" || name == "warning") return Level::warn;
  if (name == "err" || name == "error") return Level::error;
  if (name == "off") return Level::off;
  return std::nullopt;
}

// SAFETY: relaxed, the threshold orders nothing else.
void set_level(Level level) { threshold().store(level, std::memory_order_relaxed); }
bool enabled(Level level) { return level >= threshold().load(std::memory_order_relaxed); }

void use_receiver(Receiver receiver) { receiver_of_all().store(receiver); }

void use_syslog(const std::string& ident) {
  auto sink = std::make_shared<spdlog::sinks::syslog_sink_mt>(ident, LOG_PID, LOG_DAEMON, true);
  auto made = std::make_shared<spdlog::logger>("fusewire", sink);
  made->set_pattern("%v");
  made->set_level(spdlog::level::trace);
  logger() = std::move(made);
}

void write(Level level, std::string_view message) {
  if (const Receiver receiver = receiver_of_all().load()) return receiver(level, message);
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::trace, spdlog::level::debug,
                                                          spdlog::level::info,  spdlog::level::warn,
                                                          spdlog::level::err,   spdlog::level::off};
  try {
    logger()->log(kLevels[static_cast<int>(level)], spdlog::string_view_t(message.data(), message.size()));
  } catch (const std::bad_alloc&) {
    return;  // as the header says
  }
}

void write_formatted(Level level, std::uint64_t swallowed, fmt::string_view format, fmt::format_args args) {
  fmt::memory_buffer line;  // has room of its own for the usual line
  try {
    fmt::vformat_to(std::back_inserter(line), format, args);
    if (swallowed != 0)
      fmt::format_to(std::back_inserter(line), " ({} more like this were not logged)", swallowed);
  } catch (const std::bad_alloc&) {
    return;  // as the header says
  }
  write(level, {line.data(), line.size()});
}

std::optional<std::uint64_t> RateLimit::allow() {
  // SAFETY: relaxed counters; two threads at a window's edge may let a few more messages through, no more.
  const std::int64_t now = now_ns();
  std::int64_t start = window_start_ns_.load(std::memory_order_relaxed);
  if (start == 0 || now - start > interval_ns_) {
    if (window_start_ns_.compare_exchange_strong(start, now, std::memory_order_relaxed))
      in_window_.store(0, std::memory_order_relaxed);
  }
  if (in_window_.fetch_add(1, std::memory_order_relaxed) < burst_)
    return swallowed_.exchange(0, std::memory_order_relaxed);
  swallowed_.fetch_add(1, std::memory_order_relaxed);
  return std::nullopt;
}

}  // namespace log
}  // namespace fusewire
