/*
 * bench/common.h - one format for all benches: a header, a row per case, a verdict.
 *
 * Times are medians over at least 30 repeats and 0.3 s (or 1.5 s) after a warm-up, in processor
 * time of the one thread, operands warm (as in training, where the op before has just written them)
 * unless a bench says otherwise. The limit of a row is measured in the same run: the copy rate for
 * as many bytes, or the rate of multiply-adds in registers, whichever binds.
 */
#ifndef LIPS_BENCH_COMMON_H
#define LIPS_BENCH_COMMON_H

#include "backend/backend.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct bench bench;

/* Opens the cpu backend, measures the limits, prints the header. Exits with a message on any error:
 * a bench is a main program. argv[1], if given, selects rows whose "op variant shape" contains it.
 */
bench *bench_begin(int argc, char **argv);
/* Prints the verdict; the exit code: 0, or 1 if a row was wrong or none ran. Frees b. */
int bench_end(bench *b);

lips_backend *bench_backend(bench *b);
/* 64-byte aligned, n reals in -1..1 from the bench's seed (the same for the same n-th call). */
float *bench_reals(bench *b, int64_t n);
/* A tensor of the cpu backend filled with such reals, unused lanes with zeros. */
lips_tensor bench_tensor(bench *b, int64_t samples, int64_t c, int64_t h, int64_t w, int64_t t,
                         bool spatial);
void bench_ok(lips_status st); /* exits with the error's text */

typedef struct bench_case {
    const char *op, *variant, *dtype, *shape;
    double bytes, flops; /* of one call: operands read and written once; multiply-adds count 2 */
    void (*call)(void *user); /* the op */
    void *user;
    /* Relative L2 error against an f64 loop over the same operands, and the number of wrong
     * entries; NULL: a row for comparison only, whose error is printed as -. */
    double (*check)(void *user, int64_t *wrong);
} bench_case;

void bench_row(bench *b, const bench_case *c);
/* Will bench_row run it? */
bool bench_selected(const bench *b, const bench_case *c);

/* Relative L2 error of got against want; counts entries off by more than tol of the largest |want|,
 * and non-finite ones. */
double bench_error(const float *got, const double *want, int64_t n, double tol, int64_t *wrong);

#endif
