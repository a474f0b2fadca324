/*
 * kernels/philox.h - the counter-based random numbers of base/random.h on the device, bit for bit:
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), key = seed, counter = (index, epoch,
 * stream).
 */
#ifndef LIPS_KERNELS_PHILOX_H
#define LIPS_KERNELS_PHILOX_H

#include "kernels/cuda.h"

namespace philox
{

struct generator {
    uint64_t seed;
    uint32_t stream, epoch;
};

__device__ __forceinline__ void words(const generator &r, uint64_t index, uint32_t (&out)[4])
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = r.epoch, c3 = r.stream;
    uint32_t k0 = (uint32_t)r.seed, k1 = (uint32_t)(r.seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t hi0 = __umulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
        const uint32_t hi1 = __umulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* In [0,1), 53 bits. */
__device__ __forceinline__ double unit(uint32_t hi, uint32_t lo)
{
    const uint64_t bits = ((uint64_t)hi << 21) ^ (lo >> 11);
    return (double)(bits & (((uint64_t)1 << 53) - 1)) * 0x1p-53;
}

__device__ __forceinline__ double uniform(const generator &r, uint64_t index)
{
    uint32_t w[4];
    words(r, index, w);
    return unit(w[0], w[1]);
}

/* Box-Muller as on the host; log and cos are the device's, one or two units in the last place of
 * f64 from the host's. */
__device__ __forceinline__ double normal(const generator &r, uint64_t index)
{
    uint32_t w[4];
    words(r, index, w);
    return sqrt(-2.0 * log(1.0 - unit(w[0], w[1]))) *
           cos(6.283185307179586476925286766559 * unit(w[2], w[3]));
}

} // namespace philox

#endif
