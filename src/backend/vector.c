#include "backend/vector.h"

#include "base/per_isa.h"

#include <string.h>

/* Arithmetic on these becomes as many registers as the instruction set needs. */
typedef double v8 __attribute__((vector_size(64), aligned(8), may_alias));
enum { V = 8 };

PER_ISA double lips_dot(const double *a, const double *b, int64_t n)
{
    v8 s0 = {0}, s1 = {0}; /* two chains: one would wait for its own additions */
    double sum = 0;
    int64_t i = 0;
    for (; i + 2 * V <= n; i += 2 * V) {
        s0 += *(const v8 *)(a + i) * *(const v8 *)(b + i);
        s1 += *(const v8 *)(a + i + V) * *(const v8 *)(b + i + V);
    }
    s0 += s1;
    for (int j = 0; j < V; j++)
        sum += ((const double *)&s0)[j];
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

PER_ISA void lips_axpy(double *y, double a, const double *x, int64_t n)
{
    int64_t i = 0;
    for (; i + V <= n; i += V)
        *(v8 *)(y + i) += a * *(const v8 *)(x + i);
    for (; i < n; i++)
        y[i] += a * x[i];
}
