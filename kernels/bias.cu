/*
 * bias - a bias per channel, and its gradient (bias.h).
 *
 *   y[r][c] += bias[c]                    db[c] += sum_r dy[r][c]
 *
 * Shapes     y, dy (rows, C) f32, bias, db (C) f32, scratch f64; all device
 * Work split forward: a thread per pack of 4 where C is divisible by 4, else per value. gradient:
 *            two passes of columns.h, or one where there are few rows, as a linear layer has.
 * Precision  one rounding forward; the gradient adds in f64 and rounds once
 * Order      fixed by the shape (columns.h), no atomics
 * Cost       forward 8 bytes per value, gradient 4: memory bound
 * Limits     none; 32-bit indices below 2^31 values
 * Proof      tests/ops (bias_forward, bias_grad)
 * Speed      prediction: at least 85 % of the copy rate from 2^20 values on
 * History    v1 this file. Then one pass for few rows: a launch less for each layer of an MLP. v2
 *            gradient in packs of 4 (columns.h).
 */
#include "kernels/bias.h"

#include "kernels/check.h"
#include "kernels/columns.h"

using namespace lips_flat;
namespace columns = lips_columns;

namespace
{

/* Rows up to here are one pass: a second launch would take longer than its block. */
constexpr int64_t FEW_ROWS = 256;

/* c counts packs. */
template <class I> __global__ void bias_packs(float *y, const float *bias, I n, I c)
{
    for (I p = first_item<I>(); p < n; p += item_step<I>()) {
        pack<4> v = load<4>(y + (int64_t)p * 4);
        const float *b = bias + (int64_t)(p % c) * 4; /* a segment may start anywhere */
        for (int j = 0; j < 4; j++)
            v.v[j] += b[j];
        store<4>(y + (int64_t)p * 4, v);
    }
}

template <class I> __global__ void bias_values(float *y, const float *bias, I n, I c)
{
    for (I e = first_item<I>(); e < n; e += item_step<I>())
        y[e] += bias[e % c];
}

template <class I>
void launch_bias(float *y, const float *bias, int64_t n, int64_t c, cudaStream_t stream)
{
    if (c % 4 == 0 && aligned(y))
        CU_LAUNCH((bias_packs<I>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, y, bias,
                  (I)(n / 4), (I)(c / 4));
    else
        CU_LAUNCH((bias_values<I>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, bias, (I)n,
                  (I)c);
}

struct load_sum : columns::no_preparation {
    const float *dy;
    int64_t c, column;
    template <int V> __device__ void start(int64_t first)
    {
        column = first;
    }
    template <int V> __device__ void add(double (&sum)[1][V], int64_t row) const
    {
        const pack<V> v = load<V>(dy + row * c + column);
        for (int j = 0; j < V; j++)
            sum[0][j] += (double)v.v[j];
    }
};

__global__ void bias_total(float *db, const double *partial, columns::plan p)
{
    int64_t column = first_item<int64_t>() / columns::WARP;
    if (column >= p.columns)
        return; /* whole warps: a warp has one column */
    double total = columns::column_total<1>(partial, p, 0, column);
    if (threadIdx.x % columns::WARP == 0)
        db[column] = (float)((double)db[column] + total);
}

struct add_to {
    float *db;
    __device__ void operator()(int, int64_t column, double total, int64_t, int64_t) const
    {
        db[column] = (float)((double)db[column] + total);
    }
};

lips_status check(const char *op, int64_t rows, int64_t c)
{
    if (rows < 1 || c < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %lld x %lld values", op, (long long)rows,
                         (long long)c);
    return LIPS_OK;
}

} // namespace

extern "C" lips_status lips_cuda_bias(float *y, const float *bias, int64_t rows, int64_t c,
                                      cudaStream_t stream)
{
    LIPS_TRY(check("bias_forward", rows, c));
    if (fits_32(rows * c))
        launch_bias<uint32_t>(y, bias, rows * c, c, stream);
    else
        launch_bias<int64_t>(y, bias, rows * c, c, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" size_t lips_cuda_bias_grad_bytes(int64_t rows, int64_t c)
{
    return columns::partial_bytes(rows, c, 1);
}

extern "C" lips_status lips_cuda_bias_grad(float *db, const float *dy, int64_t rows, int64_t c,
                                           void *scratch, cudaStream_t stream)
{
    LIPS_TRY(check("bias_grad", rows, c));
    const int v = c % 4 == 0 && aligned(dy) ? 4 : 1;
    const load_sum load = {{}, dy, c, 0};
    if (rows <= FEW_ROWS) {
        columns::launch_partials<1>(columns::make_plan_once(rows, c, v), load, add_to{db}, stream);
        LIPS_TRY_LAUNCH(stream);
        return LIPS_OK;
    }
    columns::plan p = columns::make_plan(rows, c, v);
    double *partial = static_cast<double *>(scratch);
    columns::launch_partials<1>(p, load, columns::store_partial<1>{partial, c}, stream);
    CU_LAUNCH(bias_total, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, db, partial, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
