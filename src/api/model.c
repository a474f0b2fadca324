#include "api/model.h"

#include "base/version.h"
#include "train/weights.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lips_version(void)
{
    return LIPS_VERSION;
}

lips_status lips_api_backend(const lips_ops **out, const char *name)
{
    return lips_backend_choose(out, name ? name : "cpu", 0);
}

/* An integer from the file's metadata. */
static lips_status meta_int(const lips_st_file *f, const char *key, int64_t *out)
{
    const char *text = lips_st_meta(f, key);
    char *end = NULL;
    errno = 0;
    long long v = text ? strtoll(text, &end, 10) : 0;
    if (!text || end == text || *end || errno)
        return lips_fail(LIPS_ERR_DATA, "%s: metadata %s is %s%s, expected a whole number",
                         lips_st_label(f), key, text ? "" : "missing", text ? text : "");
    *out = v;
    return LIPS_OK;
}

/* spec from the file's own description; kind stays the file's. */
static lips_status spec_from_file(lips_model_spec *spec, const lips_st_file *f)
{
    int used = 0;
    const char *input = lips_st_meta(f, "lipsweep.input"),
               *norm = lips_st_meta(f, "lipsweep.batch_norm");
    spec->kind = lips_st_meta(f, "lipsweep.model");
    if (!spec->kind)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s does not say what network it holds; give kind, width, depth, "
                         "classes and input shape",
                         lips_st_label(f));
    LIPS_TRY(meta_int(f, "lipsweep.width", &spec->width));
    LIPS_TRY(meta_int(f, "lipsweep.depth", &spec->depth));
    LIPS_TRY(meta_int(f, "lipsweep.classes", &spec->classes));
    if (!input ||
        sscanf(input, "%" SCNd64 "x%" SCNd64 "x%" SCNd64 "%n", &spec->c, &spec->h, &spec->w,
               &used) != 3 ||
        input[used])
        return lips_fail(LIPS_ERR_DATA, "%s: metadata lipsweep.input is '%s', expected CxHxW",
                         lips_st_label(f), input ? input : "");
    spec->batch_norm = norm && strcmp(norm, "true") == 0;
    return LIPS_OK;
}

static double *reals(int64_t n)
{
    return calloc((size_t)n + 1, sizeof(double)); /* at least one: NULL means out of memory */
}

/* The untrained network's parameters. */
static lips_status load_init(lips_model *m, const char *path)
{
    lips_st_file *f = NULL;
    lips_status st = LIPS_OK;
    double *buffers = reals(lips_net_buffers(m->net));
    m->init = reals(lips_net_params(m->net));
    if (!buffers || !m->init)
        LIPS_TRY_GOTO(st, lips_fail(LIPS_ERR_MEMORY, "out of memory loading %s", path), out);
    LIPS_TRY_GOTO(st, lips_st_read(&f, path), out);
    LIPS_TRY_GOTO(st, lips_weights_fill(m->net, f, m->init, buffers), out);
out:
    lips_st_free(f);
    free(buffers);
    return st;
}

static lips_status load(lips_model *m, const lips_model_args *a, const lips_st_file *f)
{
    lips_model_spec spec = {.kind = a->kind,
                            .width = a->width,
                            .depth = a->depth,
                            .classes = a->classes,
                            .c = a->channels,
                            .h = a->height,
                            .w = a->width_pixels,
                            .batch_norm = a->batch_norm};
    m->epoch = -1;
    if (lips_st_meta(f, "lipsweep.epoch"))
        LIPS_TRY(meta_int(f, "lipsweep.epoch", &m->epoch));
    if (!a->kind) {
        if (a->width || a->depth || a->classes || a->channels || a->height || a->width_pixels)
            return lips_fail(LIPS_ERR_USAGE, "%s: a description without a kind of network",
                             a->path);
        LIPS_TRY(spec_from_file(&spec, f));
    }
    LIPS_TRY(lips_net_create(&m->net, &spec));
    m->params = reals(lips_net_params(m->net));
    m->buffers = reals(lips_net_buffers(m->net));
    if (!m->params || !m->buffers)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for %" PRId64 " parameters",
                         lips_net_params(m->net));
    LIPS_TRY(lips_weights_fill(m->net, f, m->params, m->buffers));
    if (a->init_path)
        LIPS_TRY(load_init(m, a->init_path));
    return LIPS_OK;
}

lips_status lips_model_load(lips_model **out, const lips_model_args *a)
{
    lips_st_file *f = NULL;
    lips_status st = LIPS_OK;
    *out = NULL;
    if (!a->path)
        return lips_fail(LIPS_ERR_USAGE, "no weights file is named");
    lips_model *m = calloc(1, sizeof *m);
    if (!m)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a model");
    LIPS_TRY_GOTO(st, lips_st_read(&f, a->path), out);
    LIPS_TRY_GOTO(st, load(m, a, f), out);
    *out = m;
    m = NULL;
out:
    lips_st_free(f);
    lips_model_free(m);
    return st;
}

void lips_model_free(lips_model *m)
{
    if (!m)
        return;
    lips_net_free(m->net);
    free(m->params), free(m->init), free(m->buffers);
    free(m);
}

lips_model_info lips_model_describe(const lips_model *m)
{
    const lips_model_spec *s = lips_net_spec(m->net);
    return (lips_model_info){.kind = s->kind,
                             .width = s->width,
                             .depth = s->depth,
                             .classes = s->classes,
                             .channels = s->c,
                             .height = s->h,
                             .width_pixels = s->w,
                             .batch_norm = s->batch_norm,
                             .parameters = lips_net_params(m->net),
                             .layers = lips_net_layers(m->net),
                             .epoch = m->epoch};
}

const char *lips_model_layer_name(const lips_model *m, int64_t l)
{
    return l >= 1 && l <= lips_net_layers(m->net) ? lips_net_layer(m->net, (int)l)->name : NULL;
}
