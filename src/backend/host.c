#include "backend/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 }; /* a cache line and an AVX-512 register */

lips_status lips_host_alloc(lips_backend *be, void **out, size_t bytes)
{
    const size_t rounded = bytes > SIZE_MAX - ALIGN ? 0 : (bytes + ALIGN - 1) / ALIGN * ALIGN;
    *out = bytes && !rounded ? NULL : aligned_alloc(ALIGN, rounded ? rounded : ALIGN);
    if (!*out)
        return lips_fail(LIPS_ERR_MEMORY, "%s: out of memory (%zu bytes asked)", be->ops->name,
                         bytes);
    memset(*out, 0, rounded ? rounded : ALIGN);
    return LIPS_OK;
}

void lips_host_release(lips_backend *be, void *p)
{
    (void)be;
    free(p);
}

lips_status lips_host_sync(lips_backend *be)
{
    (void)be;
    return LIPS_OK;
}

lips_status lips_host_zero(lips_backend *be, void *dst, size_t bytes)
{
    (void)be;
    LIPS_TRY(lips_check_vector("zero", dst, 0, bytes != 0));
    if (bytes)
        memset(dst, 0, bytes);
    return LIPS_OK;
}

lips_status lips_host_copy(lips_backend *be, void *dst, const void *src, size_t bytes)
{
    (void)be;
    LIPS_TRY(lips_check_vector("copy", dst, 0, bytes != 0));
    LIPS_TRY(lips_check_vector("copy", src, 0, bytes != 0));
    if (bytes)
        memcpy(dst, src, bytes);
    return LIPS_OK;
}

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
