/* Softmax over the columns of matrices of blocks, and its derivatives. Sums run in two chains, the
 * even and the odd columns, in f32: of up to a few hundred terms of one sign for the softmax. */
#include "backend/cpu/isa/math.h"

#include "backend/cpu/isa/token_kernels.h"

enum { BLOCK = LIPS_CPU_LANES };

/* One row, lanes h.. of its blocks. The largest score is taken off first: exp then has arguments of
 * at most 0. */
VF_INLINE void softmax_row(float *p, int64_t cols, vf scale)
{
    vf most = vf_load(p), sum[2] = {vf_zero(), vf_zero()};
    for (int64_t j = 1; j < cols; j++)
        most = vf_max(most, vf_load(p + j * BLOCK));
    for (int64_t j = 0; j < cols; j++) {
        vf e = vf_exp(vf_mul(vf_sub(vf_load(p + j * BLOCK), most), scale));
        vf_store(p + j * BLOCK, e);
        sum[j & 1] = vf_add(sum[j & 1], e);
    }
    vf inverse = vf_div(vf_set1(1), vf_add(sum[0], sum[1]));
    for (int64_t j = 0; j < cols; j++)
        vf_store(p + j * BLOCK, vf_mul(vf_load(p + j * BLOCK), inverse));
}

void LIPS_ISA_FN(lips_cpu_softmax)(float *p, int64_t rows, int64_t cols, float scale)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < BLOCK; h += VF_LANES)
            softmax_row(p + i * cols * BLOCK + h, cols, vf_set1(scale));
}

/* sum over cols of a b */
VF_INLINE vf row_dot(const float *a, const float *b, int64_t cols)
{
    vf even = vf_zero(), odd = vf_zero();
    int64_t j = 0;
    for (; j + 2 <= cols; j += 2) {
        even = vf_fma(vf_load(a + j * BLOCK), vf_load(b + j * BLOCK), even);
        odd = vf_fma(vf_load(a + (j + 1) * BLOCK), vf_load(b + (j + 1) * BLOCK), odd);
    }
    if (j < cols)
        even = vf_fma(vf_load(a + j * BLOCK), vf_load(b + j * BLOCK), even);
    return vf_add(even, odd);
}

void LIPS_ISA_FN(lips_cpu_soften)(float *u, const float *p, int64_t rows, int64_t cols, float scale)
{
    const vf s = vf_set1(scale);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < BLOCK; h += VF_LANES) {
            float *ui = u + i * cols * BLOCK + h;
            const float *pi = p + i * cols * BLOCK + h;
            vf mean = row_dot(ui, pi, cols);
            for (int64_t j = 0; j < cols; j++) {
                vf off = vf_sub(vf_load(ui + j * BLOCK), mean);
                vf_store(ui + j * BLOCK, vf_mul(vf_mul(vf_load(pi + j * BLOCK), s), off));
            }
        }
}

void LIPS_ISA_FN(lips_cpu_soften_dot)(float *u, float *u_dot, const float *p, const float *p_dot,
                                      int64_t rows, int64_t cols, float scale)
{
    const vf s = vf_set1(scale);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t h = 0; h < BLOCK; h += VF_LANES) {
            int64_t at = i * cols * BLOCK + h;
            vf mean = row_dot(u + at, p + at, cols);
            vf mean_dot =
                vf_add(row_dot(u + at, p_dot + at, cols), row_dot(u_dot + at, p + at, cols));
            for (int64_t j = 0; j < cols; j++, at += BLOCK) {
                vf pj = vf_mul(vf_load(p + at), s), off = vf_sub(vf_load(u + at), mean);
                vf off_dot = vf_sub(vf_load(u_dot + at), mean_dot);
                vf_store(u + at, vf_mul(pj, off));
                vf_store(u_dot + at,
                         vf_fma(vf_mul(vf_load(p_dot + at), s), off, vf_mul(pj, off_dot)));
            }
        }
}
