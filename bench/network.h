/*
 * bench/network.h - weights, inputs and labels of the benches on whole networks: the same numbers
 * that the scripts under bench/peer compute for PyTorch.
 */
#ifndef LIPS_BENCH_NETWORK_H
#define LIPS_BENCH_NETWORK_H

#include "measure/measure.h"
#include "nn/net.h"

#include <stddef.h>

/* n zeroed elements; the caller frees. Exits with a message if there is no memory. */
void *bench_take(int64_t n, size_t size);

/* splitmix64 of seed * 2^40 + i (Steele, Lea, Flood 2014), in [-1,1) with 24 bits: what numpy can
 * compute too. */
float bench_uniform(uint64_t seed, int64_t i);

/* Segment number p from seed 100 + p: weights times sqrt(6 / fan-in), vectors times 0.1, scales of
 * normalisations about 1. */
void bench_fill_params(const lips_net *net, double *params);

/* n inputs (C,H,W) from seed 1; labels 0, 1, .., classes - 1, 0, .. */
void bench_fill_samples(const lips_net *net, int64_t n, float *x, int64_t *label);

/* A network with these weights, samples and labels. */
typedef struct bench_network {
    lips_net *net;
    double *params;
    float *x;
    int64_t *label, n;
} bench_network;

void bench_network_make(bench_network *out, const lips_model_spec *spec, int64_t n);
void bench_network_free(bench_network *b);

/* The talk's models of width w and K classes: 3 x 32 x 32, mlp 28 x 28 with one hidden layer, vit
 * of six blocks. */
lips_model_spec bench_model(const char *kind, int64_t w, int64_t classes);

/* How one measures it. */
typedef struct bench_measuring {
    const char *backend, *metrics;
    int threads;
    lips_arithmetic arithmetic;
} bench_measuring;

lips_measure_args bench_measure_args(const bench_network *b, const bench_measuring *m, int64_t n);
lips_measurement bench_measure(const bench_network *b, const bench_measuring *m, int64_t n);

/* Per-sample values of the first n samples against ref: the worst of all series' relative L2
 * errors; entries off by more than tol of their series' largest are wrong. */
double bench_measure_error(const bench_network *b, const bench_measuring *m, int64_t n, double tol,
                           int64_t *wrong);

#endif
