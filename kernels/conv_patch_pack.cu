/*
 * conv_patch_pack - the weights of conv_patch.cu, in the order and form in which it uses them.
 *
 * Shapes     w (O,C,3,3) f32; packed: for each tile of BN columns n of the result, chunk of source
 *            channels, tap, plane (f32: big and small part), and column of the tile, 64 bytes of
 *            operands, whose four 16-byte places are exchanged by the column's number; zeros
 *            beyond the last column or channel. For the vjp the taps are turned about and O is
 *            summed over.
 * Work split one thread a word; threads beside each other write beside each other
 * Cost       8, 4 or 2 bytes written a weight, each read once (f32: twice): under a hundredth of
 *            any convolution of some hundred pixels
 * Limits     fewer than 2^31 words
 * Proof      tests/cusim/test_conv_kernels.cpp
 * History    v1 this file.
 */
#include "conv_patch.h"

namespace
{

/* One thread a word of the image: (column tile, chunk, tap, plane, column, 16 words). */
template <lips_precision P>
__global__ void patch_pack(uint32_t *__restrict__ packed, const float *__restrict__ w, int c, int n,
                           int bn, int chunks, int vjp, int count)
{
    typedef Operand<P> Op;
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count)
        return;
    const int word = i % B_PITCH, column = i / B_PITCH % bn, plane = i / B_PITCH / bn % Op::PLANES;
    const int stage = i / B_PITCH / bn / Op::PLANES, tap = stage % TAPS;
    const int part = word / 4 ^ (column >> 1 & 3);
    const int row = stage / TAPS / chunks * bn + column;
    const int first = stage / TAPS % chunks * Op::CHANNELS + part * Op::FLOATS;
    float v[Op::FLOATS];
    uint32_t out[Op::PLANES] = {};
#pragma unroll
    for (int k = 0; k < Op::FLOATS; k++) {
        const int64_t at = vjp ? (int64_t)(first + k) * n + row : (int64_t)row * c + first + k;
        v[k] = row < n && first + k < c ? w[at * TAPS + (vjp ? TAPS - 1 - tap : tap)] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
        if (k == word % 4)
            Op::word(out, v, k);
    packed[i] = out[Op::PLANES - 1 < plane ? Op::PLANES - 1 : plane];
}

constexpr int PACK_THREADS = 256;

template <lips_precision P>
void launch_pack(uint32_t *packed, const float *w, const lips_cuda_conv *s, bool vjp, int64_t count,
                 cudaStream_t stream)
{
    const int64_t c = vjp ? s->o : s->c, n = vjp ? s->c : s->o;
    CU_LAUNCH((patch_pack<P>), dim3((unsigned)ceil_div(count, PACK_THREADS)), dim3(PACK_THREADS), 0,
              stream, packed, w, (int)c, (int)n, columns_of_tile(n, P),
              (int)ceil_div(c, Operand<P>::CHANNELS), (int)vjp, (int)count);
}

} // namespace

extern "C" bool lips_cuda_conv_patch_offers(const lips_cuda_conv *s, bool vjp)
{
    return s->r == 3 && s->stride == 1 && s->pad == 1 && (vjp ? s->o : s->c) % 4 == 0;
}

extern "C" size_t lips_cuda_conv_patch_bytes(const lips_cuda_conv *s, bool vjp, lips_precision p)
{
    const int64_t c = vjp ? s->o : s->c, n = vjp ? s->c : s->o, bn = columns_of_tile(n, p);
    const int64_t planes = p == LIPS_PRECISION_F32 ? 2 : 1;
    return (size_t)(ceil_div(n, bn) * bn * ceil_div(c, channels_of_chunk(p)) * planes * TAPS *
                    B_PITCH) *
           sizeof(uint32_t);
}

extern "C" lips_status lips_cuda_conv_patch_pack(void *packed, const float *w,
                                                 const lips_cuda_conv *s, bool vjp,
                                                 lips_precision p, cudaStream_t stream)
{
    const size_t bytes = lips_cuda_conv_patch_bytes(s, vjp, p);
    const int64_t count = (int64_t)(bytes / sizeof(uint32_t));
    uint32_t *to = static_cast<uint32_t *>(packed);
    LIPS_TRY(conv_check_sizes("conv_patch", s));
    if (count > CONV_INT_MAX - PACK_THREADS)
        return lips_fail(LIPS_ERR_USAGE, "conv_patch: weights of %" PRId64 " words are too many",
                         count);
    switch (p) {
    case LIPS_PRECISION_F32: launch_pack<LIPS_PRECISION_F32>(to, w, s, vjp, count, stream); break;
    case LIPS_PRECISION_TF32: launch_pack<LIPS_PRECISION_TF32>(to, w, s, vjp, count, stream); break;
    case LIPS_PRECISION_BF16: launch_pack<LIPS_PRECISION_BF16>(to, w, s, vjp, count, stream); break;
    }
    LIPS_TRY_LAUNCH(stream);
    return LIPS_OK;
}
