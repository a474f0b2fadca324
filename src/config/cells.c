/* config/cells.c - cells of a sweep, their canonical text, hash and name; writing YAML. */
#include "base/hash.h"
#include "config/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

lips_status lips_config_canonical(const lips_config *c, char *buf, size_t size)
{
    const lips_option *options;
    int n = lips_options(&options);
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        if (!(options[i].flags & LIPS_OPTION_HASHED))
            continue;
        size_t name = strlen(options[i].name);
        if (used + name + 2 < size) {
            memcpy(buf + used, options[i].name, name);
            memcpy(buf + used + name, ": ", 2);
            used += name + 2;
            used += (size_t)lips_option_print(&options[i], c, buf + used, size - used);
        }
        if (used + name + 2 >= size)
            return lips_fail(LIPS_ERR_RUNTIME, "canonical configuration does not fit %zu bytes",
                             size);
        buf[used++] = '\n';
    }
    buf[used] = '\0';
    return LIPS_OK;
}

uint64_t lips_config_hash(const lips_config *c)
{
    char text[LIPS_CANONICAL_MAX];
    lips_config_canonical(c, text, sizeof text); /* always fits: tests/config/test_cells.c */
    return lips_hash64(text, strlen(text));
}

/* A value as YAML: text in double quotes, so that "", "null" and "# x" come back as they are. */
static void print_yaml_value(const lips_option *o, const lips_config *c, char *buf, size_t size)
{
    bool text = o->type == LIPS_OPTION_TEXT || o->type == LIPS_OPTION_LIST ||
                o->type == LIPS_OPTION_SCHEDULE || o->type == LIPS_OPTION_DEVICES;
    if (!text) {
        lips_option_print(o, c, buf, size);
        return;
    }
    char plain[LIPS_PATH_MAX];
    lips_option_print(o, c, plain, sizeof plain);
    size_t n = 0;
    buf[n++] = '"';
    for (const char *p = plain; *p && n + 4 < size; p++) {
        if (*p == '"' || *p == '\\')
            buf[n++] = '\\';
        buf[n++] = *p;
    }
    buf[n++] = '"';
    buf[n] = '\0';
}

enum { YAML_VALUE_MAX = 2 * LIPS_PATH_MAX + 8 };

lips_status lips_config_yaml(const lips_config *c, char *buf, size_t size)
{
    const lips_option *options;
    int n = lips_options(&options);
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        char value[YAML_VALUE_MAX];
        print_yaml_value(&options[i], c, value, sizeof value);
        used += (size_t)snprintf(buf + used, size - used, "%s: %s\n", options[i].name, value);
        if (used >= size)
            return lips_fail(LIPS_ERR_RUNTIME, "configuration does not fit %zu bytes", size);
    }
    return LIPS_OK;
}

int64_t lips_experiment_cells(const lips_experiment *e)
{
    int64_t cells = 1;
    for (int i = 0; i < e->n_axes; i++)
        cells *= e->axes[i].count;
    return cells;
}

lips_status lips_experiment_cell(const lips_experiment *e, int64_t i, lips_config *out)
{
    int64_t cells = lips_experiment_cells(e);
    if (i < 0 || i >= cells)
        return lips_fail(LIPS_ERR_USAGE, "cell %" PRId64 " of %" PRId64, i, cells);
    const lips_option *options;
    lips_options(&options);
    *out = e->base;
    for (int k = e->n_axes - 1; k >= 0; k--) {
        const lips_axis *a = &e->axes[k];
        LIPS_TRY(lips_option_set(&options[a->key], out, a->values[i % a->count]));
        i /= a->count;
    }
    return LIPS_OK;
}

/* Appends text to a name; what is not safe in a file name becomes '_'. */
static void append_safe(char *buf, size_t size, size_t *used, const char *text)
{
    for (; *text && *used + 1 < size; text++) {
        bool safe = (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
                    (*text >= 'A' && *text <= 'Z') || strchr(".-+", *text);
        buf[(*used)++] = safe ? *text : '_';
    }
    buf[*used] = '\0';
}

static void append_tagged(const lips_option *o, const lips_config *c, char *buf, size_t size,
                          size_t *used)
{
    char tag[64], value[LIPS_VALUE_MAX];
    size_t n = 0;
    for (const char *p = o->tag ? o->tag : o->name; *p && n + 1 < sizeof tag; p++)
        if (*p != '_')
            tag[n++] = *p;
    tag[n] = '\0';
    lips_option_print(o, c, value, sizeof value);
    append_safe(buf, size, used, "-");
    append_safe(buf, size, used, tag);
    append_safe(buf, size, used, value);
}

lips_status lips_experiment_cell_name(const lips_experiment *e, const lips_config *cell, char *buf,
                                      size_t size)
{
    const lips_option *options;
    lips_options(&options);
    int width = lips_option_find("width"), model = lips_option_find("model");
    char hash[32];
    size_t used = 0;
    append_safe(buf, size, &used, cell->model);
    append_tagged(&options[width], cell, buf, size, &used);
    for (int i = 0; i < e->n_axes; i++)
        if (e->axes[i].key != width && e->axes[i].key != model)
            append_tagged(&options[e->axes[i].key], cell, buf, size, &used);
    snprintf(hash, sizeof hash, "-%08" PRIx64, lips_config_hash(cell) >> 32);
    append_safe(buf, size, &used, hash);
    if (used + 1 >= size || used >= 255)
        return lips_fail(LIPS_ERR_USAGE, "too many swept keys for a folder name of 255 bytes");
    return LIPS_OK;
}

/* The values of an axis: a..b where they are consecutive whole numbers, else a list. */
static void write_axis(FILE *f, const lips_option *o, const lips_axis *a)
{
    bool run = a->count > 2 && o->type == LIPS_OPTION_INT;
    long long first = a->count ? strtoll(a->values[0], NULL, 10) : 0;
    if (!run && a->count > 2 && o->type == LIPS_OPTION_UINT)
        run = strlen(a->values[a->count - 1]) < 16; /* a..b takes numbers up to 2^53 */
    for (int64_t i = 0; run && i < a->count; i++)
        run = strtoll(a->values[i], NULL, 10) == first + i;
    fprintf(f, "%s: ", o->name);
    if (run) {
        fprintf(f, "%s..%s\n", a->values[0], a->values[a->count - 1]);
        return;
    }
    fputc('[', f);
    for (int64_t i = 0; i < a->count; i++)
        fprintf(f, "%s%s", i ? ", " : "", a->values[i]);
    fputs("]\n", f);
}

lips_status lips_experiment_yaml(const lips_experiment *e, FILE *f)
{
    const lips_option *options;
    int n = lips_options(&options);
    for (int row = 0; row < n; row++) {
        const lips_axis *axis = NULL;
        for (int i = 0; i < e->n_axes; i++)
            axis = e->axes[i].key == row ? &e->axes[i] : axis;
        if (axis) {
            write_axis(f, &options[row], axis);
        } else {
            char value[YAML_VALUE_MAX];
            print_yaml_value(&options[row], &e->base, value, sizeof value);
            fprintf(f, "%s: %s\n", options[row].name, value);
        }
    }
    return ferror(f) ? lips_fail(LIPS_ERR_RUNTIME, "cannot write the experiment's YAML") : LIPS_OK;
}

lips_model_spec lips_config_model(const lips_config *c, const lips_dataset *d)
{
    return (lips_model_spec){.kind = c->model,
                             .width = c->width,
                             .depth = c->depth,
                             .classes = d->classes,
                             .c = d->c,
                             .h = d->h,
                             .w = d->w,
                             .batch_norm = c->batch_norm};
}

lips_data_spec lips_config_data(const lips_config *c)
{
    return (lips_data_spec){.source = c->data,
                            .data_dir = c->data_dir,
                            .n_train = c->n_train,
                            .n_test = c->n_test,
                            .n_val = c->n_val,
                            .label_noise = c->label_noise,
                            .data_seed = c->data_seed,
                            .noise_seed = c->noise_seed,
                            .sine_noise = c->sine_noise,
                            .sine_min = c->sine_min,
                            .sine_max = c->sine_max};
}
