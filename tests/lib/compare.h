/*
 * tests/lib/compare.h - the judge: are two vectors equal to rounding?
 *
 * Two numbers decide, so that neither one wrong entry nor a little error everywhere gets through:
 * the largest entry error over the largest entry of the reference, and the relative L2 error.
 */
#ifndef LIPS_TESTS_COMPARE_H
#define LIPS_TESTS_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct cmp_result {
    int64_t n;
    int64_t nonfinite; /* entries where one side or both are NaN or infinite */
    int64_t zeros;     /* entries of the reference that are 0 */
    int64_t index;     /* of the worst entry; a non-finite one is worst */
    double got, want;  /* there */
    double worst;      /* largest |got - want| / largest |want|; 0 if all entries are equal */
    double rel_l2;     /* |got - want| / |want|; 0 if all entries are equal */
} cmp_result;

cmp_result cmp_vectors(const double *got, const double *want, int64_t n);

/* tol bounds rel_l2, ten times tol the worst entry. */
bool cmp_pass(const cmp_result *c, double tol);

/* Agreement that proves little: more than nine tenths of at least 20 entries are 0. */
bool cmp_weak(const cmp_result *c);

/* cmp_vectors, judged; a failure or weakness prints one line that starts with `what`. */
bool cmp_check(const char *what, const double *got, const double *want, int64_t n, double tol);

#endif
