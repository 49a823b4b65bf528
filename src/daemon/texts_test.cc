#include "daemon/texts.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

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

// docs/options.md is written by hand; what it must not do is leave something out.
TEST(Texts, OptionsDocument_EveryOption_IsThere) {
  std::ifstream file(FUSEWIRE_SOURCE_DIR "/docs/options.md");
  const std::string document((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_FALSE(document.empty());
  for (const Row& row : option_table()) {
    const std::vector<std::string_view> lists = {row.names, row.compat};
    for (std::string_view names : lists) {
      for (; !names.empty(); names.remove_prefix(std::min(names.size(), first_name(names).size() + 1)))
        EXPECT_THAT(document, testing::ContainsRegex("`" + std::string(first_name(names)) + "[`= ]"));
    }
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
