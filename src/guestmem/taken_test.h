// For tests: the value of an optional that must have one.
#pragma once

#include <optional>
#include <utility>

#include "base/check.h"

namespace fusewire {

template <class T>
T taken(std::optional<T> optional) {
  FUSEWIRE_CHECK(optional.has_value());
  return *std::move(optional);
}

}  // namespace fusewire
