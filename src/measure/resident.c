#include "measure/resident.h"

#include "backend/rows.h"

#include <stdlib.h>
#include <string.h>

/* Rows without memory: any floats. */
static lips_rows describe(const lips_net *net, int64_t n)
{
    const lips_model_spec *s = lips_net_spec(net);
    return (lips_rows){.n = n, .c = s->c, .h = s->h, .w = s->w};
}

size_t lips_inputs_load_bytes(const lips_net *net, const lips_ops *ops, int64_t n)
{
    const lips_rows r = describe(net, n);
    return ops->pass_bytes && ops->gather ? lips_rows_bytes(&r) : 0;
}

/* The samples one after another: x itself, or a copy that *copy owns. */
static const float *in_order(const lips_inputs *in, int64_t features, float **copy)
{
    if (!in->index)
        return in->x;
    *copy = malloc((size_t)(in->n * features) * sizeof **copy);
    for (int64_t i = 0; *copy && i < in->n; i++)
        memcpy(*copy + i * features, in->x + in->index[i] * features,
               (size_t)features * sizeof **copy);
    return *copy;
}

lips_status lips_inputs_load(lips_rows *rows, const lips_net *net, lips_backend *be,
                             const lips_inputs *in)
{
    lips_rows r = describe(net, in->n);
    lips_status st = LIPS_OK;
    float *copy = NULL, *table = NULL;
    int64_t *source = NULL;
    *rows = r;
    if (lips_inputs_load_bytes(net, be->ops, in->n) == 0)
        return LIPS_OK;
    const float *x = in_order(in, r.c * r.h * r.w, &copy);
    /* Read where rows are packed or augmented, which these are not. */
    table = calloc((size_t)r.c * 256, sizeof *table);
    source = calloc((size_t)in->n, sizeof *source);
    if (!x || !table || !source)
        LIPS_TRY_GOTO(st, lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for samples"), out);
    st = be->ops->alloc(be, &r.memory, lips_rows_bytes(&r));
    if (st != LIPS_OK) {
        st = st == LIPS_ERR_MEMORY ? LIPS_OK : st; /* they are uploaded each time */
        goto out;
    }
    LIPS_TRY_GOTO(
        st,
        be->ops->rows_load(be, &r, &(lips_rows_source){.x = x, .table = table, .source = source}),
        out);
    LIPS_TRY_GOTO(st, be->ops->sync(be), out); /* other handles have an order of their own */
    *rows = r;
    r.memory = NULL;
out:
    be->ops->release(be, r.memory);
    free(copy), free(table), free(source);
    return st;
}
