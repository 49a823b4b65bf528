// Strong<Tag, T>: a number that does not mix with other numbers. `get()` yields the plain value at the wire's
// edge.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace fusewire {

template <class Tag, class T>
class Strong {
 public:
  using value_type = T;
  constexpr Strong() = default;
  constexpr explicit Strong(T value) : value_(value) {}
  constexpr T get() const { return value_; }
  friend constexpr auto operator<=>(Strong, Strong) = default;

 private:
  T value_{};
};

}  // namespace fusewire

template <class Tag, class T>
struct std::hash<fusewire::Strong<Tag, T>> {
  std::size_t operator()(fusewire::Strong<Tag, T> v) const noexcept { return std::hash<T>()(v.get()); }
};
