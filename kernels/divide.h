/*
 * kernels/divide.h - division of numbers below 2^31 by one that the host knows:
 * n / d = (umulhi(n, mul) + n) >> shift, three instructions for some twenty.
 */
#ifndef LIPS_KERNELS_DIVIDE_H
#define LIPS_KERNELS_DIVIDE_H

#include "kernels/cuda.h"

namespace lips_divide
{

struct divisor {
    uint32_t d, mul, shift;
};

inline divisor make_divisor(uint32_t d)
{
    divisor v = {d, 0, 0};
    while (((uint64_t)1 << v.shift) < d)
        v.shift++;
    v.mul = (uint32_t)((((uint64_t)1 << 32) * (((uint64_t)1 << v.shift) - d)) / d + 1);
    return v;
}

__device__ __forceinline__ uint32_t divide(uint32_t n, const divisor &v)
{
    return (__umulhi(n, v.mul) + n) >> v.shift;
}

} // namespace lips_divide

#endif
