// fuse_opt.h: argument vectors, -o lists and the template language. Memory that callers see comes from
// malloc(3), since they may free or grow it. Nothing here is shared between threads.
#include "fuse3/fuse_opt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devfuse/mount_options.h"
#include "fuse3/fuse_log.h"

namespace {

int out_of_memory() {
  fuse_log(FUSE_LOG_ERR, "fuse: out of memory while parsing options\n");
  return -1;
}

// Makes the vector of `args` one that is ours to change. An empty one becomes argv = { NULL }.
int own(fuse_args* args) {
  if (args->allocated) return 0;
  fuse_args copy{0, static_cast<char**>(std::calloc(static_cast<std::size_t>(args->argc) + 1, sizeof(char*))),
                 1};
  if (copy.argv == nullptr) return out_of_memory();
  for (; copy.argc < args->argc; ++copy.argc) {
    copy.argv[copy.argc] = strdup(args->argv[copy.argc]);
    if (copy.argv[copy.argc] == nullptr) {
      fuse_opt_free_args(&copy);
      return out_of_memory();
    }
  }
  *args = copy;
  return 0;
}

int append_to_list(char** list, std::string_view option) {
  const std::size_t old_size = *list != nullptr ? std::strlen(*list) : 0;
  const std::size_t comma = old_size != 0 ? 1 : 0;
  auto* grown = static_cast<char*>(std::realloc(*list, old_size + comma + option.size() + 1));
  if (grown == nullptr) return out_of_memory();
  if (comma != 0) grown[old_size] = ',';
  std::memcpy(grown + old_size + comma, option.data(), option.size());
  grown[old_size + comma + option.size()] = '\0';
  *list = grown;
  return 0;
}

// How an option matches a template.
struct Match {
  bool matches = false;
  std::size_t value_at = 0;      // where VALUE begins in the option; 0: the template takes none
  bool value_apart = false;      // VALUE may be the next argument ("-x VALUE")
  const char* format = nullptr;  // of VALUE; empty: none, the option is only a key or a switch
};

Match match_template(const char* templ, const char* option) {
  const char* separator = std::strchr(templ, '=');
  if (separator == nullptr) separator = std::strchr(templ, ' ');
  // A '=' that anything but a format follows belongs to the option's own text ("cache=always").
  if (separator == nullptr || (separator[1] != '\0' && separator[1] != '%'))
    return {std::strcmp(templ, option) == 0, 0, false, ""};
  const bool apart = *separator == ' ';
  const auto prefix = static_cast<std::size_t>(separator - templ) + (apart ? 0 : 1);
  return {std::strncmp(templ, option, prefix) == 0, prefix, apart, separator + 1};
}

// The first row from `row` on that matches `option`; NULL: none.
const fuse_opt* find(const fuse_opt* row, const char* option, Match& match) {
  for (; row != nullptr && row->templ != nullptr; ++row) {
    match = match_template(row->templ, option);
    if (match.matches) return row;
  }
  return nullptr;
}

// The member of an -o list that begins at `text`, with backslashes resolved; `text` moves behind its comma,
// or to the end.
std::string next_member(std::string_view& text) {
  const auto octal = [&text](std::size_t i, char highest) {
    return i < text.size() && text[i] >= '0' && text[i] <= highest;
  };
  std::string member;
  while (!text.empty()) {
    std::size_t used = 1;
    char c = text[0];
    if (c == ',') {
      text.remove_prefix(1);
      break;
    }
    if (c == '\\' && octal(1, '3') && octal(2, '7') && octal(3, '7')) {
      c = static_cast<char>((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
      used = 4;
    } else if (c == '\\' && text.size() > 1) {
      c = text[1];
      used = 2;
    }
    member += c;
    text.remove_prefix(used);
  }
  return member;
}

class Parser {
 public:
  Parser(const fuse_args& in, void* data, const fuse_opt* rows, fuse_opt_proc_t proc)
      : in_(in), data_(data), rows_(rows), proc_(proc) {}
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;
  ~Parser() {
    fuse_opt_free_args(&out_);
    std::free(list_);
  }

  // Parses all arguments. 0, or -1 after a message.
  int run();
  // What is kept, given to the caller.
  fuse_args take() { return std::exchange(out_, fuse_args{}); }

 private:
  int argument(const char* text);
  int list(std::string_view text);
  int option(const char* text, bool in_list);
  int carry_out(const fuse_opt& row, const Match& match, const char* text, bool in_list);
  int store(const fuse_opt& row, const Match& match, const char* text);
  int call(const char* text, int key, bool in_list);
  int keep(const char* text, bool in_list);
  // The argument after the current one, which it becomes; NULL after a message.
  const char* following(const char* text);
  int finish();

  const fuse_args& in_;
  void* const data_;
  const fuse_opt* const rows_;
  const fuse_opt_proc_t proc_;
  int at_ = 0;               // index in in_
  int end_of_options_ = -1;  // index in out_ behind "--"; -1: not seen
  char* list_ = nullptr;     // members of -o lists that are kept
  fuse_args out_{};
};

int Parser::run() {
  if (fuse_opt_add_arg(&out_, in_.argv[0]) != 0) return -1;
  for (at_ = 1; at_ < in_.argc; ++at_)
    if (argument(in_.argv[at_]) != 0) return -1;
  return finish();
}

int Parser::argument(const char* text) {
  if (end_of_options_ >= 0 || text[0] != '-') return call(text, FUSE_OPT_KEY_NONOPT, false);
  if (text[1] == 'o') {
    const char* members = text[2] != '\0' ? text + 2 : following(text);
    return members != nullptr ? list(members) : -1;
  }
  if (std::strcmp(text, "--") == 0) {
    if (fuse_opt_add_arg(&out_, text) != 0) return -1;
    end_of_options_ = out_.argc;
    return 0;
  }
  return option(text, false);
}

const char* Parser::following(const char* text) {
  if (at_ + 1 >= in_.argc) {
    fuse_log(FUSE_LOG_ERR, "fuse: option '%s' needs an argument\n", text);
    return nullptr;
  }
  return in_.argv[++at_];
}

int Parser::list(std::string_view text) {
  while (!text.empty()) {
    const std::string member = next_member(text);
    if (!member.empty() && option(member.c_str(), true) != 0) return -1;
  }
  return 0;
}

int Parser::option(const char* text, bool in_list) {
  Match match;
  const fuse_opt* row = find(rows_, text, match);
  if (row == nullptr) return call(text, FUSE_OPT_KEY_OPT, in_list);
  // "-x VALUE": the value is taken once, for all rows that want one. A row "-x" beside them is carried out,
  // too.
  std::string joined;
  for (; row != nullptr; row = find(row + 1, text, match)) {
    const bool wants_value = match.value_apart && text[match.value_at] == '\0';
    if (wants_value && joined.empty()) {
      const char* value = following(text);
      if (value == nullptr) return -1;
      joined = std::string(text) + value;
    }
    if (carry_out(*row, match, wants_value ? joined.c_str() : text, in_list) != 0) return -1;
  }
  return 0;
}

int Parser::carry_out(const fuse_opt& row, const Match& match, const char* text, bool in_list) {
  // A key is marked by -1, which FUSE_OPT_KEY gives as an unsigned int.
  if (row.offset == -1U || row.offset == -1UL) return call(text, row.value, in_list);
  return store(row, match, text);
}

int Parser::store(const fuse_opt& row, const Match& match, const char* text) {
  char* variable = static_cast<char*>(data_) + row.offset;
  if (*match.format == '\0') {
    std::memcpy(variable, &row.value, sizeof row.value);
    return 0;
  }
  const char* value = text + match.value_at;
  if (std::strcmp(match.format, "%s") == 0) {
    char* copy = strdup(value);
    if (copy == nullptr) return out_of_memory();
    char* old = nullptr;
    std::memcpy(&old, variable, sizeof old);
    std::free(old);
    std::memcpy(variable, &copy, sizeof copy);
    return 0;
  }
  if (std::sscanf(value, match.format, static_cast<void*>(variable)) != 1) {
    fuse_log(FUSE_LOG_ERR, "fuse: '%s' does not make sense in option '%s'\n", value, text);
    return -1;
  }
  return 0;
}

int Parser::call(const char* text, int key, bool in_list) {
  if (key == FUSE_OPT_KEY_DISCARD) return 0;
  if (key != FUSE_OPT_KEY_KEEP && proc_ != nullptr) {
    const int verdict = proc_(data_, text, key, &out_);
    if (verdict == -1 || verdict == 0) return verdict;
  }
  return keep(text, in_list);
}

int Parser::keep(const char* text, bool in_list) {
  return in_list ? append_to_list(&list_, fusewire::devfuse::escaped(text)) : fuse_opt_add_arg(&out_, text);
}

int Parser::finish() {
  if (list_ != nullptr &&
      (fuse_opt_insert_arg(&out_, 1, "-o") != 0 || fuse_opt_insert_arg(&out_, 2, list_) != 0))
    return -1;
  // "--" stays only where an argument behind it would be taken for an option without it.
  if (end_of_options_ < 0) return 0;
  const int mark = end_of_options_ - 1 + (list_ != nullptr ? 2 : 0);
  for (int i = mark + 1; i < out_.argc; ++i)
    if (out_.argv[i][0] == '-') return 0;
  std::free(out_.argv[mark]);
  for (int i = mark; i < out_.argc; ++i) out_.argv[i] = out_.argv[i + 1];
  --out_.argc;
  return 0;
}

}  // namespace

extern "C" {

int fuse_opt_parse(fuse_args* args, void* data, const fuse_opt opts[], fuse_opt_proc_t proc) try {
  if (args == nullptr || args->argv == nullptr || args->argc == 0) return 0;
  Parser parser(*args, data, opts, proc);
  if (parser.run() != 0) return -1;
  fuse_opt_free_args(args);
  *args = parser.take();
  return 0;
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

int fuse_opt_add_opt(char** opts, const char* opt) { return append_to_list(opts, opt); }

int fuse_opt_add_opt_escaped(char** opts, const char* opt) try {
  return append_to_list(opts, fusewire::devfuse::escaped(opt));
} catch (const std::bad_alloc&) {
  return out_of_memory();
}

int fuse_opt_add_arg(fuse_args* args, const char* arg) { return fuse_opt_insert_arg(args, args->argc, arg); }

int fuse_opt_insert_arg(fuse_args* args, int pos, const char* arg) {
  if (pos < 0 || pos > args->argc) return -1;
  if (own(args) != 0) return -1;
  char* copy = strdup(arg);
  auto** grown = static_cast<char**>(
      std::realloc(args->argv, (static_cast<std::size_t>(args->argc) + 2) * sizeof(char*)));
  if (grown != nullptr) args->argv = grown;
  if (copy == nullptr || grown == nullptr) {
    std::free(copy);
    return out_of_memory();
  }
  for (int i = args->argc; i >= pos; --i) grown[i + 1] = grown[i];  // the NULL at the end too
  grown[pos] = copy;
  ++args->argc;
  return 0;
}

void fuse_opt_free_args(fuse_args* args) {
  if (args == nullptr) return;
  if (args->argv != nullptr && args->allocated) {
    for (int i = 0; i < args->argc; ++i) std::free(args->argv[i]);
    std::free(static_cast<void*>(args->argv));
  }
  *args = fuse_args{};
}

int fuse_opt_match(const fuse_opt opts[], const char* opt) {
  Match match;
  return find(opts, opt, match) != nullptr ? 1 : 0;
}

}  // extern "C"
