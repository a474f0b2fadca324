/* data/sine.c - noisy samples of sin(x), and a clean grid to test on. */
#include "base/random.h"
#include "data/raw.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { GRID = 200 };

static lips_status spec_check(const lips_data_spec *p)
{
    if (p->n_train < 1)
        return lips_fail(LIPS_ERR_USAGE, "n_train: %" PRId64 ", sine needs at least 1", p->n_train);
    if (!(p->sine_noise >= 0) || !isfinite(p->sine_noise))
        return lips_fail(LIPS_ERR_USAGE, "sine_noise: %g, expected a finite number >= 0",
                         p->sine_noise);
    if (!isfinite(p->sine_min) || !isfinite(p->sine_max) || !(p->sine_min < p->sine_max))
        return lips_fail(LIPS_ERR_USAGE,
                         "sine_min, sine_max: %g, %g, expected finite and min < max", p->sine_min,
                         p->sine_max);
    if (p->label_noise != 0)
        return lips_fail(LIPS_ERR_USAGE,
                         "label_noise: %g, but sine has no classes (sine_noise is the "
                         "noise of its observations)",
                         p->label_noise);
    return LIPS_OK;
}

/* Sample number `first + i` of the endless noisy sequence: training takes its beginning, validation
 * what follows, so both grow without changing. */
static void observe(lips_split *s, int64_t first, const lips_data_spec *p)
{
    lips_rng where = {p->data_seed, LIPS_STREAM_SINE, 0},
             noise = {p->noise_seed, LIPS_STREAM_SINE, 1};
    for (int64_t i = 0; i < s->n; i++) {
        uint64_t at = (uint64_t)(first + i);
        double x = p->sine_min + (p->sine_max - p->sine_min) * lips_rng_uniform(&where, at);
        s->x[i] = (float)x;
        s->target_clean[i] = (float)sin(x);
        s->target[i] = (float)(sin(x) + p->sine_noise * lips_rng_normal(&noise, at));
        s->source_index[i] = first + i;
    }
}

static void grid(lips_split *s, const lips_data_spec *p)
{
    for (int64_t i = 0; i < s->n; i++) {
        double x = s->n == 1
                       ? (p->sine_min + p->sine_max) / 2
                       : p->sine_min + (p->sine_max - p->sine_min) * (double)i / (double)(s->n - 1);
        s->x[i] = (float)x;
        s->target[i] = s->target_clean[i] = (float)sin(x);
        s->source_index[i] = i;
    }
}

static void standardise(lips_split *s, double mean, double std)
{
    for (int64_t i = 0; i < s->n; i++)
        s->x[i] = (float)(((double)s->x[i] - mean) / std);
}

lips_status lips_sine_make(lips_dataset *d, const lips_data_spec *spec)
{
    LIPS_TRY(spec_check(spec));
    d->c = d->h = d->w = d->classes = 1;
    d->regression = true;
    LIPS_TRY(lips_split_alloc(&d->train, spec->n_train, 1, false));
    LIPS_TRY(lips_split_alloc(&d->val, spec->n_val, 1, false));
    LIPS_TRY(lips_split_alloc(&d->test, spec->n_test ? spec->n_test : GRID, 1, false));
    observe(&d->train, 0, spec);
    observe(&d->val, spec->n_train, spec);
    grid(&d->test, spec);
    double sum = 0, squares = 0, n = (double)spec->n_train;
    for (int64_t i = 0; i < d->train.n; i++)
        sum += (double)d->train.x[i];
    d->mean[0] = (float)(sum / n);
    for (int64_t i = 0; i < d->train.n; i++) {
        double off = (double)d->train.x[i] - (double)d->mean[0];
        squares += off * off;
    }
    d->std[0] = squares > 0 ? (float)sqrt(squares / n) : 1.0f;
    standardise(&d->train, (double)d->mean[0], (double)d->std[0]);
    standardise(&d->val, (double)d->mean[0], (double)d->std[0]);
    standardise(&d->test, (double)d->mean[0], (double)d->std[0]);
    snprintf(d->origin, sizeof d->origin, "sin(x) on [%g, %g], noise %g, made by lipsweep",
             spec->sine_min, spec->sine_max, spec->sine_noise);
    return LIPS_OK;
}
