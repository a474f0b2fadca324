/*
 * measure/correlate.h - the correlation of conv_map.c in registers, included there once per
 * instruction set: V doubles to a register, FN(name) and TARGET of the set. (GCC keeps vectors
 * wider than a register in memory: with one source of 8 doubles, avx2 took 5 times as long.)
 *
 * Two vectors of O_BLOCK channels, because the sums of one would wait for each other. Every output
 * is one chain of products in the order channel, row, column: the same bits for every set.
 */

/* O_BLOCK channels at two places. */
TARGET static void FN(correlate_blocks)(double acc[2][O_BLOCK][V], const correlation *k,
                                        const double *weights, const double *x0, const double *x1)
{
    typedef double vec __attribute__((vector_size(8 * V), aligned(8), may_alias));
    int64_t r = k->r, channel = (k->h + 2 * k->pad) * k->row;
    vec a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};
    for (int64_t c = 0; c < k->c; c++)
        for (int64_t ky = 0; ky < r; ky++) {
            int64_t at = c * channel + ky * k->row;
            for (int64_t kx = 0; kx < r; kx++, at++, weights += O_BLOCK) {
                vec u = *(const vec *)(x0 + at), v = *(const vec *)(x1 + at);
                a0 += u * weights[0];
                b0 += v * weights[0];
                a1 += u * weights[1];
                b1 += v * weights[1];
                a2 += u * weights[2];
                b2 += v * weights[2];
                a3 += u * weights[3];
                b3 += v * weights[3];
            }
        }
    vec *out = (vec *)acc;
    out[0] = a0, out[1] = a1, out[2] = a2, out[3] = a3;
    out[4] = b0, out[5] = b1, out[6] = b2, out[7] = b3;
}

TARGET static void FN(correlate)(const correlation *k, double *y)
{
    int64_t places = k->oh * ((k->ow + V - 1) / V);
    for (int64_t o = 0; o < k->o; o += O_BLOCK)
        for (int64_t i = 0; i < places; i += 2) {
            double acc[2][O_BLOCK][V];
            place p[2] = {place_at(k, V, i), place_at(k, V, i + 1 < places ? i + 1 : i)};
            FN(correlate_blocks)(acc, k, weight_at(k, o, 0, 0), p[0].x, p[1].x);
            for (int64_t j = 0; j < 2; j++)
                for (int64_t m = 0; m < O_BLOCK && o + m < k->o; m++)
                    memcpy(y + (o + m) * k->oh * k->ow + p[j].out, acc[j][m],
                           (size_t)p[j].width * sizeof *y);
        }
}
