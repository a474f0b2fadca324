/*
 * batch_norm - batch normalisation (Ioffe & Szegedy 2015), forward and derivatives (batch_norm.h).
 *
 * With n = rows, m and v mean and biased variance of a channel, r = 1/sqrt(v + eps), A = gamma r:
 *   forward     y = A (x - m) + beta
 *   derivative  u -> A u                                              running statistics
 *               u -> A (u - avg(u) - (x - m) r^2 avg(u (x - m)))      the batch's
 *   grad        dgamma += r sum dy (x - m),   dbeta += sum dy
 *
 * Shapes     x, in, dy (rows, C), u, out (rows, T, C) f32; statistics (C) f64 or f32; all device
 * Work split sums: columns.h over (rows, C) or (rows, T C), then one warp per column forms the
 *            statistics or the coefficients. Elementwise: a thread per pack of 4 channels where C
 *            is divisible by 4 (it keeps the primal while it walks over the T values), else per
 *            value.
 * Precision  sums in f64, of x - x_0 and its square with x_0 the channel's first value: E[x^2] -
 *            E[x]^2 would lose all digits once mean^2 >> var. Coefficients are formed in f64 and
 *            rounded once; x - (float)m is nearly exact and what the rounding of m leaves out goes
 *            into the shift.
 * Order      fixed by the shape (columns.h), no atomics
 * Cost       bytes per value of x: forward 12 in training (two reads, one write), 8 in evaluation;
 *            derivative 8 T in evaluation, 12 T + 8 in training; grad 8: memory bound
 * Limits     the training derivative's sums read the primal T times, from the second-level cache
 * Proof      tests/ops (bn_forward, bn_jvp, bn_vjp, bn_grad)
 * Speed      prediction: evaluation at least 85 % of the copy rate from 2^20 values on; a training
 *            forward 3 launches more than its bytes, some 10 us
 * History    v1 this file
 */
#include "kernels/batch_norm.h"

#include "kernels/check.h"
#include "kernels/columns.h"

using namespace lips_flat;
namespace columns = lips_columns;

namespace
{

/* Scratch: partial sums (f64), then per channel center, scale, shift (f32), then per column slope
 * and shift (f32). */
struct regions {
    double *partial;
    float *center, *scale, *shift, *slope, *offset;
};

regions regions_of(const lips_cuda_bn *a, const columns::plan &p)
{
    regions r;
    r.partial = static_cast<double *>(a->scratch);
    r.center = reinterpret_cast<float *>(static_cast<char *>(a->scratch) +
                                         columns::partial_bytes(p, 2));
    r.scale = r.center + a->c;
    r.shift = r.scale + a->c;
    r.slope = r.shift + a->c;
    r.offset = r.slope + a->t * a->c;
    return r;
}

struct load_moments {
    const float *x;
    int64_t c;
    __device__ void operator()(double *sum, int64_t row, int64_t column) const
    {
        double d = (double)x[row * c + column] - (double)x[column];
        sum[0] += d;
        sum[1] += d * d;
    }
};

/* Where a pass finds a channel's mean and variance. */
struct statistics {
    const float *mean, *var;               /* running */
    const double *batch_mean, *batch_var;  /* the batch's; NULL: running ones are used */
    double eps;
    __device__ double mean_of(int64_t c) const
    {
        return batch_mean ? batch_mean[c] : (double)mean[c];
    }
    __device__ double inv_of(int64_t c) const
    {
        return 1 / sqrt((batch_mean ? batch_var[c] : (double)var[c]) + eps);
    }
};

struct load_dot {
    const float *u, *x;
    int64_t columns, c;
    statistics st;
    __device__ void operator()(double *sum, int64_t row, int64_t column) const
    {
        double v = (double)u[row * columns + column];
        int64_t channel = column % c;
        sum[0] += v;
        sum[1] += v * ((double)x[row * c + channel] - st.mean_of(channel));
    }
};

/* Column of this thread's warp, or -1. */
__device__ inline int64_t warp_column(const columns::plan &p)
{
    int64_t column = first_item<int64_t>() / columns::WARP;
    return column < p.columns ? column : -1;
}

struct running {
    float *mean, *var, *tracked;
    double momentum;
};

__global__ void batch_statistics(double *batch_mean, double *batch_var, running run, const float *x,
                                 const double *partial, columns::plan p)
{
    int64_t c = warp_column(p);
    if (c < 0)
        return; /* whole warps: a warp has one column */
    double sum = columns::column_total<2>(partial, p, 0, c);
    double squares = columns::column_total<2>(partial, p, 1, c);
    if (threadIdx.x % columns::WARP != 0)
        return;
    double n = (double)p.rows, off = sum / n, mean = (double)x[c] + off;
    double var = squares / n - off * off;
    var = var < 0 ? 0 : var; /* a constant channel, rounded; a NaN stays */
    batch_mean[c] = mean;
    batch_var[c] = var;
    run.mean[c] = (float)((1 - run.momentum) * (double)run.mean[c] + run.momentum * mean);
    run.var[c] = (float)((1 - run.momentum) * (double)run.var[c] + run.momentum * var * n / (n - 1));
    if (c == 0 && run.tracked)
        *run.tracked += 1.0f;
}

/* y = (x - center) scale + shift. beta NULL: only scale, for derivatives. */
__global__ void channel_coefficients(regions r, statistics st, const float *gamma,
                                     const float *beta, int64_t c)
{
    int64_t i = first_item<int64_t>();
    if (i >= c)
        return;
    double scale = (double)gamma[i] * st.inv_of(i), mean = beta ? st.mean_of(i) : 0;
    float center = (float)mean;
    r.center[i] = center;
    r.scale[i] = (float)scale;
    r.shift[i] = beta ? (float)((double)beta[i] - (mean - (double)center) * scale) : 0.0f;
}

/* out = u scale + (x - center) slope + offset, per column of (T, C). */
__global__ void column_coefficients(regions r, statistics st, const float *gamma,
                                    columns::plan p, int64_t c)
{
    int64_t column = warp_column(p);
    if (column < 0)
        return; /* whole warps: a warp has one column */
    double sum = columns::column_total<2>(r.partial, p, 0, column);
    double dot = columns::column_total<2>(r.partial, p, 1, column);
    if (threadIdx.x % columns::WARP != 0)
        return;
    int64_t i = column % c;
    double n = (double)p.rows, mean = st.mean_of(i), inv = st.inv_of(i);
    double scale = (double)gamma[i] * inv, slope = -scale * inv * inv * (dot / n);
    float center = (float)mean;
    r.slope[column] = (float)slope;
    r.offset[column] = (float)(-scale * (sum / n) - (mean - (double)center) * slope);
    if (column < c) {
        r.center[i] = center;
        r.scale[i] = (float)scale;
    }
}

__global__ void parameter_gradients(float *dgamma, float *dbeta, const double *partial,
                                    columns::plan p, statistics st)
{
    int64_t c = warp_column(p);
    if (c < 0)
        return; /* whole warps: a warp has one column */
    double sum = columns::column_total<2>(partial, p, 0, c);
    double dot = columns::column_total<2>(partial, p, 1, c);
    if (threadIdx.x % columns::WARP != 0)
        return;
    if (dgamma)
        dgamma[c] = (float)((double)dgamma[c] + dot * st.inv_of(c));
    if (dbeta)
        dbeta[c] = (float)((double)dbeta[c] + sum);
}

/* n values in packs of V, channels c in packs. */
template <class I, int V>
__global__ void affine(float *y, const float *x, regions r, I n, I c)
{
    for (I e = first_item<I>(); e < n; e += item_step<I>()) {
        int64_t at = (int64_t)(e % c) * V;
        pack<V> v = load<V>(x + (int64_t)e * V);
        for (int j = 0; j < V; j++)
            v.v[j] = fmaf(v.v[j] - r.center[at + j], r.scale[at + j], r.shift[at + j]);
        store<V>(y + (int64_t)e * V, v);
    }
}

/* n places of the primal in packs of V, channels c in packs. */
template <class I, int V>
__global__ void project(float *out, const float *u, const float *in, regions r, I n, I t, I c)
{
    for (I e = first_item<I>(); e < n; e += item_step<I>()) {
        I row = e / c, q = e % c;
        pack<V> x = load<V>(in + (int64_t)e * V);
        for (int j = 0; j < V; j++)
            x.v[j] -= r.center[(int64_t)q * V + j];
        for (I k = 0; k < t; k++) {
            int64_t column = ((int64_t)k * c + q) * V;
            int64_t at = (int64_t)row * t * c * V + column;
            pack<V> v = load<V>(u + at);
            for (int j = 0; j < V; j++)
                v.v[j] = fmaf(v.v[j], r.scale[(int64_t)q * V + j],
                              fmaf(x.v[j], r.slope[column + j], r.offset[column + j]));
            store<V>(out + at, v);
        }
    }
}

template <class I>
void launch_affine(float *y, const float *x, regions r, int64_t n, int64_t c, cudaStream_t stream)
{
    if (c % 4 == 0 && aligned(y) && aligned(x))
        CU_LAUNCH((affine<I, 4>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, y, x, r,
                  (I)(n / 4), (I)(c / 4));
    else
        CU_LAUNCH((affine<I, 1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, y, x, r, (I)n,
                  (I)c);
}

template <class I>
void launch_project(float *out, const float *u, const float *in, regions r, const lips_cuda_bn *a,
                    cudaStream_t stream)
{
    int64_t n = a->rows * a->c;
    if (a->c % 4 == 0 && aligned(out) && aligned(u) && aligned(in))
        CU_LAUNCH((project<I, 4>), dim3(blocks_for(n / 4)), dim3(THREADS), 0, stream, out, u, in, r,
                  (I)(n / 4), (I)a->t, (I)(a->c / 4));
    else
        CU_LAUNCH((project<I, 1>), dim3(blocks_for(n)), dim3(THREADS), 0, stream, out, u, in, r,
                  (I)n, (I)a->t, (I)a->c);
}

lips_status check(const char *op, const lips_cuda_bn *a)
{
    if (a->rows < 1 || a->t < 1 || a->c < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %lld x %lld x %lld values", op, (long long)a->rows,
                         (long long)a->t, (long long)a->c);
    return LIPS_OK;
}

statistics statistics_of(const lips_cuda_bn *a)
{
    return {a->mean, a->var, a->training ? a->batch_mean : nullptr,
            a->training ? a->batch_var : nullptr, a->eps};
}

template <class Load>
void launch_partials(double *partial, const columns::plan &p, Load load, cudaStream_t stream)
{
    CU_LAUNCH((columns::column_partials<2, Load>), columns::partial_grid(p), dim3(THREADS), 0,
              stream, partial, p, load);
}

} // namespace

extern "C" size_t lips_cuda_bn_bytes(int64_t rows, int64_t t, int64_t c)
{
    return columns::partial_bytes(columns::make_plan(rows, t * c), 2) +
           sizeof(float) * (size_t)(3 * c + 2 * t * c);
}

extern "C" lips_status lips_cuda_bn_forward(const lips_cuda_bn *a, float *y, const float *x,
                                            cudaStream_t stream)
{
    LIPS_TRY(check("bn_forward", a));
    columns::plan p = columns::make_plan(a->rows, a->c);
    regions r = regions_of(a, p);
    if (a->training) {
        launch_partials(r.partial, p, load_moments{x, a->c}, stream);
        CU_LAUNCH(batch_statistics, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream,
                  a->batch_mean, a->batch_var, (running{a->mean, a->var, a->tracked, a->momentum}),
                  x, r.partial, p);
    }
    CU_LAUNCH(channel_coefficients, dim3(blocks_for(a->c)), dim3(THREADS), 0, stream, r,
              statistics_of(a), a->gamma, a->beta, a->c);
    if (fits_32(a->rows * a->c))
        launch_affine<uint32_t>(y, x, r, a->rows * a->c, a->c, stream);
    else
        launch_affine<int64_t>(y, x, r, a->rows * a->c, a->c, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_bn_derivative(const lips_cuda_bn *a, float *out, const float *u,
                                               const float *in, cudaStream_t stream)
{
    LIPS_TRY(check("bn derivative", a));
    columns::plan p = columns::make_plan(a->rows, a->t * a->c);
    regions r = regions_of(a, p);
    int64_t n = a->rows * a->t * a->c;
    statistics st = statistics_of(a);
    if (!a->training) {
        CU_LAUNCH(channel_coefficients, dim3(blocks_for(a->c)), dim3(THREADS), 0, stream, r, st,
                  a->gamma, static_cast<const float *>(nullptr), a->c);
        if (fits_32(n))
            launch_affine<uint32_t>(out, u, r, n, a->c, stream);
        else
            launch_affine<int64_t>(out, u, r, n, a->c, stream);
        LIPS_TRY_LAUNCH(stream);
        return LIPS_OK;
    }
    launch_partials(r.partial, p, load_dot{u, in, a->t * a->c, a->c, st}, stream);
    CU_LAUNCH(column_coefficients, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, r, st,
              a->gamma, p, a->c);
    if (fits_32(n))
        launch_project<uint32_t>(out, u, in, r, a, stream);
    else
        launch_project<int64_t>(out, u, in, r, a, stream);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_bn_grad(const lips_cuda_bn *a, float *dgamma, float *dbeta,
                                         const float *dy, const float *x, cudaStream_t stream)
{
    LIPS_TRY(check("bn_grad", a));
    columns::plan p = columns::make_plan(a->rows, a->c);
    regions r = regions_of(a, p);
    statistics st = statistics_of(a);
    launch_partials(r.partial, p, load_dot{dy, x, a->c, a->c, st}, stream);
    CU_LAUNCH(parameter_gradients, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, dgamma,
              dbeta, r.partial, p, st);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
