/*
 * Gram matrices of T stacked vectors per sample, f64, vectorised over samples.
 *
 * Work split  VD_LANES samples x a tile of TILE x TILE pairs (i, j) are summed in registers over a
 * run of rows; a run is short enough that the stack of all T vectors stays in the second-level
 * cache while every tile goes over it. Order       rows in order within a run, runs in order: fixed
 * by the shape and the instruction set. Cost        T (T+1) / 2 fused multiply-adds per row and
 * sample, in whole tiles; T/TILE conversions.
 */
#include "backend/cpu/isa/f64.h"
#include "backend/cpu/isa/kernels.h"

/* TILE^2 sums, TILE + 1 operands: 31 of avx512's 32 registers, 13 of the others' 16. */
#if defined(__AVX512F__)
enum { TILE = 5 };
#else
enum { TILE = 3 };
#endif

enum { RUN_BYTES = 128 * 1024 };

typedef struct tile {
    const float *x; /* first row, first lane of this vector of samples */
    int64_t rows, row_stride, lanes;
    int64_t t, i, j; /* pairs i..i+TILE-1, j..j+TILE-1, those below t */
} tile;

/* Sums of a whole tile; a ragged one repeats its last vector, and the caller drops the repeats. */
static void tile_sums(double out[TILE][TILE][VD_LANES], const tile *p)
{
    vd s[TILE][TILE];
    int64_t at_i[TILE], at_j[TILE];
    for (int a = 0; a < TILE; a++) {
        at_i[a] = (p->i + a < p->t ? p->i + a : p->t - 1) * p->lanes;
        at_j[a] = (p->j + a < p->t ? p->j + a : p->t - 1) * p->lanes;
        for (int b = 0; b < TILE; b++)
            s[a][b] = vd_set1(0);
    }
    const float *x = p->x;
    for (int64_t r = 0; r < p->rows; r++, x += p->row_stride) {
        vd v[TILE];
        for (int b = 0; b < TILE; b++)
            v[b] = vd_load_f32(x + at_j[b]);
        for (int a = 0; a < TILE; a++) {
            vd u = vd_load_f32(x + at_i[a]);
            for (int b = 0; b < TILE; b++)
                s[a][b] = vd_fma(u, v[b], s[a][b]);
        }
    }
    for (int a = 0; a < TILE; a++)
        for (int b = 0; b < TILE; b++)
            vd_store(out[a][b], s[a][b]);
}

/* theta of samples l0.. += scale * the tile, and its mirror image. */
static void add_tile(double *theta, const double *scale, const double sums[TILE][TILE][VD_LANES],
                     const tile *p, int64_t samples)
{
    for (int64_t l = 0; l < samples; l++) {
        double *g = theta + l * p->t * p->t, f = scale ? scale[l] : 1.0;
        for (int64_t i = p->i; i < p->i + TILE && i < p->t; i++)
            for (int64_t j = p->j; j < p->j + TILE && j <= i; j++) {
                double v = f * sums[i - p->i][j - p->j][l];
                g[i * p->t + j] += v;
                if (j != i)
                    g[j * p->t + i] += v;
            }
    }
}

void LIPS_ISA_FN(lips_cpu_gram)(double *theta, const float *x, const double *scale, int64_t rows,
                                int64_t t, int64_t lanes, int64_t samples)
{
    int64_t stride = t * lanes, run = RUN_BYTES / (int64_t)sizeof(float) / stride;
    run = run < 1 ? 1 : run;
    for (int64_t r = 0; r < rows; r += run)
        for (int64_t l = 0; l < samples; l += VD_LANES)
            for (int64_t i = 0; i < t; i += TILE)
                for (int64_t j = 0; j <= i; j += TILE) {
                    double sums[TILE][TILE][VD_LANES];
                    tile p = {.x = x + r * stride + l,
                              .rows = rows - r < run ? rows - r : run,
                              .row_stride = stride,
                              .lanes = lanes,
                              .t = t,
                              .i = i,
                              .j = j};
                    tile_sums(sums, &p);
                    add_tile(theta + l * t * t, scale ? scale + l : NULL, sums, &p,
                             samples - l < VD_LANES ? samples - l : VD_LANES);
                }
}
