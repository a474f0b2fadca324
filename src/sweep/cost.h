/*
 * sweep/cost.h - how fast networks run on this machine: seconds per sample of a few sizes, timed,
 * and in between a straight line in the logarithms.
 */
#ifndef LIPS_SWEEP_COST_H
#define LIPS_SWEEP_COST_H

#include "config/config.h"
#include "nn/net.h"

typedef struct lips_rate {
    double flops;          /* of one sample's forward pass */
    double train, forward; /* seconds per sample */
} lips_rate;

/* Times cfg's network on made-up data of shape's sizes for about 50 ms. */
lips_status lips_rate_measure(lips_rate *out, const lips_config *cfg, const lips_dataset *shape,
                              int device);

/* The rate at `flops` from n >= 1 measured ones in rising order. */
lips_rate lips_rate_at(const lips_rate *measured, int n, double flops);

/* Seconds of a cell: training, evaluations, measurements. n_eval: how often. */
typedef struct lips_cell_work {
    int64_t epochs, n_train, n_test, n_val, classes, n_eval;
    int64_t measured; /* samples, all measured epochs together */
    double curvature; /* forward passes of samples that eigenvalues of the Hessian take */
} lips_cell_work;
double lips_cell_seconds(const lips_cell_work *w, const lips_rate *rate);

#endif
