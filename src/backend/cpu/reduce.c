/* cpu/reduce.c - sums over the samples in use and the positions of a channel, f64 in fixed order.
 */
#include "backend/cpu/ops.h"

/* Per-lane sums of one block of 16 samples. */
typedef void (*block_fn)(const lips_cpu_kernels *k, double s[LIPS_CPU_LANES], const float *y,
                         int64_t y_stride, const float *x, int64_t x_stride, double center,
                         int64_t n);

/* Adds up block() over the channel's slabs and blocks, lanes beyond b left out. */
static double channel_reduce(const lips_backend *be, block_fn block, const lips_tensor *y,
                             int64_t c, int64_t t, const lips_tensor *x, double center)
{
    int64_t n = y->h * y->w, y_stride = y->t * y->lanes, x_stride = x->t * x->lanes;
    double total = 0;
    for (int64_t i = 0; i < y->b; i += LIPS_CPU_LANES) {
        int64_t s = i / y->lanes, lane = i % y->lanes, used = y->b - i;
        double sum[LIPS_CPU_LANES] = {0};
        block(lips_cpu_k(be), sum, lips_cpu_slab(y, s) + c * n * y_stride + t * y->lanes + lane,
              y_stride, lips_cpu_slab(x, s) + c * n * x_stride + lane, x_stride, center, n);
        for (int64_t l = 0; l < LIPS_CPU_LANES && l < used; l++)
            total += sum[l];
    }
    return total;
}

static void block_sum(const lips_cpu_kernels *k, double s[LIPS_CPU_LANES], const float *y,
                      int64_t y_stride, const float *x, int64_t x_stride, double center, int64_t n)
{
    (void)x, (void)x_stride, (void)center;
    k->lane_sum(s, y, y_stride, n);
}

static void block_sumsq(const lips_cpu_kernels *k, double s[LIPS_CPU_LANES], const float *y,
                        int64_t y_stride, const float *x, int64_t x_stride, double center,
                        int64_t n)
{
    (void)x, (void)x_stride;
    k->lane_sumsq(s, y, y_stride, center, n);
}

static void block_dot(const lips_cpu_kernels *k, double s[LIPS_CPU_LANES], const float *y,
                      int64_t y_stride, const float *x, int64_t x_stride, double center, int64_t n)
{
    k->lane_dot(s, y, y_stride, x, x_stride, center, n);
}

double lips_cpu_channel_sum(const lips_backend *be, const lips_tensor *y, int64_t c, int64_t t)
{
    int64_t n = y->h * y->w * y->lanes;
    if (y->t > 1 || y->b % y->lanes)
        return channel_reduce(be, block_sum, y, c, t, y, 0);
    double total = 0; /* contiguous and full */
    for (int64_t s = 0; s < lips_cpu_slabs(y); s++)
        total += lips_cpu_k(be)->sum(lips_cpu_slab(y, s) + c * n, n);
    return total;
}

double lips_cpu_channel_sumsq(const lips_backend *be, const lips_tensor *y, int64_t c,
                              double center)
{
    return channel_reduce(be, block_sumsq, y, c, 0, y, center);
}

double lips_cpu_channel_dot(const lips_backend *be, const lips_tensor *y, int64_t c, int64_t t,
                            const lips_tensor *x, double center)
{
    return channel_reduce(be, block_dot, y, c, t, x, center);
}
