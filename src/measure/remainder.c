/*
 * measure: the trace of what the Gauss-Newton matrix leaves out of the Hessian, R = H - G, by sign
 * vectors (Hutchinson 1990): E v'Rv = tr R.
 *
 * R of the mean loss is the mean of the blocks' R_b, so each block draws vectors of its own: the
 * mean over n / 16 blocks then has the error of that many times as many vectors. R v is one Hessian
 * product whose loss has no second derivative: no difference of H v and G v is formed. A layer's
 * part is the sum of v_i (R v)_i over its parameters. A block's draws are queued one after another;
 * the host waits for all their sums at once.
 */
#include "measure/curvature_internal.h"

#include <math.h>
#include <stdlib.h>

enum {
    DRAWS_MIN = 64, /* of all blocks together */
    PROBES_MIN = 2  /* of a block: its own spread is its error */
};

size_t lips_remainder_bytes(const lips_survey *s, int64_t blocks)
{
    const lips_segment *segment;
    const int64_t sums = lips_curvature_probes(blocks) * lips_net_segments(s->net, &segment);
    return (size_t)(2 * lips_net_params(s->net) + sums) * sizeof(double);
}

static lips_status take_vectors(worker *w)
{
    const size_t bytes = (size_t)lips_net_params(w->c->s->net) * sizeof(double);
    void *signs = NULL, *part = NULL;
    if (w->part)
        return LIPS_OK;
    LIPS_TRY(w->be->ops->alloc(w->be, &signs, bytes));
    w->signs = signs;
    LIPS_TRY(w->be->ops->alloc(w->be, &part, bytes));
    w->part = part;
    return LIPS_OK;
}

/* w->part = R v of the block for v = sign vector number draw, which is left in w->signs. */
static lips_status multiply(worker *w, seat *t, int64_t draw)
{
    const lips_ops *ops = w->be->ops;
    const int64_t n = lips_net_params(w->c->s->net);
    lips_tensor zdot, seed;
    LIPS_TRY(ops->signs(w->be, w->signs, draw, n));
    LIPS_TRY(ops->narrow(w->be, w->v, w->signs, n));
    LIPS_TRY(lips_second_jvp(t->second, w->v, &zdot));
    LIPS_TRY(lips_second_seed_dot(t->second, &seed));
    LIPS_TRY(ops->fill(w->be, &seed, 0));
    LIPS_TRY(ops->zero(w->be, w->sum, (size_t)n * ops->real_bytes));
    LIPS_TRY(lips_second_vjp(t->second, w->v, w->sum));
    LIPS_TRY(ops->zero(w->be, w->part, (size_t)n * sizeof(double)));
    return ops->widen(w->be, w->part, 1, w->sum, n);
}

/* sums (segments, shared) of v_i (R v)_i over each parameter tensor. */
static lips_status add_up(worker *w, double *sums)
{
    const lips_segment *segment;
    const int n = lips_net_segments(w->c->s->net, &segment);
    for (int k = 0; k < n; k++)
        LIPS_TRY(w->be->ops->dots(w->be, &(lips_dots_args){.out = &sums[k],
                                                           .q = w->signs + segment[k].offset,
                                                           .w = w->part + segment[k].offset,
                                                           .count = 1,
                                                           .n = segment[k].count}));
    return LIPS_OK;
}

/* out (L + 1) = factor times the sums of all parameters and of each layer's. */
static void by_layer(const lips_survey *s, double *out, const double *sums, double factor)
{
    const lips_segment *segment;
    const int n = lips_net_segments(s->net, &segment);
    for (int l = 0; l <= s->layers; l++)
        out[l] = 0;
    for (int k = 0; k < n; k++) {
        out[0] += sums[k];
        if (segment[k].layer)
            out[segment[k].layer] += sums[k];
    }
    for (int l = 0; l <= s->layers; l++)
        out[l] *= factor;
}

lips_status lips_remainder_block(worker *w, seat *t, int64_t i)
{
    const lips_survey *s = w->c->s;
    const lips_ops *ops = w->be->ops;
    const lips_segment *segment;
    const int probes = w->c->now.probes, n = lips_net_segments(s->net, &segment);
    void *memory = NULL;
    lips_status st = LIPS_OK;
    LIPS_TRY(take_vectors(w));
    LIPS_TRY(ops->alloc_shared(w->be, &memory, (size_t)(probes * n) * sizeof(double)));
    double *sums = memory;
    for (int j = 0; j < probes; j++) {
        LIPS_TRY_GOTO(st, multiply(w, t, i * probes + j), out);
        LIPS_TRY_GOTO(st, add_up(w, sums + j * n), out);
    }
    LIPS_TRY_GOTO(st, ops->sync(w->be), out);
    for (int j = 0; j < probes; j++)
        by_layer(s, w->c->now.traces + (i * probes + j) * (s->layers + 1), sums + j * n,
                 t->loss->finite ? t->loss->unit : (double)NAN);
out:
    ops->release(w->be, memory);
    return st;
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
        c, &(task){.kind = TASK_REMAINDER, .count = c->samples, .probes = probes, .traces = out});
    for (int64_t l = 0; st == LIPS_OK && l < parts; l++)
        combine(&value[l], &std_err[l], out + l, parts, blocks, probes, (double)c->samples);
    *draws = blocks * probes;
    free(out);
    return st;
}
