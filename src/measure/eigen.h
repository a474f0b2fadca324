/* measure/eigen.h - eigenvalues of many tiny symmetric matrices (the K x K Grams), by our own cyclic Jacobi in f64. */
#ifndef LIPS_MEASURE_EIGEN_H
#define LIPS_MEASURE_EIGEN_H

#include "base/status.h"

#include <stdint.h>

/* Largest eigenvalue of each of n symmetric k x k matrices a (n,k,k); scratch (k,k). Non-finite input gives NaN. */
void lips_eigen_max(double *out, const double *a, int64_t n, int64_t k, double *scratch);
/* All eigenvalues, ascending, of one. */
void lips_eigen_all(double *out, const double *a, int64_t k, double *scratch);

#endif
