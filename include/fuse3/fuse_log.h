/* Where the library's messages go. */
#ifndef FUSE_LOG_H_
#define FUSE_LOG_H_

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Severities, numbered as syslog(3) numbers its priorities. */
enum fuse_log_level {
  FUSE_LOG_EMERG,
  FUSE_LOG_ALERT,
  FUSE_LOG_CRIT,
  FUSE_LOG_ERR,
  FUSE_LOG_WARNING,
  FUSE_LOG_NOTICE,
  FUSE_LOG_INFO,
  FUSE_LOG_DEBUG
};

/* A receiver of messages. `fmt` and `ap` are as for vprintf(3); the text ends with a newline where a line
 * ends. May be called from any thread, from several at once. */
typedef void (*fuse_log_func_t)(enum fuse_log_level level, const char* fmt, va_list ap);

/* Sends all later messages to `func`; NULL brings back the default, standard error. Not to be called while
 * another thread may be logging a message that must not be lost: which of the two receivers gets it is not
 * defined. */
void fuse_set_log_func(fuse_log_func_t func);

/* Gives a message to the receiver. Keeps errno. */
void fuse_log(enum fuse_log_level level, const char* fmt, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Sends messages to syslog(3) from now on; the arguments are openlog(3)'s. `ident` must stay valid for as
 * long as messages go there, which openlog(3) asks for; NULL takes the program's name. */
void fuse_log_enable_syslog(const char* ident, int option, int facility);

/* Ends what fuse_log_enable_syslog() began: messages go to standard error again and the connection to the
 * system log is closed. */
void fuse_log_close_syslog(void);

#ifdef __cplusplus
}
#endif

#endif
