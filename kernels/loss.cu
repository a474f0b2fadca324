/*
 * loss - cross-entropy and squared error per sample, argmax, gradient at the logits (loss.h).
 *
 *   cross-entropy   log1p(sum_{i != top} exp(z_i - z_top)) + (z_top - z_y)
 *                   dz_i = scale p_i (i != y),  dz_y = -scale sum_{i != y} p_i
 *   squared error   1/2 sum_i (z_i - y_i)^2,    dz_i = scale (z_i - y_i)
 *   pred            the first of the largest logits
 *   y is the batch's, or lies with the rows of a data set: those that the epoch's order has at the
 *   cursor (backend/cursor.h)
 *
 * Shapes     z, dz (cap, K) f32, labels, pred (b) i64, targets (b, K) f32, loss (b) f64; all device
 * Work split one warp per sample, its lanes take every 32nd class
 * Precision  f64 throughout, dz rounded once. The largest logit is taken out of the sum and the
 *            label's gradient is minus the sum of the others': both keep their digits where the
 *            label is far ahead, which at interpolation it is.
 * Order      fixed by K: lanes add their classes in turn, then each other's by exchange
 * Cost       per sample 8 K + 24 bytes and 2 K f64 exponentials (3 K with dz): for the 10 classes
 *            and few hundred samples of a batch the launch itself is the time
 * Limits     fewer than 32 classes leave lanes idle
 * Proof      tests/ops (loss), test_exact (loss)
 * Speed      prediction: below 10 us for 512 x 10
 * History    v1 this file
 */
#include "kernels/loss.h"

#include "kernels/check.h"
#include "kernels/flat.h"

using namespace lips_flat;

namespace
{

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffffu;

/* Sum over the warp's lanes, the same in each. */
__device__ inline double warp_sum(double v)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(ALL, v, step);
    return v;
}

/* First of the largest values of z (K). Comparisons with NaN are false: a NaN is never chosen but
 * where it comes first, as in a plain loop. */
__device__ inline int64_t warp_argmax(const float *z, int64_t k, int lane)
{
    float best = -INFINITY;
    int64_t at = k; /* none yet: behind every class */
    for (int64_t i = lane; i < k; i += WARP)
        if (z[i] > best || (at == k && z[i] == best)) {
            best = z[i];
            at = i;
        }
    for (int step = WARP / 2; step > 0; step /= 2) {
        float other = __shfl_xor_sync(ALL, best, step);
        int64_t where = __shfl_xor_sync(ALL, at, step);
        if (where < k && (at == k || other > best || (other == best && where < at))) {
            best = other;
            at = where;
        }
    }
    return at == k || isnan(z[0]) ? 0 : at;
}

/* Where the label or target of sample s is. */
__device__ inline int64_t row_of(const lips_cuda_loss_args &a, int64_t s)
{
    return a.order ? a.order[a.cursor->row + a.first + s] : s;
}

__device__ inline void cross_entropy(const lips_cuda_loss_args &a, int64_t s, int64_t top, int lane)
{
    const float *z = a.z + s * a.k;
    int64_t y = a.labels[row_of(a, s)];
    double most = (double)z[top], rest = 0, others = 0;
    for (int64_t i = lane; i < a.k; i += WARP) {
        double e = exp((double)z[i] - most);
        rest += i == top ? 0 : e;
        others += i == y ? 0 : e;
    }
    rest = warp_sum(rest);
    others = warp_sum(others);
    double all = exp(most - most) + rest; /* 1, but NaN for an infinite logit */
    if (a.loss && lane == 0)
        a.loss[s] = log1p(rest) + (most - (double)z[y]);
    for (int64_t i = lane; a.dz && i < a.k; i += WARP)
        a.dz[s * a.k + i] = (float)(i == y ? -a.scale * (others / all)
                                           : a.scale * (exp((double)z[i] - most) / all));
}

__device__ inline void squared_error(const lips_cuda_loss_args &a, int64_t s, int lane)
{
    const float *z = a.z + s * a.k;
    const int64_t row = row_of(a, s);
    double sum = 0;
    for (int64_t i = lane; i < a.k; i += WARP) {
        double want = a.targets ? (double)a.targets[row * a.k + i] : i == a.labels[row] ? 1.0 : 0.0;
        double e = (double)z[i] - want;
        sum += e * e;
        if (a.dz)
            a.dz[s * a.k + i] = (float)(a.scale * e);
    }
    sum = warp_sum(sum);
    if (a.loss && lane == 0)
        a.loss[s] = sum / 2;
}

/* Whole warps take samples, so that all lanes meet in every exchange. */
__global__ void loss_samples(lips_cuda_loss_args a)
{
    int lane = (int)(threadIdx.x % WARP);
    for (int64_t s = first_item<int64_t>() / WARP; s < a.cap; s += item_step<int64_t>() / WARP) {
        if (s >= a.b) {
            for (int64_t i = lane; a.dz && i < a.k; i += WARP)
                a.dz[s * a.k + i] = 0.0f;
            continue;
        }
        int64_t top = a.pred || !a.squared ? warp_argmax(a.z + s * a.k, a.k, lane) : 0;
        if (a.pred && lane == 0)
            a.pred[s] = top;
        if (!a.loss && !a.dz)
            continue;
        if (a.squared)
            squared_error(a, s, lane);
        else
            cross_entropy(a, s, top, lane);
    }
}

} // namespace

extern "C" lips_status lips_cuda_loss(const lips_cuda_loss_args *a, cudaStream_t stream)
{
    if (a->b < 1 || a->b > a->cap || a->k < 1)
        return lips_fail(LIPS_ERR_USAGE, "loss: %lld of %lld samples, %lld classes",
                         (long long)a->b, (long long)a->cap, (long long)a->k);
    CU_LAUNCH(loss_samples, dim3(blocks_for(a->cap * WARP)), dim3(THREADS), 0, stream, *a);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
