/*
 * Gram matrices of T stacked vectors per sample, f64, vectorised over samples.
 *
 * Work split  VD_LANES samples x a tile of at most TILE x TILE pairs (i, j) are summed in registers
 * over a run of rows, which stays in the second-level cache while every tile goes over it. Order
 * rows in order within a run, runs in order: fixed by the shape and the instruction set. Cost T
 * (T+1) / 2 fused multiply-adds per row and sample. Speed       bench/gram.c
 */
#include "backend/cpu/isa/f64.h"
#include "backend/cpu/isa/kernels.h"

/* TILE^2 sums, TILE + 1 operands: 31 of avx512's 32 registers, 13 of the others' 16. */
#if defined(__AVX512F__)
enum { TILE = 5 };
#else
enum { TILE = 3 };
#endif

/* With several blocks in a row, lines of one block lie 512 bytes apart and share cache sets. */
enum { RUN_BYTES = 384 * 1024, RUN_BYTES_STRIDED = 64 * 1024, RUN_MIN = 32 };

typedef struct tile {
    const float *x; /* first row, first lane of this vector of samples */
    int64_t rows, row_stride, lanes;
    int64_t t, i, j; /* pairs i..i+ni-1, j..j+nj-1; i == j: those with j <= i */
} tile;

/* ni, nj and diagonal are constants where this is inlined. */
VF_INLINE void tile_sums(double out[TILE][TILE][VD_LANES], const tile *p, int ni, int nj,
                         bool diagonal)
{
    vd s[TILE][TILE];
    const float *x = p->x;
    for (int a = 0; a < ni; a++)
        for (int b = 0; b < nj; b++)
            s[a][b] = vd_set1(0);
    for (int64_t r = 0; r < p->rows; r++, x += p->row_stride) {
        vd v[TILE];
#pragma GCC unroll 5
        for (int b = 0; b < nj; b++)
            v[b] = vd_load_f32(x + (p->j + b) * p->lanes);
#pragma GCC unroll 5
        for (int a = 0; a < ni; a++) {
            vd u = diagonal ? v[a] : vd_load_f32(x + (p->i + a) * p->lanes);
#pragma GCC unroll 5
            for (int b = 0; b < nj; b++)
                if (!diagonal || b <= a)
                    s[a][b] = vd_fma(u, v[b], s[a][b]);
        }
    }
    for (int a = 0; a < ni; a++)
        for (int b = 0; b < nj; b++)
            vd_store(out[a][b], s[a][b]);
}

/* Tiles on the diagonal are ni x ni; the others ni x TILE, as only the last rows are ragged. */
static void any_tile(double out[TILE][TILE][VD_LANES], const tile *p, int64_t ni)
{
    switch (2 * ni + (p->i == p->j)) {
    case 2: tile_sums(out, p, 1, TILE, false); break;
    case 3: tile_sums(out, p, 1, 1, true); break;
    case 4: tile_sums(out, p, 2, TILE, false); break;
    case 5: tile_sums(out, p, 2, 2, true); break;
    case 6: tile_sums(out, p, 3, TILE, false); break;
    case 7: tile_sums(out, p, 3, 3, true); break;
#if defined(__AVX512F__)
    case 8: tile_sums(out, p, 4, TILE, false); break;
    case 9: tile_sums(out, p, 4, 4, true); break;
    case 10: tile_sums(out, p, 5, TILE, false); break;
    case 11: tile_sums(out, p, 5, 5, true); break;
#endif
    default: break;
    }
}

/* theta of each sample += scale * the tile, and its mirror image. */
static void add_tile(double *theta, const double *scale, const double sums[TILE][TILE][VD_LANES],
                     const tile *p, int64_t ni, int64_t samples)
{
    int64_t t = p->t;
    for (int64_t l = 0; l < samples; l++, theta += t * t)
        for (int64_t i = 0; i < ni; i++) {
            int64_t nj = p->i == p->j ? i + 1 : TILE;
            double *g = theta + (p->i + i) * t + p->j, *mirror = theta + p->j * t + p->i + i;
            for (int64_t j = 0; j < nj; j++, g++, mirror += t) {
                double v = scale ? scale[l] * sums[i][j][l] : sums[i][j][l];
                *g += v;
                if (g != mirror)
                    *mirror += v;
            }
        }
}

void LIPS_ISA_FN(lips_cpu_gram)(double *theta, const float *x, const double *scale, int64_t rows,
                                int64_t t, int64_t lanes, int64_t samples)
{
    int64_t stride = t * lanes;
    int64_t bytes = lanes > LIPS_CPU_LANES ? RUN_BYTES_STRIDED : RUN_BYTES;
    int64_t run = bytes / (t * LIPS_CPU_LANES * (int64_t)sizeof(float));
    run = run < RUN_MIN ? RUN_MIN : run;
    for (int64_t r = 0; r < rows; r += run)
        for (int64_t l = 0; l < samples; l += VD_LANES)
            for (int64_t i = 0; i < t; i += TILE)
                for (int64_t j = 0; j <= i; j += TILE) {
                    double sums[TILE][TILE][VD_LANES];
                    int64_t ni = t - i < TILE ? t - i : TILE;
                    tile p = {.x = x + r * stride + l,
                              .rows = rows - r < run ? rows - r : run,
                              .row_stride = stride,
                              .lanes = lanes,
                              .t = t,
                              .i = i,
                              .j = j};
                    any_tile(sums, &p, ni);
                    add_tile(theta + l * t * t, scale ? scale + l : NULL, sums, &p, ni,
                             samples - l < VD_LANES ? samples - l : VD_LANES);
                }
}
