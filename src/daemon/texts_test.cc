#include "daemon/texts.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "daemon/option_table.h"

namespace fusewire::daemon {
namespace {

using testing::HasSubstr;

TEST(Texts, Help_EveryLine_FitsTheScreen) {
  std::istringstream lines(help_text());
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 100u) << line;
    EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
  }
}

TEST(Texts, Help_EveryOption_IsThere) {
  const std::string help = help_text();
  for (const Row& row : option_table()) {
    std::string name(first_name(row.names));
    if (row.kind == Kind::toggle) name = "--[no-]" + name.substr(2);
    EXPECT_THAT(help, HasSubstr(name));
    if (row.group == Group::later) continue;
    EXPECT_THAT(help, HasSubstr(first_name(row.compat)));
  }
}

TEST(Texts, Version_FirstWords_NameProgramAndProject) {
  EXPECT_EQ(version_text(), "virtiofsd (fusewire) " FUSEWIRE_VERSION "\n");
  // scripts/ tell QEMU's virtiofsd by these words.
  EXPECT_THAT(version_text(), testing::Not(HasSubstr("using FUSE kernel interface")));
}

TEST(Texts, Capabilities_Json_NamesOnlyWhatIsThere) {
  const nlohmann::json expected = {{"type", "fs"}, {"features", {"separate-options"}}};
  EXPECT_EQ(nlohmann::json::parse(capabilities_text(), nullptr, false), expected);
}

}  // namespace
}  // namespace fusewire::daemon
