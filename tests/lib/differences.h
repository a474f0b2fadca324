/*
 * tests/lib/differences.h - Jacobian of a function of doubles by central differences.
 */
#ifndef LIPS_TESTS_DIFFERENCES_H
#define LIPS_TESTS_DIFFERENCES_H

#include <stdint.h>

typedef struct difference_map {
    void (*f)(void *user, const double *x, double *y);
    void *user;
    int64_t n, m; /* inputs, outputs */
} difference_map;

/* jac (m,n), overwritten. Step 1e-4: truncation ~ 1e-9 f''', rounding ~ 1e-12 |f|; affine functions
 * and ReLUs away from their kink have no truncation error. x is used and put back. */
void difference_jacobian(const difference_map *map, double *x, double *jac);

#endif
