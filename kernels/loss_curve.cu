/*
 * loss_curve - second derivative of the loss at the logits, times a tangent (loss_curve.h).
 *
 *   out_j = scale p_j (d_j - sum_i p_i d_i), d = v - v_r, p = softmax(z), r the likeliest class
 *
 * Shapes     z, v, out (B,K) f32, any K
 * Work split one warp a sample, lanes stride the classes
 * Precision  f64 from the logits on. A common shift of v changes nothing; with the likeliest class
 *            at 0 what is left near interpolation is of the size of 1 - p_r, to full relative
 *            precision (as measure/head.c).
 * Order      fixed by K
 * Cost       reads 8 B K bytes (three times over, from L1), writes 4 cap K: a launch's time. It
 *            saves a product of the curvature two waits and two copies.
 * Limits     cap below 2^31
 * Proof      tests/ops/test_backends.c (loss_curve), tests/measure/test_curvature.c
 * History    v1 this file.
 */
#include "kernels/cuda.h"
#include "kernels/loss_curve.h"

#include <inttypes.h>

namespace
{

constexpr int WARP = 32, WARPS = 4;
constexpr unsigned ALL = 0xffffffffu;

__device__ __forceinline__ double warp_sum(double v)
{
    for (int d = WARP / 2; d; d /= 2)
        v += __shfl_xor_sync(ALL, v, d);
    return v;
}

/* Index of the largest logit, the lowest where several are. */
__device__ int likeliest(const float *z, int64_t k, int lane)
{
    float top = -INFINITY;
    int at = 0;
    for (int64_t j = lane; j < k; j += WARP)
        if (z[j] > top) {
            top = z[j];
            at = (int)j;
        }
    for (int d = WARP / 2; d; d /= 2) {
        const float other = __shfl_xor_sync(ALL, top, d);
        const int place = __shfl_xor_sync(ALL, at, d);
        if (other > top || (other == top && place < at)) {
            top = other;
            at = place;
        }
    }
    return at;
}

__global__ void __launch_bounds__(WARP *WARPS, 8)
    loss_curve(float *out, const float *__restrict__ z, const float *v, int64_t b, int64_t cap,
               int64_t k, double scale, int squared)
{
    const int64_t s = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    const int lane = (int)threadIdx.x % WARP;
    if (s >= cap)
        return; /* a whole warp; no barrier of the block follows */
    float *to = out + s * k;
    if (s >= b || squared) {
        for (int64_t j = lane; j < k; j += WARP)
            to[j] = s < b ? (float)(scale * (double)v[s * k + j]) : 0.0f;
        return;
    }
    const float *zs = z + s * k, *vs = v + s * k;
    const int r = likeliest(zs, k, lane);
    const double top = (double)zs[r], shift = (double)vs[r];
    double sum = 0, mean = 0;
    for (int64_t j = lane; j < k; j += WARP) {
        const double e = exp((double)zs[j] - top); /* a NaN anywhere reaches the sum */
        sum += e;
        mean += e * ((double)vs[j] - shift);
    }
    sum = warp_sum(sum);
    mean = warp_sum(mean) / sum;
    __syncwarp(); /* every lane has read v[r], which out may replace */
    for (int64_t j = lane; j < k; j += WARP) {
        const double p = exp((double)zs[j] - top) / sum;
        to[j] = (float)(scale * (p * (((double)vs[j] - shift) - mean)));
    }
}

} // namespace

lips_status lips_cuda_loss_curve(const lips_cuda_loss_curve_args *a, cudaStream_t stream)
{
    if (a->cap < 1 || a->cap > INT32_MAX || a->b > a->cap || a->k < 1)
        return lips_fail(LIPS_ERR_USAGE,
                         "loss_curve: %" PRId64 " of %" PRId64 " samples of %" PRId64
                         " classes, must be in 1..2^31-1",
                         a->b, a->cap, a->k);
    CU_LAUNCH(loss_curve, dim3((unsigned)((a->cap + WARPS - 1) / WARPS)), dim3(WARP * WARPS), 0,
              stream, a->out, a->z, a->v, a->b, a->cap, a->k, a->scale, (int)a->squared);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
