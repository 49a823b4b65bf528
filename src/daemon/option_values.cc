#include "daemon/option_values.h"

#include <fmt/core.h>
#include <sched.h>

#include <charconv>
#include <cmath>

namespace fusewire::daemon {

Value<std::uint64_t> read_number(std::string_view text, std::uint64_t min, std::uint64_t max) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < min || number > max)
    return std::unexpected(fmt::format("must be a number from {} to {}", min, max));
  return number;
}

Value<double> read_seconds(std::string_view text) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || !std::isfinite(seconds) || std::signbit(seconds) || seconds > 4294967295.0)
    return std::unexpected("must be a number of seconds, 0 or more");
  return seconds;
}

Value<std::vector<unsigned>> read_cpu_list(std::string_view text) {
  constexpr std::uint64_t kMaxCpu = CPU_SETSIZE - 1;
  const std::unexpected<std::string> complaint(
      fmt::format("must be CPU numbers up to {}, like 0-3,8", kMaxCpu));
  std::vector<unsigned> cpus;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const std::size_t dash = part.find('-');
    const auto first = read_number(part.substr(0, dash), 0, kMaxCpu);
    const auto last = dash == std::string_view::npos ? first : read_number(part.substr(dash + 1), 0, kMaxCpu);
    if (!first || !last || *first > *last) return complaint;
    for (std::uint64_t cpu = *first; cpu <= *last; ++cpu) cpus.push_back(static_cast<unsigned>(cpu));
    if (cpus.size() > CPU_SETSIZE) return complaint;
    if (comma == std::string_view::npos) return cpus;
    text.remove_prefix(comma + 1);
  }
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& letter : lower)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return lower;
}

}  // namespace fusewire::daemon
