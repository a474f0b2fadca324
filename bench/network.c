#include "network.h"

#include "common.h"

#include <math.h>
#include <stdlib.h>

void *bench_take(int64_t n, size_t size)
{
    void *p = calloc((size_t)n, size);
    if (!p)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    return p;
}

float bench_uniform(uint64_t seed, int64_t i)
{
    uint64_t z = ((seed << 40) + (uint64_t)i) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (float)((double)(z >> 40) * 0x1p-23 - 1.0);
}

void bench_fill_params(const lips_net *net, double *params)
{
    const lips_segment *seg;
    int count = lips_net_segments(net, &seg);
    for (int p = 0; p < count; p++) {
        int64_t fan_in = seg[p].ndim > 1 ? seg[p].count / seg[p].shape[0] : 0;
        float scale = fan_in ? (float)sqrt(6.0 / (double)fan_in) : 0.1f;
        for (int64_t i = 0; i < seg[p].count; i++)
            params[seg[p].offset + i] = (double)(bench_uniform(100 + (uint64_t)p, i) * scale +
                                                 (seg[p].role == LIPS_ROLE_NORM_WEIGHT));
    }
}

void bench_fill_samples(const lips_net *net, int64_t n, float *x, int64_t *label)
{
    const lips_model_spec *s = lips_net_spec(net);
    for (int64_t i = 0; i < n * s->c * s->h * s->w; i++)
        x[i] = bench_uniform(1, i);
    for (int64_t i = 0; i < n; i++)
        label[i] = i % s->classes;
}
