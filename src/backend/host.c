#include "backend/host.h"

#include <math.h>
#include <string.h>

lips_status lips_host_put(lips_backend *be, void *dst, const void *src, size_t bytes)
{
    LIPS_TRY(lips_check_bytes("put", dst, src, bytes));
    return be->ops->copy(be, dst, src, bytes);
}

lips_status lips_host_fetch(lips_backend *be, void *dst, const void *src, size_t bytes, int slot)
{
    LIPS_TRY(lips_check_slot("fetch", slot));
    LIPS_TRY(lips_check_bytes("fetch", dst, src, bytes));
    return be->ops->copy(be, dst, src, bytes);
}

lips_status lips_host_await(lips_backend *be, int slot)
{
    (void)be;
    return lips_check_slot("await", slot);
}

/* Sets loss, and stop if no update may follow. */
static lips_status judge(lips_backend *be, const lips_advance_args *a)
{
    double sum = 0, sumsq = 0;
    for (int64_t i = 0; i < a->b; i++)
        sum += a->loss[i];
    a->cursor->loss = sum / (double)a->b;
    if (a->cursor->loss > a->loss_watch)
        LIPS_TRY(be->ops->diff_sumsq(be, &sumsq, a->g, NULL, a->n));
    if (!isfinite(a->cursor->loss))
        a->cursor->stop = LIPS_STOP_LOSS;
    else if (!(sqrt(sumsq) < a->grad_max))
        a->cursor->stop = LIPS_STOP_GRADIENT;
    return LIPS_OK;
}

lips_status lips_host_advance(lips_backend *be, const lips_advance_args *a)
{
    LIPS_TRY(lips_check_advance(a));
    lips_cursor *c = a->cursor;
    const size_t bytes = (size_t)a->n_buffers * be->ops->real_bytes;
    if (!c->stop)
        LIPS_TRY(judge(be, a));
    if (c->stop)
        return be->ops->copy(be, a->buffers, a->kept, bytes);
    c->row += a->b;
    c->updates++;
    c->adam_rate = c->rate / (1 - pow(a->beta1, (double)c->updates));
    c->adam_root = 1 / sqrt(1 - pow(a->beta2, (double)c->updates));
    return be->ops->copy(be, a->kept, a->buffers, bytes);
}

bool lips_host_sgd_now(lips_sgd_args *a)
{
    if (a->cursor)
        a->lr = a->cursor->rate;
    return !a->cursor || !a->cursor->stop;
}

bool lips_host_adam_now(lips_adam_args *a)
{
    if (a->cursor) {
        a->lr = a->cursor->rate;
        a->step = a->cursor->updates;
    }
    return !a->cursor || !a->cursor->stop;
}
