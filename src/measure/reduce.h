/*
 * measure/reduce.h - what the series are made of: norms and numbers from the K x K Gram matrices of
 * a block's samples.
 *
 * A backend that takes norms itself (lips_ops.norms) makes all that the survey wants in a few
 * launches, and the matrices never leave it. For others the host makes each when it is asked for.
 */
#ifndef LIPS_MEASURE_REDUCE_H
#define LIPS_MEASURE_REDUCE_H

#include "measure/survey.h"

enum {
    LIPS_REDUCE_LOGITS,      /* op and fro of G, */
    LIPS_REDUCE_SOFTMAX,     /* of S G S, */
    LIPS_REDUCE_LOG_SOFTMAX, /* of A G A' */
    LIPS_REDUCE_TARGET,      /* the number G_yy */
    LIPS_REDUCE_LOSS,        /* u' G u */
    LIPS_REDUCE_TRACE,       /* tr((d2L/dz2) G) */
    LIPS_REDUCES
};

/* Does the survey's backend make them? */
bool lips_reduce_on_backend(const lips_survey *p);

/* Shared memory for what it makes; b NULL: only counted. */
void lips_reduce_take(lips_block *b, const lips_survey *p, size_t *bytes);
/* Queues it, after the pass with K cotangents: there after the next sync(). */
lips_status lips_reduce_run(lips_block *b);

/* op, fro (b) of the item's matrices of a layer (0: of the network). */
void lips_reduce_norms(lips_block *b, int item, int layer, int kind, double *op, double *fro);
/* out (b) = the number; never below 0. */
void lips_reduce_numbers(lips_block *b, int item, int layer, int kind, double *out);

#endif
