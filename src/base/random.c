#include "base/random.h"

#include <Random123/philox.h>
#include <math.h>

void lips_rng_words(const lips_rng *r, uint64_t index, uint32_t out[4])
{
    philox4x32_ctr_t ctr = {{(uint32_t)index, (uint32_t)(index >> 32), r->epoch, r->stream}};
    philox4x32_key_t key = {{(uint32_t)r->seed, (uint32_t)(r->seed >> 32)}};
    philox4x32_ctr_t v = philox4x32_R(10, ctr, key);
    for (int i = 0; i < 4; i++)
        out[i] = v.v[i];
}

static double unit53(uint32_t hi, uint32_t lo)
{
    uint64_t bits = ((uint64_t)hi << 21) ^ (lo >> 11);
    return (double)(bits & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

double lips_rng_uniform(const lips_rng *r, uint64_t index)
{
    uint32_t w[4];
    lips_rng_words(r, index, w);
    return unit53(w[0], w[1]);
}

double lips_rng_normal(const lips_rng *r, uint64_t index)
{
    uint32_t w[4];
    lips_rng_words(r, index, w);
    /* 1 - u is in (0,1], so the logarithm is finite. */
    double radius = sqrt(-2.0 * log(1.0 - unit53(w[0], w[1])));
    return radius * cos(6.283185307179586476925286766559 * unit53(w[2], w[3]));
}

uint64_t lips_rng_below(const lips_rng *r, uint64_t index, uint64_t n)
{
    uint32_t w[4];
    lips_rng_words(r, index, w);
    uint64_t x = ((uint64_t)w[0] << 32) | w[1];
    return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

void lips_rng_permutation(const lips_rng *r, int64_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)lips_rng_below(r, (uint64_t)i, (uint64_t)i + 1);
        int64_t v = out[i];
        out[i] = out[j];
        out[j] = v;
    }
}
