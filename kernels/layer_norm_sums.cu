/*
 * layer_norm_sums - gradients of layer norm's parameters, over the batch and per sample
 * (layer_norm.h).
 *
 *   dgamma += sum dy xhat, dbeta += sum dy;  along dot: dgamma += sum dy xhat'
 *   sums[s][t] = (sum_p dy xhat, sum_p dy), for the Gram matrices of each sample's
 *
 * Shapes     in, dot (rows, C), dy (rows, T, C) f32, sums (B,parts,T,2C) f64; all device
 * Work split columns.h over (rows, C), or over the (P, T C) of each sample; before each step of
 *            rows the block takes their means and spreads into shared memory, 8 to 32 lanes a row,
 *            4 rows at once where C <= 256
 * Precision  f64; the variance in a second pass over the row: E[x^2] - E[x]^2 loses all digits once
 *            mean^2 >> var
 * Order      fixed by the shape and the alignment of in and dy (columns.h), no atomics
 * Cost       bytes: dy once and in once; again from the first-level cache (a step's rows of in are
 *            32 KB at most up to C = 1024), and once more for each further tile of columns.h, whose
 *            means and spreads are computed anew (T C > 1024). Per value of dy: 2 conversions, 4
 *            f64 operations; per value of in: 2, and 7 with its share of a row's exchange and root.
 *            Of an H100 at copy rate T = 1: conversions 41 %, f64 28 %, exchange 25 %, issued 35 %.
 * Limits     sums: B <= 65535, a sample below 2^31 values
 * Proof      tests/ops (ln_grad, ln_grad_dot, ln_gram), tests/cusim/test_norm_kernels.cpp
 * Speed      prediction (not measured): 92 % of the copy rate, and two launches
 * History    v1 (in layer_norm.cu) means and spreads by a launch of their own, which read `in` a
 *            time more, and accesses of 4 bytes: 67 % with three launches.
 */
#include "kernels/layer_norm.h"

#include "kernels/check.h"
#include "kernels/columns.h"
#include "kernels/layer_norm_rows.h"

#include <inttypes.h>

using namespace lips_flat;
using namespace layer_norm_rows;
namespace columns = lips_columns;

namespace
{

constexpr int LANES_LEAST = 8, AT_ONCE = 4;
constexpr int STEP_MOST = THREADS / LANES_LEAST * AT_ONCE;
constexpr int64_t NARROW = 256;

/* Rows of a group: several where their values stay in the first-level cache and registers suffice.
 */
template <bool DOT> __host__ __device__ inline int rows_at_once(int64_t c)
{
    return !DOT && c <= NARROW ? AT_ONCE : 1;
}

/* Of dy xhat and dy, or along DOT of dy xhat' and dy. dy (rows, columns), in (rows, C). */
template <bool DOT> struct load_rows {
    static constexpr int RESIDENT = 2;
    const float *dy, *in, *dot;
    int64_t columns;
    row_shape k;
    int64_t step;
    int64_t column, channel, base;
    const moments *m; /* of the rows from base on; shared memory */

    template <int V> __device__ void start(int64_t first)
    {
        column = first;
        channel = first % k.c;
    }

    template <int V, int ROWS>
    __device__ void moments_at(moments *out, int64_t first, int64_t end) const
    {
        const int64_t row = first + (int64_t)(threadIdx.x / k.lanes) * ROWS;
        moments of[ROWS];
        moments_of<V, ROWS>(of, in + row * k.c, DOT ? dot + row * k.c : nullptr, k.c, end - row, k);
        if (threadIdx.x % k.lanes == 0)
            for (int r = 0; r < ROWS; r++)
                if (row + r < end)
                    out[row + r - first] = of[r];
    }

    template <int V> __device__ void prepare(int64_t first, int64_t end)
    {
        CU_SHARED(moments, of, [STEP_MOST]);
        __syncthreads(); /* those of the last rows have been read */
        if (rows_at_once<DOT>(k.c) > 1)
            moments_at<V, AT_ONCE>(of, first, end);
        else
            moments_at<V, 1>(of, first, end);
        __syncthreads(); /* they are there */
        base = first;
        m = of;
    }

    template <int V> __device__ void add(double (&sum)[2][V], int64_t row) const
    {
        const pack<V> v = load<V>(dy + row * columns + column),
                      x = load<V>(in + row * k.c + channel);
        const moments of = m[row - base];
        pack<V> w = {};
        if (DOT)
            w = load<V>(dot + row * k.c + channel);
        for (int j = 0; j < V; j++) {
            const double h = DOT ? moved_hat(of, x.v[j], w.v[j]) : hat(of, x.v[j]);
            sum[0][j] = fma((double)v.v[j], h, sum[0][j]);
            sum[1][j] += (double)v.v[j];
        }
    }
};

template <bool DOT>
load_rows<DOT> load_of(const lips_cuda_ln *a, const float *dy, const float *in, const float *dot,
                       int v)
{
    load_rows<DOT> f = {dy, in, dot, a->t * a->c, row_shape_of(a->c, a->eps, v, LANES_LEAST),
                        0,  0,  0,   0,           nullptr};
    f.step = THREADS / f.k.lanes * rows_at_once<DOT>(a->c);
    return f;
}

int width(const lips_cuda_ln *a, const float *dy, const float *in, const float *dot)
{
    return a->c % 4 == 0 && aligned(dy) && aligned(in) && aligned(dot) ? 4 : 1;
}

__global__ void parameter_gradients(float *dgamma, float *dbeta, const double *partial,
                                    columns::plan p)
{
    const int64_t c = first_item<int64_t>() / WARP;
    if (c >= p.columns)
        return; /* whole warps: a warp has one column */
    const double along = columns::column_total<2>(partial, p, 0, c);
    const double sum = columns::column_total<2>(partial, p, 1, c);
    if (threadIdx.x % WARP != 0)
        return;
    if (dgamma)
        dgamma[c] = (float)((double)dgamma[c] + along);
    if (dbeta)
        dbeta[c] = (float)((double)dbeta[c] + sum);
}

struct store_part {
    double *sums; /* (B,chunks,T,2C) */
    int64_t chunks, t, c;
    __device__ void operator()(int k, int64_t column, double total, int64_t sample,
                               int64_t chunk) const
    {
        const int64_t row = column / c, channel = column % c;
        sums[((sample * chunks + chunk) * t + row) * 2 * c + k * c + channel] = total;
    }
};

lips_status check(const char *op, const lips_cuda_ln *a)
{
    if (a->rows < 1 || a->t < 1 || a->c < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %" PRId64 " x %" PRId64 " x %" PRId64 " values", op,
                         a->rows, a->t, a->c);
    return LIPS_OK;
}

columns::plan plan_of(const lips_cuda_ln *a, const float *dy, const float *in, int64_t places)
{
    return columns::make_plan(places, a->t * a->c, width(a, dy, in, nullptr), a->rows / places);
}

} // namespace

extern "C" size_t lips_cuda_ln_grad_bytes(const lips_cuda_ln *a)
{
    return columns::partial_bytes(a->rows, a->c, 2);
}

extern "C" lips_status lips_cuda_ln_grad(const lips_cuda_ln *a, float *dgamma, float *dbeta,
                                         const float *dy, const float *in, const float *dot,
                                         void *scratch, cudaStream_t stream)
{
    LIPS_TRY(check("ln_grad", a));
    const int v = width(a, dy, in, dot);
    const columns::plan p = columns::make_plan(a->rows, a->c, v);
    double *partial = static_cast<double *>(scratch);
    const columns::store_partial<2> to = {partial, a->c};
    if (dot)
        columns::launch_partials<2>(p, load_of<true>(a, dy, in, dot, v), to, stream);
    else
        columns::launch_partials<2>(p, load_of<false>(a, dy, in, dot, v), to, stream);
    CU_LAUNCH(parameter_gradients, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, dgamma,
              dbeta, partial, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" size_t lips_cuda_ln_sums_bytes(const lips_cuda_ln *a, int64_t places)
{
    return sizeof(double) * (size_t)(a->t * 2 * a->c) *
           (size_t)columns::chunks_most(places, a->t * a->c, a->rows / places);
}

extern "C" lips_status lips_cuda_ln_sums(const lips_cuda_ln *a, double *sums, int64_t *parts,
                                         const float *dy, const float *in, int64_t places,
                                         cudaStream_t stream)
{
    LIPS_TRY(check("ln_gram", a));
    const int64_t b = a->rows / places;
    if (b > 65535)
        return lips_fail(LIPS_ERR_USAGE, "ln_gram: %" PRId64 " samples, must be in 1..65535", b);
    if (places > INT32_MAX / a->t || places * a->t > INT32_MAX / a->c)
        return lips_fail(LIPS_ERR_USAGE,
                         "ln_gram: a sample of %" PRId64 " x %" PRId64 " x %" PRId64
                         " values, must be in 1..2^31-1",
                         places, a->t, a->c);
    const columns::plan p = plan_of(a, dy, in, places);
    *parts = p.chunks;
    columns::launch_partials<2>(p, load_of<false>(a, dy, in, nullptr, p.v),
                                store_part{sums, p.chunks, a->t, a->c}, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
