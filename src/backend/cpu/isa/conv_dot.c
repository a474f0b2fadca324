/*
 * conv_dot - lane-wise inner products of many pairs of streams, the contraction under parameter
 * gradients and Gram matrices of convolutions.
 *
 *   out[m][j][l] (+)= sum_{r<rows, i<cols} a[m][r][i][l] * b[j][r][i][l]
 *
 * Shapes     a: M streams, b: J streams of rows x cols blocks of 16 lanes, all by steps (conv.h)
 * Work split register tiles of at most 6 by 12 streams
 * Precision  f32, fused multiply-add; callers bound rows * cols and add further in f32 or f64
 * Order      r, i ascending in one chain per output: same bits for every cut into tiles
 * Cost       2 rows cols flops per output lane; M + J loads for M J multiply-adds
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c (rows grad, gram)
 */
#include "backend/cpu/isa/simd.h"

#include "backend/cpu/conv.h"

lips_conv_dot_fn LIPS_ISA_FN(lips_conv_dot);
lips_conv_lane_sum_fn LIPS_ISA_FN(lips_conv_lane_sum);
lips_conv_widen_fn LIPS_ISA_FN(lips_conv_widen);

#include <string.h>

enum { MAX_J = 12 };

VF_INLINE void tile(const int M, const int J, const lips_conv_dot *d, const float *a,
                    const float *b0, const int64_t *bj, float *out)
{
    vf acc[LIPS_CONV_ROWS][MAX_J];
    const int64_t rows = d->rows, cols = d->cols, am = d->am, ai = d->ai, bi = d->bi;

#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int j = 0; j < J; j++)
            acc[m][j] = d->resume ? vf_load(out + m * d->om + j * d->oj) : vf_zero();
    for (int64_t r = 0; r < rows; r++) {
        const float *ap = a + r * d->ar, *bp = b0 + r * d->br;
        for (int64_t i = 0; i < cols; i++, ap += ai, bp += bi) {
            vf b[MAX_J];
#pragma GCC unroll 16
            for (int j = 0; j < J; j++)
                b[j] = vf_load(bp + bj[j]);
#pragma GCC unroll 16
            for (int m = 0; m < M; m++) {
                const vf x = vf_load(ap + m * am);
#pragma GCC unroll 16
                for (int j = 0; j < J; j++)
                    acc[m][j] = vf_fma(x, b[j], acc[m][j]);
            }
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 16
        for (int j = 0; j < J; j++)
            vf_store(out + m * d->om + j * d->oj, acc[m][j]);
}

typedef void tile_fn(const lips_conv_dot *, const float *, const float *, const int64_t *, float *);

#define TILE(M, J)                                                                                 \
    static void tile_##M##_##J(const lips_conv_dot *d, const float *a, const float *b,             \
                               const int64_t *bj, float *out)                                      \
    {                                                                                              \
        int64_t at[J];                                                                             \
        memcpy(at, bj, sizeof at);                                                                 \
        tile(M, J, d, a, b, at, out);                                                              \
    }
#define ROW(M, J) [M][J] = tile_##M##_##J,

/* Widest J for each M, as in conv_tile.c. */
/* clang-format off */
#if VF_LANES == 16
#define TILES(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(1, 5) F(1, 6) F(1, 7) F(1, 8) F(1, 9) F(2, 1) F(2, 2) \
    F(2, 3) F(2, 4) F(2, 5) F(2, 6) F(2, 7) F(2, 8) F(2, 9) F(3, 1) F(3, 2) F(3, 3) F(3, 4) \
    F(3, 5) F(3, 6) F(3, 7) F(3, 8) F(3, 9) F(4, 1) F(4, 2) F(4, 3) F(4, 4) F(4, 5) F(4, 6) \
    F(5, 1) F(5, 2) F(5, 3) F(5, 4) F(5, 5) F(6, 1) F(6, 2) F(6, 3) F(6, 4)
static const int64_t widest[LIPS_CONV_ROWS + 1] = {0, 9, 9, 9, 6, 5, 4};
enum { TALLEST = 6 };
#elif VF_LANES == 8
#define TILES(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(1, 5) F(1, 6) F(1, 7) F(2, 1) F(2, 2) F(2, 3) F(2, 4) \
    F(2, 5) F(3, 1) F(3, 2) F(3, 3) F(3, 4) F(4, 1) F(4, 2) F(4, 3)
static const int64_t widest[LIPS_CONV_ROWS + 1] = {0, 7, 5, 4, 3};
enum { TALLEST = 4 };
#else
#define TILES(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(1, 5) F(1, 6) F(2, 1) F(2, 2) F(2, 3) F(2, 4) F(3, 1) \
    F(3, 2) F(3, 3) F(4, 1) F(4, 2)
static const int64_t widest[LIPS_CONV_ROWS + 1] = {0, 6, 4, 3, 2};
enum { TALLEST = 4 };
#endif
/* clang-format on */

TILES(TILE)

static tile_fn *const tiles[LIPS_CONV_ROWS + 1][MAX_J + 1] = {TILES(ROW)};

/* m streams a from a on against all streams b, lanes from h on. */
static void rows_of(const lips_conv_dot *d, int64_t m, const float *a, float *out, int64_t h)
{
    const int64_t parts = lips_conv_ceil(d->j, widest[m]);
    const int64_t size = d->j / parts, larger = d->j % parts;
    const int64_t *bj = d->bj;
    for (int64_t q = 0; q < parts; q++) {
        const int64_t j = size + (q < larger);
        tiles[m][j](d, a + h, d->b + h, bj, out + h);
        bj += j;
        out += j * d->oj;
    }
}

void LIPS_ISA_FN(lips_conv_dot)(const lips_conv_dot *d)
{
    const int64_t parts = lips_conv_ceil(d->m, TALLEST);
    const int64_t size = d->m / parts, larger = d->m % parts;
    for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES) {
        int64_t m0 = 0;
        for (int64_t p = 0; p < parts; p++) {
            const int64_t m = size + (p < larger);
            rows_of(d, m, d->a + m0 * d->am, d->out + m0 * d->om, h);
            m0 += m;
        }
    }
}

/* Adjacent pairs, then pairs of pairs: the order that AVX's horizontal adds give. */
static float half_sum(const float *v)
{
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

#if VF_LANES == 16
/* Halves of quarters: (a0+a1, a2+a3, b0+b1, b2+b3) of each quarter of a and b. */
VF_INLINE vf pairs(vf a, vf b)
{
    return vf_add(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

/* The same of quarters: (a0+a1, a2+a3, b0+b1, b2+b3). */
VF_INLINE vf quarters(vf a, vf b)
{
    return vf_add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* Sixteen sums of rows v, v+16, .. in the order of half_sum: 45 operations between registers. */
VF_INLINE vf sums16(const float *v)
{
    vf q[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const float *p = v + 64 * i;
        q[i] = pairs(pairs(vf_load(p), vf_load(p + 16)), pairs(vf_load(p + 32), vf_load(p + 48)));
    }
    return quarters(quarters(q[0], q[1]), quarters(q[2], q[3]));
}
#endif

#if VF_LANES >= 8
/* Eight half_sum at once, of rows v, v+16, .. v+112. */
VF_INLINE __m256 half_sums8(const float *v)
{
    __m256 h[4];
    for (int i = 0; i < 4; i++)
        h[i] = _mm256_hadd_ps(_mm256_loadu_ps(v + 32 * i), _mm256_loadu_ps(v + 32 * i + 16));
    const __m256 p = _mm256_hadd_ps(h[0], h[1]), q = _mm256_hadd_ps(h[2], h[3]);
    return _mm256_add_ps(_mm256_permute2f128_ps(p, q, 0x20), _mm256_permute2f128_ps(p, q, 0x31));
}
#endif

void LIPS_ISA_FN(lips_conv_lane_sum)(float *out, const float *v, int64_t n, int64_t lanes)
{
    int64_t i = 0;
#if VF_LANES == 16
    for (; lanes >= LIPS_CONV_BLOCK && i + 16 <= n; i += 16)
        vf_store(out + i, vf_add(vf_load(out + i), sums16(v + i * LIPS_CONV_BLOCK)));
#endif
#if VF_LANES >= 8
    for (; lanes >= LIPS_CONV_BLOCK && i + 8 <= n; i += 8) {
        const float *p = v + i * LIPS_CONV_BLOCK;
        const __m256 sum = _mm256_add_ps(half_sums8(p), half_sums8(p + 8));
        _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_loadu_ps(out + i), sum));
    }
#endif
    for (; i < n; i++) {
        float t[LIPS_CONV_BLOCK] = {0};
        memcpy(t, v + i * LIPS_CONV_BLOCK,
               (size_t)lips_conv_min(lanes, LIPS_CONV_BLOCK) * sizeof *t);
        out[i] += half_sum(t) + half_sum(t + 8);
    }
}

void LIPS_ISA_FN(lips_conv_widen)(double *acc, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        acc[i] += (double)v[i];
}
