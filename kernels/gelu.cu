/*
 * gelu - forward, slope on stacked tangents and cotangents, second derivative (gelu.h).
 *
 * With Phi and phi the standard normal's distribution and density:
 *   gelu(x) = x Phi(x),   gelu'(x) = Phi(x) + x phi(x),   gelu''(x) = (2 - x^2) phi(x)
 *
 * Shapes     x, y (outer, T, inner) f32, in, dot (outer, inner) f32; all device
 * Work split a thread per pack of 4 places where inner is divisible by 4, else per place; it
 *            computes the slope once and walks over the T values
 * Precision  f32 within 1.72 units in the last place, slope within 2.4 x 2^-24 (normal.h: exp and
 *            the division in two floats each where it matters); second derivative in f64, rounded
 *            once
 * Order      nothing is summed
 * Cost       forward 8 bytes per value, slope 8 T + 4 per place. In sm_90's code 60 instructions
 *            a value forward; slope 65 a place and 5 a value
 * Limits     none; 32-bit indices below 2^31 values
 * Proof      tests/ops (gelu_forward, gelu_slope, gelu_vjp_dot), tests/cusim/test_flat_kernels.cpp
 * Speed      prediction (not measured): forward takes 76 % of what an H100's multiprocessors issue
 *            at the copy rate, T = 10 stacked slopes 22 %: memory decides, 92 % of the copy rate
 * History    v1 f64 with normcdf and exp: some 60 f64 instructions per place, which take twice as
 *            long as the bytes of a forward pass; half the copy rate. v2 f32 (normal.h).
 */
#include "kernels/gelu.h"

#include "kernels/check.h"
#include "kernels/flat.h"
#include "kernels/normal.h"

using namespace lips_flat;

namespace
{

__device__ inline double density(double x)
{
    return 0.39894228040143267794 * exp(-0.5 * x * x); /* 1/sqrt(2 pi) */
}

struct gelu {
    static __device__ float value(float x)
    {
        return lips_normal::gelu(x);
    }
};

__device__ inline double bend_of(float x)
{
    return (2 - (double)x * (double)x) * density((double)x);
}

/* places and inner are counted in packs. */
template <class I, int V>
__global__ void slope_places(float *y, const float *x, const float *in, I places, I t, I inner)
{
    for (I p = first_item<I>(); p < places; p += item_step<I>()) {
        I o = p / inner, i = p % inner;
        pack<V> at_in = load<V>(in + (int64_t)p * V);
        float slope[V];
        for (int j = 0; j < V; j++)
            slope[j] = lips_normal::gelu_slope(at_in.v[j]);
        for (I k = 0; k < t; k++) {
            int64_t at = ((int64_t)(o * t + k) * inner + i) * V;
            pack<V> v = load<V>(x + at);
            for (int j = 0; j < V; j++)
                v.v[j] *= slope[j];
            store<V>(y + at, v);
        }
    }
}

__global__ void vjp_dot_values(float *y, const float *x, const float *in, const float *dot,
                               int64_t n)
{
    for (int64_t i = first_item<int64_t>(); i < n; i += item_step<int64_t>())
        y[i] = (float)((double)x[i] * (double)dot[i] * bend_of(in[i]));
}

template <class I>
void launch_slope(float *y, const float *x, const float *in, int64_t outer, int64_t t,
                  int64_t inner, cudaStream_t stream)
{
    int64_t n = outer * inner;
    if (inner % 4 == 0 && aligned(y) && aligned(x) && aligned(in))
        CU_LAUNCH((slope_places<I, 4>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, y, x, in,
                  (I)(n / 4), (I)t, (I)(inner / 4));
    else
        CU_LAUNCH((slope_places<I, 1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x, in,
                  (I)n, (I)t, (I)inner);
}

} // namespace

extern "C" lips_status lips_cuda_gelu(float *y, const float *x, int64_t n, cudaStream_t stream)
{
    launch_map<gelu>(y, x, n, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_gelu_slope(float *y, const float *x, const float *in,
                                            int64_t outer, int64_t t, int64_t inner,
                                            cudaStream_t stream)
{
    LIPS_TRY(
        launch_places("gelu_slope", outer, t, inner, [=](auto index, int64_t rows, int64_t row) {
            launch_slope<decltype(index)>(y, x, in, rows, t, row, stream);
        }));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_gelu_vjp_dot(float *y, const float *x, const float *in,
                                              const float *dot, int64_t n, cudaStream_t stream)
{
    CU_LAUNCH(vjp_dot_values, dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x, in, dot, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
