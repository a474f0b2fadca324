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

struct relu {
    /* NaN is not below 0 and stays. */
    static __device__ float value(float x)
    {
        return x < 0.0f ? 0.0f : x;
    }
};

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
    launch_map<relu>(y, x, n, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_relu_mask(float *y, const float *x, const float *mask,
                                           int64_t outer, int64_t t, int64_t inner,
                                           cudaStream_t stream)
{
    LIPS_TRY(
        launch_places("relu_mask", outer, t, inner, [=](auto index, int64_t rows, int64_t row) {
            launch_mask<decltype(index)>(y, x, mask, rows, t, row, stream);
        }));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
