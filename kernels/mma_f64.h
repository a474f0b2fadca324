/*
 * kernels/mma_f64.h - the f64 tensor-core product (PTX mma.m8n8k4, sm_80 and later), with a CPU
 * body that does the same in the emulated build.
 *
 * With g = lane / 4 and q = lane % 4 a lane gives a[g][q] and b[q][g] and holds d[g][2q],
 * d[g][2q+1]. So the same register is a row of A and a column of A': a Gram matrix needs each value
 * once.
 */
#ifndef LIPS_KERNELS_MMA_F64_H
#define LIPS_KERNELS_MMA_F64_H

#include "kernels/cuda.h"

#ifndef __CUDACC__
namespace mma_f64
{
struct operands {
    double a, b, d[2];
};
struct result {
    double d[2];
};

CUSIM_UNSEEN inline void multiply(unsigned, const void *const *in, void *const *out)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 2; i++) {
            const int row = lane / 4, col = 2 * (lane % 4) + i;
            double sum = ((const operands *)in[lane])->d[i];
            for (int k = 0; k < 4; k++)
                sum = fma(((const operands *)in[4 * row + k])->a,
                          ((const operands *)in[4 * col + k])->b, sum);
            ((result *)out[lane])->d[i] = sum;
        }
}
} // namespace mma_f64
#endif

/* d (8x8) += a (8x4) b (4x8); all 32 lanes. */
__device__ __forceinline__ void mma_m8n8k4_f64(double (&d)[2], double a, double b)
{
#ifdef __CUDACC__
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1},{%2},{%3},{%0,%1};"
        : "+d"(d[0]), "+d"(d[1])
        : "d"(a), "d"(b));
#else
    mma_f64::operands mine = {a, b, {d[0], d[1]}};
    mma_f64::result r;
    cusim::warp_collective(0xffffffffu, CUSIM_SITE, &mine, &r, mma_f64::multiply);
    d[0] = r.d[0];
    d[1] = r.d[1];
#endif
}

#endif
