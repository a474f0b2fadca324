/*
 * channel_sums - sums over the positions of each channel and stacked value: what the parameter
 * Jacobians of bias and batch norm are made of (gram.h).
 *
 *   sums[s][t][c] = sum_p y[s][p][t][c],   sums[s][t][C + c] = sum_p y[s][p][t][c] (x[s][p][c] - mean_c) inv_c
 *
 * Shapes     y (B,P,T,C) f32, x (B,P,C) f32, sums (B,T,C) or (B,T,2C) f64; any
 * Work split a block takes 32 neighbouring (t,c) of one sample, 8 threads each for every 8th position
 * Precision  f64
 * Order      fixed by P; no atomics
 * Cost       reads 4 B P T C bytes once, and x once per stacked value (from L2: its neighbours share
 *            it); two f64 multiply-adds and a conversion per value: memory bound. 128 bytes a warp's
 *            load, 8 loads in flight per thread. Prediction: 85 % of the copy rate for T C >= 32.
 * Limits     B <= 65535; a sample below 2^31 values
 * Proof      tests/ops/test_gram_cuda.c, tests/ops/test_backends.c (bias_gram, bn_gram)
 * History    v1 this file.
 */
#include "kernels/cuda.h"
#include "kernels/gram.h"

#include <inttypes.h>

namespace
{

constexpr int LANES = 32, PARTS = 8;

struct shape {
    int p, t, c;
};

struct statistics {
    const float *x, *mean, *var;
    double eps;
};

template <bool NORM>
__global__ void __launch_bounds__(LANES *PARTS)
    channel_sums(double *__restrict__ sums, const float *__restrict__ y, statistics f, shape d)
{
    CU_SHARED(double, plain, [PARTS][LANES]);
    CU_SHARED(double, normed, [PARTS][LANES]);
    const int64_t s = blockIdx.y;
    const int lane = (int)threadIdx.x % LANES, part = (int)threadIdx.x / LANES;
    const int row = d.t * d.c, at = (int)blockIdx.x * LANES + lane, c = at % d.c;
    double sum = 0, with = 0, mean = 0, inv = 0;
    if (at < row) {
        if (NORM) {
            mean = (double)f.mean[c];
            inv = 1.0 / sqrt((double)f.var[c] + f.eps);
        }
        const float *from = y + s * d.p * row + at;
        const float *x = NORM ? f.x + s * d.p * d.c + c : nullptr;
#pragma unroll 8
        for (int p = part; p < d.p; p += PARTS) {
            const double v = (double)from[(int64_t)p * row];
            sum += v;
            if (NORM)
                with = fma(v, (double)x[(int64_t)p * d.c] - mean, with);
        }
    }
    plain[part][lane] = sum;
    normed[part][lane] = with;
    __syncthreads(); /* all parts are there */
    if (part || at >= row)
        return;
    for (int i = 1; i < PARTS; i++) {
        sum += plain[i][lane];
        with += normed[i][lane];
    }
    const int width = NORM ? 2 * d.c : d.c;
    double *out = sums + (s * d.t + at / d.c) * width + c;
    out[0] = sum;
    if (NORM)
        out[d.c] = with * inv;
}

} // namespace

lips_status lips_cuda_channel_sums(const lips_cuda_channel_sums_args *a, cudaStream_t stream)
{
    if (a->b < 1 || a->b > 65535)
        return lips_fail(LIPS_ERR_USAGE, "channel sums: %" PRId64 " samples, must be in 1..65535",
                         a->b);
    if (a->p < 1 || a->t < 1 || a->c < 1 || a->p > INT32_MAX / a->t ||
        a->p * a->t > INT32_MAX / a->c)
        return lips_fail(LIPS_ERR_USAGE,
                         "channel sums: a sample of %" PRId64 " x %" PRId64 " x %" PRId64
                         " values, must be in 1..2^31-1",
                         a->p, a->t, a->c);
    const shape d = {(int)a->p, (int)a->t, (int)a->c};
    const statistics f = {a->x, a->mean, a->var, a->eps};
    const dim3 grid((unsigned)((a->t * a->c + LANES - 1) / LANES), (unsigned)a->b);
    if (a->x)
        CU_LAUNCH((channel_sums<true>), grid, dim3(LANES * PARTS), 0, stream, a->sums, a->y, f, d);
    else
        CU_LAUNCH((channel_sums<false>), grid, dim3(LANES * PARTS), 0, stream, a->sums, a->y, f, d);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
