/* data/dataset.c - from files to splits: choice of samples, label noise, standardisation, hash. */
#include "base/hash.h"
#include "base/random.h"
#include "data/raw.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS_MAX = 4 };

static lips_status array_alloc(void *out, int64_t n, int64_t width, size_t item)
{
    size_t bytes;
    void **p = out;
    if (__builtin_mul_overflow((size_t)n, (size_t)width, &bytes) ||
        __builtin_mul_overflow(bytes, item, &bytes))
        return lips_fail(LIPS_ERR_MEMORY, "data: %" PRId64 " x %" PRId64 " values do not fit", n,
                         width);
    *p = malloc(bytes ? bytes : 1);
    if (!*p)
        return lips_fail(LIPS_ERR_MEMORY, "data: no memory for %zu bytes (%" PRId64 " samples)",
                         bytes, n);
    return LIPS_OK;
}

lips_status lips_split_alloc(lips_split *s, int64_t n, int64_t features, bool labels)
{
    s->n = n;
    LIPS_TRY(array_alloc(&s->x, n, features, sizeof *s->x));
    LIPS_TRY(array_alloc(&s->source_index, n, 1, sizeof *s->source_index));
    if (labels) {
        LIPS_TRY(array_alloc(&s->label, n, 1, sizeof *s->label));
        return array_alloc(&s->label_clean, n, 1, sizeof *s->label_clean);
    }
    LIPS_TRY(array_alloc(&s->target, n, 1, sizeof *s->target));
    return array_alloc(&s->target_clean, n, 1, sizeof *s->target_clean);
}

static void split_free(lips_split *s)
{
    free(s->x);
    free(s->label);
    free(s->label_clean);
    free(s->target);
    free(s->target_clean);
    free(s->source_index);
}

void lips_dataset_free(lips_dataset *d)
{
    if (!d)
        return;
    split_free(&d->train);
    split_free(&d->val);
    split_free(&d->test);
    free(d);
}

/* Mean and standard deviation per channel of the chosen samples' pixels, as fractions of 255. The
 * sums are exact integers, so the order of samples does not matter and nothing cancels. */
static void statistics(lips_dataset *d, const lips_raw *raw, const int64_t *rows, int64_t n)
{
    int64_t area = raw->h * raw->w;
    for (int64_t k = 0; k < raw->c; k++) {
        uint64_t sum = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            const uint8_t *p = raw->pixels + rows[i] * raw->pixel_stride + k * area;
            for (int64_t j = 0; j < area; j++) {
                sum += p[j];
                squares += (uint64_t)p[j] * p[j];
            }
        }
        unsigned __int128 count = (unsigned __int128)((uint64_t)(n * area));
        /* count^2 times the variance */
        unsigned __int128 spread = count * squares - (unsigned __int128)sum * sum;
        d->mean[k] = (float)((double)sum / (double)count / 255.0);
        d->std[k] = spread > 0 ? (float)(sqrt((double)spread) / (double)count / 255.0) : 1.0f;
    }
}

void lips_pixel_table(const lips_dataset *d, float *table)
{
    for (int64_t k = 0; k < d->c; k++)
        for (int v = 0; v < 256; v++)
            table[k * 256 + v] = (float)((v / 255.0 - (double)d->mean[k]) / (double)d->std[k]);
}

static void standardise(const lips_dataset *d, lips_split *s, const lips_raw *raw)
{
    float value[CHANNELS_MAX][256];
    lips_pixel_table(d, &value[0][0]);
    int64_t area = raw->h * raw->w;
    float *x = s->x;
    for (int64_t i = 0; i < s->n; i++) {
        const uint8_t *p = raw->pixels + s->source_index[i] * raw->pixel_stride;
        for (int64_t k = 0; k < raw->c; k++)
            for (int64_t j = 0; j < area; j++)
                *x++ = value[k][*p++];
    }
}

/* Rows of the split are order[first .. first + n). */
static lips_status split_choose(lips_split *s, const lips_raw *raw, const int64_t *order,
                                int64_t first, int64_t n)
{
    LIPS_TRY(lips_split_alloc(s, n, raw->c * raw->h * raw->w, true));
    for (int64_t i = 0; i < n; i++) {
        int64_t row = order[first + i];
        s->source_index[i] = row;
        s->label[i] = s->label_clean[i] = raw->labels[row * raw->label_stride];
    }
    return LIPS_OK;
}

/* Exactly round(n p) labels, the beginning of a permutation, so that those corrupted at a smaller p
 * are also corrupted at a larger one, to the same class. */
static lips_status labels_corrupt(lips_split *s, int64_t classes, double p, uint64_t seed)
{
    int64_t *order;
    int64_t wrong = llround((double)s->n * p);
    if (wrong == 0)
        return LIPS_OK;
    if (classes < 2)
        return lips_fail(LIPS_ERR_USAGE, "label_noise: %g, but the data has one class only", p);
    LIPS_TRY(array_alloc(&order, s->n, 1, sizeof *order));
    lips_rng pick = {seed, LIPS_STREAM_NOISE_PICK, 0}, to = {seed, LIPS_STREAM_NOISE_LABEL, 0};
    lips_rng_permutation(&pick, order, s->n);
    for (int64_t i = 0; i < wrong; i++) {
        int64_t *label = &s->label[order[i]];
        int64_t other = (int64_t)lips_rng_below(&to, (uint64_t)order[i], (uint64_t)classes - 1);
        *label = other < *label ? other : other + 1;
    }
    free(order);
    return LIPS_OK;
}

/* Permutation of a file's rows. A split takes a piece: a smaller subset is part of a larger. */
static lips_status rows_shuffle(int64_t **order, int64_t n, uint64_t seed, uint32_t which)
{
    lips_rng r = {seed, LIPS_STREAM_SUBSET, which};
    LIPS_TRY(array_alloc(order, n, 1, sizeof **order));
    lips_rng_permutation(&r, *order, n);
    return LIPS_OK;
}

/* Training samples from the beginning of the permutation, validation samples from its end: those
 * are the same for every n_train. */
static lips_status train_load(lips_dataset *d, const lips_data_spec *p, int64_t *file_n)
{
    lips_raw raw = {0};
    int64_t *order = NULL;
    lips_status st;
    LIPS_TRY_GOTO(st, lips_source_load(&raw, p->source, p->data_dir, true), out);
    *file_n = raw.n;
    int64_t n = p->n_train ? p->n_train : raw.n - p->n_val;
    if (p->n_val >= raw.n || n > raw.n - p->n_val) {
        st = lips_fail(LIPS_ERR_USAGE,
                       "n_train, n_val: %" PRId64 " and %" PRId64
                       " samples asked for, %s has %" PRId64,
                       p->n_train, p->n_val, lips_source_title(p->source), raw.n);
        goto out;
    }
    d->c = raw.c, d->h = raw.h, d->w = raw.w, d->classes = raw.classes;
    LIPS_TRY_GOTO(st, rows_shuffle(&order, raw.n, p->data_seed, 0), out);
    LIPS_TRY_GOTO(st, split_choose(&d->train, &raw, order, 0, n), out);
    LIPS_TRY_GOTO(st, split_choose(&d->val, &raw, order, raw.n - p->n_val, p->n_val), out);
    statistics(d, &raw, order, n);
    standardise(d, &d->train, &raw);
    standardise(d, &d->val, &raw);
    LIPS_TRY_GOTO(st, labels_corrupt(&d->train, d->classes, p->label_noise, p->noise_seed), out);
out:
    free(order);
    lips_raw_free(&raw);
    return st;
}

static lips_status test_load(lips_dataset *d, const lips_data_spec *p, int64_t *file_n)
{
    lips_raw raw = {0};
    int64_t *order = NULL;
    lips_status st;
    LIPS_TRY_GOTO(st, lips_source_load(&raw, p->source, p->data_dir, false), out);
    *file_n = raw.n;
    const char *title = lips_source_title(p->source);
    if (raw.c != d->c || raw.h != d->h || raw.w != d->w || raw.classes > d->classes) {
        st = lips_fail(LIPS_ERR_DATA,
                       "%s: test images are %" PRId64 " x %" PRId64 " in %" PRId64
                       " classes, training images %" PRId64 " x %" PRId64 " in %" PRId64,
                       title, raw.h, raw.w, raw.classes, d->h, d->w, d->classes);
        goto out;
    }
    int64_t n = p->n_test ? p->n_test : raw.n;
    if (n > raw.n) {
        st = lips_fail(LIPS_ERR_USAGE,
                       "n_test: %" PRId64 " samples asked for, %s has %" PRId64 " for testing",
                       p->n_test, title, raw.n);
        goto out;
    }
    LIPS_TRY_GOTO(st, rows_shuffle(&order, raw.n, p->data_seed, 1), out);
    LIPS_TRY_GOTO(st, split_choose(&d->test, &raw, order, 0, n), out);
    standardise(d, &d->test, &raw);
out:
    free(order);
    lips_raw_free(&raw);
    return st;
}

static lips_status images_load(lips_dataset *d, const lips_data_spec *p)
{
    char folder[4096];
    int64_t n_train, n_test;
    LIPS_TRY(lips_source_folder(folder, sizeof folder, p->source, p->data_dir));
    LIPS_TRY(train_load(d, p, &n_train));
    LIPS_TRY(test_load(d, p, &n_test));
    snprintf(d->origin, sizeof d->origin,
             "%s (%" PRId64 " training, %" PRId64 " test images) in %.150s",
             lips_source_title(p->source), n_train, n_test, folder);
    return LIPS_OK;
}

static void split_hash(lips_hasher *h, const lips_split *s, int64_t features)
{
    size_t n = (size_t)s->n;
    lips_hasher_add(h, &s->n, sizeof s->n);
    lips_hasher_add(h, s->x, n * (size_t)features * sizeof *s->x);
    lips_hasher_add(h, s->source_index, n * sizeof *s->source_index);
    if (s->label) {
        lips_hasher_add(h, s->label, n * sizeof *s->label);
        lips_hasher_add(h, s->label_clean, n * sizeof *s->label_clean);
    } else {
        lips_hasher_add(h, s->target, n * sizeof *s->target);
        lips_hasher_add(h, s->target_clean, n * sizeof *s->target_clean);
    }
}

static lips_status dataset_hash(lips_dataset *d)
{
    lips_hasher *h;
    int64_t shape[] = {d->c, d->h, d->w, d->classes, d->regression};
    LIPS_TRY(lips_hasher_create(&h));
    lips_hasher_add(h, shape, sizeof shape);
    lips_hasher_add(h, d->mean, sizeof d->mean);
    lips_hasher_add(h, d->std, sizeof d->std);
    split_hash(h, &d->train, d->c * d->h * d->w);
    split_hash(h, &d->val, d->c * d->h * d->w);
    split_hash(h, &d->test, d->c * d->h * d->w);
    d->hash = lips_hasher_digest64(h);
    lips_hasher_free(h);
    return LIPS_OK;
}

static lips_status spec_check(const lips_data_spec *p)
{
    const struct {
        const char *key;
        int64_t n;
    } counts[] = {{"n_train", p->n_train}, {"n_test", p->n_test}, {"n_val", p->n_val}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i].n < 0)
            return lips_fail(LIPS_ERR_USAGE, "%s: %" PRId64 ", expected 0 (all or none) or more",
                             counts[i].key, counts[i].n);
    if (!(p->label_noise >= 0 && p->label_noise <= 1))
        return lips_fail(LIPS_ERR_USAGE, "label_noise: %g, expected 0 to 1", p->label_noise);
    return LIPS_OK;
}

lips_status lips_dataset_load(lips_dataset **out, const lips_data_spec *spec)
{
    *out = NULL;
    LIPS_TRY(spec_check(spec));
    lips_dataset *d = calloc(1, sizeof *d);
    if (!d)
        return lips_fail(LIPS_ERR_MEMORY, "data: no memory for %zu bytes", sizeof *d);
    bool sine = spec->source == LIPS_DATA_SINE;
    lips_status st;
    LIPS_TRY_GOTO(st, sine ? lips_sine_make(d, spec) : images_load(d, spec), fail);
    LIPS_TRY_GOTO(st, dataset_hash(d), fail);
    *out = d;
    return LIPS_OK;
fail:
    lips_dataset_free(d);
    return st;
}
