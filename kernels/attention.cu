/*
 * attention - dot-product attention (Vaswani et al. 2017), forward and derivatives (attention.h).
 *
 * For one head of one sample, with a = 1/sqrt(d) and D(P,u) = P (u - sum_j P u) by rows:
 *   forward  P = softmax(a q k'), y = P v
 *   jvp      U = D(P, a (qdot k' + q kdot')), ydot = U v + P vdot
 *   vjp      U = D(P, dy v'), dq = a U k, dk = a U'q, dv = P'dy
 *   vjp_dot  the derivative of these three along dot, dy held: Pdot as U of the jvp, dP = dy v',
 *            dPdot = dy vdot', m = sum_j P dP, mdot = sum_j (Pdot dP + P dPdot):
 *            dS = P (dP - m), dSdot = Pdot (dP - m) + P (dPdot - mdot), then by the product rule
 *
 * Shapes     x (B,N,T,3C), y (B,N,T,C) f32; work: P (B,heads,N,N) f32 and of each stacked value of
 *            a group U of the same shape; all device
 * Work split products by batched_product.cu, all samples, heads and stacked values in one launch;
 *            both terms of a sum in one pass. Softmax and D: a warp per row, which keeps to one row
 *            of P for all stacked values. Stacked values go through in groups whose matrices fit
 *            into GROUP_REALS.
 * Precision  products float32-grade, sums over a row in f64; P is rounded once
 * Order      products over k in sequence, rows by lanes and exchange; no atomics
 * Cost       2 N^2 C flops per product: forward 2 products, jvp 4 T + 1, vjp 4 T + 1, vjp_dot 13;
 *            U is written and read 4 T N^2 times, some 20 bytes per entry and stacked value
 * Limits     B heads T below 2^31; N up to 2^20. A matrix of N x N per head and stacked value lives
 *            in memory: fine for N of some hundreds, wasteful for thousands
 * Proof      tests/ops (attn_*, test_attention_cuda: groups, heads wider than a tile)
 * Predicted  (H100, not measured) vjp with d = 64: 512 flop for 20 bytes of U; products at 50
 *            TFLOP/s take 10 ps an entry and stacked value, the bytes at 3 TB/s 7 ps (v1: 23 ps)
 * History    v1 products by FFMA in this file. v2 on tensor cores.
 */
#include "kernels/attention.h"

#include "kernels/batched_product.h"
#include "kernels/check.h"
#include "kernels/flat.h"

#include <inttypes.h>
#include <math.h>

using namespace lips_flat;
using batched_product::operand;
using batched_product::product;

namespace
{

constexpr int WARP = 32;
constexpr int64_t GROUP_REALS = INT64_C(1) << 26; /* of the U of a group of stacked values */
constexpr int FEWEST = 4;                         /* matrices of a head that vjp_dot needs */

/* The same in all lanes; all lanes call. */
__device__ inline double warp_sum(double v)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

__device__ inline float warp_max(float v)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
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

/* Rows of scores become probabilities. A NaN or an infinite score makes its row NaN. */
__global__ void softmax_rows(float *p, int64_t rows, int64_t n)
{
    int64_t lane = threadIdx.x % WARP;
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        float *s = p + row * n, most = -INFINITY;
        double sum = 0;
        for (int64_t j = lane; j < n; j += WARP)
            most = fmaxf(most, s[j]);
        most = warp_max(most);
        for (int64_t j = lane; j < n; j += WARP) {
            float e = expf(s[j] - most);
            sum += (double)e;
            s[j] = e;
        }
        sum = warp_sum(sum);
        for (int64_t j = lane; j < n; j += WARP)
            s[j] = (float)((double)s[j] / sum);
    }
}

/* u = D(P, u) by rows; u (B heads, stack, N, N), p (B heads, N, N). */
__global__ void soften_rows(float *u, const float *p, int64_t rows, int64_t n, int64_t stack)
{
    int64_t lane = threadIdx.x % WARP;
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        const float *weight = p + row * n;
        for (int64_t t = 0; t < stack; t++) {
            float *v = u + ((row / n * stack + t) * n + row % n) * n;
            double mean = 0;
            for (int64_t j = lane; j < n; j += WARP)
                mean = fma((double)weight[j], (double)v[j], mean);
            mean = warp_sum(mean);
            for (int64_t j = lane; j < n; j += WARP)
                v[j] = (float)((double)weight[j] * ((double)v[j] - mean));
        }
    }
}

/* u = dP and u_dot = dPdot become dS and dSdot. */
__global__ void soften_rows_dot(float *u, float *u_dot, const float *p, const float *p_dot,
                                int64_t rows, int64_t n)
{
    int64_t lane = threadIdx.x % WARP;
    for (int64_t row = first_row(); row < rows; row += row_step()) {
        double mean = 0, mean_dot = 0;
        for (int64_t j = row * n + lane; j < (row + 1) * n; j += WARP) {
            mean = fma((double)p[j], (double)u[j], mean);
            mean_dot = fma((double)p_dot[j], (double)u[j], mean_dot);
            mean_dot = fma((double)p[j], (double)u_dot[j], mean_dot);
        }
        mean = warp_sum(mean);
        mean_dot = warp_sum(mean_dot);
        for (int64_t j = row * n + lane; j < (row + 1) * n; j += WARP) {
            double d = (double)u[j] - mean;
            u_dot[j] =
                (float)fma((double)p_dot[j], d, (double)p[j] * ((double)u_dot[j] - mean_dot));
            u[j] = (float)((double)p[j] * d);
        }
    }
}

/* One pass at work: its shape, and the stacked values first .. first + stack - 1 of it. */
struct pass {
    const lips_cuda_attn *a;
    int64_t d, square; /* channels of a head; N * N */
    int64_t first, stack;
    float alpha;
    cudaStream_t stream;
};

pass pass_of(const lips_cuda_attn *a, cudaStream_t stream)
{
    int64_t d = a->c / a->heads;
    return {a, d, a->n * a->n, 0, 1, (float)(1 / sqrt((double)d)), stream};
}

/* Stacked values that go through together: the same for every pass with the same cap. */
int64_t group_of(const lips_cuda_attn *a)
{
    int64_t fit = a->group > 0 ? a->group : GROUP_REALS / (a->cap * a->heads * a->n * a->n);
    return fit < 1 ? 1 : fit < a->t ? fit : a->t;
}

/* Matrix number i of the work: 0 is P. */
float *work_of(const pass &p, int64_t i)
{
    return static_cast<float *>(p.a->work) + i * p.a->cap * p.a->heads * p.square;
}

/* Part 0, 1 or 2 of (q, k, v), tokens by channels of the head; shared: x has one stacked value. */
operand part(const pass &p, const float *x, int which, bool shared)
{
    int64_t width = 3 * p.a->c, t = shared ? 1 : p.a->t;
    float *at = const_cast<float *>(x) + which * p.a->c + (shared ? 0 : p.first * width);
    return {at, p.a->n * t * width, p.d, shared ? 0 : width, t * width, 1};
}

/* The same of y or dy. */
operand out(const pass &p, const float *y)
{
    int64_t width = p.a->c, t = p.a->t;
    return {const_cast<float *>(y) + p.first * width, p.a->n * t * width, p.d, width, t * width, 1};
}

/* Queries by keys: shared by the stacked values, or one for each of the group. */
operand square(const pass &p, float *u, bool shared)
{
    int64_t each = shared ? p.square : p.stack * p.square;
    return {u, p.a->heads * each, each, shared ? 0 : p.square, p.a->n, 1};
}

operand transposed(operand o)
{
    int64_t row = o.row;
    o.row = o.col;
    o.col = row;
    return o;
}

/* Starts c = alpha a b; the rows of c are tokens. */
product product_of(const pass &p, operand c, operand a, operand b, float alpha)
{
    product r = {};
    r.c = c;
    r.a[0] = a;
    r.b[0] = b;
    r.terms = 1;
    r.alpha = alpha;
    r.heads = (int)p.a->heads;
    r.stack = (int)p.stack;
    r.m = (int)p.a->n;
    return r;
}

void add_term(product *r, operand a, operand b)
{
    r->a[1] = a;
    r->b[1] = b;
    r->terms = 2;
}

lips_status launch(const pass &p, product r, int64_t n, int64_t k)
{
    r.n = (int)n;
    r.k = (int)k;
    return lips_cuda_batched_product(r, p.a->b * p.a->heads * p.stack, p.stream);
}

/* Scores: tokens by tokens, summed over channels. Values: tokens by channels, over tokens. */
lips_status launch_scores(const pass &p, const product &r)
{
    return launch(p, r, p.a->n, p.d);
}

lips_status launch_values(const pass &p, const product &r)
{
    return launch(p, r, p.d, p.a->n);
}

int64_t rows_of(const pass &p)
{
    return p.a->b * p.a->heads * p.a->n;
}

/* P of in, in the work. */
lips_status probabilities(pass p, const float *in)
{
    p.stack = 1;
    LIPS_TRY(launch_scores(p, product_of(p, square(p, work_of(p, 0), true), part(p, in, 0, true),
                                         transposed(part(p, in, 1, true)), p.alpha)));
    CU_LAUNCH(softmax_rows, dim3(blocks_for(rows_of(p) * WARP)), dim3(THREADS), 0, p.stream,
              work_of(p, 0), rows_of(p), p.a->n);
    LIPS_TRY_LAUNCH(p.stream);
    return LIPS_OK;
}

lips_status soften(const pass &p, float *u)
{
    CU_LAUNCH(soften_rows, dim3(blocks_for(rows_of(p) * WARP)), dim3(THREADS), 0, p.stream, u,
              work_of(p, 0), rows_of(p), p.a->n, p.stack);
    LIPS_TRY_LAUNCH(p.stream);
    return LIPS_OK;
}

/* u = Pdot along dot (as x where it is stacked). */
lips_status probabilities_dot(const pass &p, float *u, const float *in, const float *dot)
{
    product r = product_of(p, square(p, u, false), part(p, dot, 0, false),
                           transposed(part(p, in, 1, true)), p.alpha);
    add_term(&r, part(p, in, 0, true), transposed(part(p, dot, 1, false)));
    LIPS_TRY(launch_scores(p, r));
    return soften(p, u);
}

/* u = dy v' */
lips_status pull_values(const pass &p, float *u, const float *dy, const float *values)
{
    return launch_scores(p, product_of(p, square(p, u, false), out(p, dy),
                                       transposed(part(p, values, 2, true)), 1.0f));
}

lips_status check(const char *op, const lips_cuda_attn *a)
{
    const int64_t most = INT64_C(1) << 20;
    if (a->b < 1 || a->n < 1 || a->n > most || a->t < 1 || a->c < 1 || a->c > INT32_MAX / 3 ||
        a->heads < 1 || a->b > INT32_MAX / a->heads || a->b * a->heads > INT32_MAX / a->t)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: %" PRId64 " samples of %" PRId64 " tokens x %" PRId64 " x %" PRId64
                         " channels, %" PRId64 " heads: tokens must be in 1..%" PRId64
                         ", samples * heads * stacked values below 2^31",
                         op, a->b, a->n, a->t, a->c, a->heads, most);
    return LIPS_OK;
}

} // namespace

extern "C" size_t lips_cuda_attn_bytes(const lips_cuda_attn *a)
{
    int64_t matrices = 1 + group_of(a);
    matrices = matrices < FEWEST ? FEWEST : matrices;
    return (size_t)matrices * (size_t)(a->cap * a->heads) * (size_t)(a->n * a->n) * sizeof(float);
}

extern "C" lips_status lips_cuda_attn_forward(const lips_cuda_attn *a, float *y, const float *x,
                                              cudaStream_t stream)
{
    LIPS_TRY(check("attn_forward", a));
    pass p = pass_of(a, stream);
    LIPS_TRY(probabilities(p, x));
    LIPS_TRY(launch_values(
        p, product_of(p, out(p, y), square(p, work_of(p, 0), true), part(p, x, 2, true), 1.0f)));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_attn_jvp(const lips_cuda_attn *a, float *ydot, const float *xdot,
                                          const float *in, cudaStream_t stream)
{
    LIPS_TRY(check("attn_jvp", a));
    pass p = pass_of(a, stream);
    int64_t group = group_of(a);
    LIPS_TRY(probabilities(p, in));
    for (p.first = 0; p.first < a->t; p.first += group) {
        float *u = work_of(p, 1);
        p.stack = a->t - p.first < group ? a->t - p.first : group;
        LIPS_TRY(probabilities_dot(p, u, in, xdot));
        product r = product_of(p, out(p, ydot), square(p, u, false), part(p, in, 2, true), 1.0f);
        add_term(&r, square(p, work_of(p, 0), true), part(p, xdot, 2, false));
        LIPS_TRY(launch_values(p, r));
    }
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_attn_vjp(const lips_cuda_attn *a, float *dx, const float *dy,
                                          const float *in, cudaStream_t stream)
{
    LIPS_TRY(check("attn_vjp", a));
    pass p = pass_of(a, stream);
    int64_t group = group_of(a);
    LIPS_TRY(probabilities(p, in));
    for (p.first = 0; p.first < a->t; p.first += group) {
        float *u = work_of(p, 1);
        p.stack = a->t - p.first < group ? a->t - p.first : group;
        LIPS_TRY(pull_values(p, u, dy, in));
        LIPS_TRY(soften(p, u));
        operand ds = square(p, u, false), weight = square(p, work_of(p, 0), true);
        LIPS_TRY(launch_values(
            p, product_of(p, part(p, dx, 0, false), ds, part(p, in, 1, true), p.alpha)));
        LIPS_TRY(launch_values(p, product_of(p, part(p, dx, 1, false), transposed(ds),
                                             part(p, in, 0, true), p.alpha)));
        LIPS_TRY(launch_values(
            p, product_of(p, part(p, dx, 2, false), transposed(weight), out(p, dy), 1.0f)));
    }
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_attn_vjp_dot(const lips_cuda_attn *a, float *dx, const float *dy,
                                              const float *in, const float *dot,
                                              cudaStream_t stream)
{
    LIPS_TRY(check("attn_vjp_dot", a));
    pass p = pass_of(a, stream);
    float *p_dot = work_of(p, 1), *u = work_of(p, 2), *u_dot = work_of(p, 3);
    LIPS_TRY(probabilities(p, in));
    LIPS_TRY(probabilities_dot(p, p_dot, in, dot));
    LIPS_TRY(pull_values(p, u, dy, in));
    LIPS_TRY(pull_values(p, u_dot, dy, dot));
    CU_LAUNCH(soften_rows_dot, dim3(blocks_for(rows_of(p) * WARP)), dim3(THREADS), 0, stream, u,
              u_dot, work_of(p, 0), p_dot, rows_of(p), a->n);
    operand ds = square(p, u, true), ds_dot = square(p, u_dot, true);
    product q = product_of(p, part(p, dx, 0, true), ds_dot, part(p, in, 1, true), p.alpha);
    add_term(&q, ds, part(p, dot, 1, true));
    LIPS_TRY(launch_values(p, q));
    product k =
        product_of(p, part(p, dx, 1, true), transposed(ds_dot), part(p, in, 0, true), p.alpha);
    add_term(&k, transposed(ds), part(p, dot, 0, true));
    LIPS_TRY(launch_values(p, k));
    LIPS_TRY(launch_values(p, product_of(p, part(p, dx, 2, true),
                                         transposed(square(p, p_dot, true)), out(p, dy), 1.0f)));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
