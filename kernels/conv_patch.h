/*
 * kernels/conv_patch.h - what conv_patch.cu, conv_wgmma.cu and the packing of their weights share:
 * the form of operands in shared memory, the tiles, the order of the weights (device code).
 */
#ifndef LIPS_KERNELS_CONV_PATCH_H
#define LIPS_KERNELS_CONV_PATCH_H

#include "conv_geometry.h"
#include "gemm_tile.h"

namespace
{

constexpr int MOST_PLACES = 128; /* rows m of a block */
constexpr int TAPS = 9;
constexpr int PARTS = 4;    /* 16-byte parts of a row of a chunk */
constexpr int B_PITCH = 16; /* words of a weight's row of a chunk */

typedef Tile<MOST_PLACES, 128, 64, 64, 2> PatchWide;
typedef Tile<MOST_PLACES, 64, 64, 32, 2> PatchMiddle;
typedef Tile<MOST_PLACES, 32, 32, 32, 2> PatchNarrow;

/* Operands as they lie in shared memory: PLANES images of words, FLOATS values in 16 bytes. */
template <lips_precision P> struct Operand {
    static constexpr int PLANES = P == LIPS_PRECISION_F32 ? 2 : 1;
    static constexpr int FLOATS = P == LIPS_PRECISION_BF16 ? 8 : 4;
    static constexpr int CHANNELS = FLOATS * PARTS;

    /* Word w of 16 bytes of each plane. */
    static __device__ __forceinline__ void word(uint32_t (&out)[PLANES], const float (&v)[FLOATS],
                                                int w)
    {
        if constexpr (P == LIPS_PRECISION_BF16)
            out[0] = mma_pack_bf16(v[2 * w], v[2 * w + 1]);
        else {
            out[0] = mma_to_tf32(v[w]);
            if constexpr (P == LIPS_PRECISION_F32)
                out[1] = mma_to_tf32(v[w] - mma_from_tf32(out[0]));
        }
    }
};

inline int columns_of_tile(int64_t n, lips_precision p)
{
    if (n <= PatchNarrow::BN)
        return PatchNarrow::BN;
    return n <= PatchMiddle::BN || p == LIPS_PRECISION_F32 ? PatchMiddle::BN : PatchWide::BN;
}

/* Of conv_wgmma.cu. */
inline int columns_of_group(int64_t n, lips_precision p)
{
    return n <= 64 || p == LIPS_PRECISION_F32 ? 64 : 128;
}

inline int channels_of_chunk(lips_precision p)
{
    return p == LIPS_PRECISION_BF16 ? Operand<LIPS_PRECISION_BF16>::CHANNELS
                                    : Operand<LIPS_PRECISION_F32>::CHANNELS;
}

inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

} // namespace

#endif
