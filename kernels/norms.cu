/*
 * norms - spectral and Frobenius norms from small Gram matrices, one warp a matrix (norms.h).
 *
 *   M = g, A g A', S g S, or the 1 x 1 matrices p' g p and tr(S g);  op = sqrt(max eigenvalue),
 *   fro = sqrt(trace)
 *
 * Shapes     g (N,K,K), p (rows,K), op, fro (N) f64; K <= 32
 * Work split lane i has row i, in shared memory with rows of 33. Householder reduction as in
 *            measure/eigen.c, each lane its own row; then the largest eigenvalue by the Sturm count
 *            at 32 points at a time, one a lane: 12 rounds of 5 bits where bisection takes 57
 *            steps.
 * Precision  f64. A matrix is scaled by a power of two to a largest entry in [1/2, 1); error of the
 *            order of K 2^-53 |M|, as on the host; M itself has the host's bits. A matrix with a
 *            non-finite entry gives NaN, a zero matrix 0.
 * Order      fixed by K
 * Cost       8 N K^2 bytes; about 4/3 K^3 + 24 K^2 f64 operations and K divisions 12 times over.
 *            Latency decides: for K = 10 about 12 000 clocks a warp, 24 warps a multiprocessor.
 *            Prediction, H100: 100 000 matrices (10 000 samples of 10 series) in 0.25 ms.
 * Limits     K <= 32; larger ones are norms_wide.cu's, one block a matrix
 * Proof      tests/ops/test_backends.c, tests/ops/test_exact.c (norms)
 * History    v1 this file.
 */
#include "kernels/cuda.h"
#include "kernels/norms.h"

#include <float.h>
#include <inttypes.h>

namespace
{

constexpr int WARP = 32, WARPS = 4;
constexpr int K_MAX = 32;       /* a lane a row */
constexpr int LD = K_MAX + 1;   /* rows start two banks apart: column accesses do not conflict */
constexpr int ROUNDS = 12;      /* of 33 parts each: 6 |M| 33^-12 is below 2^-57 |M| */
constexpr int PRODUCT_MAX = 16; /* up to here determinants stay far from over- and underflow */
/* Squared columns below this count as zero: a relative change of 1e-145. */
constexpr double NEGLIGIBLE = 1e-290;
constexpr unsigned ALL = 0xffffffffu;

/* One warp's matrix and vectors. */
struct room {
    double m[K_MAX * LD];
    double u[K_MAX], v[K_MAX]; /* p and A g p; reflection and its product; diagonal and squares */
};

__device__ __forceinline__ double warp_sum(double v)
{
    for (int d = WARP / 2; d; d /= 2)
        v += __shfl_xor_sync(ALL, v, d);
    return v;
}

__device__ __forceinline__ double warp_max(double v)
{
    for (int d = WARP / 2; d; d /= 2)
        v = fmax(v, __shfl_xor_sync(ALL, v, d));
    return v;
}

/* m = A m A', or S m S = diag(p) (A m A') diag(p): as measure/maps.c, operation by operation. */
__device__ void map_softmax(room &w, const double *p, int k, int lane, bool both_sides)
{
    w.u[lane] = lane < k ? p[lane] : 0.0;
    __syncwarp(); /* p is there */
    int r = 0;
    double row = 0, mean = 0;
    for (int i = 1; i < k; i++)
        r = w.u[i] > w.u[r] ? i : r;
    double corner = w.m[r * LD + r];
    /* Column r of every row is read before any row changes. */
    double right = lane < k ? w.m[lane * LD + r] : 0.0;
    w.v[lane] = lane < k ? w.m[r * LD + lane] - corner : 0.0;
    __syncwarp(); /* row r is kept in v */
    for (int j = 0; lane < k && j < k; j++) {
        const double shifted = (w.m[lane * LD + j] - right) - w.v[j];
        w.m[lane * LD + j] = shifted;
        row += shifted * w.u[j];
    }
    __syncwarp(); /* v has been read */
    w.v[lane] = row;
    __syncwarp(); /* all rows' sums are there */
    for (int i = 0; i < k; i++)
        mean += w.v[i] * w.u[i];
    for (int j = 0; lane < k && j < k; j++) {
        double x = w.m[lane * LD + j] - (row + w.v[j] - mean);
        if (both_sides)
            x *= w.u[lane] * w.u[j];
        w.m[lane * LD + j] = x;
    }
    __syncwarp(); /* the rows are complete */
}

/* u' m u, never below 0; every lane's result. */
__device__ double quadratic(room &w, const double *u, int k, int lane)
{
    double row = 0, sum = 0;
    w.u[lane] = lane < k ? u[lane] : 0.0;
    __syncwarp(); /* the vector is there */
    for (int j = 0; lane < k && j < k; j++)
        row += w.m[lane * LD + j] * w.u[j];
    w.v[lane] = row;
    __syncwarp(); /* the rows' sums are there */
    for (int i = 0; i < k; i++)
        sum += w.u[i] * w.v[i];
    return sum < 0 ? 0 : sum;
}

/* sum_i u_i m_ii, u the last map's p; never below 0; every lane's result. */
__device__ double weighted_trace(const room &w, int k)
{
    double sum = 0;
    for (int i = 0; i < k; i++)
        sum += w.u[i] * w.m[i * LD + i];
    return sum < 0 ? 0 : sum;
}

/* Householder: the diagonal of this lane's row and the square of what couples it to the row before.
 */
__device__ void reduce(room &w, int k, int lane, double &d, double &e2)
{
    d = e2 = 0;
    for (int j = 0; j + 1 < k; j++) {
        const int row = j + 1 + lane, n = k - j - 1;
        const bool mine = lane < n;
        double v = mine ? w.m[row * LD + j] : 0.0;
        const double x0 = __shfl_sync(ALL, v, 0);
        const double rest = warp_sum(lane ? v * v : 0.0), all = rest + x0 * x0;
        const bool reflect = rest > 0 && all > NEGLIGIBLE;
        const double alpha = x0 > 0 ? -sqrt(all) : sqrt(all), v0 = x0 - alpha;
        const double e = reflect ? alpha : all > NEGLIGIBLE ? x0 : 0.0;
        const double beta = reflect ? 2.0 / (rest + v0 * v0) : 0.0;
        if (lane == 0)
            v = reflect ? v0 : 0.0;
        if (lane == j)
            d = w.m[j * LD + j];
        if (lane == j + 1)
            e2 = e * e;
        w.u[lane] = v;
        __syncwarp(); /* the reflection is there */
        double p = 0;
        for (int c = 0; mine && c < n; c++)
            p += w.m[row * LD + j + 1 + c] * w.u[c];
        p *= beta;
        p -= warp_sum(p * v) * beta * 0.5 * v;
        w.v[lane] = p;
        __syncwarp(); /* the product is there */
        for (int c = 0; mine && c < n; c++)
            w.m[row * LD + j + 1 + c] -= v * w.v[c] + p * w.u[c];
        __syncwarp(); /* u and v have been read */
    }
    if (lane == k - 1)
        d = w.m[lane * LD + lane];
}

/* Are all eigenvalues of the tridiagonal matrix (diagonal u, squares v) below x? */
__device__ bool all_below(const room &w, int k, double x)
{
    int below = 0;
    if (k <= PRODUCT_MAX) {
        double last = w.u[0] - x, before = 1;
        below = last < 0;
        for (int i = 1; i < k; i++) {
            const double now = (w.u[i] - x) * last - w.v[i] * before;
            before = last;
            last = now;
            below += now * before < 0;
        }
    } else {
        double q = INFINITY;
        for (int i = 0; i < k; i++) {
            q = w.u[i] - x - (w.v[i] + 1e-300) / q;
            below += q < 0;
        }
    }
    return below == k;
}

/* Largest eigenvalue of the matrix in w, scaled to entries below 1. */
__device__ double largest(room &w, int k, int lane)
{
    double d, e2;
    reduce(w, k, lane, d, e2);
    w.u[lane] = d;
    w.v[lane] = e2;
    __syncwarp(); /* the tridiagonal matrix is there */
    const double left = sqrt(e2), right = lane + 1 < k ? sqrt(w.v[lane + 1]) : 0.0;
    double hi = warp_max(lane < k ? d + left + right : -INFINITY);
    double lo = -warp_max(lane < k ? left + right - d : -INFINITY);
    const double slack = 0x1p-50 * fmax(fabs(lo), fabs(hi));
    lo -= slack;
    hi += slack;
    for (int round = 0; round < ROUNDS; round++) {
        const double x = lo + (hi - lo) * ((lane + 1) / 33.0);
        const unsigned above = __ballot_sync(ALL, all_below(w, k, x));
        const int first = above ? __ffs((int)above) - 1 : WARP; /* first point above it */
        const double next = __shfl_sync(ALL, x, first < WARP ? first : 0);
        const double previous = __shfl_sync(ALL, x, first ? first - 1 : 0);
        hi = first < WARP ? next : hi;
        lo = first ? previous : lo;
    }
    return lo + (hi - lo) * 0.5;
}

/* Power of two that brings the matrix to a largest entry in [1/2, 1); 0 for a zero matrix; NaN if
 * an entry is not finite. */
__device__ double scale_of(const room &w, int k, int lane)
{
    double most = 0;
    bool finite = true;
    for (int j = 0; lane < k && j <= lane; j++) {
        const double v = fabs(w.m[lane * LD + j]);
        finite = finite && v <= DBL_MAX;
        most = v > most ? v : most;
    }
    most = warp_max(most);
    if (!__all_sync(ALL, finite))
        return NAN;
    if (most == 0)
        return 0;
    int exponent = 0;
    frexp(most, &exponent);
    exponent = exponent > 1000 ? 1000 : exponent < -1000 ? -1000 : exponent;
    return ldexp(1.0, exponent);
}

__device__ double root(double x)
{
    return x < 0 ? 0 : sqrt(x);
}

/* Copies the lower triangle, scaled, over the upper one. */
__device__ void rescale(room &w, int k, int lane, double down)
{
    for (int j = 0; lane < k && j <= lane; j++)
        w.m[lane * LD + j] *= down;
    __syncwarp(); /* the lower triangle is scaled */
    for (int j = lane + 1; j < k; j++)
        w.m[lane * LD + j] = w.m[j * LD + lane];
    __syncwarp(); /* the matrix is whole */
}

__global__ void __launch_bounds__(WARP *WARPS)
    norms(double *__restrict__ op, double *__restrict__ fro, const double *__restrict__ g,
          const double *__restrict__ p, int64_t rows, int64_t n, int k, lips_cuda_norms_map map)
{
    CU_SHARED(room, rooms, [WARPS]);
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t s = (int64_t)blockIdx.x * WARPS + warp;
    room &w = rooms[warp];
    if (s >= n)
        return; /* a whole warp; no barrier of the block follows */
    for (int at = lane; at < k * k; at += WARP)
        w.m[at / k * LD + at % k] = g[s * k * k + at];
    __syncwarp(); /* the matrix is there */
    const double *row = p + s % rows * k;
    if (map == LIPS_CUDA_NORMS_VECTOR || map == LIPS_CUDA_NORMS_TRACE) {
        if (map == LIPS_CUDA_NORMS_TRACE)
            map_softmax(w, row, k, lane, false);
        const double norm =
            root(map == LIPS_CUDA_NORMS_TRACE ? weighted_trace(w, k) : quadratic(w, row, k, lane));
        if (lane == 0)
            op[s] = fro[s] = norm;
        return;
    }
    if (map != LIPS_CUDA_NORMS_PLAIN)
        map_softmax(w, row, k, lane, map == LIPS_CUDA_NORMS_SOFTMAX);
    double trace = 0;
    for (int i = 0; i < k; i++)
        trace += w.m[i * LD + i];
    const double scale = scale_of(w, k, lane);
    double most = scale * w.m[0]; /* NaN, or 0 */
    if (k == 1)
        most = w.m[0] - w.m[0] == 0 ? w.m[0] : NAN;
    else if (scale > 0) {
        __syncwarp(); /* the diagonal has been read */
        rescale(w, k, lane, 1 / scale);
        most = largest(w, k, lane) * scale;
    }
    if (lane == 0) {
        op[s] = root(most);
        fro[s] = root(trace);
    }
}

} // namespace

lips_status lips_cuda_norms(const lips_cuda_norms_args *a, cudaStream_t stream)
{
    if (a->k > K_MAX)
        return lips_cuda_norms_wide(a, stream);
    if (a->k < 1)
        return lips_fail(LIPS_ERR_USAGE, "norms: k is %" PRId64 ", must be in 1..%d", a->k,
                         LIPS_CUDA_NORMS_MAX);
    if (a->n < 1 || a->n > (int64_t)INT32_MAX * WARPS)
        return lips_fail(LIPS_ERR_USAGE, "norms: n is %" PRId64 ", must be in 1..%" PRId64, a->n,
                         (int64_t)INT32_MAX * WARPS);
    CU_LAUNCH(norms, dim3((unsigned)((a->n + WARPS - 1) / WARPS)), dim3(WARP * WARPS), 0, stream,
              a->op, a->fro, a->g, a->p, a->rows, a->n, (int)a->k, a->map);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
