#include "cli/shape.h"

#include "cli/tell.h"
#include "config/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATCH = 4 }; /* of vit */

lips_status lips_shape_parse(lips_image_shape *out, const char *text)
{
    char quoted[LIPS_QUOTE_MAX];
    int64_t size[3];
    const char *p = text;
    int n = 0;
    for (; n < 3; n++) {
        char *end;
        /* strtoll alone would take "+3x 32x32". */
        size[n] = *p >= '0' && *p <= '9' ? strtoll(p, &end, 10) : 0;
        if (size[n] < 1 || size[n] > 65536 || *end != (n < 2 ? 'x' : '\0'))
            break;
        p = end + 1;
    }
    if (n < 3)
        return lips_fail(
            LIPS_ERR_USAGE,
            "measure: --input must be CxHxW, each from 1 to 65536, as in 3x32x32, not %s",
            lips_quote(quoted, text));
    *out = (lips_image_shape){size[0], size[1], size[2], size[0] * size[1] * size[2]};
    return LIPS_OK;
}

/* One flag against one size of the file; *value is the agreed one. fallback: if neither says it. */
static lips_status agree(int64_t *value, const lips_args *a, const char *flag, int64_t from_file,
                         const char *path, const char *tensor, int64_t unknown)
{
    int64_t asked = from_file;
    LIPS_TRY(lips_args_int(a, flag, strcmp(flag, "depth") == 0 ? 0 : 1, 1 << 20, &asked));
    if (from_file != unknown && asked != from_file)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: --%s %" PRId64 " contradicts %s, whose %s gives %" PRId64, flag,
                         asked, path, tensor, from_file);
    *value = asked;
    return LIPS_OK;
}

static lips_status check_kind(const lips_told *t, const lips_args *a, const char *path)
{
    const char *asked = lips_args_value(a, "model");
    if (asked && strcmp(asked, t->kind) != 0)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: --model %s contradicts %s, whose %s is that of a %s", asked,
                         path, t->first, t->kind);
    if (lips_args_has(a, "batch-norm") && !t->batch_norm)
        return lips_fail(LIPS_ERR_USAGE, "measure: --batch-norm contradicts %s, which has no %s%s",
                         path, t->norm ? t->norm : "batch norm", t->norm ? "*" : "");
    return LIPS_OK;
}

/* Image shape: the flag, the inputs and the file's metadata must be one. */
static lips_status resolve_image(lips_image_shape *out, const lips_st_file *f, const char *path,
                                 const lips_args *a, const lips_image_shape *inputs)
{
    const char *flag = lips_args_value(a, "input"), *meta = lips_st_meta(f, "lipsweep.input");
    lips_image_shape shape = {0};
    if (meta)
        LIPS_TRY(lips_shape_parse(&shape, meta));
    if (flag) {
        lips_image_shape asked;
        LIPS_TRY(lips_shape_parse(&asked, flag));
        if (meta && (asked.c != shape.c || asked.h != shape.h || asked.w != shape.w))
            return lips_fail(LIPS_ERR_USAGE, "measure: --input %s contradicts %s, trained on %s",
                             flag, path, meta);
        shape = asked;
    }
    if (inputs && inputs->c && shape.c &&
        (inputs->c != shape.c || inputs->h != shape.h || inputs->w != shape.w))
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: samples of %" PRId64 "x%" PRId64 "x%" PRId64
                         " in --inputs, but the network takes %" PRId64 "x%" PRId64 "x%" PRId64,
                         inputs->c, inputs->h, inputs->w, shape.c, shape.h, shape.w);
    if (inputs && inputs->features && shape.c && inputs->features != shape.features)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: samples of %" PRId64
                         " values in --inputs, but the network takes "
                         "%" PRId64,
                         inputs->features, shape.features);
    if (!shape.c && inputs)
        shape = *inputs;
    *out = shape;
    return LIPS_OK;
}

static lips_status check_image(const lips_told *t, lips_image_shape *s, const char *path)
{
    /* Samples as rows of numbers, for a network that takes rows of numbers: any shape with that
     * product. */
    if (!s->c && strcmp(t->kind, "mlp") == 0)
        *s = (lips_image_shape){1, 1, t->features, t->features};
    if (!s->c && t->side && t->channels)
        *s = (lips_image_shape){t->channels, t->side, t->side, t->channels * t->side * t->side};
    if (!s->c)
        return lips_fail(LIPS_ERR_USAGE, "measure: %s needs --input CxHxW, or --inputs with images",
                         path);
    if (t->features && s->features != t->features)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: inputs of %" PRId64 "x%" PRId64 "x%" PRId64 " = %" PRId64
                         " values do not fit %s, whose 0.weight takes %" PRId64,
                         s->c, s->h, s->w, s->features, path, t->features);
    if (t->tokens && s->h % PATCH == 0 && s->w % PATCH == 0 &&
        s->h / PATCH * (s->w / PATCH) + 1 != t->tokens)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: inputs of %" PRId64 "x%" PRId64 " have %" PRId64
                         " patches of 4x4, but %s has positions for %" PRId64
                         " (encoder.pos_embedding)",
                         s->h, s->w, s->h / PATCH * (s->w / PATCH), path, t->tokens - 1);
    if (t->channels && s->c != t->channels)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: inputs of %" PRId64
                         " channels do not fit %s, whose %s takes %" PRId64,
                         s->c, path, t->first, t->channels);
    return LIPS_OK;
}

lips_status lips_shape_resolve(lips_model_spec *out, const lips_st_file *f, const char *path,
                               const lips_args *a, const lips_image_shape *inputs)
{
    lips_told t;
    lips_image_shape image = {0};
    *out = (lips_model_spec){0};
    LIPS_TRY(lips_tell(&t, f, path));
    LIPS_TRY(check_kind(&t, a, path));
    LIPS_TRY(agree(&out->width, a, "width", t.width, path, t.first, 0));
    LIPS_TRY(agree(&out->depth, a, "depth", t.depth, path, t.last, -1));
    LIPS_TRY(agree(&out->classes, a, "classes", t.classes, path, t.last, 0));
    LIPS_TRY(resolve_image(&image, f, path, a, inputs));
    LIPS_TRY(check_image(&t, &image, path));
    out->kind = t.kind;
    out->width = out->width > 0 ? out->width : 1;
    out->depth = out->depth >= 0 ? out->depth : 0;
    if (out->classes < 1)
        return lips_fail(LIPS_ERR_DATA, "%s: %s of two dimensions is missing", path, t.last);
    out->c = image.c;
    out->h = image.h;
    out->w = image.w;
    out->batch_norm = t.batch_norm;
    return LIPS_OK;
}
