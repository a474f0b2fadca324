/* train/export.c - weights under PyTorch's names, F32, with what it takes to use them again. */
#include "train/trainer_internal.h"

#include "base/safetensors.h"
#include "base/version.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { YAML_TEXT = 65536, NUMBER_TEXT = 64 };

typedef struct export_memory {
    double *wide;      /* parameters, then buffers */
    float *narrow;     /* the same, as stored */
    int64_t *counters; /* one per num_batches_tracked */
    lips_st_out_tensor *tensors;
    char *yaml;
} export_memory;

static void export_free(export_memory *m)
{
    free(m->yaml);
    free(m->tensors);
    free(m->counters);
    free(m->narrow);
    free(m->wide);
}

static lips_status export_alloc(export_memory *m, int64_t n_reals, int n_tensors)
{
    m->wide = calloc((size_t)n_reals + 1, sizeof *m->wide);
    m->narrow = calloc((size_t)n_reals + 1, sizeof *m->narrow);
    m->counters = calloc((size_t)n_tensors + 1, sizeof *m->counters);
    m->tensors = calloc((size_t)n_tensors + 1, sizeof *m->tensors);
    m->yaml = calloc(YAML_TEXT, 1);
    if (!m->wide || !m->narrow || !m->counters || !m->tensors || !m->yaml)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory: writing %" PRId64 " weights", n_reals);
    return LIPS_OK;
}

/* Describes one segment whose values start at real number `at`. */
static lips_st_out_tensor describe(export_memory *m, const lips_segment *s, int64_t at, int i)
{
    lips_st_out_tensor t = {
        .name = s->name, .dtype = LIPS_F32, .ndim = s->ndim, .data = m->narrow + at + s->offset};
    memcpy(t.shape, s->shape, sizeof s->shape);
    if (s->role == LIPS_ROLE_BATCHES_TRACKED) {
        m->counters[i] = llround(m->wide[at + s->offset]);
        t.dtype = LIPS_I64;
        t.data = &m->counters[i];
    }
    return t;
}

lips_status lips_trainer_export(lips_trainer *tr, const char *path)
{
    const lips_segment *ps, *bs;
    int np = lips_net_segments(tr->net, &ps), nb = lips_net_buffer_segments(tr->net, &bs);
    const lips_model_spec *s = lips_net_spec(tr->net);
    export_memory m = {0};
    char epoch[NUMBER_TEXT], hash[NUMBER_TEXT], width[NUMBER_TEXT], depth[NUMBER_TEXT],
        classes[NUMBER_TEXT], input[3 * NUMBER_TEXT];
    lips_status st;
    LIPS_TRY_GOTO(st, export_alloc(&m, tr->n_params + tr->n_buffers, np + nb), out);
    LIPS_TRY_GOTO(st, lips_trainer_get_params(tr, m.wide, m.wide + tr->n_params), out);
    LIPS_TRY_GOTO(st, lips_config_yaml(&tr->cfg, m.yaml, YAML_TEXT), out);
    for (int64_t i = 0; i < tr->n_params + tr->n_buffers; i++)
        m.narrow[i] = (float)m.wide[i];
    for (int i = 0; i < np; i++)
        m.tensors[i] = describe(&m, &ps[i], 0, i);
    for (int i = 0; i < nb; i++)
        m.tensors[np + i] = describe(&m, &bs[i], tr->n_params, np + i);
    snprintf(epoch, sizeof epoch, "%" PRId64, tr->epoch);
    snprintf(hash, sizeof hash, "%016" PRIx64, tr->data->hash);
    snprintf(width, sizeof width, "%" PRId64, s->width);
    snprintf(depth, sizeof depth, "%" PRId64, s->depth);
    snprintf(classes, sizeof classes, "%" PRId64, s->classes);
    snprintf(input, sizeof input, "%" PRId64 "x%" PRId64 "x%" PRId64, s->c, s->h, s->w);
    const lips_st_meta_pair meta[] = {{"lipsweep.config", m.yaml},
                                      {"lipsweep.epoch", epoch},
                                      {"lipsweep.data_hash", hash},
                                      {"lipsweep.version", LIPS_VERSION},
                                      {"lipsweep.commit", lips_commit()},
                                      {"lipsweep.model", s->kind},
                                      {"lipsweep.width", width},
                                      {"lipsweep.depth", depth},
                                      {"lipsweep.classes", classes},
                                      {"lipsweep.input", input},
                                      {"lipsweep.batch_norm", s->batch_norm ? "true" : "false"}};
    LIPS_TRY_GOTO(st, lips_st_write(path, m.tensors, np + nb, meta, sizeof meta / sizeof *meta),
                  out);
out:
    export_free(&m);
    return st;
}
