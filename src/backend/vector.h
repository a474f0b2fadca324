/* backend/vector.h - long vectors of doubles on the host, sums in an order that the code fixes. */
#ifndef LIPS_BACKEND_VECTOR_H
#define LIPS_BACKEND_VECTOR_H

#include <stdint.h>

double lips_dot(const double *a, const double *b, int64_t n);
/* y += a x; y and x do not overlap. */
void lips_axpy(double *y, double a, const double *x, int64_t n);

#endif
