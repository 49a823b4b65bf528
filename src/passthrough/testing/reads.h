// What tests of READ have in common.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace fusewire::passthrough::testing {

// Letters; another seed gives others.
inline std::string pattern(std::size_t size, unsigned seed = 0) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i / 13 + i / 4096 + seed) % 26);
  return text;
}

// Where the share lies and how many threads there are decides by which way a READ goes, and whether it may
// wait for a disk.
struct ReadWay {
  const char* below;
  unsigned threads;
};
inline auto read_ways() {
  return ::testing::Values(ReadWay{"/tmp", 4}, ReadWay{"/tmp", 0}, ReadWay{"/dev/shm", 4},
                           ReadWay{"/dev/shm", 0});
}
inline std::string name_of(const ::testing::TestParamInfo<ReadWay>& way) {
  return std::string(way.param.below[1] == 't' ? "Disk" : "Memory") +
         (way.param.threads != 0 ? "WithPool" : "Inline");
}

}  // namespace fusewire::passthrough::testing
