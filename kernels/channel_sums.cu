/*
 * channel_sums - sums over the positions of each channel and stacked value: what the parameter
 * Jacobians of bias and batch norm are made of (gram.h).
 *
 *   sums[s][t][c] = sum_p y[s][p][t][c],   sums[s][t][C + c] = sum_p y[s][p][t][c] (x[s][p][c] -
 *   mean_c) inv_c
 *
 * Shapes     y (B,P,T,C) f32, x (B,P,C) f32, sums (B,parts,T,C) or (B,parts,T,2C) f64; any
 * Work split columns.h over the (P, T C) of each sample, packs of 4 where C is divisible by 4; the
 *            chunks of a sample's positions are the parts, which the Gram adds as it reads them
 * Precision  f64
 * Order      fixed by the shape and the alignment of y and x; no atomics
 * Cost       reads 4 B P T C bytes once, and x once per stacked value (from L1: a block has whole
 *            positions). Per 16 bytes of y with x: 2 accesses, 8 conversions, 12 f64 operations, 12
 *            others (columns.h): of an H100 at copy rate 41 % of the conversions, 15 % of f64.
 *            Prediction: 92 % of the copy rate for T C >= 32, and a launch.
 * Limits     B <= 65535; a sample below 2^31 values
 * Proof      tests/ops/test_gram_cuda.c, tests/ops/test_backends.c (bias_gram, bn_gram)
 * History    v1 a block for 32 neighbouring (t,c) of one sample, 8 threads each for every 8th
 *            position, accesses of 4 bytes: 85 % predicted. v2 packs, whole positions, parts.
 */
#include "kernels/check.h"
#include "kernels/columns.h"
#include "kernels/gram.h"

#include <inttypes.h>

using namespace lips_flat;
namespace columns = lips_columns;

namespace
{

struct statistics {
    const float *x, *mean, *var;
    double eps;
};

struct load_plain : columns::no_preparation {
    const float *y;
    int64_t columns, column;
    template <int V> __device__ void start(int64_t first)
    {
        column = first;
    }
    template <int V> __device__ void add(double (&sum)[1][V], int64_t row) const
    {
        const pack<V> v = load<V>(y + row * columns + column);
        for (int j = 0; j < V; j++)
            sum[0][j] += (double)v.v[j];
    }
};

struct load_normed : columns::no_preparation {
    const float *y;
    int64_t columns, c;
    statistics st;
    int64_t column, channel;
    double mean[4];
    template <int V> __device__ void start(int64_t first)
    {
        column = first;
        channel = first % c;
        for (int j = 0; j < V; j++)
            mean[j] = (double)st.mean[channel + j];
    }
    template <int V> __device__ void add(double (&sum)[2][V], int64_t row) const
    {
        const pack<V> v = load<V>(y + row * columns + column),
                      at = load<V>(st.x + row * c + channel);
        for (int j = 0; j < V; j++) {
            sum[0][j] += (double)v.v[j];
            sum[1][j] = fma((double)v.v[j], (double)at.v[j] - mean[j], sum[1][j]);
        }
    }
};

/* Sum k of column (t,c), scaled where it is the second one. */
template <int SUMS> struct store_part {
    double *sums;
    int64_t chunks, t, c;
    statistics st;
    __device__ void operator()(int k, int64_t column, double total, int64_t sample,
                               int64_t chunk) const
    {
        const int64_t row = column / c, channel = column % c;
        sums[((sample * chunks + chunk) * t + row) * SUMS * c + k * c + channel] =
            k ? total / sqrt((double)st.var[channel] + st.eps) : total;
    }
};

columns::plan plan_of(const lips_cuda_channel_sums_args *a)
{
    const int v = a->c % 4 == 0 && aligned(a->y) && aligned(a->x) ? 4 : 1;
    return columns::make_plan(a->p, a->t * a->c, v, a->b);
}

} // namespace

int64_t lips_cuda_channel_sums_parts(const lips_cuda_channel_sums_args *a)
{
    return plan_of(a).chunks;
}

size_t lips_cuda_channel_sums_bytes(int64_t b, int64_t p, int64_t t, int64_t c, bool norm)
{
    return sizeof(double) * (size_t)columns::chunks_most(p, t * c, b) * (size_t)(t * c) *
           (norm ? 2 : 1);
}

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
    const statistics st = {a->x, a->mean, a->var, a->eps};
    const columns::plan p = plan_of(a);
    const int64_t width = a->t * a->c;
    if (a->x)
        columns::launch_partials<2>(p, load_normed{{}, a->y, width, a->c, st, 0, 0, {}},
                                    store_part<2>{a->sums, p.chunks, a->t, a->c, st}, stream);
    else
        columns::launch_partials<1>(p, load_plain{{}, a->y, width, 0},
                                    store_part<1>{a->sums, p.chunks, a->t, a->c, st}, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
