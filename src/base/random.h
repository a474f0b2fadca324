/*
 * base/random.h - counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, SC
 * 2011), as in Random123. Nothing here has state: the value at a place is a function of the place,
 * so backends, thread counts and resumes agree.
 *
 *   key     = (seed low 32 bits, seed high 32 bits)
 *   counter = (index low, index high, epoch, stream)
 */
#ifndef LIPS_BASE_RANDOM_H
#define LIPS_BASE_RANDOM_H

#include <stdint.h>

/* One per use. Values are part of every result: never renumber. */
typedef enum lips_stream {
    LIPS_STREAM_INIT = 1,        /* initial weights; epoch = parameter tensor number */
    LIPS_STREAM_ORDER = 2,       /* batch order; epoch = epoch */
    LIPS_STREAM_AUGMENT = 3,     /* crop and flip; epoch = epoch, index = sample number */
    LIPS_STREAM_NOISE_PICK = 4,  /* which labels are corrupted */
    LIPS_STREAM_NOISE_LABEL = 5, /* to which class */
    LIPS_STREAM_SUBSET = 6,      /* which samples are used; epoch = 0 train, 1 test, 2 validation */
    LIPS_STREAM_MEASURE = 7,     /* which samples are measured */
    LIPS_STREAM_PROBE = 8,       /* inputs that are not data; epoch = probe kind + 16 x draw */
    LIPS_STREAM_SINE = 9,        /* sine samples; epoch = 0 inputs, 1 noise */
    LIPS_STREAM_LANCZOS = 10,    /* starting vectors */
    LIPS_STREAM_TEST = 11,       /* tests and benches */
    LIPS_STREAM_SIGNS = 12       /* sign vectors of estimated traces; index = 128 signs */
} lips_stream;

typedef struct lips_rng {
    uint64_t seed;
    uint32_t stream; /* lips_stream */
    uint32_t epoch;
} lips_rng;

/* The four 32-bit words at `index`. */
void lips_rng_words(const lips_rng *r, uint64_t index, uint32_t out[4]);

/* Uniform in [0,1) with 53 bits, from words 0 and 1 at `index`. */
double lips_rng_uniform(const lips_rng *r, uint64_t index);

/* Standard normal, Box-Muller in f64 from words 0..3 at `index`. */
double lips_rng_normal(const lips_rng *r, uint64_t index);

/* Uniform integer in [0, n), n >= 1, without modulo bias (Lemire's multiply-shift on 64 bits; the
 * bias left is below n / 2^64). */
uint64_t lips_rng_below(const lips_rng *r, uint64_t index, uint64_t n);

/* out[0..n) = a uniformly random permutation of 0..n-1 (Fisher-Yates, draw i at index i). */
void lips_rng_permutation(const lips_rng *r, int64_t *out, int64_t n);

#endif
