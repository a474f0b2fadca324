/*
 * bench/network.h - weights, inputs and labels of the benches on whole networks: the same numbers
 * that the scripts under bench/peer compute for PyTorch.
 */
#ifndef LIPS_BENCH_NETWORK_H
#define LIPS_BENCH_NETWORK_H

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

#endif
