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
 * Work split products: a block of 64 threads per tile of 32 x 32, 4 x 4 values each, for every
 *            sample, head and stacked value; both terms of a sum in one pass. Softmax and D: a warp
 *            per row, which keeps to one row of P for all stacked values. Stacked values go through
 *            in groups whose matrices fit into GROUP_REALS.
 * Precision  products in f32 with fmaf, sums over a row in f64; P is rounded once
 * Order      products over k in sequence, rows by lanes and exchange; no atomics
 * Cost       2 N^2 C flops per product: forward 2 products, jvp 4 T + 1, vjp 4 T + 1, vjp_dot 13;
 *            U is written and read 4 T N^2 times, some 20 bytes per entry and stacked value
 * Limits     B heads T below 2^31; N up to 2^20. A matrix of N x N per head and stacked value lives
 *            in memory: fine for N of some hundreds, wasteful for thousands
 * Proof      tests/ops (attn_*, test_attention_cuda: groups, heads wider than a tile)
 * Speed      prediction (not measured): f32 units, not tensor cores; 8 loads from shared memory for
 *            16 fmaf of a thread bound it to about a third of the f32 peak
 * History    v1 this file
 */
#include "kernels/attention.h"

#include "kernels/check.h"
#include "kernels/flat.h"

#include <inttypes.h>
#include <math.h>

using namespace lips_flat;

namespace
{

constexpr int WARP = 32;
constexpr int TILE = 32, DEPTH = 16, EACH = 4, SIDE = TILE / EACH;
constexpr int TILE_THREADS = SIDE * SIDE;
constexpr int64_t GROUP_REALS = INT64_C(1) << 26; /* of the U of a group of stacked values */
constexpr int FEWEST = 4;                         /* matrices of a head that vjp_dot needs */

/* A matrix for every sample, head and stacked value. */
struct operand {
    float *at;
    int64_t sample, head, stack, row, col;
};

/* c = alpha (a[0] b[0] + a[1] b[1]), (m,k) by (k,n); the second where terms is 2. */
struct product {
    operand c, a[2], b[2];
    int terms;
    int m, n, k;
    float alpha;
    int heads, stack; /* a block's number is (sample * heads + head) * stack + stacked value */
};

/* Of the matrix of this block. */
__device__ inline float *matrix_of(const operand &o, const product &p)
{
    int64_t number = blockIdx.x, t = number % p.stack, head = number / p.stack % p.heads;
    return o.at + number / p.stack / p.heads * o.sample + head * o.head + t * o.stack;
}

/* Lines first.. of `lines` and places k0.. of `depth` into to[k][line], 0 beyond; neighbouring
 * threads read along the dimension that lies together. */
__device__ inline void load_tile(float (*to)[TILE + 1], const float *from, int64_t line_step,
                                 int64_t k_step, int first, int lines, int k0, int depth)
{
    for (int e = (int)threadIdx.x; e < TILE * DEPTH; e += TILE_THREADS) {
        int line = k_step == 1 ? e / DEPTH : e % TILE, k = k_step == 1 ? e % DEPTH : e / TILE;
        bool inside = first + line < lines && k0 + k < depth;
        to[k][line] =
            inside ? from[(int64_t)(first + line) * line_step + (int64_t)(k0 + k) * k_step] : 0.0f;
    }
}

__global__ void __launch_bounds__(TILE_THREADS) multiply(product p)
{
    CU_SHARED(float, left, [DEPTH][TILE + 1]);
    CU_SHARED(float, right, [DEPTH][TILE + 1]);
    const int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
    const int row0 = (int)blockIdx.z * TILE, col0 = (int)blockIdx.y * TILE;
    float sum[EACH][EACH];
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++)
            sum[i][j] = 0.0f;
    for (int term = 0; term < p.terms; term++) {
        const operand &a = term ? p.a[1] : p.a[0], &b = term ? p.b[1] : p.b[0];
        const float *from_a = matrix_of(a, p), *from_b = matrix_of(b, p);
        for (int k0 = 0; k0 < p.k; k0 += DEPTH) {
            load_tile(left, from_a, a.row, a.col, row0, p.m, k0, p.k);
            load_tile(right, from_b, b.col, b.row, col0, p.n, k0, p.k);
            __syncthreads(); /* both tiles are in */
#pragma unroll
            for (int k = 0; k < DEPTH; k++) {
                float u[EACH], v[EACH];
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    u[i] = left[k][y + SIDE * i];
                    v[i] = right[k][x + SIDE * i];
                }
#pragma unroll
                for (int i = 0; i < EACH; i++)
#pragma unroll
                    for (int j = 0; j < EACH; j++)
                        sum[i][j] = fmaf(u[i], v[j], sum[i][j]);
            }
            __syncthreads(); /* all have read before the next tiles come */
        }
    }
    float *to = matrix_of(p.c, p);
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int row = row0 + y + SIDE * i, col = col0 + x + SIDE * j;
            if (row < p.m && col < p.n)
                to[(int64_t)row * p.c.row + (int64_t)col * p.c.col] = p.alpha * sum[i][j];
        }
}

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
            u_dot[j] = (float)fma((double)p_dot[j], d,
                                  (double)p[j] * ((double)u_dot[j] - mean_dot));
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

void launch(const pass &p, product r, int64_t n, int64_t k)
{
    r.n = (int)n;
    r.k = (int)k;
    dim3 grid((unsigned)(p.a->b * p.a->heads * p.stack), (unsigned)((n + TILE - 1) / TILE),
              (unsigned)((r.m + TILE - 1) / TILE));
    CU_LAUNCH(multiply, grid, dim3(TILE_THREADS), 0, p.stream, r);
}

/* Scores: tokens by tokens, summed over channels. Values: tokens by channels, over tokens. */
void launch_scores(const pass &p, const product &r)
{
    launch(p, r, p.a->n, p.d);
}

void launch_values(const pass &p, const product &r)
{
    launch(p, r, p.d, p.a->n);
}

int64_t rows_of(const pass &p)
{
    return p.a->b * p.a->heads * p.a->n;
}

/* P of in, in the work. */
void probabilities(pass p, const float *in)
{
    p.stack = 1;
    launch_scores(p, product_of(p, square(p, work_of(p, 0), true), part(p, in, 0, true),
                                transposed(part(p, in, 1, true)), p.alpha));
    CU_LAUNCH(softmax_rows, dim3(blocks_for(rows_of(p) * WARP)), dim3(THREADS), 0, p.stream,
              work_of(p, 0), rows_of(p), p.a->n);
}

void soften(const pass &p, float *u)
{
    CU_LAUNCH(soften_rows, dim3(blocks_for(rows_of(p) * WARP)), dim3(THREADS), 0, p.stream, u,
              work_of(p, 0), rows_of(p), p.a->n, p.stack);
}

/* u = Pdot along dot (as x where it is stacked). */
void probabilities_dot(const pass &p, float *u, const float *in, const float *dot)
{
    product r = product_of(p, square(p, u, false), part(p, dot, 0, false),
                           transposed(part(p, in, 1, true)), p.alpha);
    add_term(&r, part(p, in, 0, true), transposed(part(p, dot, 1, false)));
    launch_scores(p, r);
    soften(p, u);
}

/* u = dy v' */
void pull_values(const pass &p, float *u, const float *dy, const float *values)
{
    launch_scores(p, product_of(p, square(p, u, false), out(p, dy),
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
    probabilities(p, x);
    launch_values(p, product_of(p, out(p, y), square(p, work_of(p, 0), true), part(p, x, 2, true),
                                1.0f));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_attn_jvp(const lips_cuda_attn *a, float *ydot, const float *xdot,
                                          const float *in, cudaStream_t stream)
{
    LIPS_TRY(check("attn_jvp", a));
    pass p = pass_of(a, stream);
    int64_t group = group_of(a);
    probabilities(p, in);
    for (p.first = 0; p.first < a->t; p.first += group) {
        float *u = work_of(p, 1);
        p.stack = a->t - p.first < group ? a->t - p.first : group;
        probabilities_dot(p, u, in, xdot);
        product r = product_of(p, out(p, ydot), square(p, u, false), part(p, in, 2, true), 1.0f);
        add_term(&r, square(p, work_of(p, 0), true), part(p, xdot, 2, false));
        launch_values(p, r);
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
    probabilities(p, in);
    for (p.first = 0; p.first < a->t; p.first += group) {
        float *u = work_of(p, 1);
        p.stack = a->t - p.first < group ? a->t - p.first : group;
        pull_values(p, u, dy, in);
        soften(p, u);
        operand ds = square(p, u, false), weight = square(p, work_of(p, 0), true);
        launch_values(p, product_of(p, part(p, dx, 0, false), ds, part(p, in, 1, true), p.alpha));
        launch_values(p, product_of(p, part(p, dx, 1, false), transposed(ds), part(p, in, 0, true),
                                    p.alpha));
        launch_values(p, product_of(p, part(p, dx, 2, false), transposed(weight), out(p, dy),
                                    1.0f));
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
    probabilities(p, in);
    probabilities_dot(p, p_dot, in, dot);
    pull_values(p, u, dy, in);
    pull_values(p, u_dot, dy, dot);
    CU_LAUNCH(soften_rows_dot, dim3(blocks_for(rows_of(p) * WARP)), dim3(THREADS), 0, stream, u,
              u_dot, work_of(p, 0), p_dot, rows_of(p), a->n);
    operand ds = square(p, u, true), ds_dot = square(p, u_dot, true);
    product q = product_of(p, part(p, dx, 0, true), ds_dot, part(p, in, 1, true), p.alpha);
    add_term(&q, ds, part(p, dot, 1, true));
    launch_values(p, q);
    product k = product_of(p, part(p, dx, 1, true), transposed(ds_dot), part(p, in, 0, true),
                           p.alpha);
    add_term(&k, transposed(ds), part(p, dot, 0, true));
    launch_values(p, k);
    launch_values(p, product_of(p, part(p, dx, 2, true), transposed(square(p, p_dot, true)),
                                out(p, dy), 1.0f));
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
