/* Long vectors of doubles. Backends agree in every bit, so the tolerance against ref is 0; what ref
 * and they compute is compared with plain sums here. */
#include "opcases.h"

#include "base/random.h"
#include "cmocka_all.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Around a chain, a piece and a block of pieces. */
static int64_t pick_places(opcase *c)
{
    static const int64_t v[] = {1, 7, 8, 15, 16, 17, 31, 128, 129, 1023, 1024, 1025, 1040, 5000};
    return opcase_pick(c, v, 14);
}

static int64_t pick_count(opcase *c)
{
    static const int64_t v[] = {1, 2, 3, 15, 16, 17, 33, LIPS_VECTORS_MAX};
    return opcase_pick(c, v, 8);
}

static void describe(opcase *c, int64_t count, int64_t n)
{
    snprintf(c->shape, sizeof c->shape, "S=%" PRId64 " n=%" PRId64, count, n);
}

/* n doubles, 17 of every 20 digits of them beyond a float's. */
static double *values(opcase *c, int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = c->integers ? opcase_value(c) : opcase_value(c) / 3;
    return v;
}

static double *on_backend(opcase *c, const double *v, int64_t n)
{
    return opcase_bytes(c, v, (size_t)n * sizeof *v);
}

/* What the host reads of n doubles in backend memory. */
static double *back(opcase *c, const double *p, int64_t n)
{
    const lips_ops *ops = c->be->ops;
    void *shared;
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    opcase_ok(ops->alloc_shared(c->be, &shared, (size_t)n * sizeof *v));
    opcase_ok(ops->fetch(c->be, shared, p, (size_t)n * sizeof *v, 0));
    opcase_ok(ops->await(c->be, 0));
    for (int64_t i = 0; i < n; i++)
        v[i] = ((const double *)shared)[i];
    ops->release(c->be, shared);
    return v;
}

static void emit(opcase *c, const char *name, const double *p, int64_t n)
{
    double *v = back(c, p, n);
    opcase_emit_doubles(c, name, v, n);
    free(v);
}

static void dots(opcase *c)
{
    const int64_t n = pick_places(c), count = pick_count(c);
    describe(c, count, n);
    double *q = values(c, count * n), *w = values(c, n);
    const double *dq = on_backend(c, q, count * n), *dw = on_backend(c, w, n);
    double *out = opcase_doubles(c, count + 1, true);
    opcase_ok(c->be->ops->dots(
        c->be, &(lips_dots_args){.out = out, .q = dq, .w = dw, .count = count, .n = n}));
    opcase_ok(c->be->ops->sync(c->be));
    opcase_emit_doubles(c, "out", out, count);
    for (int64_t i = 0; i < count; i++) {
        long double sum = 0, size = 0;
        for (int64_t j = 0; j < n; j++) {
            sum += (long double)q[i * n + j] * (long double)w[j];
            size += fabsl((long double)q[i * n + j] * (long double)w[j]);
        }
        assert_true(fabsl(out[i] - sum) <= 0x1p-45L * size);
    }
    assert_true(isnan(out[count])); /* what lies behind is left */
    free(q), free(w);
}

static void combine(opcase *c)
{
    static const int64_t keeps[] = {0, 1, -3};
    const int64_t n = pick_places(c), count = pick_bool(c) ? pick_count(c) : 0;
    const double keep = (double)opcase_pick(c, keeps, 3), factor = pick_bool(c) ? -1 : 2;
    const bool shared = pick_bool(c);
    describe(c, count, n);
    double *q = values(c, count * n + 1), *y = values(c, n), *by = values(c, count + 1);
    if (keep == 0)
        y[0] = NAN; /* not read */
    const double *dq = on_backend(c, q, count * n + 1);
    double *dy = (double *)(size_t)on_backend(c, y, n), *in = opcase_doubles(c, count + 1, true);
    for (int64_t i = 0; i < count; i++)
        in[i] = by[i];
    opcase_ok(c->be->ops->combine(c->be, &(lips_combine_args){.y = dy,
                                                              .keep = keep,
                                                              .factor = factor,
                                                              .q = dq,
                                                              .c = shared ? in : by,
                                                              .count = count,
                                                              .n = n}));
    for (int64_t i = 0; i <= count; i++)
        by[i] /= 2; /* the host's: read when the op returned */
    double *got = back(c, dy, n);
    for (int64_t k = 0; k < n; k++) {
        long double sum = keep == 0 ? 0 : (long double)(keep * y[k]), size = fabsl(sum);
        for (int64_t i = 0; i < count; i++) {
            sum += (long double)factor * 2 * (long double)by[i] * (long double)q[i * n + k];
            size += fabsl((long double)factor * 2 * (long double)by[i] * (long double)q[i * n + k]);
        }
        assert_true(fabsl(got[k] - sum) <= 0x1p-45L * size);
    }
    emit(c, "y", dy, n);
    free(q), free(y), free(by), free(got);
}

static void narrow(opcase *c)
{
    const int64_t n = pick_places(c);
    describe(c, 1, n);
    double *v = values(c, n);
    void *to = opcase_poisoned(c, n);
    opcase_ok(c->be->ops->narrow(c->be, to, on_backend(c, v, n), n));
    opcase_emit_reals(c, "reals", to, n);
    for (int64_t i = 0; i < n; i++)
        assert_true(c->result[0].v[i] ==
                    (c->be->ops->real_bytes == 4 ? (double)(float)v[i] : v[i]));
    free(v);
}

static void widen(opcase *c)
{
    const int64_t n = pick_places(c);
    describe(c, 1, n);
    double *v = values(c, n), *from = malloc((size_t)n * sizeof *from);
    assert_non_null(from);
    void *reals = opcase_reals(c, n);
    opcase_ok(c->be->ops->read(c->be, from, reals, 0, n));
    double *to = (double *)(size_t)on_backend(c, v, n);
    opcase_ok(c->be->ops->widen(c->be, to, 1.0 / 3, reals, n));
    emit(c, "doubles", to, n);
    for (int64_t i = 0; i < n; i++)
        assert_true(c->result[0].v[i] == v[i] + 1.0 / 3 * from[i]);
    free(v), free(from);
}

static void signs(opcase *c)
{
    static const int64_t draws[] = {0, 1, 63, 1000};
    const int64_t n = pick_places(c), draw = opcase_pick(c, draws, 4);
    const lips_rng rng = {.stream = LIPS_STREAM_SIGNS};
    describe(c, 1, n);
    double *v = values(c, n), sum = 0;
    double *to = (double *)(size_t)on_backend(c, v, n);
    opcase_ok(c->be->ops->signs(c->be, to, draw, n));
    emit(c, "signs", to, n);
    for (int64_t i = 0; i < n; i++) {
        uint32_t word[4];
        lips_rng_words(&rng, (uint64_t)(draw * ((n + 127) / 128) + i / 128), word);
        assert_true(c->result[0].v[i] == ((word[i % 128 / 32] >> (i % 32)) & 1 ? 1 : -1));
        sum += c->result[0].v[i];
    }
    assert_true(n < 128 || fabs(sum) < 5 * sqrt((double)n));
    free(v);
}

static const opcase_row rows[] = {
    OPCASE_ROW(dots, dots, OP_EXACT, 60),       OPCASE_ROW(combine, combine, OP_EXACT, 60),
    OPCASE_ROW(narrow, narrow, OP_ELEMENT, 14), OPCASE_ROW(widen, widen, OP_EXACT, 14),
    OPCASE_ROW(signs, signs, OP_EXACT, 20),
};

const opcase_table opcases_vectors = {rows, sizeof rows / sizeof rows[0]};
