/*
 * backend/check_parts.h - what the argument checks are made of, for the check*.c files.
 */
#ifndef LIPS_BACKEND_CHECK_PARTS_H
#define LIPS_BACKEND_CHECK_PARTS_H

#include "backend/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* The name of an op for messages: family and pass. */
typedef struct op_name {
    char text[48];
} op_name;

static inline op_name name_of(const char *family, lips_pass pass)
{
    static const char *const pass_name[] = {"forward", "jvp",     "vjp",     "grad",
                                            "gram",    "vjp_dot", "grad_dot"};
    op_name n;
    snprintf(n.text, sizeof n.text, "%s_%s", family, pass_name[pass]);
    return n;
}

static inline lips_status need_range(const char *op, const char *name, int64_t v, int64_t lo,
                                     int64_t hi)
{
    if (v < lo || v > hi)
        return lips_fail(LIPS_ERR_USAGE, "%s: %s is %" PRId64 ", must be in %" PRId64 "..%" PRId64,
                         op, name, v, lo, hi);
    return LIPS_OK;
}

static inline lips_status need_equal(const char *op, const char *name, int64_t v, int64_t want)
{
    if (v != want)
        return lips_fail(LIPS_ERR_USAGE, "%s: %s is %" PRId64 ", must be %" PRId64, op, name, v,
                         want);
    return LIPS_OK;
}

static inline lips_status need_set(const char *op, const char *name, const void *p)
{
    if (!p)
        return lips_fail(LIPS_ERR_USAGE, "%s: %s is NULL", op, name);
    return LIPS_OK;
}

static inline lips_status need_finite(const char *op, const char *name, double v)
{
    if (!isfinite(v))
        return lips_fail(LIPS_ERR_USAGE, "%s: %s is %g, must be finite", op, name, v);
    return LIPS_OK;
}

/* Same batch and layout. */
static inline lips_status need_same_batch(const char *op, const lips_tensor *a,
                                          const lips_tensor *b)
{
    if (a->b != b->b || a->lanes != b->lanes)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: tensors of %" PRId64 " and %" PRId64 " samples, %" PRId64
                         " and %" PRId64 " lanes in one op",
                         op, a->b, b->b, a->lanes, b->lanes);
    return LIPS_OK;
}

/* Same batch, layout and (C,H,W). */
static inline lips_status need_same_image(const char *op, const char *name, const lips_tensor *t,
                                          const lips_tensor *want)
{
    LIPS_TRY(need_same_batch(op, t, want));
    if (t->c != want->c || t->h != want->h || t->w != want->w)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: %s is (%" PRId64 ",%" PRId64 ",%" PRId64 "), must be (%" PRId64
                         ",%" PRId64 ",%" PRId64 ")",
                         op, name, t->c, t->h, t->w, want->c, want->h, want->w);
    return LIPS_OK;
}

static inline lips_status need_mask(const char *op, const lips_tensor *mask,
                                    const lips_tensor *masked)
{
    LIPS_TRY(lips_check_tensor(op, "mask", mask));
    LIPS_TRY(need_equal(op, "mask.t", mask->t, 1));
    return need_same_image(op, "mask", mask, masked);
}

/* Stacked values in and out: y.t == x.t forward, jvp and vjp; x.t == 1 in grad and gram, and
 * y.t == 1 in grad. */
static inline lips_status need_stack(const char *op, lips_pass pass, int64_t yt, int64_t xt)
{
    if (pass == LIPS_GRAD || pass == LIPS_GRAM)
        LIPS_TRY(need_equal(op, "x.t", xt, 1));
    if (pass == LIPS_GRAD)
        LIPS_TRY(need_equal(op, "y.t", yt, 1));
    else if (pass != LIPS_GRAM)
        LIPS_TRY(need_equal(op, "y.t", yt, xt));
    return LIPS_OK;
}

#endif
