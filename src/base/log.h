/*
 * base/log.h - messages and progress, all on stderr, results never.
 *
 * Progress: a live line with ETA on a terminal, a plain line now and then elsewhere; colour only on
 * a terminal without NO_COLOR. Thread-safe.
 */
#ifndef LIPS_BASE_LOG_H
#define LIPS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lips_log_level {
    LIPS_LOG_QUIET, /* errors only */
    LIPS_LOG_WARN,
    LIPS_LOG_INFO,
    LIPS_LOG_DEBUG
} lips_log_level;

void lips_log_set_level(lips_log_level level);
lips_log_level lips_log_get_level(void);

/* One line each; a message may hold several, separated by '\n'. Other control characters (from file
 * names and the like) are shown as '?'. */
__attribute__((format(printf, 1, 2))) void lips_info(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void lips_warn(const char *fmt, ...);       /* "warning: " */
__attribute__((format(printf, 1, 2))) void lips_error_line(const char *fmt, ...); /* "error: " */

/* Monotonic seconds. */
double lips_now(void);

/* "3.2 s", "4 min 05 s", "2 h 07 min", "3 d 04 h"; "?" for what is not finite or negative. */
void lips_duration_text(char *buf, size_t size, double seconds);

typedef struct lips_progress lips_progress;
/* total: amount of work in any unit (cost-model seconds, samples); label: short. NULL on no memory:
 * then updates do nothing. Shows nothing for jobs under 2 s. */
lips_progress *lips_progress_start(const char *label, double total);
/* done: work done so far in the same unit; note: current state, short ("18/60 cells, w=64 epoch
 * 120/300"). */
void lips_progress_update(lips_progress *p, double done, const char *note);
void lips_progress_finish(lips_progress *p, const char *note); /* final line; frees */

/* The line that progress shows, without end of line:
 * "label  37 %  note  elapsed 12 s  left 20 s". */
void lips_progress_text(char *buf, size_t size, const char *label, double share, double elapsed,
                        const char *note);

#endif
