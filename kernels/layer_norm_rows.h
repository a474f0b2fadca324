/*
 * kernels/layer_norm_rows.h - mean and spread of rows, by groups of lanes of a warp. For
 * layer_norm.cu and layer_norm_sums.cu.
 */
#ifndef LIPS_KERNELS_LAYER_NORM_ROWS_H
#define LIPS_KERNELS_LAYER_NORM_ROWS_H

#include "kernels/flat.h"

namespace layer_norm_rows
{

using lips_flat::load;
using lips_flat::pack;

constexpr int WARP = 32;

/* Of one row, r = 1/sqrt(variance + eps). dot, hat_dot: mean(dot), mean(xhat dot) where there is a
 * tangent. */
struct moments {
    double mean, r, dot, hat_dot;
};

/* Rows of c values, each the work of `lanes` lanes (a power of two) of a warp. */
struct row_shape {
    int64_t c;
    double inv_c, eps;
    int lanes;
};

inline row_shape row_shape_of(int64_t c, double eps, int v, int fewest_lanes)
{
    int lanes = fewest_lanes;
    while (lanes < WARP && lanes * v < c)
        lanes *= 2;
    return {c, 1 / (double)c, eps, lanes};
}

/* Of each row the sum over its lanes, in all of them; all lanes of the warp call. */
template <int ROWS> __device__ inline void lane_sums(double (&v)[ROWS], int lanes)
{
    for (int step = lanes / 2; step > 0; step /= 2)
        for (int r = 0; r < ROWS; r++)
            v[r] += __shfl_xor_sync(0xffffffffu, v[r], step);
}

/* Of one row; unrolled where LANES, a constant, is known. */
template <int LANES> __device__ inline double lane_sum(double v)
{
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

__device__ inline double hat(const moments &m, float x)
{
    return ((double)x - m.mean) * m.r;
}

/* xhat' = r P(dot) */
__device__ inline double moved_hat(const moments &m, float x, float dot)
{
    return m.r * ((double)dot - m.dot - hat(m, x) * m.hat_dot);
}

/* Of ROWS rows of this lane's group, `apart` one from the next, the first `live` of which exist;
 * all lanes of the warp call. dot may be NULL. Reads the rows two or four times. */
template <int V, int ROWS>
__device__ inline void moments_of(moments (&m)[ROWS], const float *x, const float *dot,
                                  int64_t apart, int64_t live, const row_shape &k)
{
    const int64_t lane = threadIdx.x % k.lanes;
    double sum[ROWS] = {}, squares[ROWS] = {}, with[ROWS] = {};
    for (int64_t i = lane * V; i < k.c; i += k.lanes * V)
        for (int r = 0; r < ROWS; r++)
            if (r < live) {
                const pack<V> v = load<V>(x + r * apart + i);
                for (int j = 0; j < V; j++)
                    sum[r] += (double)v.v[j];
            }
    lane_sums(sum, k.lanes);
    for (int r = 0; r < ROWS; r++)
        m[r] = {sum[r] * k.inv_c, 0, 0, 0};
    for (int64_t i = lane * V; i < k.c; i += k.lanes * V)
        for (int r = 0; r < ROWS; r++)
            if (r < live) {
                const pack<V> v = load<V>(x + r * apart + i);
                for (int j = 0; j < V; j++) {
                    const double d = (double)v.v[j] - m[r].mean;
                    squares[r] = fma(d, d, squares[r]);
                }
            }
    lane_sums(squares, k.lanes);
    for (int r = 0; r < ROWS; r++) {
        m[r].r = rsqrt(fma(squares[r], k.inv_c, k.eps));
        sum[r] = 0;
    }
    if (!dot)
        return;
    for (int64_t i = lane * V; i < k.c; i += k.lanes * V)
        for (int r = 0; r < ROWS; r++)
            if (r < live) {
                const pack<V> v = load<V>(x + r * apart + i), w = load<V>(dot + r * apart + i);
                for (int j = 0; j < V; j++) {
                    sum[r] += (double)w.v[j];
                    with[r] = fma((double)w.v[j], hat(m[r], v.v[j]), with[r]);
                }
            }
    lane_sums(sum, k.lanes);
    lane_sums(with, k.lanes);
    for (int r = 0; r < ROWS; r++) {
        m[r].dot = sum[r] * k.inv_c;
        m[r].hat_dot = with[r] * k.inv_c;
    }
}

} // namespace layer_norm_rows

#endif
