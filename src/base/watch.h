/*
 * base/watch.h - what a thread waits for on a device, and since when, for another thread that
 * watches it: a device that hangs never returns.
 */
#ifndef LIPS_BASE_WATCH_H
#define LIPS_BASE_WATCH_H

#include <stdint.h>

/* All zero at the start. Written by the thread that is watched, read by any. */
typedef struct lips_watch {
    int64_t since;      /* nanoseconds of CLOCK_MONOTONIC at which the wait began; 0: none */
    const char *call;   /* that waits; a constant text */
    const void *stream; /* that it waits for */
    int64_t device, epoch, step;
} lips_watch;

/* From now on the calling thread's waits are noted in w; NULL: nowhere. */
void lips_watch_use(lips_watch *w);

/* Around a call that waits for a device. */
void lips_watch_begin(const char *call, int device, const void *stream);
void lips_watch_end(void);

/* How far the training is that the thread is about. */
void lips_watch_at(int64_t epoch, int64_t step);

/* A copy of the note; returns the seconds that its wait has taken, 0 if there is none. */
double lips_watch_read(const lips_watch *w, lips_watch *out);

#endif
