/*
 * layer_norm - layer normalisation (Ba, Kiros, Hinton 2016), forward and derivatives
 * (layer_norm.h).
 *
 * For one row, with m and v mean and biased variance of its C channels, r = 1/sqrt(v + eps), xhat =
 * (x - m) r and P(u) = u - mean(u) - xhat mean(xhat u):
 *   forward  y = gamma xhat + beta      jvp  gamma r P(u)      vjp  r P(gamma dy)
 *   vjp_dot  with u = gamma dy, xhat' = r P(dot):
 *            -r^2 mean(xhat dot) P(u) - r (xhat' mean(xhat u) + xhat mean(xhat' u))
 *   grad     dgamma += sum dy xhat, dbeta += sum dy;  along dot: dgamma += sum dy xhat'
 *
 * Shapes     x, in, dot (rows, C), u, out (rows, T, C) f32, sums (B,T,2C) f64; all device
 * Work split a warp per row and group of TOGETHER stacked values: mean and r once for all of them,
 *            then one value after the other. Gradients: a warp per row for the statistics, then
 *            columns.h over (rows, C). Sums: as channel_sums.cu, 32 neighbouring (t,c) of a sample,
 *            8 threads each for every 8th place.
 * Precision  f64 throughout, rounded once; the variance in a second pass over the row: E[x^2] -
 *            E[x]^2 loses all digits once mean^2 >> var
 * Order      lanes add every 32nd channel, then each other's by exchange; columns.h; no atomics
 * Cost       bytes per value: forward 8, jvp and vjp 8 T + 4 (rows are read again, from the first
 *            level cache); some 10 f64 instructions and 4 conversions per value
 * Limits     sums: B <= 65535, a sample below 2^31 values
 * Proof      tests/ops (ln_*)
 * Speed      prediction (not measured): where f64 runs at half the rate of f32, memory bound for
 *            C >= 128, at least 70 % of the copy rate; below 32 channels lanes are idle
 * History    v1 this file
 */
#include "kernels/layer_norm.h"

#include "kernels/check.h"
#include "kernels/columns.h"

#include <inttypes.h>

using namespace lips_flat;
namespace columns = lips_columns;

namespace
{

constexpr int WARP = columns::WARP;
constexpr int64_t TOGETHER = 8; /* stacked values of a warp */
constexpr int LANES = 32, PARTS = 8;

/* Of one row. dot, hat_dot: mean(dot), mean(xhat dot) where there is a tangent. */
struct moments {
    double mean, r, dot, hat_dot;
};

/* The same in all lanes; all lanes call. */
__device__ inline double warp_sum(double v)
{
    for (int step = WARP / 2; step > 0; step /= 2)
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

/* Of the row x; all lanes of a warp call. dot may be NULL. */
__device__ inline moments moments_of(const float *x, const float *dot, int64_t c, double eps)
{
    moments m = {0, 0, 0, 0};
    double var = 0;
    int64_t lane = threadIdx.x % WARP;
    for (int64_t i = lane; i < c; i += WARP)
        m.mean += (double)x[i];
    m.mean = warp_sum(m.mean) / (double)c;
    for (int64_t i = lane; i < c; i += WARP) {
        double d = (double)x[i] - m.mean;
        var = fma(d, d, var);
    }
    m.r = 1 / sqrt(warp_sum(var) / (double)c + eps);
    if (dot) {
        for (int64_t i = lane; i < c; i += WARP) {
            m.dot += (double)dot[i];
            m.hat_dot = fma((double)dot[i], hat(m, x[i]), m.hat_dot);
        }
        m.dot = warp_sum(m.dot) / (double)c;
        m.hat_dot = warp_sum(m.hat_dot) / (double)c;
    }
    return m;
}

/* Row of this thread's warp and the distance to its next: whole warps walk together. */
__device__ inline int64_t first_row()
{
    return first_item<int64_t>() / WARP;
}

__device__ inline int64_t row_step()
{
    return item_step<int64_t>() / WARP;
}

__global__ void normalise(float *y, const float *x, const float *gamma, const float *beta,
                          int64_t rows, int64_t c, double eps)
{
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        const float *from = x + row * c;
        moments m = moments_of(from, nullptr, c, eps);
        for (int64_t i = threadIdx.x % WARP; i < c; i += WARP)
            y[row * c + i] = (float)fma((double)gamma[i], hat(m, from[i]), (double)beta[i]);
    }
}

/* out = r P(gamma u) where gamma comes BEFORE, else gamma r P(u). A task is a row and a group of
 * stacked values. */
template <bool BEFORE>
__global__ void project(float *out, const float *u, const float *in, const float *gamma,
                        int64_t tasks, int64_t groups, int64_t t, int64_t c, double eps)
{
    int64_t lane = threadIdx.x % WARP;
    for (int64_t task = first_row(); task < tasks; task += row_step()) {
        int64_t row = task / groups, first = task % groups * TOGETHER;
        int64_t end = first + TOGETHER < t ? first + TOGETHER : t;
        const float *x = in + row * c;
        moments m = moments_of(x, nullptr, c, eps);
        for (int64_t k = first; k < end; k++) {
            const float *from = u + (row * t + k) * c;
            float *to = out + (row * t + k) * c;
            double mean = 0, along = 0;
            for (int64_t i = lane; i < c; i += WARP) {
                double v = (BEFORE ? (double)gamma[i] : 1.0) * (double)from[i];
                mean += v;
                along = fma(v, hat(m, x[i]), along);
            }
            mean = warp_sum(mean) / (double)c;
            along = warp_sum(along) / (double)c;
            for (int64_t i = lane; i < c; i += WARP) {
                double v = (BEFORE ? (double)gamma[i] : 1.0) * (double)from[i];
                double p = m.r * (v - mean - hat(m, x[i]) * along);
                to[i] = (float)(BEFORE ? p : (double)gamma[i] * p);
            }
        }
    }
}

__global__ void project_dot(float *dx, const float *dy, const float *in, const float *tangent,
                            const float *gamma, int64_t rows, int64_t c, double eps)
{
    int64_t lane = threadIdx.x % WARP;
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        const float *x = in + row * c, *dot = tangent + row * c, *from = dy + row * c;
        moments m = moments_of(x, dot, c, eps);
        double mean = 0, along = 0, along_moved = 0; /* of u, xhat u, xhat' u */
        for (int64_t i = lane; i < c; i += WARP) {
            double v = (double)gamma[i] * (double)from[i];
            mean += v;
            along = fma(v, hat(m, x[i]), along);
            along_moved = fma(v, moved_hat(m, x[i], dot[i]), along_moved);
        }
        mean = warp_sum(mean) / (double)c;
        along = warp_sum(along) / (double)c;
        along_moved = warp_sum(along_moved) / (double)c;
        for (int64_t i = lane; i < c; i += WARP) {
            double v = (double)gamma[i] * (double)from[i], h = hat(m, x[i]);
            double scale = -m.r * m.hat_dot; /* r'/r */
            dx[row * c + i] = (float)(m.r * (scale * (v - mean - h * along) -
                                             moved_hat(m, x[i], dot[i]) * along - h * along_moved));
        }
    }
}

__global__ void row_moments(moments *out, const float *in, const float *dot, int64_t rows,
                            int64_t c, double eps)
{
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        moments m = moments_of(in + row * c, dot ? dot + row * c : nullptr, c, eps);
        if (threadIdx.x % WARP == 0)
            out[row] = m;
    }
}

struct load_grad {
    const float *dy, *in, *dot; /* dot NULL: sums of dy xhat and dy; else of dy xhat' */
    const moments *m;
    int64_t c;
    __device__ void operator()(double *sum, int64_t row, int64_t column) const
    {
        double v = (double)dy[row * c + column];
        float x = in[row * c + column];
        sum[0] += v * (dot ? moved_hat(m[row], x, dot[row * c + column]) : hat(m[row], x));
        sum[1] += v;
    }
};

__global__ void parameter_gradients(float *dgamma, float *dbeta, const double *partial,
                                    columns::plan p)
{
    int64_t c = first_row();
    if (c >= p.columns)
        return; /* whole warps: a warp has one column */
    double along = columns::column_total<2>(partial, p, 0, c);
    double sum = columns::column_total<2>(partial, p, 1, c);
    if (threadIdx.x % WARP != 0)
        return;
    if (dgamma)
        dgamma[c] = (float)((double)dgamma[c] + along);
    if (dbeta)
        dbeta[c] = (float)((double)dbeta[c] + sum);
}

struct shape {
    int p, t, c;
};

__global__ void __launch_bounds__(LANES *PARTS)
    place_sums(double *sums, const float *dy, const float *in, const moments *of, shape d)
{
    CU_SHARED(double, plain, [PARTS][LANES]);
    CU_SHARED(double, normed, [PARTS][LANES]);
    const int64_t s = blockIdx.y;
    const int lane = (int)threadIdx.x % LANES, part = (int)threadIdx.x / LANES;
    const int row = d.t * d.c, at = (int)blockIdx.x * LANES + lane, c = at % d.c;
    double sum = 0, with = 0;
    if (at < row)
        for (int p = part; p < d.p; p += PARTS) {
            const int64_t place = s * d.p + p;
            const double v = (double)dy[place * row + at];
            sum += v;
            with = fma(v, hat(of[place], in[place * d.c + c]), with);
        }
    plain[part][lane] = sum;
    normed[part][lane] = with;
    __syncthreads(); /* all parts are there */
    if (part || at >= row)
        return;
    for (int i = 1; i < PARTS; i++) {
        sum += plain[i][lane];
        with += normed[i][lane];
    }
    double *out = sums + (s * d.t + at / d.c) * 2 * d.c + c;
    out[0] = with;
    out[d.c] = sum;
}

lips_status check(const char *op, const lips_cuda_ln *a)
{
    if (a->rows < 1 || a->t < 1 || a->c < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %" PRId64 " x %" PRId64 " x %" PRId64 " values", op,
                         a->rows, a->t, a->c);
    return LIPS_OK;
}

/* A warp per row. */
dim3 grid_of(int64_t rows)
{
    return dim3(blocks_for(rows * WARP));
}

/* Sums over rows start at a 256-byte boundary after the moments. */
size_t moments_bytes(const lips_cuda_ln *a)
{
    return ((size_t)a->rows * sizeof(moments) + 255) / 256 * 256;
}

template <bool BEFORE>
lips_status launch_project(const char *op, const lips_cuda_ln *a, float *out, const float *u,
                           const float *in, cudaStream_t stream)
{
    LIPS_TRY(check(op, a));
    int64_t groups = (a->t + TOGETHER - 1) / TOGETHER;
    CU_LAUNCH((project<BEFORE>), grid_of(a->rows * groups), dim3(THREADS), 0, stream, out, u, in,
              a->gamma, a->rows * groups, groups, a->t, a->c, a->eps);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

} // namespace

extern "C" lips_status lips_cuda_ln_forward(const lips_cuda_ln *a, float *y, const float *x,
                                            cudaStream_t stream)
{
    LIPS_TRY(check("ln_forward", a));
    CU_LAUNCH(normalise, grid_of(a->rows), dim3(THREADS), 0, stream, y, x, a->gamma, a->beta,
              a->rows, a->c, a->eps);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_ln_jvp(const lips_cuda_ln *a, float *out, const float *u,
                                        const float *in, cudaStream_t stream)
{
    return launch_project<false>("ln_jvp", a, out, u, in, stream);
}

extern "C" lips_status lips_cuda_ln_vjp(const lips_cuda_ln *a, float *out, const float *u,
                                        const float *in, cudaStream_t stream)
{
    return launch_project<true>("ln_vjp", a, out, u, in, stream);
}

extern "C" lips_status lips_cuda_ln_vjp_dot(const lips_cuda_ln *a, float *dx, const float *dy,
                                            const float *in, const float *dot, cudaStream_t stream)
{
    LIPS_TRY(check("ln_vjp_dot", a));
    CU_LAUNCH(project_dot, grid_of(a->rows), dim3(THREADS), 0, stream, dx, dy, in, dot, a->gamma,
              a->rows, a->c, a->eps);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" size_t lips_cuda_ln_grad_bytes(const lips_cuda_ln *a)
{
    return moments_bytes(a) + columns::partial_bytes(columns::make_plan(a->rows, a->c), 2);
}

extern "C" lips_status lips_cuda_ln_grad(const lips_cuda_ln *a, float *dgamma, float *dbeta,
                                         const float *dy, const float *in, const float *dot,
                                         void *scratch, cudaStream_t stream)
{
    LIPS_TRY(check("ln_grad", a));
    columns::plan p = columns::make_plan(a->rows, a->c);
    moments *m = static_cast<moments *>(scratch);
    double *partial =
        reinterpret_cast<double *>(static_cast<char *>(scratch) + moments_bytes(a));
    CU_LAUNCH(row_moments, grid_of(a->rows), dim3(THREADS), 0, stream, m, in, dot, a->rows, a->c,
              a->eps);
    CU_LAUNCH((columns::column_partials<2, load_grad>), columns::partial_grid(p), dim3(THREADS), 0,
              stream, partial, p, (load_grad{dy, in, dot, m, a->c}));
    CU_LAUNCH(parameter_gradients, dim3(columns::total_blocks(p)), dim3(THREADS), 0, stream, dgamma,
              dbeta, partial, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" size_t lips_cuda_ln_sums_bytes(const lips_cuda_ln *a)
{
    return moments_bytes(a);
}

extern "C" lips_status lips_cuda_ln_sums(const lips_cuda_ln *a, double *sums, const float *dy,
                                         const float *in, int64_t places, void *scratch,
                                         cudaStream_t stream)
{
    LIPS_TRY(check("ln_gram", a));
    int64_t b = a->rows / places;
    if (b > 65535)
        return lips_fail(LIPS_ERR_USAGE, "ln_gram: %" PRId64 " samples, must be in 1..65535", b);
    if (places > INT32_MAX / a->t || places * a->t > INT32_MAX / a->c)
        return lips_fail(LIPS_ERR_USAGE,
                         "ln_gram: a sample of %" PRId64 " x %" PRId64 " x %" PRId64
                         " values, must be in 1..2^31-1",
                         places, a->t, a->c);
    moments *m = static_cast<moments *>(scratch);
    CU_LAUNCH(row_moments, grid_of(a->rows), dim3(THREADS), 0, stream, m, in,
              static_cast<const float *>(nullptr), a->rows, a->c, a->eps);
    CU_LAUNCH(place_sums, dim3((unsigned)((a->t * a->c + LANES - 1) / LANES), (unsigned)b),
              dim3(LANES * PARTS), 0, stream, sums, dy, in, m,
              (shape{(int)places, (int)a->t, (int)a->c}));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
