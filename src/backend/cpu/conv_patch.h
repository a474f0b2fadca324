/*
 * backend/cpu/conv_patch.h - a chunk of input channels over some output rows, with its zero border,
 * in scratch: there each tap (c,ky,kx) of all output pixels is one stream of blocks of even steps.
 */
#ifndef LIPS_BACKEND_CPU_CONV_PATCH_H
#define LIPS_BACKEND_CPU_CONV_PATCH_H

#include "backend/cpu/conv.h"

typedef struct lips_conv_patch {
    int64_t chunk, rows; /* plan: channels and output rows at a time */
    float *data;
    int64_t *at;                /* (chunk*R*R) offset of each stream's output pixel (u0,0) */
    int64_t row_step, pos_step; /* floats from output row to row and pixel to pixel */
    int64_t c0, nc;             /* channels loaded */
    lips_tensor x;              /* geometry of the input */
    lips_conv_geom geom;
    int64_t ow, wide; /* output width; input columns with border */
} lips_conv_patch;

/* Plans blocks of about positions output pixels (whole rows) and takes memory. */
void lips_conv_patch_init(lips_conv_patch *p, const lips_tensor *x, const lips_tensor *y,
                          const lips_conv_geom *geom, int64_t positions, lips_conv_arena *mem);

/* Copies channels c0.. (at most chunk) for output rows u0..u1-1; x is the slab's first block of the
 * lanes wanted. */
void lips_conv_patch_load(lips_conv_patch *p, const lips_cpu_kernels *k, const float *x, int64_t c0,
                          int64_t u0, int64_t u1);

#endif
