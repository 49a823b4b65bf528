#include "daemon/option_values.h"

#include <fmt/core.h>

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

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& letter : lower)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return lower;
}

}  // namespace fusewire::daemon
