/* tests/lib/tiny_net.h - small networks with data, and brute-force derivatives of their logits on
 * the ref backend. */
#ifndef TESTS_TINY_NET_H
#define TESTS_TINY_NET_H

#include "nn/net.h"

typedef struct tiny_net {
    lips_net *net;
    double *params, *init, *buffers; /* host; init differs from params */
    int64_t n, k, d, p, n_buffers;   /* samples, classes, inputs, parameters */
    float *x;                        /* (n,d) */
    int64_t *label;                  /* (n) */
} tiny_net;

/* Random weights and biases, batch-norm statistics that are not 0 and 1, n random samples. Fails
 * the test on error. */
tiny_net tiny_net_create(const lips_model_spec *spec, int64_t n, uint64_t seed);
void tiny_net_free(tiny_net *t);

/* jx (k,d), jp (k,p): derivatives of sample i's logits by central differences in f64; either may be
 * NULL. z (k) or NULL: the logits. The truncation error is 0 (piecewise linear in x) or h^2;
 * rounding about 1e-10 relative to the logits. */
void tiny_net_differences(const tiny_net *t, int64_t i, double *jx, double *jp, double *z);

/* Largest singular value of a (rows,cols), by LAPACK. */
double tiny_spectral(const double *a, int64_t rows, int64_t cols);
double tiny_frobenius(const double *a, int64_t count);

#endif
