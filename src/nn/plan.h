/*
 * nn/plan.h - where each value of a pass lives in memory: spans with a lifetime get offsets such
 * that no two that live at the same time overlap.
 */
#ifndef LIPS_NN_PLAN_H
#define LIPS_NN_PLAN_H

#include <stddef.h>

typedef struct lips_span {
    size_t bytes;
    int from, to;  /* first and last step at which it holds something */
    size_t offset; /* out; a multiple of LIPS_PLAN_ALIGN */
} lips_span;

enum { LIPS_PLAN_ALIGN = 64 };

/* Places spans one after another, the largest first, each at the lowest free offset. Returns the
 * bytes that all of them take. */
size_t lips_plan_place(lips_span *spans, int n);

/* bytes rounded up to LIPS_PLAN_ALIGN. */
size_t lips_plan_round(size_t bytes);

#endif
