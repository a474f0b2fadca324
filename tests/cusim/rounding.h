/*
 * tests/cusim/rounding.h - operands as the stand-in libraries see them: storage types, and what
 * tensor cores keep of a float.
 */
#ifndef LIPS_TESTS_CUSIM_ROUNDING_H
#define LIPS_TESTS_CUSIM_ROUNDING_H

#include "sim.h"

#include <stdlib.h>

namespace cusim
{

enum class Operand { F32, TF32, BF16 };

/* 8 bits of mantissa, ties to even. */
inline float round_bf16(float x)
{
    uint32_t u = bit_cast<uint32_t>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) /* a NaN stays one */
        return x;
    u += 0x7fffu + (u >> 16 & 1);
    return bit_cast<float>(u & 0xffff0000u);
}

/* 11 bits of mantissa, ties away from zero, as cvt.rna.tf32. */
inline float round_tf32(float x)
{
    uint32_t u = bit_cast<uint32_t>(x);
    if ((u & 0x7f800000u) == 0x7f800000u)
        return x;
    return bit_cast<float>((u + 0x1000u) & 0xffffe000u);
}

inline float round_operand(float x, Operand kind)
{
    return kind == Operand::F32 ? x : kind == Operand::TF32 ? round_tf32(x) : round_bf16(x);
}

inline float load_bf16(const void *p, int64_t i)
{
    return bit_cast<float>((uint32_t)((const uint16_t *)p)[i] << 16);
}

inline void store_bf16(void *p, int64_t i, float x)
{
    ((uint16_t *)p)[i] = (uint16_t)(bit_cast<uint32_t>(round_bf16(x)) >> 16);
}

/* Stops the program: [p, p+bytes) is not inside one device allocation. */
inline void need_device(const void *p, size_t bytes, const char *call, const char *what)
{
    if (bytes == 0 || memory_kind(p, bytes) == Memory::DEVICE)
        return;
    fprintf(stderr, "cusim: %s: %s (%zu bytes at %p) is not inside one device allocation\n", call,
            what, bytes, p);
    abort();
}

} // namespace cusim

#endif
