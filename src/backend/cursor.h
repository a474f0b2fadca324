/*
 * backend/cursor.h - where a training run stands, in a backend's memory. The ops of a step read it
 * there and move it on, so that a step needs nothing from the host and can be recorded.
 */
#ifndef LIPS_BACKEND_CURSOR_H
#define LIPS_BACKEND_CURSOR_H

#include <stdint.h>

/* Why no further step is made. */
typedef enum lips_stop { LIPS_STOP_NONE, LIPS_STOP_LOSS, LIPS_STOP_GRADIENT } lips_stop;

typedef struct lips_cursor {
    int64_t row;     /* place in the epoch's order of the batch's first sample */
    int64_t updates; /* steps made, in all */
    int64_t epoch;   /* of the augmentation's random numbers */
    int64_t stop;    /* lips_stop; stays: ops that are given the cursor then change nothing */
    double rate;     /* learning rate */
    double loss;     /* mean of the batch that advance saw last */
    double adam_rate, adam_root; /* rate / (1 - beta1^updates), 1 / sqrt(1 - beta2^updates) */
} lips_cursor;

#endif
