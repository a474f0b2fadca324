/* backend/cpu/matrix.h - products of row-major matrices: dnnl_sgemm with its status as ours. */
#ifndef LIPS_BACKEND_CPU_MATRIX_H
#define LIPS_BACKEND_CPU_MATRIX_H

#include "base/status.h"

#include <stdint.h>

/* out (m,n) = op(a) op(b) + beta out, inner size k; op transposes where ta, tb are 'T'. */
typedef struct lips_cpu_product {
    char ta, tb;
    int64_t m, n, k;
    const float *a, *b;
    int64_t lda, ldb; /* floats from row to row as stored */
    float *out;
    int64_t ld_out;
    float beta;
} lips_cpu_product;

lips_status lips_cpu_multiply(const char *op, const lips_cpu_product *p);

#endif
