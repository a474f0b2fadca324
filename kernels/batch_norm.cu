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
 * Speed      prediction (not measured): 92 % of the copy rate, and 2 launches in evaluation, 3 in
 *            training (2 us each). Training must read x twice where it does not stay in the second
 *            level cache; up to some 20 MB it does, and of more the end, with which the second pass
 *            begins.
 * History    v1 a launch more for the coefficients of training, accesses of 4 bytes for sums and
 *            coefficients, the second pass in order: 84 % predicted for 128 MiB. v2 this file.
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

size_t partial_bytes(int64_t rows, int64_t t, int64_t c)
{
    const size_t bytes = columns::partial_bytes(rows, t * c, 2);
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

regions regions_of(const lips_cuda_bn *a, int64_t t)
{
    regions r;
    r.partial = static_cast<double *>(a->scratch);
    r.center = reinterpret_cast<float *>(static_cast<char *>(a->scratch) +
                                         partial_bytes(a->rows, t, a->c));
    r.scale = r.center + a->c;
    r.shift = r.scale + a->c;
    r.slope = r.shift + a->c;
    r.offset = r.slope + t * a->c;
    return r;
}

/* Of x - x_0, x_0 the channel's first value. */
struct load_moments : columns::no_preparation {
    const float *x;
    int64_t c, column;
    float base[4];
    template <int V> __device__ void start(int64_t first)
    {
        column = first;
        const pack<V> v = load<V>(x + first);
        for (int j = 0; j < V; j++)
            base[j] = v.v[j];
    }
    template <int V> __device__ void add(double (&sum)[2][V], int64_t row) const
    {
        const pack<V> v = load<V>(x + row * c + column);
        for (int j = 0; j < V; j++) {
            const double d = (double)v.v[j] - (double)base[j];
            sum[0][j] += d;
            sum[1][j] = fma(d, d, sum[1][j]);
        }
    }
};

/* Where a pass finds a channel's mean and variance. */
struct statistics {
    const float *mean, *var;              /* running */
    const double *batch_mean, *batch_var; /* the batch's; NULL: running ones are used */
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

/* Of u and u (x - m). */
struct load_dot : columns::no_preparation {
    const float *u, *x;
    int64_t columns, c;
    statistics st;
    int64_t column, channel;
    double mean[4];
    template <int V> __device__ void start(int64_t first)
    {
        column = first;
        channel = first % c;
        for (int j = 0; j < V; j++)
            mean[j] = st.mean_of(channel + j);
    }
    template <int V> __device__ void add(double (&sum)[2][V], int64_t row) const
    {
        const pack<V> v = load<V>(u + row * columns + column), at = load<V>(x + row * c + channel);
        for (int j = 0; j < V; j++) {
            sum[0][j] += (double)v.v[j];
            sum[1][j] = fma((double)v.v[j], (double)at.v[j] - mean[j], sum[1][j]);
        }
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

/* y = (x - center) scale + shift. beta NULL: only scale, for derivatives. */
struct coefficients {
    const float *gamma, *beta;
    double eps;
    __device__ void put(const regions &r, int64_t i, double mean, double var) const
    {
        const double scale = (double)gamma[i] / sqrt(var + eps);
        const float center = beta ? (float)mean : 0.0f;
        r.center[i] = center;
        r.scale[i] = (float)scale;
        r.shift[i] = beta ? (float)((double)beta[i] - (mean - (double)center) * scale) : 0.0f;
    }
};

__global__ void batch_statistics(double *batch_mean, double *batch_var, running run, const float *x,
                                 regions r, columns::plan p, coefficients k)
{
    int64_t c = warp_column(p);
    if (c < 0)
        return; /* whole warps: a warp has one column */
    double sum = columns::column_total<2>(r.partial, p, 0, c);
    double squares = columns::column_total<2>(r.partial, p, 1, c);
    if (threadIdx.x % columns::WARP != 0)
        return;
    double n = (double)p.rows, off = sum / n, mean = (double)x[c] + off;
    double var = squares / n - off * off;
    var = var < 0 ? 0 : var; /* a constant channel, rounded; a NaN stays */
    batch_mean[c] = mean;
    batch_var[c] = var;
    k.put(r, c, mean, var);
    run.mean[c] = (float)((1 - run.momentum) * (double)run.mean[c] + run.momentum * mean);
    run.var[c] =
        (float)((1 - run.momentum) * (double)run.var[c] + run.momentum * var * n / (n - 1));
    if (c == 0 && run.tracked)
        *run.tracked += 1.0f;
}

__global__ void channel_coefficients(regions r, const float *mean, const float *var, coefficients k,
                                     int64_t c)
{
    int64_t i = first_item<int64_t>();
    if (i < c)
        k.put(r, i, (double)mean[i], (double)var[i]);
}

/* out = u scale + (x - center) slope + offset, per column of (T, C). */
__global__ void column_coefficients(regions r, statistics st, const float *gamma, columns::plan p,
                                    int64_t c)
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

/* n values in packs of V, channels c in packs; from the end on, since what the batch's sums read
 * last is still in the second-level cache. */
template <class I, int V> __global__ void affine(float *y, const float *x, regions r, I n, I c)
{
    for (I i = first_item<I>(); i < n; i += item_step<I>()) {
        const I e = n - 1 - i;
        const int64_t at = (int64_t)(e % c) * V;
        const pack<V> center = load<V>(r.center + at), scale = load<V>(r.scale + at),
                      shift = load<V>(r.shift + at);
        pack<V> v = load<V>(x + (int64_t)e * V);
        for (int j = 0; j < V; j++)
            v.v[j] = fmaf(v.v[j] - center.v[j], scale.v[j], shift.v[j]);
        store<V>(y + (int64_t)e * V, v);
    }
}

/* n places of the primal in packs of V, channels c in packs; from the end on, as above. */
template <class I, int V>
__global__ void project(float *out, const float *u, const float *in, regions r, I n, I t, I c)
{
    for (I i = first_item<I>(); i < n; i += item_step<I>()) {
        const I e = n - 1 - i, row = e / c, q = e % c;
        const pack<V> center = load<V>(r.center + (int64_t)q * V),
                      scale = load<V>(r.scale + (int64_t)q * V);
        pack<V> x = load<V>(in + (int64_t)e * V);
        for (int j = 0; j < V; j++)
            x.v[j] -= center.v[j];
        for (I k = 0; k < t; k++) {
            const int64_t column = ((int64_t)k * c + q) * V;
            const int64_t at = (int64_t)row * t * c * V + column;
            const pack<V> slope = load<V>(r.slope + column), offset = load<V>(r.offset + column);
            pack<V> v = load<V>(u + at);
            for (int j = 0; j < V; j++)
                v.v[j] = fmaf(v.v[j], scale.v[j], fmaf(x.v[j], slope.v[j], offset.v[j]));
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

/* Sums of u and u (x - m) of each column of (T, C). */
columns::plan launch_dots(const lips_cuda_bn *a, const regions &r, int64_t t, const float *u,
                          const float *x, cudaStream_t stream)
{
    const int v = a->c % 4 == 0 && aligned(u) && aligned(x) ? 4 : 1;
    const columns::plan p = columns::make_plan(a->rows, t * a->c, v);
    columns::launch_partials<2>(p, load_dot{{}, u, x, t * a->c, a->c, statistics_of(a), 0, 0, {}},
                                columns::store_partial<2>{r.partial, t * a->c}, stream);
    return p;
}

} // namespace

extern "C" size_t lips_cuda_bn_bytes(int64_t rows, int64_t t, int64_t c)
{
    return partial_bytes(rows, t, c) + sizeof(float) * (size_t)(3 * c + 2 * t * c);
}

extern "C" lips_status lips_cuda_bn_forward(const lips_cuda_bn *a, float *y, const float *x,
                                            cudaStream_t stream)
{
    LIPS_TRY(check("bn_forward", a));
    const regions r = regions_of(a, 1);
    const coefficients k = {a->gamma, a->beta, a->eps};
    if (a->training) {
        const columns::plan p =
            columns::make_plan(a->rows, a->c, a->c % 4 == 0 && aligned(x) ? 4 : 1);
        columns::launch_partials<2>(p, load_moments{{}, x, a->c, 0, {}},
                                    columns::store_partial<2>{r.partial, a->c}, stream);
        CU_LAUNCH(batch_statistics, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream,
                  a->batch_mean, a->batch_var, (running{a->mean, a->var, a->tracked, a->momentum}),
                  x, r, p, k);
    } else
        CU_LAUNCH(channel_coefficients, dim3(blocks_for(a->c)), dim3(THREADS), 0, stream, r,
                  a->mean, a->var, k, a->c);
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
    const regions r = regions_of(a, a->t);
    int64_t n = a->rows * a->t * a->c;
    if (!a->training) {
        CU_LAUNCH(channel_coefficients, dim3(blocks_for(a->c)), dim3(THREADS), 0, stream, r,
                  a->mean, a->var, (coefficients{a->gamma, nullptr, a->eps}), a->c);
        if (fits_32(n))
            launch_affine<uint32_t>(out, u, r, n, a->c, stream);
        else
            launch_affine<int64_t>(out, u, r, n, a->c, stream);
        LIPS_TRY_LAUNCH(stream);
        return LIPS_OK;
    }
    const columns::plan p = launch_dots(a, r, a->t, u, in, stream);
    CU_LAUNCH(column_coefficients, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, r,
              statistics_of(a), a->gamma, p, a->c);
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
    const regions r = regions_of(a, 1);
    const columns::plan p = launch_dots(a, r, 1, dy, x, stream);
    CU_LAUNCH(parameter_gradients, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, dgamma,
              dbeta, r.partial, p, statistics_of(a));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
