/*
 * relu - forward, and the mask of stacked tangents and cotangents (relu.h).
 *
 *   y[i] = x[i] < 0 ? 0 : x[i]            y[o][t][i] = mask[o][i] > 0 ? x[o][t][i] : 0
 *
 * Shapes     x, y (outer, T, inner) f32, mask (outer, inner) f32; all device
 * Work split forward: a thread per pack of 4. mask, inner divisible by 4: a thread per pack of the
 *            mask, which it keeps in registers while it walks over the T values. Other inner: a
 *            thread per value, so that neighbours stay neighbours; the mask comes from the cache
 *            for all t but the first.
 * Precision  no rounding
 * Order      nothing is summed
 * Cost       forward 8 bytes per value; mask 8 T + 4 per place: memory bound. A network with ReLU
 *            fused into its layers uses the mask alone, after jvps and visits.
 * Limits     none; 32-bit indices below 2^31 values
 * Proof      tests/ops (relu_forward, relu_mask)
 * Speed      prediction: at least 85 % of the copy rate from 2^20 values on
 * History    v1 this file
 */
#include "kernels/relu.h"

#include "kernels/check.h"
#include "kernels/flat.h"

using namespace lips_flat;

namespace
{

/* NaN is not below 0 and stays. */
__device__ inline float relu_of(float x)
{
    return x < 0.0f ? 0.0f : x;
}

template <int V> __global__ void relu_values(float *y, const float *x, int64_t n)
{
    for (int64_t i = first_item<int64_t>() * V; i < n; i += item_step<int64_t>() * V) {
        if (i + V <= n) {
            pack<V> p = load<V>(x + i);
            for (int j = 0; j < V; j++)
                p.v[j] = relu_of(p.v[j]);
            store<V>(y + i, p);
        } else {
            for (int64_t k = i; k < n; k++)
                y[k] = relu_of(x[k]);
        }
    }
}

/* inner is counted in packs. */
template <class I>
__global__ void mask_packs(float *y, const float *x, const float *mask, I places, I t, I inner)
{
    for (I p = first_item<I>(); p < places; p += item_step<I>()) {
        I o = p / inner, i = p % inner;
        pack<4> m = load<4>(mask + (int64_t)p * 4);
        for (I k = 0; k < t; k++) {
            int64_t at = ((int64_t)(o * t + k) * inner + i) * 4;
            pack<4> v = load<4>(x + at);
            for (int j = 0; j < 4; j++)
                v.v[j] = m.v[j] > 0.0f ? v.v[j] : 0.0f;
            store<4>(y + at, v);
        }
    }
}

template <class I>
__global__ void mask_values(float *y, const float *x, const float *mask, I n, I t, I inner)
{
    for (I e = first_item<I>(); e < n; e += item_step<I>()) {
        I o = e / (t * inner), i = e % inner;
        y[e] = mask[o * inner + i] > 0.0f ? x[e] : 0.0f;
    }
}

template <class I>
void launch_mask(float *y, const float *x, const float *mask, int64_t outer, int64_t t,
                 int64_t inner, cudaStream_t stream)
{
    int64_t n = outer * inner;
    if (inner % 4 == 0 && aligned(y) && aligned(x) && aligned(mask))
        CU_LAUNCH((mask_packs<I>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, y, x, mask,
                  (I)(n / 4), (I)t, (I)(inner / 4));
    else
        CU_LAUNCH((mask_values<I>), dim3(blocks_for(n * t)), dim3(THREADS), 0, stream, y, x, mask,
                  (I)(n * t), (I)t, (I)inner);
}

} // namespace

extern "C" lips_status lips_cuda_relu(float *y, const float *x, int64_t n, cudaStream_t stream)
{
    if (aligned(y) && aligned(x))
        CU_LAUNCH((relu_values<4>), dim3(blocks_for((n + 3) / 4)), dim3(THREADS), 0, stream, y, x,
                  n);
    else
        CU_LAUNCH((relu_values<1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_relu_mask(float *y, const float *x, const float *mask,
                                           int64_t outer, int64_t t, int64_t inner,
                                           cudaStream_t stream)
{
    if (outer < 1 || t < 1 || inner < 1)
        return lips_fail(LIPS_ERR_USAGE, "relu_mask: %lld x %lld x %lld values", (long long)outer,
                         (long long)t, (long long)inner);
    if (t == 1) { /* no place is shared: one long row */
        inner *= outer;
        outer = 1;
    }
    if (fits_32(outer * t * inner))
        launch_mask<uint32_t>(y, x, mask, outer, t, inner, stream);
    else
        launch_mask<int64_t>(y, x, mask, outer, t, inner, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
