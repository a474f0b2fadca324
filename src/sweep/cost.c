#include "sweep/cost.h"

#include "base/log.h"
#include "base/random.h"
#include "sweep/device.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>

/* Long enough for the clock, short enough that nobody waits: four sizes stay under a second. */
static const double TIMING_SECONDS = 0.02, TIMING_FLOPS = 5e9;
/* The third run may be the first of recorded steps. */
enum { RUNS_MIN = 3, RUNS_MAX = 64 };

/* n standardised rows of noise with labels or targets. Freed with lips_dataset_free. */
static lips_status made_up_data(lips_dataset **out, const lips_dataset *shape, int64_t n)
{
    lips_dataset *d = calloc(1, sizeof *d);
    *out = d;
    if (!d)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory timing a network");
    d->c = shape->c;
    d->h = shape->h;
    d->w = shape->w;
    d->classes = shape->classes;
    d->regression = shape->regression;
    int64_t row = d->c * d->h * d->w;
    lips_split *s = &d->train;
    s->n = n;
    s->x = malloc((size_t)(n * row) * sizeof *s->x);
    s->source_index = calloc((size_t)n, sizeof *s->source_index); /* augmentation asks for it */
    if (d->regression)
        s->target = calloc((size_t)(n * d->classes), sizeof *s->target);
    else
        s->label = calloc((size_t)n, sizeof *s->label);
    if (!s->x || !s->source_index || !(s->target || s->label))
        return lips_fail(LIPS_ERR_MEMORY, "out of memory timing a network");
    const lips_rng rng = {.stream = LIPS_STREAM_TEST};
    for (int64_t i = 0; i < n * row; i++)
        s->x[i] = (float)(2 * lips_rng_uniform(&rng, (uint64_t)i) - 1);
    for (int64_t i = 0; i < n && s->label; i++)
        s->label[i] = i % d->classes;
    for (int k = 0; k < 4; k++)
        d->std[k] = 1;
    return LIPS_OK;
}

/* Best of a few runs of one epoch (train) or evaluation, seconds. The best, because other work on
 * the machine only ever adds. */
static lips_status best_time(lips_trainer *tr, const lips_split *split, bool train, double *out)
{
    double start = lips_now();
    *out = INFINITY;
    for (int i = 0; i < RUNS_MAX && (i < RUNS_MIN || lips_now() - start < TIMING_SECONDS); i++) {
        lips_eval eval;
        double t = lips_now();
        if (train)
            LIPS_TRY(lips_trainer_run_epoch(tr));
        else
            LIPS_TRY(lips_trainer_evaluate(tr, split, &eval, NULL, NULL));
        t = lips_now() - t;
        *out = t < *out ? t : *out;
    }
    return LIPS_OK;
}

static lips_status time_trainer(lips_rate *out, const lips_config *cfg, const lips_net *net,
                                const lips_dataset *d, lips_backend *be)
{
    lips_trainer *tr = NULL;
    double train = 0, forward = 0;
    lips_status st;
    LIPS_TRY_GOTO(st, lips_trainer_create(&tr, cfg, net, d, be), out);
    LIPS_TRY_GOTO(st, best_time(tr, &d->train, true, &train), out);
    LIPS_TRY_GOTO(st, best_time(tr, &d->train, false, &forward), out);
    out->train = train / (double)d->train.n;
    out->forward = forward / (double)d->train.n;
out:
    lips_trainer_free(tr);
    return st;
}

lips_status lips_rate_measure(lips_rate *out, const lips_config *cfg, const lips_dataset *shape,
                              int device)
{
    lips_config *c = malloc(sizeof *c);
    lips_net *net = NULL;
    lips_backend *be = NULL;
    lips_dataset *d = NULL;
    const lips_model_spec spec = lips_config_model(cfg, shape);
    lips_status st = LIPS_OK;
    if (!c) {
        st = lips_fail(LIPS_ERR_MEMORY, "out of memory timing a network");
        goto out;
    }
    *c = *cfg;
    LIPS_TRY_GOTO(st, lips_net_create(&net, &spec), out);
    out->flops = lips_net_forward_flops(net);
    /* A whole batch where it fits the time, fewer samples for large networks; no step may diverge.
     */
    double fits = TIMING_FLOPS / (4 * out->flops);
    c->batch = fits < 1 ? 1 : fits < (double)c->batch ? (int64_t)fits : c->batch;
    c->lr = c->warmup_lr = 1e-12;
    LIPS_TRY_GOTO(st, made_up_data(&d, shape, c->batch), out);
    LIPS_TRY_GOTO(st, lips_device_open(&be, c, device), out);
    LIPS_TRY_GOTO(st, time_trainer(out, c, net, d, be), out);
out:
    if (be)
        be->ops->close(be);
    lips_dataset_free(d);
    lips_net_free(net);
    free(c);
    return st;
}

/* a^(1-t) b^t */
static double between(double a, double b, double t)
{
    return exp((1 - t) * log(a) + t * log(b));
}

lips_rate lips_rate_at(const lips_rate *measured, int n, double flops)
{
    int i = 0;
    while (i + 2 < n && measured[i + 1].flops < flops)
        i++;
    const lips_rate *a = &measured[i], *b = &measured[n > 1 ? i + 1 : 0];
    double span = log(b->flops / a->flops);
    double t = span > 0 ? log(flops / a->flops) / span : 0;
    return (lips_rate){.flops = flops,
                       .train = between(a->train, b->train, t),
                       .forward = between(a->forward, b->forward, t)};
}

double lips_cell_seconds(const lips_cell_work *w, const lips_rate *rate)
{
    double evaluated = (double)w->n_eval * (double)(w->n_train + w->n_test + w->n_val);
    /* One forward pass and K stacked backward ones for each measured sample. */
    double measured = (double)w->measured * (double)(1 + w->classes);
    return (double)w->epochs * (double)w->n_train * rate->train +
           (evaluated + measured + w->curvature) * rate->forward;
}
