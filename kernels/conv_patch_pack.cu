/*
 * conv_patch_pack - the weights of conv_patch.cu and of conv_wgmma.cu, in the order and form in
 * which they use them.
 *
 * Shapes     w (O,C,3,3) f32; packed: for each tile of BN columns n of the result, chunk of source
 *            channels, tap, plane (f32: big and small part), and column of the tile, 64 bytes of
 *            operands, whose four 16-byte places are exchanged by the column's number (conv_patch),
 *            or (conv_wgmma) 32 bytes of k, then 8 columns, then 16 bytes of k: a core matrix of
 *            kernels/wgmma.h. Zeros beyond the last column or channel. For the vjp the taps are
 *            turned about and O is summed over.
 * Work split one thread a word; threads beside each other write beside each other
 * Cost       8, 4 or 2 bytes written a weight, each read once (f32: twice): under a hundredth of
 *            any convolution of some hundred pixels
 * Limits     fewer than 2^31 words
 * Proof      tests/cusim/test_conv_kernels.cpp
 * History    v1 this file.
 */
#include "conv_patch.h"
#include "wgmma.h"

namespace
{

/* Column, and 16-byte part of its row, of word i of a plane of BN rows. */
struct Place {
    int column, part;
};

__device__ __forceinline__ Place place_of(int i, int bn, bool cores)
{
    if (cores)
        return {i / 64 % (bn / 8) * 8 + i / 4 % 8, i / 64 / (bn / 8) * 2 + i / 32 % 2};
    const int column = i / B_PITCH;
    return {column, i / 4 % 4 ^ (column >> 1 & 3)};
}

/* One thread a word of the image: (column tile, chunk, tap, plane, word of the plane). */
template <lips_precision P, bool CORES>
__global__ void patch_pack(uint32_t *__restrict__ packed, const float *__restrict__ w, int c, int n,
                           int bn, int chunks, int vjp, int count)
{
    typedef Operand<P> Op;
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count)
        return;
    const Place at_plane = place_of(i % (B_PITCH * bn), bn, CORES);
    const int word = i % 4, plane = i / B_PITCH / bn % Op::PLANES;
    const int stage = i / B_PITCH / bn / Op::PLANES, tap = stage % TAPS;
    const int row = stage / TAPS / chunks * bn + at_plane.column;
    const int first = stage / TAPS % chunks * Op::CHANNELS + at_plane.part * Op::FLOATS;
    float v[Op::FLOATS];
    uint32_t out[Op::PLANES] = {};
#pragma unroll
    for (int k = 0; k < Op::FLOATS; k++) {
        const int64_t at = vjp ? (int64_t)(first + k) * n + row : (int64_t)row * c + first + k;
        v[k] = row < n && first + k < c ? w[at * TAPS + (vjp ? TAPS - 1 - tap : tap)] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (k == word)
            Op::word(out, v, k);
    packed[i] = out[Op::PLANES - 1 < plane ? Op::PLANES - 1 : plane];
}

constexpr int PACK_THREADS = 256;

template <lips_precision P, bool CORES>
void launch_pack(uint32_t *packed, const float *w, const lips_cuda_conv *s, bool vjp, int64_t count,
                 cudaStream_t stream)
{
    const int64_t c = vjp ? s->o : s->c, n = vjp ? s->c : s->o;
    CU_LAUNCH((patch_pack<P, CORES>), dim3((unsigned)ceil_div(count, PACK_THREADS)),
              dim3(PACK_THREADS), 0, stream, packed, w, (int)c, (int)n,
              CORES ? columns_of_group(n, P) : columns_of_tile(n, P),
              (int)ceil_div(c, Operand<P>::CHANNELS), (int)vjp, (int)count);
}

size_t packed_bytes(const lips_cuda_conv *s, bool vjp, lips_precision p, int64_t bn)
{
    const int64_t c = vjp ? s->o : s->c, n = vjp ? s->c : s->o;
    const int64_t planes = p == LIPS_PRECISION_F32 ? 2 : 1;
    return (size_t)(ceil_div(n, bn) * bn * ceil_div(c, channels_of_chunk(p)) * planes * TAPS *
                    B_PITCH) *
           sizeof(uint32_t);
}

lips_status check_count(const char *op, const lips_cuda_conv *s, int64_t count)
{
    LIPS_TRY(conv_check_sizes(op, s));
    if (count > CONV_INT_MAX - PACK_THREADS)
        return lips_fail(LIPS_ERR_USAGE, "%s: weights of %" PRId64 " words are too many", op,
                         count);
    return LIPS_OK;
}

} // namespace

extern "C" bool lips_cuda_conv_patch_offers(const lips_cuda_conv *s, bool vjp)
{
    return s->r == 3 && s->stride == 1 && s->pad == 1 && (vjp ? s->o : s->c) % 4 == 0;
}

extern "C" bool lips_cuda_conv_wgmma_offers(const lips_cuda_conv *s, bool vjp)
{
    return WGMMA_BUILT && (vjp ? s->c : s->o) > PatchNarrow::BN &&
           lips_cuda_conv_patch_offers(s, vjp);
}

extern "C" size_t lips_cuda_conv_patch_bytes(const lips_cuda_conv *s, bool vjp, lips_precision p)
{
    return packed_bytes(s, vjp, p, columns_of_tile(vjp ? s->c : s->o, p));
}

extern "C" size_t lips_cuda_conv_wgmma_bytes(const lips_cuda_conv *s, bool vjp, lips_precision p)
{
    return packed_bytes(s, vjp, p, columns_of_group(vjp ? s->c : s->o, p));
}

extern "C" lips_status lips_cuda_conv_patch_pack(void *packed, const float *w,
                                                 const lips_cuda_conv *s, bool vjp,
                                                 lips_precision p, cudaStream_t stream)
{
    const int64_t count = (int64_t)(lips_cuda_conv_patch_bytes(s, vjp, p) / sizeof(uint32_t));
    uint32_t *to = static_cast<uint32_t *>(packed);
    LIPS_TRY(check_count("conv_patch", s, count));
    switch (p) {
    case LIPS_PRECISION_F32:
        launch_pack<LIPS_PRECISION_F32, false>(to, w, s, vjp, count, stream);
        break;
    case LIPS_PRECISION_TF32:
        launch_pack<LIPS_PRECISION_TF32, false>(to, w, s, vjp, count, stream);
        break;
    case LIPS_PRECISION_BF16:
        launch_pack<LIPS_PRECISION_BF16, false>(to, w, s, vjp, count, stream);
        break;
    }
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}

extern "C" lips_status lips_cuda_conv_wgmma_pack(void *packed, const float *w,
                                                 const lips_cuda_conv *s, bool vjp,
                                                 lips_precision p, cudaStream_t stream)
{
    const int64_t count = (int64_t)(lips_cuda_conv_wgmma_bytes(s, vjp, p) / sizeof(uint32_t));
    uint32_t *to = static_cast<uint32_t *>(packed);
    LIPS_TRY(check_count("conv_wgmma", s, count));
    if (!lips_cuda_conv_wgmma_offers(s, vjp))
        return lips_fail(LIPS_ERR_USAGE, "conv_wgmma: does not do this shape");
    switch (p) {
    case LIPS_PRECISION_F32:
        launch_pack<LIPS_PRECISION_F32, true>(to, w, s, vjp, count, stream);
        break;
    case LIPS_PRECISION_TF32:
        launch_pack<LIPS_PRECISION_TF32, true>(to, w, s, vjp, count, stream);
        break;
    case LIPS_PRECISION_BF16:
        launch_pack<LIPS_PRECISION_BF16, true>(to, w, s, vjp, count, stream);
        break;
    }
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
