#include "measure/reduce.h"

#include "measure/block.h"
#include "measure/eigen.h"
#include "measure/head.h"
#include "measure/maps.h"
#include "measure/series.h"

#include <math.h>
#include <string.h>

static bool squared(const lips_survey *p)
{
    return p->args->network.loss == LIPS_LOSS_MSE;
}

/* ---- by the backend ---- */

bool lips_reduce_on_backend(const lips_survey *p)
{
    return p->full && p->args->ops->norms && p->k <= LIPS_NORMS_MAX;
}

/* Kinds of an item that some series wants, by bits. */
static unsigned wanted(const lips_survey *p, int item)
{
    unsigned kinds = 0;
    for (int i = 0; i < p->n_series && (p->full >> item & 1); i++)
        if (!p->series[i].reason)
            kinds |= lips_series_reduces(p, &p->series[i], item);
    return kinds;
}

/* Numbers have one result, which both outputs may share. */
static int64_t results(int kind)
{
    return kind <= LIPS_REDUCE_LOG_SOFTMAX || kind == LIPS_REDUCE_TRACE ? 2 : 1;
}

void lips_reduce_take(lips_block *b, const lips_survey *p, size_t *bytes)
{
    for (int item = 0; item < LIPS_ITEMS; item++)
        for (int kind = 0; kind < LIPS_REDUCES; kind++)
            if (wanted(p, item) >> kind & 1)
                lips_block_take_shared(b, b ? &b->reduced[item][kind] : NULL,
                                       results(kind) * lips_block_parts(p, item) * p->block, bytes);
}

/* All parts in one launch; the places beyond the block's samples hold zeros. */
static lips_status run_kind(lips_block *b, int item, int kind)
{
    const lips_survey *p = b->survey;
    static const lips_output_map maps[] = {[LIPS_REDUCE_LOGITS] = LIPS_MAP_PLAIN,
                                           [LIPS_REDUCE_SOFTMAX] = LIPS_MAP_SOFTMAX,
                                           [LIPS_REDUCE_LOG_SOFTMAX] = LIPS_MAP_LOG_SOFTMAX,
                                           [LIPS_REDUCE_TARGET] = LIPS_MAP_VECTOR,
                                           [LIPS_REDUCE_LOSS] = LIPS_MAP_VECTOR,
                                           [LIPS_REDUCE_TRACE] = LIPS_MAP_TRACE};
    const int64_t n = lips_block_parts(p, item) * b->cap;
    double *out = b->reduced[item][kind];
    lips_norms_args a = {.map = maps[kind],
                         .g = b->full[item],
                         .p = kind == LIPS_REDUCE_TARGET ? b->pick
                              : kind == LIPS_REDUCE_LOSS ? b->u
                                                         : b->p,
                         .rows = b->cap,
                         .op = out,
                         .fro = results(kind) > 1 ? out + n : out,
                         .n = n,
                         .k = b->k};
    if (kind == LIPS_REDUCE_TRACE && squared(p)) /* d2L/dz2 = I: fro is the trace's root */
        a.map = LIPS_MAP_PLAIN;
    return b->be->ops->norms(b->be, &a);
}

lips_status lips_reduce_run(lips_block *b)
{
    for (int item = 0; item < LIPS_ITEMS; item++)
        for (int kind = 0; kind < LIPS_REDUCES; kind++)
            if (b->reduced[item][kind])
                LIPS_TRY(run_kind(b, item, kind));
    return LIPS_OK;
}

/* Where a layer's results begin: op, or with `fro` the second ones. */
static const double *reduced(const lips_block *b, int item, int layer, int kind, bool fro)
{
    const int64_t part = layer > 0 ? layer - 1 : 0, all = lips_block_parts(b->survey, item);
    return b->reduced[item][kind] + ((fro ? all : 0) + part) * b->cap;
}

/* ---- by the host ---- */

/* Square root of what is at least 0 in exact arithmetic; NaN stays. */
static double root(double x)
{
    return x < 0 ? 0 : sqrt(x);
}

static void host_norms(lips_block *b, const double *g, int kind, double *op, double *fro)
{
    const int64_t k = b->k;
    for (int64_t i = 0; i < b->b && kind != LIPS_REDUCE_LOGITS; i++)
        (kind == LIPS_REDUCE_SOFTMAX ? lips_map_softmax : lips_map_log_softmax)(
            b->maps + i * k * k, g + i * k * k, b->p + i * k, k, b->work);
    const double *m = kind == LIPS_REDUCE_LOGITS ? g : b->maps;
    lips_eigen_max(op, m, b->b, k, b->eigen);
    for (int64_t i = 0; i < b->b; i++) {
        op[i] = root(op[i]);
        fro[i] = root(lips_trace_of(m + i * k * k, k));
    }
}

static double host_number(lips_block *b, const double *g, int kind, int64_t i)
{
    const int64_t k = b->k;
    if (kind == LIPS_REDUCE_TARGET) {
        const int64_t y = lips_survey_class(b->survey, b->first + i);
        return g[y * k + y] < 0 ? 0 : g[y * k + y];
    }
    return kind == LIPS_REDUCE_LOSS ? lips_quadratic(g, b->u + i * k, k)
                                    : lips_head_trace(b->survey, b->p + i * k, g, b->maps, b->work);
}

/* ---- either ---- */

static const double *gram_at(const lips_block *b, int item, int layer)
{
    return b->full[item] + (layer > 0 ? layer - 1 : 0) * b->cap * b->k * b->k;
}

void lips_reduce_norms(lips_block *b, int item, int layer, int kind, double *op, double *fro)
{
    const size_t bytes = (size_t)b->b * sizeof *op;
    if (!b->reduced[item][kind]) {
        host_norms(b, gram_at(b, item, layer), kind, op, fro);
        return;
    }
    memcpy(op, reduced(b, item, layer, kind, false), bytes);
    memcpy(fro, reduced(b, item, layer, kind, true), bytes);
}

void lips_reduce_numbers(lips_block *b, int item, int layer, int kind, double *out)
{
    const bool made = b->reduced[item][kind];
    const double *from = made ? reduced(b, item, layer, kind, kind == LIPS_REDUCE_TRACE) : NULL;
    const double *g = made ? NULL : gram_at(b, item, layer);
    for (int64_t i = 0; i < b->b; i++)
        out[i] = made ? from[i] * from[i] : host_number(b, g + i * b->k * b->k, kind, i);
}
