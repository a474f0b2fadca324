/*
 * kernels/conv_geometry.h - forward and transposed convolution as one walk over taps (device code).
 *
 * A result place q along one dimension sums over taps a = 0 .. taps-1, which read source place
 * q step + first + a turn through kernel place kernel0 + a kernel_step.
 *
 *   forward           result o = q, source o stride + i - pad: one phase, all taps
 *   vjp, stride s     result x = q s + phase: only kernel places i with (x + pad - i) % s = 0 reach
 *                     it, each from output (x + pad - i) / s. The s x s phases of an image each are
 *                     a convolution of stride 1 with their own taps; none multiplies by zeros.
 */
#ifndef LIPS_KERNELS_CONV_GEOMETRY_H
#define LIPS_KERNELS_CONV_GEOMETRY_H

#include "check.h"
#include "conv.h"
#include "cuda.h"

#include <inttypes.h>

namespace
{

/* Along one dimension, for one phase. */
struct Axis {
    int places; /* results */
    int step, first, turn, taps, kernel0, kernel_step;
    int out_step, out_first; /* result place q is dst place q out_step + out_first */
};

/* What the kernels take: sizes that fit 32 bits. */
struct ConvParams {
    const float *src, *weight, *bias, *mask;
    float *dst;
    int b, t, hs, ws, c; /* source */
    int hd, wd, n;       /* result */
    int r, stride, pad;
    int vjp, relu; /* 0 or 1; no bytes of padding: the emulated device looks at every word */
    int n_tiles;
};

__device__ __forceinline__ Axis conv_axis(const ConvParams &p, int phase, int size)
{
    if (!p.vjp)
        return {size, p.stride, -p.pad, 1, p.r, 0, 1, 1, 0};
    const int k0 = (phase + p.pad) % p.stride;
    return {phase < size ? (size - phase + p.stride - 1) / p.stride : 0,
            1,
            (phase + p.pad - k0) / p.stride,
            -1,
            k0 < p.r ? (p.r - k0 + p.stride - 1) / p.stride : 0,
            k0,
            p.stride,
            p.stride,
            phase};
}

/* A row of the product: sample s, place (y,x) of the phase, stacked value t. */
struct ConvRow {
    int s, y, x, t;
};

__device__ __forceinline__ ConvRow conv_row(const ConvParams &p, const Axis &ay, const Axis &ax,
                                            int m)
{
    ConvRow row;
    row.t = m % p.t;
    m /= p.t;
    row.x = m % ax.places;
    m /= ax.places;
    row.y = m % ay.places;
    row.s = m / ay.places;
    return row;
}

/* Pixel of dst, and of mask. */
__device__ __forceinline__ int64_t conv_pixel(const ConvParams &p, const Axis &ay, const Axis &ax,
                                              const ConvRow &row)
{
    return ((int64_t)row.s * p.hd + row.y * ay.out_step + ay.out_first) * p.wd +
           row.x * ax.out_step + ax.out_first;
}

/* Rows of a phase, the largest of all phases for phase 0. */
__device__ __forceinline__ int conv_rows(const ConvParams &p, const Axis &ay, const Axis &ax)
{
    return p.b * p.t * ay.places * ax.places;
}

constexpr int64_t CONV_INT_MAX = 2147483647;
/* Places along a side, padding included: two of them share a register. */
constexpr int CONV_SIDE_MAX = 16384;

/* The kernels count rows, and elements within an image, in 32 bits. */
inline lips_status conv_check_sizes(const char *op, const lips_cuda_conv *s)
{
    const int64_t here = s->h * s->w, there = s->oh * s->ow;
    const int64_t places = s->b * s->t * (here > there ? here : there);
    const int64_t in = here * s->t * s->c, out = there * s->t * s->o;
    const int64_t weights = s->o * s->c * s->r * s->r;
    int64_t most = places > in ? places : in;
    most = out > most ? out : most;
    most = weights > most ? weights : most;
    if (most > CONV_INT_MAX - 1024)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: %" PRId64 " samples x %" PRId64 " of (%" PRId64 ",%" PRId64
                         ",%" PRId64 ") to (%" PRId64 ",%" PRId64 ",%" PRId64
                         "): more than 2^31 rows, or elements of an image or of the weights",
                         op, s->b, s->t, s->c, s->h, s->w, s->o, s->oh, s->ow);
    return LIPS_OK;
}

inline lips_status conv_check_sides(const char *op, const lips_cuda_conv *s)
{
    const int64_t side = s->h > s->w ? s->h : s->w, beyond = s->pad + s->r;
    if (side > CONV_SIDE_MAX - beyond)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: images of %" PRId64 " x %" PRId64 ", at most %" PRId64 " a side", op,
                         s->h, s->w, CONV_SIDE_MAX - beyond);
    return LIPS_OK;
}

inline ConvParams conv_params(const lips_cuda_conv_apply_args *a)
{
    const lips_cuda_conv *s = &a->shape;
    ConvParams p = {};
    p.src = a->src;
    p.weight = a->weight;
    p.bias = a->vjp ? nullptr : a->bias;
    p.mask = a->vjp ? a->mask : nullptr;
    p.dst = a->dst;
    p.b = (int)s->b;
    p.t = (int)s->t;
    p.hs = (int)(a->vjp ? s->oh : s->h);
    p.ws = (int)(a->vjp ? s->ow : s->w);
    p.c = (int)(a->vjp ? s->o : s->c);
    p.hd = (int)(a->vjp ? s->h : s->oh);
    p.wd = (int)(a->vjp ? s->w : s->ow);
    p.n = (int)(a->vjp ? s->c : s->o);
    p.r = (int)s->r;
    p.stride = (int)s->stride;
    p.pad = (int)s->pad;
    p.vjp = a->vjp;
    p.relu = a->relu && !a->vjp;
    return p;
}

/* Phases, and rows of the largest. */
inline int conv_phases(const ConvParams &p)
{
    return p.vjp ? p.stride * p.stride : 1;
}
inline int64_t conv_most_rows(const ConvParams &p)
{
    const int64_t s = p.vjp ? p.stride : 1;
    return (int64_t)p.b * p.t * ((p.hd + s - 1) / s) * ((p.wd + s - 1) / s);
}

} // namespace

#endif
