// Readers for the values of options: text in, value or a complaint out. Private to this folder.
#pragma once

#include <cstdint>
#include <expected>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fusewire::daemon {

template <class T>
using Value = std::expected<T, std::string>;

// A whole decimal number from `min` to `max`, without sign or blanks.
Value<std::uint64_t> read_number(std::string_view text, std::uint64_t min, std::uint64_t max);

// Seconds, with or without a fraction, from 0 up to 4294967295.
Value<double> read_seconds(std::string_view text);

// CPU numbers as taskset(1) takes them: numbers and ranges with commas between ("0-3,8").
Value<std::vector<unsigned>> read_cpu_list(std::string_view text);

std::string lower_case(std::string_view text);

template <class T>
using Choice = std::pair<std::string_view, T>;

// The choice that is called `text`, in any case of letters. `names`: how the complaint lists the choices.
template <class T>
Value<T> read_choice(std::string_view text, std::string_view names,
                     std::initializer_list<Choice<T>> choices) {
  const std::string wanted = lower_case(text);
  for (const auto& [name, value] : choices)
    if (name == wanted) return value;
  return std::unexpected("must be one of " + std::string(names));
}

}  // namespace fusewire::daemon
