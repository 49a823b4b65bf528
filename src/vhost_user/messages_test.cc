#include "vhost_user/messages.h"

#include <gtest/gtest.h>

#include <set>

namespace fusewire::vhost_user {
namespace {

TEST(Messages, Table_NumbersAndNamesAreUnique) {
  std::set<std::uint32_t> numbers;
  std::set<std::string_view> names;
  for (const RequestInfo& info : all_requests()) {
    EXPECT_TRUE(numbers.insert(static_cast<std::uint32_t>(info.request)).second) << info.name;
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
  }
  EXPECT_EQ(numbers.size(), 27u);
}

TEST(Messages, FindRequest_FindsEveryRowAndNothingElse) {
  std::size_t found = 0;
  for (std::uint32_t number = 0; number < 256; ++number)
    if (const RequestInfo* info = find_request(number)) {
      EXPECT_EQ(static_cast<std::uint32_t>(info->request), number);
      EXPECT_EQ(request_name(number), info->name);
      ++found;
    }
  EXPECT_EQ(found, all_requests().size());
  EXPECT_EQ(request_name(200), "request 200");
}

TEST(Messages, KnownProtocolFeatures_AreTheBitsOfTheSpecification) {
  EXPECT_EQ(kKnownProtocolFeatures,
            (1u << 0) | (1u << 1) | (1u << 3) | (1u << 5) | (1u << 9) | (1u << 13) | (1u << 15) | (1u << 16));
  EXPECT_EQ(bit(ProtocolFeature::none), 0u);
}

}  // namespace
}  // namespace fusewire::vhost_user
