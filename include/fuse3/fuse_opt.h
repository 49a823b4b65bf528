/* Parsing of command lines and of `-o a,b=c` lists, driven by a table of templates.
 *
 * Grammar of a template:
 *
 *   template  = "-" letter                   -x            the option and nothing else
 *             | "-" letter " " [format]      -x VALUE, -xVALUE
 *             | "--" name                    --name
 *             | "--" name "=" [format]       --name=VALUE
 *             | "--" name " " [format]       --name VALUE
 *             | name                         -o name
 *             | name "=" [format]            -o name=VALUE
 *   format    = "%s" | any conversion of sscanf(3) that stores one value
 *
 * What a match does depends on the entry:
 *   - a template with "%s" and an offset: a copy of VALUE, made with malloc(3), is stored in the `char *` at
 * that offset of `data`; what was there before is freed. The caller frees the last one.
 *   - a template with another conversion and an offset: VALUE is converted with sscanf(3) into the object at
 * that offset; text that does not convert is an error.
 *   - an offset without a conversion: `value` is stored in the `int` at that offset.
 *   - offset -1: the processing function is called with `value` as key. FUSE_OPT_KEY_KEEP and
 * FUSE_OPT_KEY_DISCARD as key do without the call.
 *
 * All entries that match are carried out, so that one option can set two variables. */
#ifndef FUSE_OPT_H_
#define FUSE_OPT_H_

#ifdef __cplusplus
extern "C" {
#endif

/* One row of the table. A table ends with FUSE_OPT_END. */
struct fuse_opt {
  const char* templ;    /* the template */
  unsigned long offset; /* of the variable in `data`, or -1 for a key */
  int value;            /* what to store, or the key */
};

/* A row that calls the processing function with `key`. */
#define FUSE_OPT_KEY(templ, key) {templ, -1U, key}

/* The last row. */
/* clang-format off */
#define FUSE_OPT_END {NULL, 0, 0}
/* clang-format on */

/* An argument vector that can grow. As long as `allocated` is 0 the vector belongs to somebody else (main's
 * argv, most often) and is copied before the first change; afterwards fuse_opt_free_args() releases the copy.
 */
struct fuse_args {
  int argc;
  char** argv;
  int allocated;
};

/* Wraps an existing vector. */
#define FUSE_ARGS_INIT(argc, argv) {argc, argv, 0}

/* Key of an option that no row matches. */
#define FUSE_OPT_KEY_OPT -1

/* Key of an argument that is not an option: it does not begin with '-', or it follows "--". */
#define FUSE_OPT_KEY_NONOPT -2

/* As a row's key: keep the argument, ask nobody. */
#define FUSE_OPT_KEY_KEEP -3

/* As a row's key: drop the argument, ask nobody. */
#define FUSE_OPT_KEY_DISCARD -4

/* The processing function. `arg` is the whole argument: of "-x VALUE" with a template that takes a value,
 * "-xVALUE"; of a member of an -o list, that member, with backslashes resolved. It dies when the function
 * returns. `outargs` is what will replace the caller's vector; arguments may be added to it. Returns 1 to
 * keep the argument, 0 to drop it, -1 to end parsing with an error. */
typedef int (*fuse_opt_proc_t)(void* data, const char* arg, int key, struct fuse_args* outargs);

/* Parses `args`. Its first argument is the program's name and is kept. Options that are kept come first,
 * those of -o lists joined in one `-o` right behind the program's name, then arguments that are no options;
 * "--" is kept if such arguments follow it that begin with '-'. `data` is where offsets lead; `opts` may be
 * NULL (no rows), and so may `proc` (keep everything), and so may `args` (nothing to do).
 *
 * In an -o list '\' takes the next character literally ("\,", "\\"), and '\' with three octal digits stands
 * for that byte.
 *
 * Returns 0, and `*args` is replaced; or -1 after a message to the log, and `*args` is as it was, though
 * variables may have been set. Running out of memory is an error of this kind. */
int fuse_opt_parse(struct fuse_args* args, void* data, const struct fuse_opt opts[], fuse_opt_proc_t proc);

/* Appends "," and `opt` to the list `*opts`, which is NULL or from malloc(3) and may move. Returns 0, or -1
 * with
 * `*opts` unchanged when there is no memory. */
int fuse_opt_add_opt(char** opts, const char* opt);

/* The same, with '\' before every comma and backslash of `opt`, so that a later parse sees `opt` as one
 * option. */
int fuse_opt_add_opt_escaped(char** opts, const char* opt);

/* Appends a copy of `arg`. Returns 0, or -1 when there is no memory. */
int fuse_opt_add_arg(struct fuse_args* args, const char* arg);

/* Inserts a copy of `arg` at `pos`, which is 0 to args->argc. Useful inside a processing function to put an
 * argument first: `outargs` then holds the program's name at 0. Returns 0, or -1 when there is no memory or
 * no such position. */
int fuse_opt_insert_arg(struct fuse_args* args, int pos, const char* arg);

/* Releases a vector that the library allocated and leaves an empty one. Harmless on any other. */
void fuse_opt_free_args(struct fuse_args* args);

/* 1 if some row of `opts` matches the option `opt`, else 0. */
int fuse_opt_match(const struct fuse_opt opts[], const char* opt);

#ifdef __cplusplus
}
#endif

#endif
