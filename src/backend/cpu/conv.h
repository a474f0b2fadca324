/*
 * backend/cpu/conv.h - inside the convolutions of the cpu backend.
 *
 * A tensor is read as planes of blocks of 16 lanes: with v = t * lanes / 16 blocks per pixel, block
 * (s,c,y,x,q), q < v, is at ((((s*C+c)*H+y)*W+x)*v+q)*16. Stacked values and lanes beyond 16 are
 * one index q.
 */
#ifndef LIPS_BACKEND_CPU_CONV_H
#define LIPS_BACKEND_CPU_CONV_H

#include "backend/cpu/cpu.h"

enum {
    LIPS_CONV_BLOCK = LIPS_CPU_LANES, /* floats of a block */
    LIPS_CONV_ROWS = 6,               /* most streams a of a register tile of inner products */
    LIPS_CONV_TILE = 8,               /* most output channels of one register tile */
};

/* One run of output positions that share their taps; steps and offsets in floats (isa/conv_tile.c).
 */
typedef struct lips_conv_seg {
    const float *x;           /* first position, first channel, first tap */
    float *y;                 /* first position, first output channel */
    const float *w;           /* panel (nc, ., ., M) from its first used tap on */
    const float *bias;        /* (M) or NULL */
    const float *mask;        /* at the first position, or NULL */
    const int64_t *mask_at;   /* (n) offsets from mask */
    int64_t m, n;             /* output channels 1..LIPS_CONV_TILE, positions */
    int64_t nc, ny, nx;       /* channels, rows and columns of taps; 0 gives the start value */
    int64_t xc, xy, xx, xpos; /* input: from channel, row, column, position to the next */
    int64_t yo, ypos;         /* output: from channel, position to the next */
    int64_t mo;               /* mask: from channel to channel */
    int64_t wc, wy;           /* panel: from channel, row to the next; columns are M apart */
    bool resume;              /* start from what y holds, not from the bias */
    bool relu;
} lips_conv_seg;

typedef void lips_conv_tile_fn(const lips_conv_seg *s);

/* Lane-wise inner products (isa/conv_dot.c), all offsets in floats:
 *   out[m*om + j*oj + l] (=, += with resume) sum_{r<rows, i<cols} a[m*am + r*ar + i*ai + l] *
 *                                                              b[bj[j] + r*br + i*bi + l] */
typedef struct lips_conv_dot {
    const float *a, *b;
    float *out;
    int64_t m, j; /* any >= 1; cut into register tiles */
    int64_t rows, cols;
    int64_t am, ar, ai;
    const int64_t *bj;
    int64_t br, bi;
    int64_t om, oj;
    bool resume;
} lips_conv_dot;

typedef void lips_conv_dot_fn(const lips_conv_dot *d);

/* out[i] += sum over lanes l < lanes of v[i*16 + l], as ((01)(23))((45)(67)) + the same of 8..15.
 */
typedef void lips_conv_lane_sum_fn(float *out, const float *v, int64_t n, int64_t lanes);

/* acc[i] += (double)v[i] */
typedef void lips_conv_widen_fn(double *acc, const float *v, int64_t n);

/* n blocks from src (step floats apart) to adjacent ones in dst. */
typedef void lips_conv_pack_fn(float *dst, const float *src, int64_t n, int64_t step);

/* A tile of Winograd's F(4x4,3x3): 6x6 inputs, 4x4 outputs (isa/conv_winograd.c); floats. */
typedef struct lips_conv_wino_tile {
    int64_t in, out, mask;  /* offsets of its first input, output and mask */
    int64_t y0, y1, x0, x1; /* its inputs that exist */
    int64_t ny, nx;         /* its outputs that exist */
    bool whole;             /* all inputs exist, and all lanes count */
    const float *lanes;     /* NULL, or (16): lanes that are not > 0 count as 0 */
} lips_conv_wino_tile;

/* Tiles x channels to transform; v (36, channels, tiles) blocks is the transform, x or y the
 * tensor. */
typedef struct lips_conv_wino {
    const lips_conv_wino_tile *tile;
    int64_t tiles, channels;
    const float *x;
    float *y;
    int64_t x_chan, x_row, x_pixel; /* floats, of x or y */
    float *v;
    int64_t v_freq, v_chan;
    const float *bias; /* out: (channels) or NULL */
    const float *mask;
    int64_t mask_chan, mask_row, mask_pixel;
    bool relu;
} lips_conv_wino;

typedef void lips_conv_wino_in_fn(const lips_conv_wino *w);  /* v = B' x B */
typedef void lips_conv_wino_dy_fn(const lips_conv_wino *w);  /* v = A x A', x at the outputs */
typedef void lips_conv_wino_out_fn(const lips_conv_wino *w); /* y = A' v A */
/* A panel of weights (C, m), m <= LIPS_CONV_TILE, at floats from the weights of its frequency. */
typedef struct lips_conv_panel {
    int64_t m, at;
} lips_conv_panel;

/* Products of panels by blocks (isa/conv_gemm.c), floats. */
typedef struct lips_conv_gemm {
    int64_t count; /* of frequencies */
    const lips_conv_panel *panel;
    int64_t panels;
    const float *w, *x;
    float *y;
    int64_t w_freq, x_freq, y_freq;
    int64_t channels, n;    /* inputs, blocks */
    int64_t x_chan, y_chan; /* from channel to channel */
} lips_conv_gemm;

typedef void lips_conv_gemm_fn(const lips_conv_gemm *g);

/* u (36, n) from g (9, n), n a multiple of 16; rows ustep and gstep apart. */
typedef void lips_conv_wino_weights_fn(float *u, int64_t ustep, const float *g, int64_t gstep,
                                       int64_t n);
/* g (9, n) = G' u G, the same way. */
typedef void lips_conv_wino_taps_fn(float *g, int64_t gstep, const float *u, int64_t ustep,
                                    int64_t n);

typedef struct lips_conv_kernels {
    lips_conv_tile_fn *tile;
    lips_conv_dot_fn *dot;
    lips_conv_lane_sum_fn *lane_sum;
    lips_conv_widen_fn *widen;
    lips_conv_pack_fn *pack;
    lips_conv_gemm_fn *gemm;
    lips_conv_wino_in_fn *wino_in;
    lips_conv_wino_dy_fn *wino_dy;
    lips_conv_wino_out_fn *wino_out;
    lips_conv_wino_weights_fn *wino_weights;
    lips_conv_wino_taps_fn *wino_taps;
} lips_conv_kernels;

typedef enum lips_conv_op {
    LIPS_CONV_FORWARD,
    LIPS_CONV_VJP,
    LIPS_CONV_GRAD,
    LIPS_CONV_GRAM,
} lips_conv_op;

/* How an op is computed. The choice is a function of the shapes alone, so that results repeat. */
typedef enum lips_conv_algo {
    LIPS_CONV_AUTO,
    LIPS_CONV_DIRECT,     /* any op */
    LIPS_CONV_PIXEL_GRAM, /* gram: through the Gram matrix of the input's pixels */
    LIPS_CONV_WINOGRAD,   /* any op of 3x3, stride 1: F(4x4,3x3) */
    LIPS_CONV_MATRIX,     /* forward, vjp of 1x1 without padding: matrix products */
} lips_conv_algo;

lips_conv_algo lips_cpu_conv_choose(lips_conv_op op, const lips_conv_args *a);

/* Bytes of a->work that lips_cpu_conv_run needs. */
size_t lips_cpu_conv_work(lips_conv_op op, const lips_conv_args *a, lips_conv_algo algo);

/* The op by a given algorithm; LIPS_ERR_UNSUPPORTED if it does not offer the op at this shape. */
lips_status lips_cpu_conv_run(lips_backend *be, lips_conv_op op, const lips_conv_args *a,
                              lips_conv_algo algo);

/* Multiply-adds times two of one op on b samples, padding not counted as saved (bench). */
double lips_conv_flops(lips_conv_op op, const lips_conv_args *a);

/* Below: one file per algorithm; shapes have been checked, work is large enough. */
size_t lips_conv_apply_work(lips_conv_op op, const lips_conv_args *a);
void lips_conv_apply(const lips_cpu_kernels *k, lips_conv_op op, const lips_conv_args *a);

double lips_conv_apply_cost(lips_conv_op op, const lips_conv_args *a); /* stride 1 */
double lips_conv_winograd_cost(lips_conv_op op, const lips_conv_args *a);
size_t lips_conv_winograd_work(lips_conv_op op, const lips_conv_args *a);
void lips_conv_winograd(const lips_cpu_kernels *k, lips_conv_op op, const lips_conv_args *a);

double lips_conv_winograd_grad_cost(const lips_conv_args *a);
size_t lips_conv_winograd_grad_work(const lips_conv_args *a);
void lips_conv_winograd_grad(const lips_cpu_kernels *k, const lips_conv_args *a);

double lips_conv_grad_cost(const lips_conv_args *a);
size_t lips_conv_grad_work(const lips_conv_args *a);
void lips_conv_grad(const lips_cpu_kernels *k, const lips_conv_args *a);

size_t lips_conv_matrix_work(const lips_conv_args *a);
lips_status lips_conv_matrix(const lips_cpu_kernels *k, lips_conv_op op, const lips_conv_args *a);

size_t lips_conv_gram_direct_work(const lips_conv_args *a);
void lips_conv_gram_direct(const lips_cpu_kernels *k, const lips_conv_args *a);
size_t lips_conv_gram_pixel_work(const lips_conv_args *a);
void lips_conv_gram_pixel(const lips_cpu_kernels *k, const lips_conv_args *a);
double lips_conv_gram_direct_cost(const lips_conv_args *a);
double lips_conv_gram_pixel_cost(const lips_conv_args *a);
size_t lips_conv_winograd_gram_work(const lips_conv_args *a);
void lips_conv_winograd_gram(const lips_cpu_kernels *k, const lips_conv_args *a);
double lips_conv_winograd_gram_cost(const lips_conv_args *a);

/* Inner products of T streams with each other: of stream t, block (r,i) is at v + at[t] +
 * r*row_step
 * + i*16; at is evenly spaced. rows * cols products are one f32 chain. */
typedef struct lips_conv_gram_sum {
    const float *v;
    const int64_t *at; /* (T) */
    int64_t t, rows, cols, row_step;
    float *tt;   /* (T,T) blocks, scratch */
    double *acc; /* (T,T,16), added to: t' from t's tile of streams on, doubled beyond it */
} lips_conv_gram_sum;

void lips_conv_gram_rows(const lips_cpu_kernels *k, const lips_conv_gram_sum *s);
/* theta += (acc + acc') / 2 for the samples of one block of lanes. */
void lips_conv_gram_give(double *theta, const double *acc, int64_t t, int64_t lanes);

/* Sizes used everywhere. */
static inline int64_t lips_conv_v(const lips_tensor *t)
{
    return t->t * t->lanes / LIPS_CONV_BLOCK;
}

static inline int64_t lips_conv_slabs(const lips_tensor *t)
{
    return (t->b + t->lanes - 1) / t->lanes;
}

static inline int64_t lips_conv_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t lips_conv_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t lips_conv_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* n cut into the fewest parts of at most most, as equal as can be: size of part i of parts. */
static inline int64_t lips_conv_part(int64_t n, int64_t parts, int64_t i)
{
    return n / parts + (i < n % parts);
}

/* Cuts scratch memory into 64-byte aligned arrays of floats; with base NULL it only counts. */
typedef struct lips_conv_arena {
    char *base;
    size_t used;
} lips_conv_arena;

static inline void *lips_conv_take(lips_conv_arena *m, int64_t count, size_t size)
{
    void *p = m->base ? m->base + m->used : NULL;
    m->used += ((size_t)count * size + 63) / 64 * 64;
    return p;
}

#endif
