/*
 * rows - batches gathered from a data set that lies on the device, with random crop and flip
 * (rows.h).
 *
 *   y[i][c][v][u] = x[r][c][v + top][flip ? left + W - 1 - u : left + u], black outside; r, row of
 *   i, is what a batch's index says, or the epoch's order from the cursor on (backend/cursor.h)
 *   top, left in -4..4 and flip from Philox at (seed, epoch, source[r]): data/augment.c, bit for
 *   bit
 *
 * Shapes     y (cap,H,W,C) or (cap,C,H,W) f32; values (N,C,H,W) u8 or f32; table (C,256) f32; any
 * Work split grid (a sample's values by THREADS PACKS packs, samples): a thread packs of 4 values
 *            where a sample divides by 4, else single ones. One thread of a block finds the
 *            sample's row, shift and flip; the table of up to TABLE channels goes to shared memory,
 *            where 32 lanes look up different bytes at a few times the cost of one.
 * Precision  none: a byte stands for a float that the host has rounded
 * Order      no sums
 * Cost       reads B C H W bytes (4 times that if not packed), writes 4 cap C H W. In sm_90's code
 *            some 34 instructions a value. A batch of 128 CIFAR images is 2 MB: below a launch's
 *            time.
 * Limits     a sample below 2^31 values, cap <= 65535
 * Proof      tests/train/test_rows.c, tests/ops/test_backends.c (gather),
 *            tests/ops/test_random_cuda.c
 * Speed      prediction (not measured): 92 % of the copy rate from some 100 MB on; 128 images a
 *            launch and 2 us
 * History    v1 a thread a value, each with divisions and Philox of its own: 60 instructions a
 *            value, 150 with augmentation, of which an H100 issues 50 at the copy rate. v2 this
 *            file.
 */
#include "kernels/divide.h"
#include "kernels/flat.h"
#include "kernels/philox.h"
#include "kernels/rows.h"

#include <inttypes.h>

using namespace lips_divide;

namespace
{

using lips_flat::pack;

constexpr int THREADS = 256;
constexpr int PAD = 4, PLACES = 2 * PAD + 1; /* as in data/augment.c */
constexpr int TABLE = 4;                     /* channels of a table in shared memory */
constexpr int VALUES = 256;                  /* of a byte */
constexpr int PACKS = 3;                     /* a CIFAR image is one block's */

struct shape {
    int64_t first, b;
    int c, h, w, images, packed, augment;
    divisor inner, width; /* inner: what lies together in y, channels of images or a plane */
};

struct data_set {
    const void *values;
    const float *table;
    const int64_t *source, *index;
    const lips_cursor *cursor;
};

/* Where a sample comes from: place (line, column) has what is at (line + top, left + step column).
 */
struct origin {
    int64_t row;
    int top, left, step;
};

__device__ inline origin origin_of(int64_t i, const data_set &from, const shape &d,
                                   philox::generator r)
{
    const int64_t place = (from.cursor ? from.cursor->row : 0) + d.first + i;
    origin o = {from.index ? from.index[place] : place, 0, 0, 1};
    if (d.augment) {
        uint32_t word[4];
        if (from.cursor)
            r.epoch = (uint32_t)from.cursor->epoch;
        philox::words(r, (uint64_t)from.source[o.row], word);
        o.top = (int)__umulhi(word[0], PLACES) - PAD;
        o.left = (int)__umulhi(word[1], PLACES) - PAD;
        if (word[2] >> 31) {
            o.left += d.w - 1;
            o.step = -1;
        }
    }
    return o;
}

/* Value `at` of the sample from o, whose values begin at `values`, bytes or floats. */
__device__ inline float value_at(uint32_t at, const origin &o, const void *values,
                                 const float *table, const shape &d)
{
    const uint32_t major = divide(at, d.inner), minor = at - major * d.inner.d;
    const uint32_t c = d.images ? minor : major, pixel = d.images ? major : minor;
    const uint32_t line = divide(pixel, d.width), column = pixel - line * d.width.d;
    const int v = (int)line + o.top, u = o.left + o.step * (int)column;
    const bool inside = (uint32_t)v < (uint32_t)d.h && (uint32_t)u < (uint32_t)d.w;
    const int from = ((int)c * d.h + v) * d.w + u;
    if (d.packed)
        return table[c * VALUES + (inside ? static_cast<const uint8_t *>(values)[from] : 0u)];
    return inside ? static_cast<const float *>(values)[from] : table[c * VALUES];
}

template <int V>
__global__ void __launch_bounds__(THREADS)
    gather(float *__restrict__ y, data_set from, shape d, philox::generator r)
{
    CU_SHARED(float, means, [TABLE * VALUES]);
    CU_SHARED(origin, shared, [1]);
    const int64_t i = blockIdx.y;
    const int size = d.c * d.h * d.w;
    const int first = (int)(blockIdx.x * THREADS + threadIdx.x) * V;
    const int step = (int)(gridDim.x * THREADS) * V;
    float *to = y + i * size;
    if (i >= d.b) { /* whole blocks */
        for (int at = first; at < size; at += step)
            lips_flat::store<V>(to + at, pack<V>{});
        return;
    }
    const bool small = d.c <= TABLE;
    if (threadIdx.x == 0)
        shared[0] = origin_of(i, from, d, r);
    for (int k = (int)threadIdx.x; small && k < d.c * VALUES; k += THREADS)
        means[k] = from.table[k];
    __syncthreads(); /* origin and table are there */
    const origin o = shared[0];
    const void *values =
        static_cast<const char *>(from.values) + o.row * size * (d.packed ? 1 : (int)sizeof(float));
#pragma unroll
    for (int n = 0; n < PACKS; n++) {
        const int at = first + n * step;
        if (at >= size)
            break;
        pack<V> v;
        for (int j = 0; j < V; j++)
            v.v[j] = value_at((uint32_t)(at + j), o, values, small ? means : from.table, d);
        lips_flat::store<V>(to + at, v);
    }
}

__global__ void __launch_bounds__(THREADS)
    random_fill(double *__restrict__ out, int64_t n, uint64_t first, philox::generator r,
                int normal)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        out[i] = normal ? philox::normal(r, first + (uint64_t)i)
                        : philox::uniform(r, first + (uint64_t)i);
}

} // namespace

lips_status lips_cuda_gather(const lips_cuda_gather_args *a, cudaStream_t stream)
{
    const double size = (double)a->c * (double)a->h * (double)a->w;
    if (a->cap < 1 || a->cap > 65535 || a->b > a->cap)
        return lips_fail(LIPS_ERR_USAGE,
                         "gather: %" PRId64 " of %" PRId64 " samples, must be in 1..65535", a->b,
                         a->cap);
    if (!(size >= 1 && size < 2147483648.0))
        return lips_fail(LIPS_ERR_USAGE, "gather: %.0f values of a sample, must be in 1..2^31-1",
                         size);
    const shape d = {a->first,
                     a->b,
                     (int)a->c,
                     (int)a->h,
                     (int)a->w,
                     (int)a->images,
                     (int)a->packed,
                     (int)a->augment,
                     make_divisor((uint32_t)(a->images ? a->c : a->h * a->w)),
                     make_divisor((uint32_t)a->w)};
    const data_set from = {a->values, a->table, a->source, a->index, a->cursor};
    const philox::generator r = {a->seed, a->stream, a->epoch};
    const int v = (int64_t)size % 4 == 0 && lips_flat::aligned(a->y) ? 4 : 1;
    const int64_t of_block = (int64_t)THREADS * PACKS * v;
    const dim3 grid((unsigned)(((int64_t)size + of_block - 1) / of_block), (unsigned)a->cap);
    if (v == 4)
        CU_LAUNCH(gather<4>, grid, dim3(THREADS), 0, stream, a->y, from, d, r);
    else
        CU_LAUNCH(gather<1>, grid, dim3(THREADS), 0, stream, a->y, from, d, r);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

lips_status lips_cuda_random(const lips_cuda_random_args *a, cudaStream_t stream)
{
    if (a->n < 1 || a->n > (int64_t)INT32_MAX * THREADS)
        return lips_fail(LIPS_ERR_USAGE, "random: %" PRId64 " numbers, must be in 1..%" PRId64,
                         a->n, (int64_t)INT32_MAX * THREADS);
    const philox::generator r = {a->seed, a->stream, a->epoch};
    CU_LAUNCH(random_fill, dim3((unsigned)((a->n + THREADS - 1) / THREADS)), dim3(THREADS), 0,
              stream, a->out, a->n, a->first, r, (int)a->normal);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
