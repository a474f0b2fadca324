/*
 * backend/cpu/isa/tiles.h - the register tiles of the convolution kernels: M rows (output channels)
 * by N blocks. M N accumulators, N inputs and one weight fit the registers of the set (32, 16, 16).
 */
#ifndef LIPS_BACKEND_CPU_ISA_TILES_H
#define LIPS_BACKEND_CPU_ISA_TILES_H

#include "backend/cpu/isa/simd.h"

#include "backend/cpu/conv.h"

/* Extent of the arrays of accumulators: fixed, so that the compiler keeps them in registers. */
enum { TILE_MAX_N = 12 };

/* clang-format off */
#if VF_LANES == 16
#define TILES(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(1, 5) F(1, 6) F(1, 7) F(1, 8) F(1, 9) F(1, 10) \
    F(1, 11) F(1, 12) F(2, 1) F(2, 2) F(2, 3) F(2, 4) F(2, 5) F(2, 6) F(2, 7) F(2, 8) \
    F(2, 9) F(2, 10) F(3, 1) F(3, 2) F(3, 3) F(3, 4) F(3, 5) F(3, 6) F(3, 7) F(3, 8) F(4, 1) \
    F(4, 2) F(4, 3) F(4, 4) F(4, 5) F(4, 6) F(5, 1) F(5, 2) F(5, 3) F(5, 4) F(5, 5) F(6, 1) \
    F(6, 2) F(6, 3) F(6, 4) F(7, 1) F(7, 2) F(7, 3) F(8, 1) F(8, 2) F(8, 3)
static const int64_t tile_widest[LIPS_CONV_TILE + 1] = {0, 12, 10, 8, 6, 5, 4, 3, 3};
#elif VF_LANES == 8
#define TILES(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(1, 5) F(1, 6) F(1, 7) F(2, 1) F(2, 2) F(2, 3) F(2, 4) \
    F(2, 5) F(2, 6) F(3, 1) F(3, 2) F(3, 3) F(3, 4) F(4, 1) F(4, 2) F(4, 3) F(5, 1) F(5, 2) \
    F(6, 1) F(6, 2) F(7, 1) F(8, 1)
static const int64_t tile_widest[LIPS_CONV_TILE + 1] = {0, 7, 6, 4, 3, 2, 2, 1, 1};
#else
#define TILES(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(1, 5) F(1, 6) F(2, 1) F(2, 2) F(2, 3) F(2, 4) F(3, 1) \
    F(3, 2) F(3, 3) F(4, 1) F(4, 2) F(5, 1) F(5, 2) F(6, 1) F(7, 1) F(8, 1)
static const int64_t tile_widest[LIPS_CONV_TILE + 1] = {0, 6, 4, 3, 2, 2, 1, 1, 1};
#endif
/* clang-format on */

#endif
