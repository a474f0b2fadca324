/*
 * layer_norm - layer normalisation (Ba, Kiros, Hinton 2016), forward and derivatives
 * (layer_norm.h); the parameters' gradients are in layer_norm_sums.cu.
 *
 * For one row, with m and v mean and biased variance of its C channels, r = 1/sqrt(v + eps), xhat =
 * (x - m) r and P(u) = u - mean(u) - xhat mean(xhat u):
 *   forward  y = gamma xhat + beta      jvp  gamma r P(u)      vjp  r P(gamma dy)
 *   vjp_dot  with u = gamma dy, xhat' = r P(dot):
 *            -r^2 mean(xhat dot) P(u) - r (xhat' mean(xhat u) + xhat mean(xhat' u))
 *
 * Shapes     x, in, dot (rows, C), u, out (rows, T, C) f32; all device
 * Work split where C is divisible by 4 and at most 512, and pointers are aligned: 8, 16 or 32 lanes
 *            hold a row as packs of 4, so several rows to a warp up to C = 64, and 2 or 4 packs a
 *            lane above C = 128. Means, xhat and the row stay in registers; the next stacked value
 *            is fetched before the last one's sums are exchanged. Else a warp per row, which reads
 *            it again from the first-level cache. A block takes as many stacked values of its rows,
 *            up to TOGETHER, as make equal groups.
 * Precision  sums, means, spreads and xhat in f64; the variance in a second pass over the row:
 *            E[x^2] - E[x]^2 loses all digits once mean^2 >> var. Rounded to f32 before gamma and
 *            beta.
 * Order      lanes add their packs, then each other's by exchange; no atomics
 * Cost       bytes per value: forward 8, jvp and vjp 8 T + 4. In sm_90's code per value, C = 128:
 *            forward 2 conversions, 8 f64 operations, 5 exchanges, 28 instructions in all; jvp and
 *            vjp 2, 9, 5 and 31 (C = 32: 2, 8, 3 and 19), and as much as twice forward's per place
 * Limits     none
 * Proof      tests/ops (ln_*), tests/cusim/test_norm_kernels.cpp
 * Speed      prediction (not measured): at an H100's copy rate forward takes 20 % of the
 *            conversions, 20 % of f64, 25 % of the exchanges and 36 % of all that is issued, jvp
 *            and vjp hardly more: memory decides, 92 % of the copy rate. Where f64 runs at 1/64 of
 *            f32: f64 does.
 * History    v1 a warp per row, three passes over the row in memory with accesses of 4 bytes,
 *            values and gamma converted anew in each: 6 conversions a value, 61 % of the rate at
 *            which an H100 has them, and 70 % of the copy rate predicted. v2 rows in registers.
 */
#include "kernels/layer_norm.h"

#include "kernels/check.h"
#include "kernels/layer_norm_rows.h"

#include <inttypes.h>

using namespace lips_flat;
using namespace layer_norm_rows;

namespace
{

constexpr int64_t TOGETHER = 8;        /* stacked values of a block's rows, at most */
constexpr int64_t GROUPS_MOST = 65535; /* in a grid's second direction */
constexpr unsigned BLOCKS = 2112; /* 16 a multiprocessor of an H100: gamma stays in registers */
constexpr int PACKS_MOST = 4;     /* of a lane: C up to 512 (8 spill registers) */
constexpr int LANES_LEAST = 8;    /* of a row */

template <int N> struct constant {
    static constexpr int value = N;
};

/* What a pass is over: rows of k, each with t stacked values, of which a block takes `together`. */
struct pass {
    int64_t rows, t, together;
    row_shape k;
};

/* Rows of this thread's warp: groups of LANES side by side. All lanes of a warp walk as far. */
template <int LANES> struct walk {
    int64_t base, step; /* first row of the warp */
    int lane, group;    /* within the warp */
    __device__ walk()
    {
        const int rows = WARP / LANES;
        lane = (int)threadIdx.x % LANES;
        group = (int)threadIdx.x % WARP / LANES;
        base = first_item<int64_t>() / WARP * rows;
        step = item_step<int64_t>() / WARP * rows;
    }
};

/* A row's part of this lane: packs lane, lane + LANES, ... */
template <int LANES, int PACKS> struct held {
    float v[PACKS][4];
    int packs, lane;
    __device__ held(int64_t c) : packs((int)(c / 4)), lane((int)threadIdx.x % LANES)
    {
    }
    __device__ bool has(int i) const
    {
        return lane + i * LANES < packs;
    }
    __device__ int64_t at(int i) const
    {
        return (int64_t)(lane + i * LANES) * 4;
    }
    /* Zeros where there is nothing. */
    __device__ void fetch(const float *row, bool live)
    {
        for (int i = 0; i < PACKS; i++) {
            const pack<4> p = live && has(i) ? load<4>(row + at(i)) : pack<4>{};
            for (int j = 0; j < 4; j++)
                v[i][j] = p.v[j];
        }
    }
    /* Of a vector that may start at any float. */
    __device__ void fetch_values(const float *vector)
    {
        for (int i = 0; i < PACKS; i++)
            for (int j = 0; j < 4; j++)
                v[i][j] = has(i) ? vector[at(i) + j] : 0.0f;
    }
};

/* xhat of a held row; its r. */
template <int LANES, int PACKS>
__device__ inline double hats_of(double (&h)[PACKS][4], const held<LANES, PACKS> &x,
                                 const row_shape &k)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < PACKS; i++)
        for (int j = 0; j < 4; j++) {
            h[i][j] = (double)x.v[i][j];
            sum += h[i][j];
        }
    const double mean = lane_sum<LANES>(sum) * k.inv_c;
    for (int i = 0; i < PACKS; i++)
        for (int j = 0; j < 4; j++) {
            h[i][j] = x.has(i) ? h[i][j] - mean : 0.0;
            squares = fma(h[i][j], h[i][j], squares);
        }
    const double r = rsqrt(fma(lane_sum<LANES>(squares), k.inv_c, k.eps));
    for (int i = 0; i < PACKS; i++)
        for (int j = 0; j < 4; j++)
            h[i][j] *= r;
    return r;
}

template <int LANES, int PACKS>
__global__ void __launch_bounds__(THREADS)
    normalise_held(float *y, const float *x, const float *gamma, const float *beta, pass p)
{
    const walk<LANES> w;
    held<LANES, PACKS> row(p.k.c), scale(p.k.c), shift(p.k.c);
    scale.fetch_values(gamma);
    shift.fetch_values(beta);
    for (int64_t base = w.base; base < p.rows; base += w.step) {
        const int64_t at = base + w.group;
        double h[PACKS][4];
        row.fetch(x + at * p.k.c, at < p.rows);
        (void)hats_of(h, row, p.k);
        for (int i = 0; i < PACKS; i++) {
            pack<4> out;
            for (int j = 0; j < 4; j++)
                out.v[j] = fmaf(scale.v[i][j], (float)h[i][j], shift.v[i][j]);
            if (at < p.rows && row.has(i))
                store<4>(y + at * p.k.c + row.at(i), out);
        }
    }
}

/* out = r P(gamma u) where gamma comes BEFORE, else gamma r P(u). */
template <bool BEFORE, int LANES, int PACKS>
__global__ void __launch_bounds__(THREADS, PACKS < 4 ? 2 : 1)
    project_held(float *out, const float *u, const float *in, const float *gamma, pass p)
{
    const walk<LANES> w;
    held<LANES, PACKS> row(p.k.c), next(p.k.c), scale(p.k.c);
    scale.fetch_values(gamma);
    const int64_t first = blockIdx.y * p.together;
    const int count = (int)(p.t - first < p.together ? p.t - first : p.together);
    for (int64_t base = w.base; base < p.rows; base += w.step) {
        const int64_t at = base + w.group;
        const bool live = at < p.rows;
        const int64_t place = (at * p.t + first) * p.k.c;
        double h[PACKS][4];
        row.fetch(in + at * p.k.c, live);
        next.fetch(u + place, live);
        const double r = hats_of(h, row, p.k);
        for (int n = 0; n < count; n++) {
            double v[PACKS][4], mean = 0, along = 0;
            for (int i = 0; i < PACKS; i++)
                for (int j = 0; j < 4; j++) {
                    v[i][j] = (double)next.v[i][j];
                    if (BEFORE)
                        v[i][j] *= (double)scale.v[i][j];
                    mean += v[i][j];
                    along = fma(v[i][j], h[i][j], along);
                }
            if (n + 1 < count)
                next.fetch(u + place + (n + 1) * p.k.c, live);
            mean = lane_sum<LANES>(mean) * p.k.inv_c;
            along = lane_sum<LANES>(along) * p.k.inv_c;
            for (int i = 0; i < PACKS; i++) {
                pack<4> to;
                for (int j = 0; j < 4; j++) {
                    to.v[j] = (float)(r * fma(-h[i][j], along, v[i][j] - mean));
                    if (!BEFORE)
                        to.v[j] *= scale.v[i][j];
                }
                if (live && row.has(i))
                    store<4>(out + place + n * p.k.c + row.at(i), to);
            }
        }
    }
}

/* ---- any C ---- */

__global__ void normalise(float *y, const float *x, const float *gamma, const float *beta, pass p)
{
    const walk<WARP> w;
    for (int64_t row = w.base; row < p.rows; row += w.step) {
        const float *from = x + row * p.k.c;
        moments m[1];
        moments_of<1, 1>(m, from, nullptr, 0, 1, p.k);
        for (int64_t i = w.lane; i < p.k.c; i += WARP)
            y[row * p.k.c + i] = fmaf(gamma[i], (float)hat(m[0], from[i]), beta[i]);
    }
}

template <bool BEFORE>
__global__ void project(float *out, const float *u, const float *in, const float *gamma, pass p)
{
    const walk<WARP> w;
    const int64_t c = p.k.c;
    const int64_t first = blockIdx.y * p.together;
    const int64_t end = first + p.together < p.t ? first + p.together : p.t;
    for (int64_t row = w.base; row < p.rows; row += w.step) {
        const float *x = in + row * c;
        moments m[1];
        moments_of<1, 1>(m, x, nullptr, 0, 1, p.k);
        for (int64_t k = first; k < end; k++) {
            const float *from = u + (row * p.t + k) * c;
            float *to = out + (row * p.t + k) * c;
            double mean = 0, along = 0;
            for (int64_t i = w.lane; i < c; i += WARP) {
                const double v = (BEFORE ? (double)gamma[i] : 1.0) * (double)from[i];
                mean += v;
                along = fma(v, hat(m[0], x[i]), along);
            }
            mean = lane_sum<WARP>(mean) * p.k.inv_c;
            along = lane_sum<WARP>(along) * p.k.inv_c;
            for (int64_t i = w.lane; i < c; i += WARP) {
                const double v = (BEFORE ? (double)gamma[i] : 1.0) * (double)from[i];
                const float q = (float)(m[0].r * (v - mean - hat(m[0], x[i]) * along));
                to[i] = BEFORE ? q : q * gamma[i];
            }
        }
    }
}

__global__ void project_dot(float *dx, const float *dy, const float *in, const float *tangent,
                            const float *gamma, pass p)
{
    const walk<WARP> w;
    const int64_t c = p.k.c;
    for (int64_t row = w.base; row < p.rows; row += w.step) {
        const float *x = in + row * c, *dot = tangent + row * c, *from = dy + row * c;
        moments of[1];
        moments_of<1, 1>(of, x, dot, 0, 1, p.k);
        const moments m = of[0];
        double mean = 0, along = 0, along_moved = 0; /* of u, xhat u, xhat' u */
        for (int64_t i = w.lane; i < c; i += WARP) {
            const double v = (double)gamma[i] * (double)from[i];
            mean += v;
            along = fma(v, hat(m, x[i]), along);
            along_moved = fma(v, moved_hat(m, x[i], dot[i]), along_moved);
        }
        mean = lane_sum<WARP>(mean) * p.k.inv_c;
        along = lane_sum<WARP>(along) * p.k.inv_c;
        along_moved = lane_sum<WARP>(along_moved) * p.k.inv_c;
        for (int64_t i = w.lane; i < c; i += WARP) {
            const double v = (double)gamma[i] * (double)from[i], h = hat(m, x[i]);
            const double scale = -m.r * m.hat_dot; /* r'/r */
            dx[row * c + i] = (float)(m.r * (scale * (v - mean - h * along) -
                                             moved_hat(m, x[i], dot[i]) * along - h * along_moved));
        }
    }
}

lips_status check(const char *op, const lips_cuda_ln *a)
{
    if (a->rows < 1 || a->t < 1 || a->c < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: %" PRId64 " x %" PRId64 " x %" PRId64 " values", op,
                         a->rows, a->t, a->c);
    return LIPS_OK;
}

/* Whether rows are held. */
bool holds(const lips_cuda_ln *a, bool is_aligned)
{
    return a->c % 4 == 0 && a->c <= PACKS_MOST * WARP * 4 && is_aligned;
}

/* Of stacked values: equal ones, side by side in the grid. */
int64_t groups_of(int64_t t)
{
    const int64_t groups = (t + TOGETHER - 1) / TOGETHER;
    return groups < GROUPS_MOST ? groups : GROUPS_MOST;
}

/* 8, 16 or 32 lanes for a row that is held, else a warp. */
pass pass_of(const lips_cuda_ln *a, int64_t t, bool hold)
{
    pass p = {};
    p.rows = a->rows;
    p.t = t;
    const int64_t groups = groups_of(t);
    p.together = (t + groups - 1) / groups;
    p.k = row_shape_of(a->c, a->eps, 4, hold ? LANES_LEAST : WARP);
    return p;
}

dim3 grid_of(const pass &p)
{
    const unsigned blocks = blocks_for(p.rows * p.k.lanes);
    return dim3(blocks < BLOCKS ? blocks : BLOCKS, (unsigned)((p.t + p.together - 1) / p.together));
}

/* Calls launch with the lanes of a row and the packs of a lane. */
template <class L> void launch_held(const pass &p, L launch)
{
    const int64_t packs = (p.k.c / 4 + p.k.lanes - 1) / p.k.lanes;
    if (p.k.lanes == 8)
        launch(constant<8>{}, constant<1>{});
    else if (p.k.lanes == 16)
        launch(constant<16>{}, constant<1>{});
    else if (packs == 1)
        launch(constant<32>{}, constant<1>{});
    else if (packs == 2)
        launch(constant<32>{}, constant<2>{});
    else
        launch(constant<32>{}, constant<PACKS_MOST>{});
}

template <bool BEFORE>
lips_status launch_project(const char *op, const lips_cuda_ln *a, float *out, const float *u,
                           const float *in, cudaStream_t stream)
{
    LIPS_TRY(check(op, a));
    const bool hold = holds(a, aligned(out) && aligned(u) && aligned(in));
    const pass p = pass_of(a, a->t, hold);
    if (hold)
        launch_held(p, [=](auto lanes, auto packs) {
            CU_LAUNCH((project_held<BEFORE, lanes.value, packs.value>), grid_of(p), dim3(THREADS),
                      0, stream, out, u, in, a->gamma, p);
        });
    else
        CU_LAUNCH((project<BEFORE>), grid_of(p), dim3(THREADS), 0, stream, out, u, in, a->gamma, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

} // namespace

extern "C" lips_status lips_cuda_ln_forward(const lips_cuda_ln *a, float *y, const float *x,
                                            cudaStream_t stream)
{
    LIPS_TRY(check("ln_forward", a));
    const bool hold = holds(a, aligned(y) && aligned(x));
    const pass p = pass_of(a, 1, hold);
    if (hold)
        launch_held(p, [=](auto lanes, auto packs) {
            CU_LAUNCH((normalise_held<lanes.value, packs.value>), grid_of(p), dim3(THREADS), 0,
                      stream, y, x, a->gamma, a->beta, p);
        });
    else
        CU_LAUNCH(normalise, grid_of(p), dim3(THREADS), 0, stream, y, x, a->gamma, a->beta, p);
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
    const pass p = pass_of(a, 1, false);
    CU_LAUNCH(project_dot, grid_of(p), dim3(THREADS), 0, stream, dx, dy, in, dot, a->gamma, p);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
