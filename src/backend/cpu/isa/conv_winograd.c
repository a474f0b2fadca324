/*
 * conv_winograd - the transforms of Winograd's F(4x4, 3x3), a whole block of 16 lanes at a time.
 *
 *   y = A' [ (G g G') . (B' d B) ] A      d 6x6 inputs, g 3x3 weights, y 4x4 outputs
 *
 * from the points 0, +-a, +-b, infinity (Toom-Cook) with a = 5/8, b = 3/2, whose squares, cubes and
 * products are exact in f32. With them sums of 128 channels of normal data err by 1.0e-6 in
 * relative L2, against 2.3e-6 for Lavin and Gray's 1, 2 and 0.6e-6 for the direct chain
 * (tests/ops/test_conv_cpu.c bounds it).
 *
 * Shapes     V (36, C, P), M (36, O, P) blocks; d, y in the tensor, what is outside is left out
 * Precision  f32, fused multiply-add
 * Order      fixed; each tile alone
 * Cost       144 multiply-adds per d, 120 per y, in blocks
 * Proof      tests/ops/test_conv_cpu.c      Speed  bench/conv.c
 */
#include "backend/cpu/isa/simd.h"

#include "backend/cpu/conv.h"

lips_conv_wino_in_fn LIPS_ISA_FN(lips_conv_wino_in);
lips_conv_wino_out_fn LIPS_ISA_FN(lips_conv_wino_out);
lips_conv_wino_dy_fn LIPS_ISA_FN(lips_conv_wino_dy);
lips_conv_wino_weights_fn LIPS_ISA_FN(lips_conv_wino_weights);
lips_conv_wino_taps_fn LIPS_ISA_FN(lips_conv_wino_taps);

static const float A1 = 5.0f / 8, B1 = 3.0f / 2;
static const float A2 = 25.0f / 64, B2 = 9.0f / 4;
static const float A3 = 125.0f / 512, B3 = 27.0f / 8;

/* Tiles between asking for memory and using it: 12 x 50 ns. */
enum { AHEAD = 12 };

/* t = B' d */
VF_INLINE void forth(vf t[6], const vf d[6])
{
    const vf sum = vf_set1(-(A2 + B2)), product = vf_set1(A2 * B2);
    const vf a = vf_set1(A1), b = vf_set1(B1), na = vf_set1(-A1), nb = vf_set1(-B1);
    const vf na2 = vf_set1(-A2), nb2 = vf_set1(-B2);
    const vf ae = vf_fma(nb2, d[2], d[4]), ao = vf_fma(nb2, d[1], d[3]);
    const vf be = vf_fma(na2, d[2], d[4]), bo = vf_fma(na2, d[1], d[3]);
    t[0] = vf_fma(product, d[0], vf_fma(sum, d[2], d[4]));
    t[1] = vf_fma(a, ao, ae);
    t[2] = vf_fma(na, ao, ae);
    t[3] = vf_fma(b, bo, be);
    t[4] = vf_fma(nb, bo, be);
    t[5] = vf_fma(product, d[1], vf_fma(sum, d[3], d[5]));
}

/* y = A' m */
VF_INLINE void back(vf y[4], const vf m[6])
{
    const vf ap = vf_add(m[1], m[2]), am = vf_sub(m[1], m[2]);
    const vf bp = vf_add(m[3], m[4]), bm = vf_sub(m[3], m[4]);
    y[0] = vf_add(vf_add(m[0], ap), bp);
    y[1] = vf_fma(vf_set1(A1), am, vf_mul(vf_set1(B1), bm));
    y[2] = vf_fma(vf_set1(A2), ap, vf_mul(vf_set1(B2), bp));
    y[3] = vf_fma(vf_set1(A3), am, vf_fma(vf_set1(B3), bm, m[5]));
}

/* A tile of a later channel: the hardware does not foresee these steps (8 -> 16 channels of 32x32,
 * T = 10: 195 ns without, 77 ns with it for a tile of one channel; back 130 and 65 ns). */
VF_INLINE void fetch(const float *x, int64_t row, int64_t pixel, int64_t y0, int64_t y1, int64_t x0,
                     int64_t x1)
{
    for (int64_t i = y0; i < y1; i++)
        for (int64_t j = x0; j < x1; j++)
            __builtin_prefetch(x + i * row + j * pixel);
}

VF_INLINE void claim(float *y, int64_t row, int64_t pixel, int64_t ny, int64_t nx)
{
    for (int64_t i = 0; i < ny; i++)
        for (int64_t j = 0; j < nx; j++)
            __builtin_prefetch(y + i * row + j * pixel, 1);
}

/* V of one tile of one channel, lanes from h on; whole: all 36 inputs are there. */
VF_INLINE void in_tile(const bool whole, float *v, int64_t fstep, const float *x, int64_t row,
                       int64_t pixel, const lips_conv_wino_tile *t, int64_t h)
{
    vf s[6][6];
    const vf lanes = !whole && t->lanes ? vf_load(t->lanes + h) : vf_set1(1.0f);
    for (int64_t j = 0; j < 6; j++) {
        vf d[6], c[6];
        const bool inside = whole || (j >= t->x0 && j < t->x1);
#pragma GCC unroll 6
        for (int64_t i = 0; i < 6; i++)
            if (whole)
                d[i] = vf_load(x + i * row + j * pixel);
            else if (inside && i >= t->y0 && i < t->y1)
                d[i] = vf_where_pos(lanes, vf_load(x + i * row + j * pixel));
            else
                d[i] = vf_zero();
        forth(c, d);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            s[i][j] = c[i];
    }
    for (int64_t i = 0; i < 6; i++) {
        vf c[6];
        forth(c, s[i]);
#pragma GCC unroll 6
        for (int64_t j = 0; j < 6; j++)
            vf_store(v + (i * 6 + j) * fstep, c[j]);
    }
}

void LIPS_ISA_FN(lips_conv_wino_in)(const lips_conv_wino *w)
{
    const int64_t ahead = lips_conv_ceil(AHEAD, w->tiles);
    for (int64_t c = 0; c < w->channels; c++)
        for (int64_t p = 0; p < w->tiles; p++) {
            const lips_conv_wino_tile *t = w->tile + p;
            const float *x = w->x + t->in + c * w->x_chan;
            float *v = w->v + c * w->v_chan + p * LIPS_CONV_BLOCK;
            if (c + ahead < w->channels)
                fetch(x + ahead * w->x_chan, w->x_row, w->x_pixel, t->y0, t->y1, t->x0, t->x1);
            for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES)
                if (t->whole)
                    in_tile(true, v + h, w->v_freq, x + h, w->x_row, w->x_pixel, t, h);
                else
                    in_tile(false, v + h, w->v_freq, x + h, w->x_row, w->x_pixel, t, h);
        }
}

/* t = A y */
VF_INLINE void spread(vf t[6], const vf y[4])
{
    const vf a = vf_set1(A1), b = vf_set1(B1), na = vf_set1(-A1), nb = vf_set1(-B1);
    const vf a2 = vf_set1(A2), b2 = vf_set1(B2);
    const vf ae = vf_fma(a2, y[2], y[0]), ao = vf_fma(a2, y[3], y[1]);
    const vf be = vf_fma(b2, y[2], y[0]), bo = vf_fma(b2, y[3], y[1]);
    t[0] = y[0];
    t[1] = vf_fma(a, ao, ae);
    t[2] = vf_fma(na, ao, ae);
    t[3] = vf_fma(b, bo, be);
    t[4] = vf_fma(nb, bo, be);
    t[5] = y[3];
}

/* A y A' of one tile of one channel, lanes from h on; outputs that do not exist are 0; whole: all
 * are there. */
VF_INLINE void dy_tile(const bool whole, float *v, int64_t fstep, const float *y, int64_t row,
                       int64_t pixel, const lips_conv_wino_tile *t, int64_t h)
{
    vf s[6][4];
    const vf lanes = !whole && t->lanes ? vf_load(t->lanes + h) : vf_set1(1.0f);
    for (int64_t j = 0; j < 4; j++) {
        vf d[4], c[6];
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; i++)
            if (whole)
                d[i] = vf_load(y + i * row + j * pixel);
            else
                d[i] = j < t->nx && i < t->ny
                           ? vf_where_pos(lanes, vf_load(y + i * row + j * pixel))
                           : vf_zero();
        spread(c, d);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            s[i][j] = c[i];
    }
    for (int64_t i = 0; i < 6; i++) {
        vf c[6];
        spread(c, s[i]);
#pragma GCC unroll 6
        for (int64_t j = 0; j < 6; j++)
            vf_store(v + (i * 6 + j) * fstep, c[j]);
    }
}

void LIPS_ISA_FN(lips_conv_wino_dy)(const lips_conv_wino *w)
{
    const int64_t all = w->channels * w->tiles;
    int64_t next = 0, next_chan = 0; /* the tile to ask for */
    for (int64_t i = -AHEAD, c = 0, p = 0; i < all; i++) {
        if (i + AHEAD < all) {
            const lips_conv_wino_tile *t = w->tile + next;
            fetch(w->x + t->out + next_chan * w->x_chan, w->x_row, w->x_pixel, 0, t->ny, 0, t->nx);
            next_chan += ++next == w->tiles;
            next = next == w->tiles ? 0 : next;
        }
        if (i < 0)
            continue;
        const lips_conv_wino_tile *t = w->tile + p;
        const float *y = w->x + t->out + c * w->x_chan;
        float *v = w->v + c * w->v_chan + p * LIPS_CONV_BLOCK;
        const bool whole = !t->lanes && t->ny == 4 && t->nx == 4;
        for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES)
            if (whole)
                dy_tile(true, v + h, w->v_freq, y + h, w->x_row, w->x_pixel, t, h);
            else
                dy_tile(false, v + h, w->v_freq, y + h, w->x_row, w->x_pixel, t, h);
        c += ++p == w->tiles;
        p = p == w->tiles ? 0 : p;
    }
}

VF_INLINE void out_tile(const lips_conv_wino *w, const lips_conv_wino_tile *t, const float *v,
                        float *y, const float *mask, const vf bias)
{
    vf s[4][6];
    for (int64_t j = 0; j < 6; j++) {
        vf m[6], c[4];
#pragma GCC unroll 6
        for (int64_t i = 0; i < 6; i++)
            m[i] = vf_load(v + (i * 6 + j) * w->v_freq);
        back(c, m);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            s[i][j] = c[i];
    }
    for (int64_t i = 0; i < t->ny; i++) {
        vf c[4];
        back(c, s[i]);
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; j++) {
            if (j >= t->nx)
                break;
            vf r = vf_add(c[j], bias);
            if (w->relu)
                r = vf_relu(r);
            if (mask)
                r = vf_where_pos(vf_load(mask + i * w->mask_row + j * w->mask_pixel), r);
            vf_store(y + i * w->x_row + j * w->x_pixel, r);
        }
    }
}

void LIPS_ISA_FN(lips_conv_wino_out)(const lips_conv_wino *w)
{
    const int64_t ahead = lips_conv_ceil(AHEAD, w->tiles);
    for (int64_t c = 0; c < w->channels; c++) {
        const vf bias = vf_set1(w->bias ? w->bias[c] : 0.0f);
        for (int64_t p = 0; p < w->tiles; p++) {
            const lips_conv_wino_tile *t = w->tile + p;
            const float *v = w->v + c * w->v_chan + p * LIPS_CONV_BLOCK;
            float *y = w->y + t->out + c * w->x_chan;
            const float *mask = w->mask ? w->mask + t->mask + c * w->mask_chan : NULL;
            if (c + ahead < w->channels)
                claim(y + ahead * w->x_chan, w->x_row, w->x_pixel, t->ny, t->nx);
            for (int64_t h = 0; h < LIPS_CONV_BLOCK; h += VF_LANES)
                out_tile(w, t, v + h, y + h, mask ? mask + h : NULL, bias);
        }
    }
}

/* Denominators of Lagrange's polynomials: 2 a^2 (a^2 - b^2), 2 b^2 (b^2 - a^2), a^2 b^2. */
#define DA (1 / (2 * A2 * (A2 - B2)))
#define DB (1 / (2 * B2 * (B2 - A2)))
#define D0 (1 / (A2 * B2))

/* t = G g */
VF_INLINE void weight(vf t[6], const vf g[3])
{
    const vf ae = vf_mul(vf_set1(DA), vf_fma(vf_set1(A2), g[2], g[0]));
    const vf be = vf_mul(vf_set1(DB), vf_fma(vf_set1(B2), g[2], g[0]));
    t[0] = vf_mul(vf_set1(D0), g[0]);
    t[1] = vf_fma(vf_set1(DA * A1), g[1], ae);
    t[2] = vf_fma(vf_set1(-DA * A1), g[1], ae);
    t[3] = vf_fma(vf_set1(DB * B1), g[1], be);
    t[4] = vf_fma(vf_set1(-DB * B1), g[1], be);
    t[5] = g[2];
}

void LIPS_ISA_FN(lips_conv_wino_weights)(float *u, int64_t ustep, const float *g, int64_t gstep,
                                         int64_t n)
{
    for (int64_t l = 0; l < n; l += VF_LANES) {
        vf s[6][3];
        for (int j = 0; j < 3; j++) {
            vf c[6];
            const vf d[3] = {vf_load(g + j * gstep + l), vf_load(g + (3 + j) * gstep + l),
                             vf_load(g + (6 + j) * gstep + l)};
            weight(c, d);
            for (int i = 0; i < 6; i++)
                s[i][j] = c[i];
        }
        for (int i = 0; i < 6; i++) {
            vf c[6];
            weight(c, s[i]);
            for (int j = 0; j < 6; j++)
                vf_store(u + (i * 6 + j) * ustep + l, c[j]);
        }
    }
}

/* g = G' t */
VF_INLINE void gather(vf g[3], const vf t[6])
{
    const vf ap = vf_mul(vf_set1(DA), vf_add(t[1], t[2]));
    const vf bp = vf_mul(vf_set1(DB), vf_add(t[3], t[4]));
    const vf am = vf_sub(t[1], t[2]), bm = vf_sub(t[3], t[4]);
    g[0] = vf_fma(vf_set1(D0), t[0], vf_add(ap, bp));
    g[1] = vf_fma(vf_set1(DA * A1), am, vf_mul(vf_set1(DB * B1), bm));
    g[2] = vf_fma(vf_set1(A2), ap, vf_fma(vf_set1(B2), bp, t[5]));
}

void LIPS_ISA_FN(lips_conv_wino_taps)(float *g, int64_t gstep, const float *u, int64_t ustep,
                                      int64_t n)
{
    for (int64_t l = 0; l < n; l += VF_LANES) {
        vf s[3][6];
        for (int j = 0; j < 6; j++) {
            vf c[6], d[3];
            for (int i = 0; i < 6; i++)
                c[i] = vf_load(u + (i * 6 + j) * ustep + l);
            gather(d, c);
            for (int i = 0; i < 3; i++)
                s[i][j] = d[i];
        }
        for (int i = 0; i < 3; i++) {
            vf d[3];
            gather(d, s[i]);
            for (int j = 0; j < 3; j++)
                vf_store(g + (i * 3 + j) * gstep + l, d[j]);
        }
    }
}
