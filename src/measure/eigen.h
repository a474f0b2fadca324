/*
 * measure/eigen.h - eigenvalues of many tiny symmetric matrices (the K x K Grams), in f64.
 *
 * Eight matrices at a time, one per SIMD lane: Householder reduction to tridiagonal form, then
 * bisection on the Sturm count. Against cyclic Jacobi that is 4/3 k^3 operations instead of about
 * 36 k^3, and every lane does the same steps, so the measuring pass of the narrowest network does
 * not notice it. The error is of the order of k * 2^-53 * |A|; a zero matrix gives exactly 0.
 */
#ifndef LIPS_MEASURE_EIGEN_H
#define LIPS_MEASURE_EIGEN_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Doubles of scratch that the calls below need. */
size_t lips_eigen_scratch(int64_t k);

/* out[i] = largest eigenvalue of matrix i of the n symmetric k x k matrices a (n,k,k), lower
 * triangles read. A matrix with a non-finite entry gives NaN and does not touch the others. */
void lips_eigen_max(double *out, const double *a, int64_t n, int64_t k, double *scratch);

/* out (k) = all eigenvalues of one matrix a (k,k), ascending; all NaN if an entry is not finite. */
void lips_eigen_all(double *out, const double *a, int64_t k, double *scratch);

#endif
