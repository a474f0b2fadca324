/*
 * base/status.h - raising and passing on errors.
 *
 * The place that knows the cause calls lips_fail() once, with the whole text (what and where);
 * every caller above passes the status on through LIPS_TRY, which adds one trace line. The text is
 * kept per thread, so that the workers of a sweep do not mix theirs.
 */
#ifndef LIPS_BASE_STATUS_H
#define LIPS_BASE_STATUS_H

#include "lipsweep/status.h"

#include <stddef.h>

#ifdef __cplusplus /* the launch wrappers of kernels/ raise errors too */
extern "C" {
#endif

/* Sets this thread's error text (printf-style, cut at 8191 bytes: all errors of a configuration
 * fit), clears its trace, returns st. */
__attribute__((format(printf, 2, 3))) lips_status lips_fail(lips_status st, const char *fmt, ...);

/* Puts a prefix ("cell x: ") before this thread's error text, returns st. */
__attribute__((format(printf, 2, 3))) lips_status lips_fail_prefix(lips_status st, const char *fmt,
                                                                   ...);

/* Adds one trace line, returns st. */
lips_status lips_trace(lips_status st, const char *file, int line, const char *call);

/* Forgets this thread's error text and trace. */
void lips_error_clear(void);

#ifdef __cplusplus
}
#endif

#define LIPS_TRY(call)                                                                             \
    do {                                                                                           \
        lips_status lips_try_st_ = (call);                                                         \
        if (lips_try_st_ != LIPS_OK)                                                               \
            return lips_trace(lips_try_st_, __FILE__, __LINE__, #call);                            \
    } while (0)

/* For functions that own things: st is set and control goes to the single exit label. */
#define LIPS_TRY_GOTO(st, call, label)                                                             \
    do {                                                                                           \
        (st) = (call);                                                                             \
        if ((st) != LIPS_OK) {                                                                     \
            lips_trace((st), __FILE__, __LINE__, #call);                                           \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

#endif
