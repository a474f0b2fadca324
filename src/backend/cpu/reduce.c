/* cpu/reduce.c - sums over the samples in use and the positions of a channel, f64 in fixed order.
 */
#include "backend/cpu/ops.h"

/* Adds the lanes in use of a block of 16 whose first sample is first. */
static double add_used(const double lane[LIPS_CPU_LANES], const lips_tensor *t, int64_t first)
{
    double total = 0;
    for (int64_t l = 0; l < LIPS_CPU_LANES && first + l < t->b; l++)
        total += lane[l];
    return total;
}

/* Channel c, stacked value t of the block of 16 samples from first on. */
static const float *block_at(const lips_tensor *x, int64_t c, int64_t t, int64_t first)
{
    return lips_cpu_slab(x, first / x->lanes) + (c * x->h * x->w * x->t + t) * x->lanes +
           first % x->lanes;
}

double lips_cpu_channel_sum(const lips_backend *be, const lips_tensor *y, int64_t c, int64_t t)
{
    int64_t n = y->h * y->w;
    double total = 0;
    if (y->t == 1 && y->b % y->lanes == 0) { /* contiguous and full */
        for (int64_t s = 0; s < lips_cpu_slabs(y); s++)
            total += lips_cpu_k(be)->sum(lips_cpu_slab(y, s) + c * n * y->lanes, n * y->lanes);
        return total;
    }
    for (int64_t i = 0; i < y->b; i += LIPS_CPU_LANES) {
        double s[LIPS_CPU_LANES] = {0};
        lips_cpu_k(be)->lane_sum(s, block_at(y, c, t, i), y->t * y->lanes, n);
        total += add_used(s, y, i);
    }
    return total;
}

lips_cpu_moments lips_cpu_channel_moments(const lips_backend *be, const lips_tensor *y, int64_t c,
                                          int64_t t, const lips_tensor *x, double center)
{
    lips_cpu_moments m = {0};
    for (int64_t i = 0; i < y->b; i += LIPS_CPU_LANES) {
        double s[LIPS_CPU_LANES] = {0}, d[LIPS_CPU_LANES] = {0};
        lips_cpu_k(be)->lane_moments(s, d, block_at(y, c, t, i), y->t * y->lanes,
                                     block_at(x, c, 0, i), x->lanes, center, y->h * y->w);
        m.sum += add_used(s, y, i);
        m.dot += add_used(d, y, i);
    }
    return m;
}
