/*
 * rows - batches gathered from a data set that lies on the device, with random crop and flip (rows.h).
 *
 *   y[i][c][v][u] = x[r][c][v + top][flip ? left + W - 1 - u : left + u], black outside; r, row of i,
 *   is what a batch's index says, or the epoch's order from the cursor on (backend/cursor.h)
 *   top, left in -4..4 and flip from Philox at (seed, epoch, source[r]): data/augment.c, bit for bit
 *
 * Shapes     y (cap,H,W,C) or (cap,C,H,W) f32; values (N,C,H,W) u8 or f32; table (C,256) f32; any
 * Work split a thread one value of y, grid (values of a sample, samples)
 * Precision  none: a byte stands for a float that the host has rounded
 * Order      no sums
 * Cost       reads B C H W bytes (4 times that if not packed), writes 4 cap C H W. A batch of 128
 *            CIFAR images is 2 MB: below a launch's time. Prediction, H100: 3 us.
 * Limits     a sample below 2^31 values, cap <= 65535
 * Proof      tests/train/test_rows.c, tests/ops/test_backends.c (gather), tests/ops/test_random_cuda.c
 * History    v1 this file.
 */
#include "kernels/philox.h"
#include "kernels/rows.h"

#include <inttypes.h>

namespace
{

constexpr int THREADS = 256;
constexpr int PAD = 4, PLACES = 2 * PAD + 1; /* as in data/augment.c */

struct shape {
    int64_t first, b;
    int c, h, w, images, packed, augment;
};

__global__ void __launch_bounds__(THREADS)
    gather(float *__restrict__ y, const void *__restrict__ values, const float *__restrict__ table,
           const int64_t *__restrict__ source, const int64_t *__restrict__ index,
           const lips_cursor *cursor, shape d, philox::generator r)
{
    const int64_t i = blockIdx.y;
    const int at = (int)(blockIdx.x * THREADS + threadIdx.x), size = d.c * d.h * d.w;
    if (at >= size)
        return;
    float *to = y + i * size + at;
    if (i >= d.b) {
        *to = 0;
        return;
    }
    const int64_t place = (cursor ? cursor->row : 0) + d.first + i;
    const int64_t row = index ? index[place] : place;
    const int c = d.images ? at % d.c : at / (d.h * d.w);
    const int pixel = d.images ? at / d.c : at % (d.h * d.w);
    int v = pixel / d.w, u = pixel % d.w;
    if (d.augment) {
        uint32_t word[4];
        if (cursor)
            r.epoch = (uint32_t)cursor->epoch;
        philox::words(r, (uint64_t)source[row], word);
        if (word[2] >> 31)
            u = d.w - 1 - u;
        v += (int)__umulhi(word[0], PLACES) - PAD;
        u += (int)__umulhi(word[1], PLACES) - PAD;
    }
    const bool inside = v >= 0 && v < d.h && u >= 0 && u < d.w;
    const int64_t from = ((row * d.c + c) * d.h + v) * d.w + u;
    if (d.packed)
        *to = table[c * 256 + (inside ? ((const uint8_t *)values)[from] : 0)];
    else
        *to = inside ? ((const float *)values)[from] : table[c * 256];
}

__global__ void __launch_bounds__(THREADS)
    random_fill(double *__restrict__ out, int64_t n, uint64_t first, philox::generator r, int normal)
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
        return lips_fail(LIPS_ERR_USAGE, "gather: %" PRId64 " of %" PRId64
                         " samples, must be in 1..65535", a->b, a->cap);
    if (!(size >= 1 && size < 2147483648.0))
        return lips_fail(LIPS_ERR_USAGE, "gather: %.0f values of a sample, must be in 1..2^31-1",
                         size);
    const shape d = {a->first,    a->b,          (int)a->c,       (int)a->h,
                     (int)a->w,   (int)a->images, (int)a->packed, (int)a->augment};
    const dim3 grid((unsigned)(((int64_t)size + THREADS - 1) / THREADS), (unsigned)a->cap);
    const philox::generator r = {a->seed, a->stream, a->epoch};
    CU_LAUNCH(gather, grid, dim3(THREADS), 0, stream, a->y, a->values, a->table, a->source, a->index,
              a->cursor, d, r);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

lips_status lips_cuda_random(const lips_cuda_random_args *a, cudaStream_t stream)
{
    if (a->n < 1 || a->n > (int64_t)INT32_MAX * THREADS)
        return lips_fail(LIPS_ERR_USAGE, "random: %" PRId64 " numbers, must be in 1..%" PRId64, a->n,
                         (int64_t)INT32_MAX * THREADS);
    const philox::generator r = {a->seed, a->stream, a->epoch};
    CU_LAUNCH(random_fill, dim3((unsigned)((a->n + THREADS - 1) / THREADS)), dim3(THREADS), 0, stream,
              a->out, a->n, a->first, r, (int)a->normal);
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
