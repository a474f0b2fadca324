#include "cli/shape.h"

#include "config/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Sizes that the tensors tell, each with the tensor that tells it. */
typedef struct told {
    const char *kind;
    int64_t width, depth, classes, channels, features; /* 0 (depth: -1): not told */
    int64_t side;                                      /* of a square image; 0: not told */
    bool batch_norm;
    char first[32], last[32]; /* names of the first and the last weight */
} told;

static const lips_st_tensor *weight(const lips_st_file *f, const char *name, int ndim)
{
    const lips_st_tensor *t = lips_st_find(f, name);
    return t && t->ndim == ndim ? t : NULL;
}

static void tell_mlp(told *t, const lips_st_file *f)
{
    const lips_st_tensor *w;
    char name[32];
    int64_t layers = 0;
    snprintf(t->first, sizeof t->first, "0.weight");
    for (;; layers++) {
        snprintf(name, sizeof name, "%" PRId64 ".weight", 2 * layers);
        if (!(w = weight(f, name, 2)))
            break;
        t->classes = w->shape[0];
        snprintf(t->last, sizeof t->last, "%s", name);
    }
    t->kind = "mlp";
    t->depth = layers - 1;
    w = weight(f, "0.weight", 2);
    t->features = w->shape[1];
    t->width = layers > 1 ? w->shape[0] : 0; /* without hidden layers there is no width */
}

static void tell_convnet(told *t, const lips_st_file *f)
{
    const lips_st_tensor *w = weight(f, "layer1.conv.weight", 4), *fc = weight(f, "fc.weight", 2);
    t->kind = "convnet";
    t->depth = -1;
    t->width = w->shape[0];
    t->channels = w->shape[1];
    t->classes = fc ? fc->shape[0] : 0;
    t->batch_norm = lips_st_find(f, "layer1.bn.weight") != NULL;
    snprintf(t->first, sizeof t->first, "layer1.conv.weight");
    snprintf(t->last, sizeof t->last, "fc.weight");
}

/* Patches are 4x4, and the positions count them; a class token has one too. Only where they may be
 * those of a square do they tell the image. */
static int64_t square_side(const lips_st_file *f)
{
    const lips_st_tensor *pos = weight(f, "encoder.pos_embedding", 3);
    int64_t side = 1;
    while (pos && side * side < pos->shape[1] - 1)
        side++;
    return pos && side * side == pos->shape[1] - 1 ? 4 * side : 0;
}

static void tell_vit(told *t, const lips_st_file *f)
{
    const lips_st_tensor *w = weight(f, "conv_proj.weight", 4);
    const lips_st_tensor *head = weight(f, "heads.head.weight", 2);
    char name[64];
    t->kind = "vit";
    t->width = w->shape[0];
    t->channels = w->shape[1];
    t->classes = head ? head->shape[0] : 0;
    t->side = square_side(f);
    do
        snprintf(name, sizeof name, "encoder.layers.encoder_layer_%" PRId64 ".ln_1.weight",
                 ++t->depth);
    while (weight(f, name, 1));
    snprintf(t->first, sizeof t->first, "conv_proj.weight");
    snprintf(t->last, sizeof t->last, "heads.head.weight");
}

static lips_status tell(told *t, const lips_st_file *f, const char *path)
{
    *t = (told){.depth = -1};
    if (weight(f, "0.weight", 2))
        tell_mlp(t, f);
    else if (weight(f, "layer1.conv.weight", 4))
        tell_convnet(t, f);
    else if (weight(f, "conv_proj.weight", 4))
        tell_vit(t, f);
    else
        return lips_fail(LIPS_ERR_DATA,
                         "%s: neither an mlp (0.weight of two dimensions) nor a convnet "
                         "(layer1.conv.weight of four) nor a vit (conv_proj.weight of four): its "
                         "first tensor is %s",
                         path,
                         lips_st_count(f) ? lips_st_at(f, 0)->name : "missing, there is none");
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

static lips_status check_kind(const told *t, const lips_args *a, const char *path)
{
    const char *asked = lips_args_value(a, "model");
    if (asked && strcmp(asked, t->kind) != 0)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: --model %s contradicts %s, whose %s is that of a %s", asked,
                         path, t->first, t->kind);
    if (lips_args_has(a, "batch-norm") && !t->batch_norm)
        return lips_fail(LIPS_ERR_USAGE, "measure: --batch-norm contradicts %s, which has no %s",
                         path, "layer1.bn.weight");
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

static lips_status check_image(const told *t, lips_image_shape *s, const char *path)
{
    /* Samples as rows of numbers, for a network that takes rows of numbers: any shape with that
     * product. */
    if (!s->c && strcmp(t->kind, "mlp") == 0)
        *s = (lips_image_shape){1, 1, t->features, t->features};
    if (!s->c && t->side)
        *s = (lips_image_shape){t->channels, t->side, t->side, t->channels * t->side * t->side};
    if (!s->c)
        return lips_fail(LIPS_ERR_USAGE, "measure: %s needs --input CxHxW, or --inputs with images",
                         path);
    if (t->features && s->features != t->features)
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: inputs of %" PRId64 "x%" PRId64 "x%" PRId64 " = %" PRId64
                         " values do not fit %s, whose 0.weight takes %" PRId64,
                         s->c, s->h, s->w, s->features, path, t->features);
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
    told t;
    lips_image_shape image = {0};
    *out = (lips_model_spec){0};
    LIPS_TRY(tell(&t, f, path));
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
