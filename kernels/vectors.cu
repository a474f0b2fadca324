/*
 * vectors - long vectors of doubles: products of many with one, combinations, to and from reals,
 * signs (vectors.h). What a Lanczos iteration does between two products with its matrix.
 *
 *   dots     out[i] = sum_j q[i][j] w[j]            narrow  dst = (float)src
 *   combine  y = keep y + sum_i (factor c_i) q[i]   widen   dst += factor (double)src
 *   signs    dst[i] = 1 or -1
 *
 * Shapes     q (S,n), w, y (n), c, out (S), scratch (S, ceil(n / PIECE)) f64; reals f32; all
 *            device, c instead from the host, as an argument of the launch
 * Work split dots pass 1: half a warp per piece and vector, a lane per chain; the half warps of a
 *            block share a piece as far as there are vectors, so that w comes from the first cache.
 *            Pass 2: a block per vector, one thread adds what the others have fetched.
 *            combine, narrow, widen, signs: a thread per place, grid-stride
 * Precision  products and sums in f64, not contracted
 * Order      of dots: of the host's (lips_dots_args in backend.h), so that vectors may be with
 *            either to the same bits. Of combine: that of the vectors.
 * Cost       dots 8 (S + 1) n bytes (w again from cache), combine 8 (S + 2) n: memory bound. dots'
 *            second pass: n / PIECE additions one after another, 8 cycles each.
 * Limits     S <= LIPS_CUDA_VECTORS_MAX; S n / PIECE / HALVES blocks, below 2^31
 * Proof      tests/ops/test_backends.c (dots, combine, narrow, widen, signs): equal bits everywhere
 * Speed      bench/cuda_kernels doubles=, predictions: S = 32, n = 2^21 0.21 ms each, 88 % of the
 *            copy rate. S = 40, n = 10^7 on an H100: dots 3.2 GB in 1.1 ms and 0.1 ms of pass 2,
 *            combine the same; S = 1: 0.1 ms, of which pass 2 is half
 * History    v1 this file.
 */
#include "kernels/vectors.h"

#include "kernels/flat.h"
#include "kernels/philox.h"

using namespace lips_flat;

namespace
{

constexpr int PIECE = 1024; /* LIPS_VECTOR_PIECE */
constexpr int CHAINS = 16;  /* of a piece: two registers of 8 doubles on the host */
constexpr int HALVES = THREADS / CHAINS;
constexpr int SIGNS = 128; /* from one place of the generator */
constexpr unsigned ALL = 0xffffffffu;

static_assert(2 * CHAINS == 32, "two pieces to a warp");

/* Sum of a piece, the chains' sums in its lanes, in the host's order; every lane has it. */
__device__ __forceinline__ double join(double chain)
{
    const double pair = chain + __shfl_down_sync(ALL, chain, CHAINS / 2, CHAINS);
    double sum = 0;
    for (int j = 0; j < CHAINS / 2; j++)
        sum += __shfl_sync(ALL, pair, j, CHAINS);
    return sum;
}

__global__ void __launch_bounds__(THREADS, 4)
    dots_pieces(double *partial, const double *__restrict__ q, const double *__restrict__ w,
                int64_t count, int64_t n, int64_t pieces)
{
    const int chain = (int)threadIdx.x % CHAINS;
    int64_t job = (int64_t)blockIdx.x * HALVES + threadIdx.x / CHAINS;
    const bool mine = job < pieces * count; /* every lane takes part in the shuffles */
    job = mine ? job : 0;
    const int64_t piece = job / count, row = job % count, at = piece * PIECE;
    const int len = (int)(n - at < PIECE ? n - at : PIECE), whole = len / CHAINS * CHAINS;
    const double *a = q + row * n + at, *b = w + at;
    double sum = 0;
#pragma unroll 8
    for (int j = chain; j < whole; j += CHAINS)
        sum += a[j] * b[j];
    sum = join(sum);
    for (int j = whole; j < len; j++)
        sum += a[j] * b[j];
    if (mine && chain == 0)
        partial[row * pieces + piece] = sum;
}

__global__ void __launch_bounds__(THREADS, 8)
    dots_total(double *out, const double *partial, int64_t pieces)
{
    CU_SHARED(double, part, [THREADS]);
    const double *from = partial + blockIdx.x * pieces;
    double sum = 0;
    for (int64_t at = 0; at < pieces; at += THREADS) {
        const int len = (int)(pieces - at < THREADS ? pieces - at : THREADS);
        if ((int)threadIdx.x < len)
            part[threadIdx.x] = from[at + threadIdx.x];
        __syncthreads(); /* the parts before they are added */
        for (int j = 0; threadIdx.x == 0 && j < len; j++)
            sum += part[j];
        __syncthreads(); /* and before they are replaced */
    }
    if (threadIdx.x == 0)
        out[blockIdx.x] = sum;
}

struct factors {
    double c[LIPS_CUDA_VECTORS_MAX];
};

/* The coefficients are at `c`, or in `given` if that is NULL. */
__global__ void __launch_bounds__(THREADS, 4)
    combine(double *y, double keep, double factor, const double *__restrict__ q, const double *c,
            const factors given, int count, int64_t n)
{
    CU_SHARED(double, by, [LIPS_CUDA_VECTORS_MAX]);
    for (int i = (int)threadIdx.x; i < count; i += THREADS)
        by[i] = factor * (c ? c[i] : given.c[i]);
    __syncthreads(); /* the coefficients before they are read */
    for (int64_t k = first_item<int64_t>(); k < n; k += item_step<int64_t>()) {
        double sum = keep == 0 ? 0 : keep * y[k];
#pragma unroll 8
        for (int i = 0; i < count; i++)
            sum += by[i] * q[i * n + k];
        y[k] = sum;
    }
}

__global__ void narrow(float *dst, const double *__restrict__ src, int64_t n)
{
    for (int64_t i = first_item<int64_t>(); i < n; i += item_step<int64_t>())
        dst[i] = (float)src[i];
}

__global__ void widen(double *dst, double factor, const float *__restrict__ src, int64_t n)
{
    for (int64_t i = first_item<int64_t>(); i < n; i += item_step<int64_t>())
        dst[i] += factor * (double)src[i];
}

__global__ void signs(double *dst, philox::generator r, uint64_t first, int64_t n)
{
    for (int64_t i = first_item<int64_t>(); i < n; i += item_step<int64_t>()) {
        uint32_t word[4];
        philox::words(r, first + (uint64_t)(i / SIGNS), word);
        const int bit = (int)(i % SIGNS), at = bit / 32;
        const uint32_t w = at < 2 ? (at ? word[1] : word[0]) : (at == 3 ? word[3] : word[2]);
        dst[i] = (w >> (bit % 32)) & 1 ? 1 : -1;
    }
}

int64_t pieces_of(int64_t n)
{
    return (n + PIECE - 1) / PIECE;
}

/* As many blocks as keep a device busy; loops take the rest. */
dim3 grid_of(int64_t n)
{
    constexpr int64_t MOST = 1 << 14;
    const int64_t blocks = blocks_for(n);
    return dim3((unsigned)(blocks < MOST ? blocks : MOST));
}

} // namespace

extern "C" size_t lips_cuda_dots_bytes(int64_t count, int64_t n)
{
    return (size_t)(count * pieces_of(n)) * sizeof(double);
}

extern "C" lips_status lips_cuda_dots(double *out, const double *q, const double *w, int64_t count,
                                      int64_t n, void *scratch, cudaStream_t stream)
{
    double *partial = static_cast<double *>(scratch);
    const int64_t pieces = pieces_of(n), blocks = (pieces * count + HALVES - 1) / HALVES;
    if (count < 1 || count > LIPS_CUDA_VECTORS_MAX || n < 1 || blocks > INT32_MAX)
        return lips_fail(LIPS_ERR_USAGE, "dots: %lld vectors of %lld places", (long long)count,
                         (long long)n);
    CU_LAUNCH(dots_pieces, dim3((unsigned)blocks), dim3(THREADS), 0, stream, partial, q, w, count,
              n, pieces);
    CU_LAUNCH(dots_total, dim3((unsigned)count), dim3(THREADS), 0, stream, out, partial, pieces);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_combine(const lips_cuda_combine_args *a, cudaStream_t stream)
{
    factors given = {};
    if (a->count < 0 || a->count > LIPS_CUDA_VECTORS_MAX || a->n < 1)
        return lips_fail(LIPS_ERR_USAGE, "combine: %lld vectors of %lld places",
                         (long long)a->count, (long long)a->n);
    for (int64_t i = 0; !a->c && i < a->count; i++)
        given.c[i] = a->c_host[i];
    CU_LAUNCH(combine, grid_of(a->n), dim3(THREADS), 0, stream, a->y, a->keep, a->factor, a->q,
              a->c, given, (int)a->count, a->n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_narrow(float *dst, const double *src, int64_t n,
                                        cudaStream_t stream)
{
    CU_LAUNCH(narrow, grid_of(n), dim3(THREADS), 0, stream, dst, src, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_widen(double *dst, double factor, const float *src, int64_t n,
                                       cudaStream_t stream)
{
    CU_LAUNCH(widen, grid_of(n), dim3(THREADS), 0, stream, dst, factor, src, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_signs(double *dst, uint32_t rng_stream, int64_t draw, int64_t n,
                                       cudaStream_t stream)
{
    const philox::generator r = {0, rng_stream, 0};
    const uint64_t first = (uint64_t)draw * (uint64_t)((n + SIGNS - 1) / SIGNS);
    CU_LAUNCH(signs, grid_of(n), dim3(THREADS), 0, stream, dst, r, first, n);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
