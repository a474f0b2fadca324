/*
 * measure/lanczos.h - the largest eigenvalues of a symmetric matrix that is known by its products,
 * by Lanczos with full re-orthogonalisation in f64.
 *
 * One Krylov space holds one vector of each eigenspace, so an eigenvalue of higher multiplicity
 * would be found once. Therefore, when the wanted pairs have converged, further spaces are built
 * orthogonal to them, until the largest eigenvalue of what is left has converged, too, and is not
 * above the smallest pair. (The Hessian of a linear layer under the squared loss has every
 * eigenvalue K times.) To stop such a space earlier, once it has shown nothing above, is not safe:
 * beside a dense bulk a copy 3 % above it shows after 30 products or more.
 *
 * Vectors are in the memory of a backend, which does everything with them, to the same bits
 * whichever it is. A step beside its product: some 13 launches on a device, reading the basis
 * twice, and one wait for what was projected out (a second one where that cancelled digits).
 */
#ifndef LIPS_MEASURE_LANCZOS_H
#define LIPS_MEASURE_LANCZOS_H

#include "backend/backend.h"

#include <stdint.h>

enum {
    LIPS_LANCZOS_STEPS = 80,    /* products for one Krylov space, at most */
    LIPS_LANCZOS_PRODUCTS = 800 /* products in all, at most: ten spaces */
};

/* The basis of one space is kept below this many bytes, by fewer steps. */
#define LIPS_LANCZOS_BYTES 4e9

typedef struct lips_lanczos_args {
    lips_backend *be; /* all vectors are in its memory; stays the caller's and outlives the pairs */
    /* out (n) = A v, overwritten; may return before it is there */
    lips_status (*apply)(void *user, double *out, const double *v);
    void *user;
    int64_t n;
    int k;            /* eigenvalues wanted, 1..n */
    double tolerance; /* wanted |Av - lv| / |l| */
    double noise; /* rounding of a product, relative to |A|: smaller residuals are not waited for */
} lips_lanczos_args;

/* found pairs, the largest eigenvalue first: found = k unless the products ran out before. A
 * non-finite product ends the search: every value is NaN. */
typedef struct lips_eigenpairs {
    int64_t n;
    int found;
    int64_t iterations; /* steps: products without those of the residuals */
    double *value;      /* (k) */
    double *residual;   /* (k) |Av - lv| / |l|; 0 if both are 0, NaN if only l is */
    double *vector;     /* (k,n), memory of be */
    lips_backend *be;
} lips_eigenpairs;

/* LIPS_ERR_MEMORY where a product or the vectors do not fit. */
lips_status lips_lanczos(lips_eigenpairs *out, const lips_lanczos_args *a);
void lips_eigenpairs_free(lips_eigenpairs *e);
/* Bytes that the search takes besides the products, of which the backend's own (own_bytes) are
 * those of so many vectors at a time. */
double lips_lanczos_bytes(int64_t n, int k);
int64_t lips_lanczos_vectors(int64_t n, int k);

#endif
