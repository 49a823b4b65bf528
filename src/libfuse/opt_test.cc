#include "fuse3/fuse_opt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <vector>

#include "libfuse/captured_log_test.h"

namespace fusewire::libfuse {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// An argument vector that is not the library's, as main's is not.
class Args {
 public:
  Args(std::initializer_list<const char*> list) : texts_(list.begin(), list.end()) {
    for (std::string& text : texts_) pointers_.push_back(text.data());
    pointers_.push_back(nullptr);
    args = FUSE_ARGS_INIT(static_cast<int>(texts_.size()), pointers_.data());
  }
  Args(const Args&) = delete;
  Args& operator=(const Args&) = delete;
  ~Args() { fuse_opt_free_args(&args); }

  std::vector<std::string> list() const { return {args.argv, args.argv + args.argc}; }

  fuse_args args{};

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

struct Values {
  int flag = 0;
  int other = 0;
  unsigned number = 0;
  char* text = nullptr;
  Values() = default;
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  ~Values() { std::free(text); }
};

// What the processing function was called with, and what it answers.
struct Calls {
  std::vector<std::string> seen;
  int verdict = 1;
};

int record(void* data, const char* arg, int key, fuse_args*) {
  auto& calls = *static_cast<Calls*>(data);
  calls.seen.push_back(std::to_string(key) + " " + arg);
  return calls.verdict;
}

const fuse_opt kNone[] = {FUSE_OPT_END};

TEST(Opt, NoRows_KeepsEverything) {
  Args in{"prog", "-a", "-o", "x,y=1", "mnt", "--long=2"};

  ASSERT_EQ(fuse_opt_parse(&in.args, nullptr, nullptr, nullptr), 0);

  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "x,y=1", "-a", "mnt", "--long=2"));
  EXPECT_EQ(in.args.argv[in.args.argc], nullptr);
}

TEST(Opt, NothingToParse_Succeeds) {
  fuse_args empty = FUSE_ARGS_INIT(0, nullptr);

  EXPECT_EQ(fuse_opt_parse(nullptr, nullptr, kNone, nullptr), 0);
  EXPECT_EQ(fuse_opt_parse(&empty, nullptr, kNone, nullptr), 0);
}

TEST(Opt, Switch_StoresValue) {
  const fuse_opt rows[] = {
      {"-f", offsetof(Values, flag), 7}, {"on", offsetof(Values, other), 8}, FUSE_OPT_END};
  Args in{"prog", "-f", "-oon"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_EQ(values.flag, 7);
  EXPECT_EQ(values.other, 8);
  EXPECT_THAT(in.list(), ElementsAre("prog"));
}

TEST(Opt, EveryRowThatMatches_IsCarriedOut) {
  const fuse_opt rows[] = {
      {"-d", offsetof(Values, flag), 1}, {"-d", offsetof(Values, other), 2}, FUSE_OPT_END};
  Args in{"prog", "-d"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_EQ(values.flag, 1);
  EXPECT_EQ(values.other, 2);
}

TEST(Opt, Format_ConvertsValue) {
  const fuse_opt rows[] = {
      {"number=%u", offsetof(Values, number), 0}, {"--hex=%x", offsetof(Values, other), 0}, FUSE_OPT_END};
  Args in{"prog", "-o", "number=42", "--hex=1f"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_EQ(values.number, 42U);
  EXPECT_EQ(values.other, 0x1f);
}

TEST(Opt, Format_RefusesWhatDoesNotConvert) {
  const fuse_opt rows[] = {{"number=%u", offsetof(Values, number), 0}, FUSE_OPT_END};
  Args in{"prog", "-onumber=many"};
  Values values;
  const CapturedLog log;

  EXPECT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), -1);

  EXPECT_THAT(log.text(), HasSubstr("number=many"));
  EXPECT_THAT(in.list(), ElementsAre("prog", "-onumber=many"));
}

TEST(Opt, String_LastOneWins) {
  const fuse_opt rows[] = {{"name=%s", offsetof(Values, text), 0}, FUSE_OPT_END};
  Args in{"prog", "-oname=first,name=", "-o", "name=a=b"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_STREQ(values.text, "a=b");
}

TEST(Opt, ValueApart_JoinedOrNextArgument) {
  const fuse_opt rows[] = {
      {"-n %u", offsetof(Values, number), 0}, {"-t %s", offsetof(Values, text), 0}, FUSE_OPT_END};
  Args in{"prog", "-n5", "-t", "-x"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_EQ(values.number, 5U);
  EXPECT_STREQ(values.text, "-x");
}

TEST(Opt, ValueApart_BesideASwitchOfThatName_InAnyOrder) {
  const fuse_opt switch_first[] = {
      {"-e", offsetof(Values, flag), 7}, {"-e %s", offsetof(Values, text), 0}, FUSE_OPT_END};
  const fuse_opt value_first[] = {
      {"-e %s", offsetof(Values, text), 0}, {"-e", offsetof(Values, flag), 7}, FUSE_OPT_END};
  for (const fuse_opt* rows : {switch_first, value_first}) {
    Args in{"prog", "-e", "two"};
    Values values;

    ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

    EXPECT_EQ(values.flag, 7);
    EXPECT_STREQ(values.text, "two");
    EXPECT_THAT(in.list(), ElementsAre("prog"));
  }
}

TEST(Opt, ValueApart_MissingIsAnError) {
  const fuse_opt rows[] = {{"-n %u", offsetof(Values, number), 0}, FUSE_OPT_END};
  Args option{"prog", "-n"};
  Args list{"prog", "-o"};
  Values values;
  const CapturedLog log;

  EXPECT_EQ(fuse_opt_parse(&option.args, &values, rows, nullptr), -1);
  EXPECT_EQ(fuse_opt_parse(&list.args, &values, rows, nullptr), -1);

  EXPECT_EQ(log.text(), "3:fuse: option '-n' needs an argument\n3:fuse: option '-o' needs an argument\n");
}

TEST(Opt, EqualsSignBeforePlainText_IsPartOfTheOption) {
  const fuse_opt rows[] = {{"cache=always", offsetof(Values, flag), 3}, FUSE_OPT_END};
  Args in{"prog", "-o", "cache=never,cache=always"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_EQ(values.flag, 3);
  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "cache=never"));
}

TEST(Opt, Keys_ReachTheFunctionWithWholeArguments) {
  const fuse_opt rows[] = {FUSE_OPT_KEY("-k ", 11), FUSE_OPT_KEY("key=", 12), FUSE_OPT_KEY("--fd=", 13),
                           FUSE_OPT_END};
  Args in{"prog", "-k", "v", "-okey=1,plain", "--fd=3", "-u", "place"};
  Calls calls;

  ASSERT_EQ(fuse_opt_parse(&in.args, &calls, rows, record), 0);

  EXPECT_THAT(calls.seen, ElementsAre("11 -kv", "12 key=1", "-1 plain", "13 --fd=3", "-1 -u", "-2 place"));
  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "key=1,plain", "-kv", "--fd=3", "-u", "place"));
}

TEST(Opt, KeepAndDiscard_AskNobody) {
  const fuse_opt rows[] = {FUSE_OPT_KEY("keep", FUSE_OPT_KEY_KEEP),
                           FUSE_OPT_KEY("drop=", FUSE_OPT_KEY_DISCARD), FUSE_OPT_END};
  Args in{"prog", "-okeep,drop=1"};
  Calls calls;

  ASSERT_EQ(fuse_opt_parse(&in.args, &calls, rows, record), 0);

  EXPECT_TRUE(calls.seen.empty());
  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "keep"));
}

TEST(Opt, Function_DropsOrFails) {
  Args in{"prog", "-a", "mnt"};
  Calls drop{{}, 0};
  Calls fail{{}, -1};

  EXPECT_EQ(fuse_opt_parse(&in.args, &fail, kNone, record), -1);
  EXPECT_THAT(in.list(), ElementsAre("prog", "-a", "mnt"));
  EXPECT_EQ(fuse_opt_parse(&in.args, &drop, kNone, record), 0);
  EXPECT_THAT(in.list(), ElementsAre("prog"));
}

TEST(Opt, Function_MayInsertArguments) {
  Args in{"prog", "-a"};
  const auto insert = [](void*, const char*, int, fuse_args* out) {
    return fuse_opt_insert_arg(out, 1, "-first") == 0 ? 1 : -1;
  };

  ASSERT_EQ(fuse_opt_parse(&in.args, nullptr, kNone, insert), 0);

  EXPECT_THAT(in.list(), ElementsAre("prog", "-first", "-a"));
}

TEST(Opt, List_ResolvesAndRestoresBackslashes) {
  Args in{"prog", R"(-oa\,b,c\\d,\101\054,e\,)", "-o", R"(f\)"};
  Calls calls;

  ASSERT_EQ(fuse_opt_parse(&in.args, &calls, kNone, record), 0);

  EXPECT_THAT(calls.seen, ElementsAre("-1 a,b", R"(-1 c\d)", "-1 A,", "-1 e,", R"(-1 f\)"));
  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", R"(a\,b,c\\d,A\,,e\,,f\\)"));
}

TEST(Opt, List_SkipsEmptyMembers) {
  Args in{"prog", "-o", ",a,,b,"};

  ASSERT_EQ(fuse_opt_parse(&in.args, nullptr, kNone, nullptr), 0);

  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "a,b"));
}

TEST(Opt, DoubleDash_EndsOptions) {
  const fuse_opt rows[] = {{"-f", offsetof(Values, flag), 1}, FUSE_OPT_END};
  Args in{"prog", "-oa", "--", "-f", "x"};
  Values values;

  ASSERT_EQ(fuse_opt_parse(&in.args, &values, rows, nullptr), 0);

  EXPECT_EQ(values.flag, 0);
  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "a", "--", "-f", "x"));
}

TEST(Opt, DoubleDash_GoesWhenNothingNeedsIt) {
  Args in{"prog", "-oa", "--", "x"};

  ASSERT_EQ(fuse_opt_parse(&in.args, nullptr, kNone, nullptr), 0);

  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "a", "x"));
}

TEST(Opt, Parse_TwiceGivesTheSame) {
  Args in{"prog", R"(-oa\,b)", "-x", "--", "-y"};

  ASSERT_EQ(fuse_opt_parse(&in.args, nullptr, kNone, nullptr), 0);
  const std::vector<std::string> once = in.list();
  ASSERT_EQ(fuse_opt_parse(&in.args, nullptr, kNone, nullptr), 0);

  EXPECT_EQ(in.list(), once);
}

TEST(Opt, AddOpt_MakesALists) {
  char* list = nullptr;

  EXPECT_EQ(fuse_opt_add_opt(&list, "a"), 0);
  EXPECT_EQ(fuse_opt_add_opt(&list, "b,c"), 0);
  EXPECT_EQ(fuse_opt_add_opt_escaped(&list, R"(d,\e)"), 0);

  EXPECT_STREQ(list, R"(a,b,c,d\,\\e)");
  std::free(list);
}

TEST(Opt, AddOpt_ToAnEmptyList_NeedsNoComma) {
  char* list = strdup("");

  EXPECT_EQ(fuse_opt_add_opt(&list, "a"), 0);

  EXPECT_STREQ(list, "a");
  std::free(list);
}

TEST(Opt, AddArg_LeavesTheCallersVectorAlone) {
  Args in{"prog"};
  char** before = in.args.argv;

  ASSERT_EQ(fuse_opt_add_arg(&in.args, "-x"), 0);
  ASSERT_EQ(fuse_opt_insert_arg(&in.args, 1, "-o"), 0);

  EXPECT_THAT(in.list(), ElementsAre("prog", "-o", "-x"));
  EXPECT_NE(in.args.argv, before);
  EXPECT_STREQ(before[0], "prog");
  EXPECT_EQ(before[1], nullptr);
}

TEST(Opt, InsertArg_OutsideIsRefused) {
  Args in{"prog"};

  EXPECT_EQ(fuse_opt_insert_arg(&in.args, 2, "x"), -1);
  EXPECT_EQ(fuse_opt_insert_arg(&in.args, -1, "x"), -1);
  EXPECT_THAT(in.list(), ElementsAre("prog"));
}

TEST(Opt, EmptyVector_Grows) {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);

  ASSERT_EQ(fuse_opt_add_arg(&args, "prog"), 0);

  EXPECT_EQ(args.argc, 1);
  EXPECT_STREQ(args.argv[0], "prog");
  EXPECT_EQ(args.argv[1], nullptr);
  fuse_opt_free_args(&args);
  EXPECT_EQ(args.argc, 0);
  EXPECT_EQ(args.argv, nullptr);
}

TEST(Opt, Match_TellsWhetherARowFits) {
  const fuse_opt rows[] = {FUSE_OPT_KEY("-x ", 1), FUSE_OPT_KEY("a=%u", 2), FUSE_OPT_KEY("b", 3),
                           FUSE_OPT_END};

  for (const char* option : {"-x", "-xv", "a=", "a=1", "b"})
    EXPECT_EQ(fuse_opt_match(rows, option), 1) << option;
  for (const char* option : {"-", "a", "b=", "c", ""}) EXPECT_EQ(fuse_opt_match(rows, option), 0) << option;
  EXPECT_EQ(fuse_opt_match(nullptr, "a"), 0);
}

}  // namespace
}  // namespace fusewire::libfuse
