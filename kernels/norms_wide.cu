/*
 * norms_wide - norms.cu for more than 32 classes: one block a matrix.
 *
 * Shapes     g (N,K,K), p (rows,K), op, fro (N) f64; 32 < K <= 104
 * Work split thread i has row i, in dynamic shared memory: matrix (K rows of K or K + 1, odd), then
 * u
 *            and v (THREADS each) and the warps' parts (WARPS). Householder reduction, each thread
 *            its own row; then the largest eigenvalue by the Sturm count at 128 points at a time.
 * Precision  as norms.cu
 * Order      fixed by K: rows by one thread, sums over threads by warps, then in the warps' order
 * Cost       8 N K^2 bytes, 2/3 K^3 multiply-adds in f64 twice, each with 12 bytes of shared
 *            memory: that decides. K = 100: 16 MB at 128 bytes a clock are 125 000 clocks, 5 % more
 *            for the barriers. Prediction, H100: 10 000 matrices in 6 ms; the host needs 0.5 ms for
 *            each.
 * Limits     K <= 104: 95 KB of shared memory, which every device of compute capability 8.0 on has
 * Proof      tests/ops/test_backends.c, tests/ops/test_exact.c (norms)
 * History    v1 this file. Before: the host, one block of samples after another.
 */
#include "kernels/cuda.h"
#include "kernels/norms.h"

#include <float.h>
#include <inttypes.h>

namespace
{

constexpr int WARP = 32, WARPS = 4, THREADS = WARP * WARPS;
constexpr int ROUNDS = 9;             /* of 129 parts each: 6 |M| 129^-9 is below 2^-57 |M| */
constexpr double NEGLIGIBLE = 1e-290; /* as in norms.cu */
constexpr unsigned ALL = 0xffffffffu;
static_assert(LIPS_CUDA_NORMS_MAX <= THREADS, "a thread a row");

struct room {
    double *m, *u, *v, *part;
    int k, ld, i; /* this thread's row */
};

__host__ __device__ constexpr int row_length(int k)
{
    return k | 1; /* odd: neighbouring rows start two banks apart */
}

constexpr size_t shared_bytes(int k)
{
    return (size_t)(k * row_length(k) + 2 * THREADS + WARPS) * sizeof(double);
}

/* Sum (or largest) over the block, in every thread. */
template <bool largest> __device__ double combine(const room &w, double x)
{
    for (int d = WARP / 2; d; d /= 2) {
        const double other = __shfl_xor_sync(ALL, x, d);
        x = largest ? fmax(x, other) : x + other;
    }
    if (w.i % WARP == 0)
        w.part[w.i / WARP] = x;
    __syncthreads(); /* the warps' parts are there */
    x = w.part[0];
    for (int j = 1; j < WARPS; j++)
        x = largest ? fmax(x, w.part[j]) : x + w.part[j];
    __syncthreads(); /* and have been read */
    return x;
}

__device__ double block_sum(const room &w, double x)
{
    return combine<false>(w, x);
}

__device__ double block_max(const room &w, double x)
{
    return combine<true>(w, x);
}

/* m = A m A', or S m S = diag(p) (A m A') diag(p): as measure/maps.c, operation by operation. */
__device__ void map_softmax(const room &w, const double *p, bool both_sides)
{
    const bool mine = w.i < w.k;
    double *row = w.m + w.i * w.ld;
    w.u[w.i] = mine ? p[w.i] : 0.0;
    __syncthreads(); /* p and the matrix are there */
    int r = 0;
    double sum = 0, mean = 0;
    for (int j = 1; j < w.k; j++)
        r = w.u[j] > w.u[r] ? j : r;
    const double corner = w.m[r * w.ld + r], right = mine ? row[r] : 0.0;
    w.v[w.i] = mine ? w.m[r * w.ld + w.i] - corner : 0.0;
    __syncthreads(); /* row and column r have been read before any row changes */
    for (int j = 0; mine && j < w.k; j++) {
        row[j] = (row[j] - right) - w.v[j];
        sum += row[j] * w.u[j];
    }
    __syncthreads(); /* v has been read */
    w.v[w.i] = sum;
    __syncthreads(); /* all rows' sums are there */
    for (int j = 0; j < w.k; j++)
        mean += w.v[j] * w.u[j];
    for (int j = 0; mine && j < w.k; j++) {
        const double x = row[j] - (sum + w.v[j] - mean);
        row[j] = both_sides ? x * (w.u[w.i] * w.u[j]) : x;
    }
    __syncthreads(); /* the rows are complete, v has been read */
}

/* u' m u, never below 0; every thread's result. */
__device__ double quadratic(const room &w, const double *u)
{
    double row = 0, sum = 0;
    w.u[w.i] = w.i < w.k ? u[w.i] : 0.0;
    __syncthreads(); /* the vector and the matrix are there */
    for (int j = 0; w.i < w.k && j < w.k; j++)
        row += w.m[w.i * w.ld + j] * w.u[j];
    w.v[w.i] = row;
    __syncthreads(); /* the rows' sums are there */
    for (int j = 0; j < w.k; j++)
        sum += w.u[j] * w.v[j];
    return sum < 0 ? 0 : sum;
}

/* sum_i u_i m_ii, u the last map's p; never below 0; every thread's result. */
__device__ double weighted_trace(const room &w)
{
    double sum = 0;
    for (int j = 0; j < w.k; j++)
        sum += w.u[j] * w.m[j * w.ld + j];
    return sum < 0 ? 0 : sum;
}

/* Householder: the diagonal of this thread's row and the square of what couples it to the row
 * before. */
__device__ void reduce(const room &w, double &d, double &e2)
{
    d = e2 = 0;
    for (int j = 0; j + 1 < w.k; j++) {
        const int n = w.k - j - 1;
        const bool mine = w.i < n;
        double *row = w.m + (j + 1 + w.i) * w.ld + j; /* from column j on */
        const double x0 = w.m[(j + 1) * w.ld + j];
        double v = mine ? row[0] : 0.0;
        const double rest = block_sum(w, w.i ? v * v : 0.0), all = rest + x0 * x0;
        const bool reflect = rest > 0 && all > NEGLIGIBLE;
        const double alpha = x0 > 0 ? -sqrt(all) : sqrt(all), v0 = x0 - alpha;
        const double e = reflect ? alpha : all > NEGLIGIBLE ? x0 : 0.0;
        const double beta = reflect ? 2.0 / (rest + v0 * v0) : 0.0;
        if (w.i == 0)
            v = reflect ? v0 : 0.0;
        if (w.i == j)
            d = w.m[j * w.ld + j];
        if (w.i == j + 1)
            e2 = e * e;
        w.u[w.i] = v;
        __syncthreads(); /* the reflection is there */
        double p = 0;
        for (int c = 0; mine && c < n; c++)
            p += row[1 + c] * w.u[c];
        p *= beta;
        p -= block_sum(w, p * v) * beta * 0.5 * v;
        w.v[w.i] = p;
        __syncthreads(); /* the product is there */
        for (int c = 0; mine && c < n; c++)
            row[1 + c] -= v * w.v[c] + p * w.u[c];
        __syncthreads(); /* the rows are updated, u and v have been read */
    }
    if (w.i == w.k - 1)
        d = w.m[w.i * w.ld + w.i];
}

/* Are all eigenvalues of the tridiagonal matrix (diagonal u, squares v) below x? */
__device__ bool all_below(const room &w, double x)
{
    double q = INFINITY;
    int below = 0;
    for (int i = 0; i < w.k; i++) {
        q = w.u[i] - x - (w.v[i] + 1e-300) / q;
        below += q < 0;
    }
    return below == w.k;
}

/* Largest eigenvalue of the matrix in w, scaled to entries below 1. */
__device__ double largest(const room &w)
{
    double d, e2;
    reduce(w, d, e2);
    w.u[w.i] = d;
    w.v[w.i] = e2;
    __syncthreads(); /* the tridiagonal matrix is there */
    const double left = sqrt(e2), right = w.i + 1 < w.k ? sqrt(w.v[w.i + 1]) : 0.0;
    double hi = block_max(w, w.i < w.k ? d + left + right : -INFINITY);
    double lo = -block_max(w, w.i < w.k ? left + right - d : -INFINITY);
    const double slack = 0x1p-50 * fmax(fabs(lo), fabs(hi));
    lo -= slack;
    hi += slack;
    for (int round = 0; round < ROUNDS; round++) {
        const double step = (hi - lo) / (THREADS + 1);
        /* Points rise with the thread: those that lie below some eigenvalue are the first so
         * many. */
        const int not_above = (int)block_sum(w, all_below(w, lo + step * (w.i + 1)) ? 0.0 : 1.0);
        hi = not_above < THREADS ? lo + step * (not_above + 1) : hi;
        lo = lo + step * not_above;
    }
    return lo + (hi - lo) * 0.5;
}

/* Power of two that brings the matrix to a largest entry in [1/2, 1); 0 for a zero matrix; NaN if
 * an entry is not finite. */
__device__ double scale_of(const room &w)
{
    double most = 0, bad = 0;
    for (int j = 0; w.i < w.k && j <= w.i; j++) {
        const double v = fabs(w.m[w.i * w.ld + j]);
        bad = v <= DBL_MAX ? bad : 1;
        most = v > most ? v : most;
    }
    most = block_max(w, most);
    if (block_sum(w, bad) > 0)
        return NAN;
    if (most == 0)
        return 0;
    int exponent = 0;
    frexp(most, &exponent);
    exponent = exponent > 1000 ? 1000 : exponent < -1000 ? -1000 : exponent;
    return ldexp(1.0, exponent);
}

/* Copies the lower triangle, scaled, over the upper one. */
__device__ void rescale(const room &w, double down)
{
    __syncthreads(); /* the matrix has been read */
    for (int j = 0; w.i < w.k && j <= w.i; j++)
        w.m[w.i * w.ld + j] *= down;
    __syncthreads(); /* the lower triangle is scaled */
    for (int j = w.i + 1; j < w.k; j++)
        w.m[w.i * w.ld + j] = w.m[j * w.ld + w.i];
    __syncthreads(); /* the matrix is whole */
}

__device__ double root(double x)
{
    return x < 0 ? 0 : sqrt(x);
}

__global__ void __launch_bounds__(THREADS)
    norms_wide(double *__restrict__ op, double *__restrict__ fro, const double *__restrict__ g,
               const double *__restrict__ p, int64_t rows, int k, lips_cuda_norms_map map)
{
    CU_DYN_SHARED(double, shared);
    const int64_t s = blockIdx.x;
    room w = {shared, nullptr, nullptr, nullptr, k, row_length(k), (int)threadIdx.x};
    w.u = w.m + k * w.ld;
    w.v = w.u + THREADS;
    w.part = w.v + THREADS;
    for (int at = w.i; at < k * k; at += THREADS)
        w.m[at / k * w.ld + at % k] = g[s * k * k + at];
    __syncthreads(); /* the matrix is there */
    const double *row = p + s % rows * k;
    if (map == LIPS_CUDA_NORMS_VECTOR || map == LIPS_CUDA_NORMS_TRACE) {
        if (map == LIPS_CUDA_NORMS_TRACE)
            map_softmax(w, row, false);
        const double norm =
            root(map == LIPS_CUDA_NORMS_TRACE ? weighted_trace(w) : quadratic(w, row));
        if (w.i == 0)
            op[s] = fro[s] = norm;
        return; /* all threads */
    }
    if (map != LIPS_CUDA_NORMS_PLAIN)
        map_softmax(w, row, map == LIPS_CUDA_NORMS_SOFTMAX);
    double trace = 0;
    for (int i = 0; i < k; i++)
        trace += w.m[i * w.ld + i];
    const double scale = scale_of(w);
    double most = scale * w.m[0]; /* NaN, or 0 */
    if (scale > 0) {
        rescale(w, 1 / scale);
        most = largest(w) * scale;
    }
    if (w.i == 0) {
        op[s] = root(most);
        fro[s] = root(trace);
    }
}

} // namespace

lips_status lips_cuda_norms_wide(const lips_cuda_norms_args *a, cudaStream_t stream)
{
    if (a->k < 1 || a->k > LIPS_CUDA_NORMS_MAX)
        return lips_fail(LIPS_ERR_USAGE, "norms: k is %" PRId64 ", must be in 1..%d", a->k,
                         LIPS_CUDA_NORMS_MAX);
    if (a->n < 1 || a->n > INT32_MAX)
        return lips_fail(LIPS_ERR_USAGE, "norms: n is %" PRId64 ", must be in 1..%d", a->n,
                         INT32_MAX);
    const size_t shared = shared_bytes((int)a->k);
    LIPS_TRY_CUDA(cudaFuncSetAttribute((const void *)norms_wide,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    CU_LAUNCH(norms_wide, dim3((unsigned)a->n), dim3(THREADS), shared, stream, a->op, a->fro, a->g,
              a->p, a->rows, (int)a->k, a->map);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
