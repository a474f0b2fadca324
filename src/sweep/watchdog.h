/*
 * sweep/watchdog.h - ends the process when a device no longer answers.
 *
 * The thread that waits for such a device cannot be taken back, and the runtime's own exit would
 * wait for it, too. So after one line the process ends at once, as if it had been killed: what is
 * done is done, the rest goes on from checkpoints.
 */
#ifndef LIPS_SWEEP_WATCHDOG_H
#define LIPS_SWEEP_WATCHDOG_H

#include "base/status.h"
#include "base/watch.h"

typedef struct lips_watchdog lips_watchdog;

/* A thread that is watched, and what it does: a cell's name. The caller's memory. */
typedef struct lips_watched {
    lips_watch watch;
    char what[256];
    struct lips_watched *next;
} lips_watched;

/* limit: seconds that one wait may take; 0: any. */
lips_status lips_watchdog_start(lips_watchdog **out, double limit);
void lips_watchdog_stop(lips_watchdog *d);

/* The calling thread is watched from now on, until lips_watchdog_leave; d NULL: nobody watches. */
void lips_watchdog_enter(lips_watchdog *d, lips_watched *w, const char *what);
void lips_watchdog_leave(lips_watchdog *d, lips_watched *w);

#endif
