/*
 * base/log.h - messages and progress, all on stderr, results never.
 *
 * Progress: a live line with ETA on a terminal, a plain line now and then elsewhere; colour only on
 * a terminal without NO_COLOR. Thread-safe.
 */
#ifndef LIPS_BASE_LOG_H
#define LIPS_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

typedef enum lips_log_level { LIPS_LOG_QUIET, LIPS_LOG_WARN, LIPS_LOG_INFO, LIPS_LOG_DEBUG } lips_log_level;

void lips_log_set_level(lips_log_level level);
__attribute__((format(printf, 1, 2))) void lips_info(const char *fmt, ...);  /* one line */
__attribute__((format(printf, 1, 2))) void lips_warn(const char *fmt, ...);  /* "warning: " */
__attribute__((format(printf, 1, 2))) void lips_error_line(const char *fmt, ...); /* "error: " */

/* Monotonic seconds. */
double lips_now(void);

typedef struct lips_progress lips_progress;
/* total: amount of work in any unit (cost-model seconds, samples); label: short. NULL on no memory: then updates
 * do nothing. Shows nothing for jobs under 2 s. */
lips_progress *lips_progress_start(const char *label, double total);
/* done: work done so far in the same unit; note: current state, short ("18/60 cells, w=64 epoch 120/300"). */
void lips_progress_update(lips_progress *p, double done, const char *note);
void lips_progress_finish(lips_progress *p, const char *note); /* final line; frees */

#endif
