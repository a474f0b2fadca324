/* Zero-bordered copies of input rows (conv_patch.h). */
#include "backend/cpu/conv_patch.h"

#include <string.h>

enum { PATCH_BYTES = 256 * 1024 }; /* stays in the second-level cache beside the cotangents */

void lips_conv_patch_init(lips_conv_patch *p, const lips_tensor *x, const lips_tensor *y,
                          const lips_conv_geom *geom, int64_t positions, lips_conv_arena *mem)
{
    const int64_t r = geom->r, blk = LIPS_CONV_BLOCK;
    *p = (lips_conv_patch){.x = *x, .geom = *geom, .ow = y->w};
    p->rows = lips_conv_max(1, lips_conv_min(y->h, positions / y->w));
    p->wide = (y->w - 1) * geom->stride + r;
    p->row_step = geom->stride * p->wide * blk;
    p->pos_step = geom->stride * blk;
    const int64_t chan = (((p->rows - 1) * geom->stride + r) * p->wide + 1) * blk;
    const int64_t most = PATCH_BYTES / (chan * (int64_t)sizeof(float));
    p->chunk = lips_conv_ceil(x->c, lips_conv_ceil(x->c, lips_conv_max(1, most)));
    p->data = lips_conv_take(mem, p->chunk * chan, sizeof(float));
    p->at = lips_conv_take(mem, p->chunk * r * r, sizeof(int64_t));
}

void lips_conv_patch_load(lips_conv_patch *p, const lips_cpu_kernels *k, const float *x, int64_t c0,
                          int64_t u0, int64_t u1)
{
    const int64_t r = p->geom.r, s = p->geom.stride, pad = p->geom.pad, blk = LIPS_CONV_BLOCK;
    const int64_t step = lips_conv_v(&p->x) * blk, tall = (u1 - 1 - u0) * s + r;
    const int64_t chan = (tall * p->wide + 1) * blk, iw = p->x.w;
    /* Columns lo..hi-1 of a row of the copy are input columns lo-pad.., the others are border. */
    const int64_t lo = lips_conv_min(pad, p->wide);
    const int64_t hi = lips_conv_max(lo, lips_conv_min(p->wide, iw + pad));
    p->c0 = c0;
    p->nc = lips_conv_min(p->chunk, p->x.c - c0);
    for (int64_t c = 0; c < p->nc; c++)
        for (int64_t i = 0; i < tall; i++) {
            float *dst = p->data + c * chan + i * p->wide * blk;
            const int64_t iy = u0 * s - pad + i;
            if (iy < 0 || iy >= p->x.h) {
                memset(dst, 0, (size_t)(p->wide * blk) * sizeof *dst);
                continue;
            }
            memset(dst, 0, (size_t)(lo * blk) * sizeof *dst);
            k->conv->pack(dst + lo * blk, x + ((c0 + c) * p->x.h + iy) * iw * step, hi - lo, step);
            memset(dst + hi * blk, 0, (size_t)((p->wide - hi) * blk) * sizeof *dst);
        }
    for (int64_t c = 0, j = 0; c < p->nc; c++)
        for (int64_t ky = 0; ky < r; ky++)
            for (int64_t kx = 0; kx < r; kx++)
                p->at[j++] = c * chan + (ky * p->wide + kx) * blk;
}
