#include "cli/samples.h"

#include "config/options.h"
#include "measure/subset.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lips_status shape_of(lips_image_shape *out, const lips_st_tensor *x, const char *path)
{
    if (x->ndim != 4 && x->ndim != 2)
        return lips_fail(LIPS_ERR_DATA, "%s: x has %d dimensions; wanted are (N,C,H,W) or (N,D)",
                         path, x->ndim);
    if (x->count == 0)
        return lips_fail(LIPS_ERR_DATA, "%s: x has no values", path);
    if (x->ndim == 4)
        *out = (lips_image_shape){x->shape[1], x->shape[2], x->shape[3], 0};
    else
        *out = (lips_image_shape){0};
    out->features = x->count / x->shape[0];
    return LIPS_OK;
}

static lips_status named(lips_status st, const char *path)
{
    return st == LIPS_OK ? st : lips_fail_prefix(st, "%s: ", path);
}

static lips_status read_y(lips_samples_file *s, const lips_st_tensor *y, int64_t rows,
                          const char *path)
{
    bool classes =
        y->ndim == 1 && (y->dtype == LIPS_I64 || y->dtype == LIPS_I32 || y->dtype == LIPS_U8);
    bool targets = y->ndim == 2 && (y->dtype == LIPS_F32 || y->dtype == LIPS_F64);
    if (!classes && !targets)
        return lips_fail(LIPS_ERR_DATA, "%s: y must be (N) I64 classes or (N,K) F32 targets", path);
    if (y->shape[0] != rows)
        return lips_fail(LIPS_ERR_DATA, "%s: y has %" PRId64 " rows, x has %" PRId64, path,
                         y->shape[0], rows);
    if (classes) {
        s->label = malloc((size_t)y->count * sizeof *s->label);
        return s->label ? named(lips_st_to_i64(y, s->label), path)
                        : lips_fail(LIPS_ERR_MEMORY, "no memory for %" PRId64 " labels", y->count);
    }
    s->targets = y->shape[1];
    s->target = malloc(((size_t)y->count + 1) * sizeof *s->target);
    return s->target ? named(lips_st_to_f32(y, s->target), path)
                     : lips_fail(LIPS_ERR_MEMORY, "no memory for %" PRId64 " targets", y->count);
}

static lips_status read_all(lips_samples_file *s, const lips_st_file *f, const char *path,
                            int64_t n)
{
    const lips_st_tensor *x = lips_st_find(f, "x"), *y = lips_st_find(f, "y");
    if (!x)
        return lips_fail(LIPS_ERR_DATA, "%s: there is no tensor x (N,C,H,W) in it", path);
    LIPS_TRY(shape_of(&s->shape, x, path));
    s->x = malloc((size_t)x->count * sizeof *s->x);
    if (!s->x)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for %" PRId64 " values of x", x->count);
    LIPS_TRY(named(lips_st_to_f32(x, s->x), path));
    if (y)
        LIPS_TRY(read_y(s, y, x->shape[0], path));
    s->view = (lips_inputs){.n = n > 0 && n < x->shape[0] ? n : x->shape[0],
                            .x = s->x,
                            .label = s->label,
                            .target = s->target,
                            .split = "inputs"};
    return LIPS_OK;
}

lips_status lips_samples_read(lips_samples_file *out, const char *path, int64_t n)
{
    lips_st_file *f;
    *out = (lips_samples_file){0};
    LIPS_TRY(lips_st_read(&f, path));
    lips_status st = read_all(out, f, path, n);
    lips_st_free(f);
    if (st != LIPS_OK)
        lips_samples_free(out);
    return st;
}

static const lips_split *find_split(const lips_dataset *d, const char *name)
{
    if (strcmp(name, "train") == 0 || strcmp(name, "train_clean") == 0)
        return &d->train;
    if (strcmp(name, "test") == 0)
        return &d->test;
    return strcmp(name, "val") == 0 ? &d->val : NULL;
}

static lips_status load_split(lips_samples_file *s, const lips_config *cfg, const char *hash,
                              const char *name, int64_t n)
{
    const lips_dataset *d = s->dataset;
    char found[32], quoted[LIPS_QUOTE_MAX];
    snprintf(found, sizeof found, "%016" PRIx64, d->hash);
    if (hash && strcmp(hash, found) != 0)
        return lips_fail(
            LIPS_ERR_DATA,
            "%s: its content hash %s is not that of the data the network was trained on, %s",
            d->origin, found, hash);
    const lips_split *split = find_split(d, name);
    if (!split)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: --split must be one of train, train_clean, val, test, not %s",
                         lips_quote(quoted, name));
    if (split->n == 0)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: --split %s: the configuration has no such samples", name);
    int64_t count;
    LIPS_TRY(lips_measure_subset(&s->index, &count, split->n, n < 0 ? cfg->measure_n : n,
                                 cfg->measure_seed));
    bool clean = strcmp(name, "train_clean") == 0;
    s->shape = (lips_image_shape){d->c, d->h, d->w, d->c * d->h * d->w};
    s->targets = d->regression ? d->classes : 0;
    s->view = (lips_inputs){.n = count,
                            .x = split->x,
                            .index = s->index,
                            .label = clean ? split->label_clean : split->label,
                            .target = clean ? split->target_clean : split->target,
                            .split = clean                ? "train_clean"
                                     : split == &d->train ? "train"
                                     : split == &d->test  ? "test"
                                                          : "val",
                            .has_seed = s->index != NULL,
                            .seed = cfg->measure_seed};
    return LIPS_OK;
}

lips_status lips_samples_load(lips_samples_file *out, const lips_config *cfg, const char *hash,
                              const char *split, int64_t n)
{
    *out = (lips_samples_file){0};
    const lips_data_spec spec = lips_config_data(cfg);
    LIPS_TRY(lips_dataset_load(&out->dataset, &spec));
    lips_status st = load_split(out, cfg, hash, split, n);
    if (st != LIPS_OK)
        lips_samples_free(out);
    return st;
}

lips_status lips_samples_check(const lips_samples_file *s, int64_t classes)
{
    if (s->target && s->targets != classes)
        return lips_fail(LIPS_ERR_DATA,
                         "targets of %" PRId64 " values, but the network has %" PRId64 " outputs",
                         s->targets, classes);
    for (int64_t i = 0; s->label && i < s->view.n; i++)
        if (s->label[i] < 0 || s->label[i] >= classes)
            return lips_fail(LIPS_ERR_DATA,
                             "y[%" PRId64 "] is class %" PRId64
                             ", but the network has classes 0 to "
                             "%" PRId64,
                             i, s->label[i], classes - 1);
    return LIPS_OK;
}

void lips_samples_free(lips_samples_file *s)
{
    free(s->x);
    free(s->target);
    free(s->label);
    free(s->index);
    lips_dataset_free(s->dataset);
    *s = (lips_samples_file){0};
}
