/*
 * measure: the trace of what the Gauss-Newton matrix leaves out of the Hessian, R = H - G, by sign
 * vectors (Hutchinson 1990): E v'Rv = tr R.
 *
 * R of the mean loss is the mean of the blocks' R_b, so each block draws vectors of its own: the
 * mean over n / 16 blocks then has the error of that many times as many vectors. R v is one Hessian
 * product whose loss has no second derivative: no difference of H v and G v is formed. A layer's
 * part is the sum of v_i (R v)_i over its parameters.
 */
#include "base/random.h"
#include "measure/curvature_internal.h"

#include <math.h>
#include <stdlib.h>

enum {
    DRAWS_MIN = 64, /* of all blocks together */
    PROBES_MIN = 2, /* of a block: its own spread is its error */
    SIGNS = 128     /* from one place of the generator */
};

/* The signs of vector number draw at places at..at+SIGNS-1 of n, at a multiple of SIGNS; their
 * number. */
static int64_t signs(double out[SIGNS], int64_t draw, int64_t at, int64_t n)
{
    const lips_rng rng = {.stream = LIPS_STREAM_SIGNS};
    const int64_t per_draw = (n + SIGNS - 1) / SIGNS, count = n - at < SIGNS ? n - at : SIGNS;
    uint32_t word[4];
    lips_rng_words(&rng, (uint64_t)(draw * per_draw + at / SIGNS), word);
    for (int64_t i = 0; i < count; i++)
        out[i] = (word[i / 32] >> (i % 32)) & 1 ? 1 : -1;
    return count;
}

/* host = sign vector number draw. */
static void fill_signs(double *host, int64_t draw, int64_t n)
{
    double s[SIGNS];
    for (int64_t at = 0; at < n; at += SIGNS) {
        int64_t count = signs(s, draw, at, n);
        for (int64_t i = 0; i < count; i++)
            host[at + i] = s[i];
    }
}

/* out (L + 1) = sums of v_i host_i, of all parameters and of each layer's. */
static void dot_signs(const lips_net *net, double *out, const double *host, int64_t draw)
{
    const lips_segment *segment;
    const int64_t n = lips_net_params(net);
    const int segments = lips_net_segments(net, &segment);
    double s[SIGNS];
    for (int l = 0; l <= lips_net_layers(net); l++)
        out[l] = 0;
    int64_t have = -1; /* the signs at place have are in s */
    for (int k = 0; k < segments; k++) {
        double sum = 0;
        for (int64_t i = segment[k].offset; i < segment[k].offset + segment[k].count; i++) {
            if (i / SIGNS * SIGNS != have)
                signs(s, draw, have = i / SIGNS * SIGNS, n);
            sum += s[i % SIGNS] * host[i];
        }
        out[0] += sum;
        if (segment[k].layer)
            out[segment[k].layer] += sum;
    }
}

lips_status lips_remainder_block(worker *w, seat *t, int64_t i)
{
    const lips_curvature *c = w->c;
    const lips_ops *ops = w->be->ops;
    const int64_t n = lips_net_params(c->s->net), parts = c->s->layers + 1;
    lips_tensor zdot, seed;
    for (int64_t draw = i * c->now.probes; draw < (i + 1) * c->now.probes; draw++) {
        double *out = c->now.out + draw * parts;
        fill_signs(w->host, draw, n);
        LIPS_TRY(ops->write(w->be, w->v, 0, w->host, n));
        LIPS_TRY(lips_second_jvp(t->second, w->v, &zdot));
        LIPS_TRY(lips_second_seed_dot(t->second, &seed));
        LIPS_TRY(ops->fill(w->be, &seed, 0));
        LIPS_TRY(ops->zero(w->be, w->sum, (size_t)n * ops->real_bytes));
        LIPS_TRY(lips_second_vjp(t->second, w->v, w->sum));
        LIPS_TRY(ops->read(w->be, w->host, w->sum, 0, n));
        dot_signs(c->s->net, out, w->host, draw);
        for (int64_t l = 0; l < parts; l++)
            out[l] *= t->finite ? t->unit : (double)NAN;
    }
    return LIPS_OK;
}

/* The sum over blocks of the means of their draws, over n samples; and its standard error. v: the
 * draws of one part, parts apart. */
static void combine(double *value, double *std_err, const double *v, int64_t parts, int64_t blocks,
                    int probes, double n)
{
    double total = 0, variance = 0;
    for (int64_t b = 0; b < blocks; b++) {
        const double *block = v + b * probes * parts;
        double mean = 0, square = 0;
        for (int i = 0; i < probes; i++)
            mean += block[i * parts] / probes;
        for (int i = 0; i < probes; i++)
            square += (block[i * parts] - mean) * (block[i * parts] - mean);
        total += mean;
        variance += square / (probes - 1) / probes;
    }
    *value = total / n;
    *std_err = sqrt(variance) / n;
}

int lips_curvature_probes(int64_t blocks)
{
    const int64_t wanted = (DRAWS_MIN + blocks - 1) / blocks;
    return (int)(wanted < PROBES_MIN ? PROBES_MIN : wanted);
}

lips_status lips_curvature_remainder(lips_curvature *c, double *value, double *std_err,
                                     int64_t *draws)
{
    const int64_t blocks = (c->samples + c->block - 1) / c->block, parts = c->s->layers + 1;
    const int probes = lips_curvature_probes(blocks);
    double *out = calloc((size_t)(blocks * probes * parts), sizeof *out);
    if (!out)
        return lips_fail(LIPS_ERR_MEMORY, "curvature: out of memory for a trace");
    lips_status st = lips_curvature_run(
        c, &(task){.kind = TASK_REMAINDER, .out = out, .count = c->samples, .probes = probes});
    for (int64_t l = 0; st == LIPS_OK && l < parts; l++)
        combine(&value[l], &std_err[l], out + l, parts, blocks, probes, (double)c->samples);
    *draws = blocks * probes;
    free(out);
    return st;
}
