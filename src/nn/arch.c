/* nn: the table of architectures. */
#include "nn/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const lips_arch *const archs[] = {&lips_arch_mlp, &lips_arch_convnet, &lips_arch_resnet18,
                                         &lips_arch_vit};
enum { N_ARCHS = sizeof archs / sizeof archs[0] };

/* Far above anything that trains; below, no product of two sizes overflows. */
enum { WIDTH_MAX = 1 << 20, DEPTH_MAX = 10000, EXTENT_MAX = 1 << 16 };

static lips_status need_range(const char *key, int64_t v, int64_t lo, int64_t hi)
{
    if (v < lo || v > hi)
        return lips_fail(LIPS_ERR_USAGE, "%s: %" PRId64 " is out of range %" PRId64 "..%" PRId64,
                         key, v, lo, hi);
    return LIPS_OK;
}

static lips_status find(const lips_arch **out, const char *name)
{
    char known[256] = "";
    for (int i = 0; i < N_ARCHS; i++) {
        if (name && strcmp(archs[i]->name, name) == 0) {
            *out = archs[i];
            return LIPS_OK;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", archs[i]->name);
    }
    return lips_fail(LIPS_ERR_USAGE, "model: unknown '%s', must be one of %s", name ? name : "",
                     known);
}

lips_status lips_net_create(lips_net **out, const lips_model_spec *spec)
{
    lips_net *net = NULL;
    lips_status st;
    const lips_arch *arch = NULL;
    *out = NULL;
    LIPS_TRY(find(&arch, spec->kind));
    LIPS_TRY(need_range("width", spec->width, 1, WIDTH_MAX));
    LIPS_TRY(need_range("depth", spec->depth, 0, DEPTH_MAX));
    LIPS_TRY(need_range("classes", spec->classes, 1, WIDTH_MAX));
    LIPS_TRY(need_range("input channels", spec->c, 1, EXTENT_MAX));
    LIPS_TRY(need_range("input height", spec->h, 1, EXTENT_MAX));
    LIPS_TRY(need_range("input width", spec->w, 1, EXTENT_MAX));
    if (spec->batch_norm && !arch->batch_norm)
        return lips_fail(LIPS_ERR_UNSUPPORTED, "batch_norm: model %s has no such option",
                         arch->name);
    lips_model_spec own = *spec;
    own.kind = arch->name; /* outlives the caller's string */
    int output = 0;
    LIPS_TRY_GOTO(st, lips_net_begin(&net, &own), fail);
    LIPS_TRY_GOTO(st, arch->build(net, &output), fail);
    LIPS_TRY_GOTO(st, lips_net_finish(net, output), fail);
    *out = net;
    return LIPS_OK;
fail:
    lips_net_free(net);
    return st;
}
