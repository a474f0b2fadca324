/*
 * backend/cpu/conv_winograd.h - the tiles into which F(4x4,3x3) cuts a convolution's tensors.
 */
#ifndef LIPS_BACKEND_CPU_CONV_WINOGRAD_H
#define LIPS_BACKEND_CPU_CONV_WINOGRAD_H

#include "backend/cpu/conv.h"

enum {
    LIPS_CONV_FREQ = 36,
    LIPS_CONV_OUT = 4, /* outputs of a tile along a side; inputs: 6 */
};

typedef struct lips_conv_grid {
    lips_tensor in, out;
    int64_t pad;
    int64_t v, m;   /* blocks per pixel of in and out; of a mask, which has t = 1 */
    int64_t ty, tx; /* tiles down and across */
} lips_conv_grid;

/* pad: of in, seen as the input of a convolution of stride 1 that gives out. */
lips_conv_grid lips_conv_grid_of(const lips_tensor *in, const lips_tensor *out, int64_t pad);

/* Tiles of all slabs in use. */
int64_t lips_conv_grid_tiles(const lips_conv_grid *g);

/* Where tile i is: slabs, then rows and columns of tiles, then the blocks of a pixel. */
lips_conv_wino_tile lips_conv_grid_at(const lips_conv_grid *g, int64_t i);

/* Blocks between channels of a transform of n tiles: odd, to spread channels over cache sets. */
static inline int64_t lips_conv_grid_wide(int64_t n)
{
    return n | 1;
}

#endif
