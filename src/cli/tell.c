#include "cli/tell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A tensor that only one architecture has, and where the width is in its shape. */
typedef struct witness {
    const char *name;
    int ndim, axis;
    int64_t times; /* the size at axis is so many widths */
} witness;

typedef struct row {
    const char *kind;
    witness seen[3];            /* first the one that people look for */
    const char *input;          /* convolution on the image: (., channels, ., .) */
    const char *classes, *norm; /* layer of the outputs; names of the first batch norm begin so */
} row;

/* mlp is told by the numbers in its names. */
static const row rows[] = {
    {"convnet",
     {{"layer1.conv.weight", 4, 0, 1},
      {"layer4.conv.weight", 4, 0, 8},
      {"layer2.conv.weight", 4, 0, 2}},
     "layer1.conv.weight",
     "fc",
     "layer1.bn."},
    {"resnet18",
     {{"conv1.weight", 4, 0, 1},
      {"layer1.0.conv1.weight", 4, 0, 1},
      {"layer4.1.conv2.weight", 4, 0, 8}},
     "conv1.weight",
     "fc",
     "bn1."},
    {"vit",
     {{"conv_proj.weight", 4, 0, 1}, {"class_token", 3, 2, 1}, {"encoder.pos_embedding", 3, 2, 1}},
     "conv_proj.weight",
     "heads.head",
     NULL},
};
enum { ROWS = sizeof rows / sizeof *rows, WITNESSES = 3 };

static const lips_st_tensor *find(const lips_st_file *f, const char *name, int ndim)
{
    const lips_st_tensor *t = lips_st_find(f, name);
    return t && t->ndim == ndim ? t : NULL;
}

/* Outputs of the layer called name, from its weight or else its bias. */
static void tell_classes(lips_told *t, const lips_st_file *f, const char *name)
{
    char bias[64];
    snprintf(t->last, sizeof t->last, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const lips_st_tensor *w = find(f, t->last, 2), *b = find(f, bias, 1);
    t->classes = w ? w->shape[0] : b ? b->shape[0] : 0;
}

/* Layers are numbered 0, 2, 4, ...; one that is missing between others is counted. */
static bool tell_mlp(lips_told *t, const lips_st_file *f)
{
    int64_t last = -1;
    char name[64];
    for (int64_t i = 0; i < lips_st_count(f) + 2; i++) {
        snprintf(name, sizeof name, "%" PRId64 ".weight", 2 * i);
        const lips_st_tensor *w = find(f, name, 2);
        snprintf(name, sizeof name, "%" PRId64 ".bias", 2 * i);
        if (w || find(f, name, 1))
            last = i;
    }
    const lips_st_tensor *first = find(f, "0.weight", 2), *second = find(f, "2.weight", 2);
    if (last < 0)
        return false;
    t->kind = "mlp";
    t->depth = last;
    snprintf(name, sizeof name, "%" PRId64, 2 * last);
    tell_classes(t, f, name);
    snprintf(t->first, sizeof t->first, first || !second ? "0.weight" : "2.weight");
    t->features = first ? first->shape[1] : 0;
    /* Without hidden layers there is no width. */
    t->width = last == 0 ? 0 : first ? first->shape[0] : second ? second->shape[1] : 0;
    return true;
}

/* Blocks of a vit, from the highest number in its names. */
static int64_t blocks(const lips_st_file *f)
{
    static const char prefix[] = "encoder.layers.encoder_layer_";
    int64_t most = 0;
    for (int i = 0; i < lips_st_count(f); i++) {
        int64_t number;
        const char *name = lips_st_at(f, i)->name;
        if (strncmp(name, prefix, sizeof prefix - 1) == 0 &&
            sscanf(name + sizeof prefix - 1, "%6" SCNd64 ".", &number) == 1 && number >= most)
            most = number + 1;
    }
    return most;
}

/* Patches are 4x4, and the positions count them and the class token. Only where they may be those
 * of a square do they tell the image. */
static void tell_tokens(lips_told *t, const lips_st_file *f)
{
    const lips_st_tensor *at = find(f, "encoder.pos_embedding", 3);
    int64_t side = 1;
    t->depth = blocks(f);
    t->tokens = at ? at->shape[1] : 0;
    while (side * side < t->tokens - 1)
        side++;
    t->side = side * side == t->tokens - 1 ? 4 * side : 0;
}

static bool has_prefix(const lips_st_file *f, const char *prefix)
{
    for (int i = 0; i < lips_st_count(f); i++)
        if (strncmp(lips_st_at(f, i)->name, prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

static bool tell_row(lips_told *t, const lips_st_file *f, const row *r)
{
    const lips_st_tensor *w = NULL;
    for (int i = 0; i < WITNESSES && !w; i++) {
        w = find(f, r->seen[i].name, r->seen[i].ndim);
        if (!w)
            continue;
        t->width = w->shape[r->seen[i].axis] / r->seen[i].times;
        snprintf(t->first, sizeof t->first, "%s", r->seen[i].name);
    }
    if (!w)
        return false;
    const lips_st_tensor *input = find(f, r->input, 4);
    t->kind = r->kind;
    t->channels = input ? input->shape[1] : 0;
    t->norm = r->norm;
    t->batch_norm = r->norm && has_prefix(f, r->norm);
    tell_classes(t, f, r->classes);
    return true;
}

lips_status lips_tell(lips_told *out, const lips_st_file *f, const char *path)
{
    *out = (lips_told){.depth = -1};
    for (int i = 0; i < ROWS; i++) {
        if (!tell_row(out, f, &rows[i]))
            continue;
        if (strcmp(rows[i].kind, "vit") == 0)
            tell_tokens(out, f);
        return LIPS_OK;
    }
    if (tell_mlp(out, f))
        return LIPS_OK;
    return lips_fail(LIPS_ERR_DATA,
                     "%s: neither an mlp (0.weight of two dimensions) nor a convnet "
                     "(layer1.conv.weight of four), resnet18 (conv1.weight) or vit "
                     "(conv_proj.weight): its first tensor is %s",
                     path, lips_st_count(f) ? lips_st_at(f, 0)->name : "missing, there is none");
}
