#include "opcases.h"

#include "backend/rows.h"

#include "cmocka_all.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lips_tensor pick_tensor(opcase *c, int64_t t, bool spatial)
{
    static const int64_t side[] = {1, 2, 3, 5};
    opcase_batch(c, pick_batch(c), spatial);
    int64_t ch = pick_width(c), h = opcase_pick(c, side, 4), w = opcase_pick(c, side, 4);
    t = t ? t : pick_stack(c);
    snprintf(c->shape, sizeof c->shape,
             "B=%" PRId64 " cap=%" PRId64 " C=%" PRId64 " HxW=%" PRId64 "x%" PRId64 " T=%" PRId64,
             c->b, c->cap, ch, h, w, t);
    return opcase_output(c, ch, h, w, t);
}

/* Everything of the tensor, unused samples too. */
static void emit_all(opcase *c, const lips_tensor *x)
{
    lips_tensor all = *x;
    all.b = all.cap;
    opcase_emit_tensor(c, "tensor", &all);
}

/* A second handle of the same backend lives its life beside the first. */
static void life(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    lips_backend *be;
    lips_device d;
    opcase_ok(ops->probe(&d, 0));
    assert_true(d.count >= 1 && d.name[0] && d.bytes_free <= d.bytes);
    opcase_ok(ops->open(&be, 0));
    assert_ptr_equal(be->ops, ops);
    double good = 1, v[100];
    for (int i = 0; i < 4; i++) {
        static const size_t bytes[] = {0, 1, 64, 800};
        void *p;
        opcase_ok(ops->alloc(be, &p, bytes[i]));
        good *= p != NULL && (uintptr_t)p % 64 == 0;
        opcase_ok(ops->read(be, v, p, 0, bytes[i] == 800 ? 100 : 0));
        for (int k = 0; bytes[i] == 800 && k < 100; k++)
            good *= v[k] == 0;
        opcase_ok(ops->sync(be));
        ops->release(be, p);
    }
    void *huge;
    good *= ops->alloc(be, &huge, SIZE_MAX / 2) == LIPS_ERR_MEMORY;
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%zu", SIZE_MAX / 2);
    good *= strstr(lips_error(), bytes) != NULL;
    ops->release(be, NULL);
    ops->close(be);
    opcase_emit_doubles(c, "good", &good, 1);
}

/* Shared memory: zeroed; what the host writes is there for the ops and what ops add comes back; a
 * zero() of a part leaves the rest. */
static void shared(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    opcase_batch(c, 2, false);
    lips_tensor x = opcase_input(c, 1, 1, 1, 1);
    opcase_ok(ops->upload_f64(c->be, &x, (const double[]){3, 5}));
    void *p;
    opcase_ok(ops->alloc_shared(c->be, &p, 6 * sizeof(double)));
    double *v = p;
    assert_true((uintptr_t)p % 64 == 0);
    for (int i = 0; i < 6; i++) {
        assert_true(v[i] == 0);
        v[i] = i;
    }
    opcase_ok(ops->gram(c->be, &(lips_gram_args){.x = x, .g = v + 1}));
    opcase_ok(ops->gram(c->be, &(lips_gram_args){.x = x, .g = v + 2}));
    opcase_ok(ops->sync(c->be));
    opcase_emit_doubles(c, "added", v, 6);
    static const double want[6] = {0, 10, 2 + 25 + 9, 3 + 25, 4, 5};
    for (int i = 0; i < 6; i++)
        assert_true(v[i] == want[i]);
    v[5] = -1;
    opcase_ok(ops->zero(c->be, v, 5 * sizeof *v));
    opcase_ok(ops->gram(c->be, &(lips_gram_args){.x = x, .g = v}));
    opcase_ok(ops->sync(c->be));
    opcase_emit_doubles(c, "zeroed", v, 6);
    assert_true(v[0] == 9 && v[1] == 25 && v[2] == 0 && v[4] == 0 && v[5] == -1);
    ops->release(c->be, p);
}

static void vectors(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    enum { N = 70 };
    double v[N];
    for (int i = 0; i < N; i++)
        v[i] = opcase_value(c);
    void *p = opcase_poisoned(c, N), *q = opcase_poisoned(c, N);
    opcase_ok(ops->zero(c->be, p, N * ops->real_bytes));
    opcase_ok(ops->write(c->be, p, 3, v, N - 10));
    opcase_ok(ops->write(c->be, p, 3, v, 0));
    opcase_ok(ops->copy(c->be, q, p, N * ops->real_bytes));
    opcase_emit_reals(c, "whole", q, N);
    double *part = malloc(20 * sizeof *part);
    assert_non_null(part);
    opcase_ok(ops->read(c->be, part, q, 5, 20));
    opcase_emit_doubles(c, "part", part, 20);
    for (int i = 0; i < 20; i++)
        assert_true(part[i] == v[2 + i]);
    free(part);
}

/* Layout: enough memory, the same for equal descriptions, growing with the extents. */
static void layout(opcase *c)
{
    lips_tensor x = pick_tensor(c, 0, pick_bool(c)), twice = x;
    twice.c *= 2;
    const lips_ops *ops = c->be->ops;
    size_t bytes = ops->tensor_bytes(c->be, &x);
    double good = bytes >= (size_t)(x.cap * lips_tensor_features(&x) * x.t) * ops->real_bytes &&
                  ops->tensor_bytes(c->be, &twice) == 2 * bytes && x.lanes >= 1 &&
                  ops->plan_lanes(c->be, x.cap, true) == ops->plan_lanes(c->be, x.cap, true);
    opcase_emit_doubles(c, "good", &good, 1);
}

static void upload(opcase *c)
{
    lips_tensor x = pick_tensor(c, 1, pick_bool(c));
    int64_t n = lips_tensor_features(&x), rows = x.b + 3;
    float *v = malloc((size_t)(rows * n) * sizeof *v);
    int64_t *idx = malloc((size_t)x.b * sizeof *idx);
    assert_true(v && idx);
    for (int64_t i = 0; i < rows * n; i++)
        v[i] = (float)opcase_value(c);
    for (int64_t i = 0; i < x.b; i++)
        idx[i] = (i * 7 + 2) % rows;
    bool by_index = pick_bool(c);
    opcase_ok(c->be->ops->upload(c->be, &x, v, by_index ? idx : NULL));
    emit_all(c, &x);
    for (int64_t s = 0; s < x.cap; s++)
        for (int64_t i = 0; i < n; i++) {
            int64_t row = s >= x.b ? 0 : by_index ? idx[s] : s;
            assert_true(c->result[0].v[s * n + i] == (s < x.b ? (double)v[row * n + i] : 0));
        }
    free(v), free(idx);
}

static void upload_f64(opcase *c)
{
    lips_tensor x = pick_tensor(c, 0, pick_bool(c));
    int64_t n = x.b * lips_tensor_features(&x) * x.t;
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = opcase_value(c);
    opcase_ok(c->be->ops->upload_f64(c->be, &x, v));
    emit_all(c, &x);
    int64_t all = x.cap * lips_tensor_features(&x) * x.t;
    for (int64_t i = 0; i < all; i++)
        assert_true(c->result[0].v[i] == (i < n ? v[i] : 0));
    free(v);
}

static void fill(opcase *c)
{
    lips_tensor x = pick_tensor(c, 0, pick_bool(c));
    opcase_ok(c->be->ops->fill(c->be, &x, 1.5));
    opcase_emit_tensor(c, "tensor", &x);
    for (int64_t i = 0; i < c->result[0].n; i++)
        assert_true(c->result[0].v[i] == 1.5);
}

static void eye(opcase *c)
{
    opcase_batch(c, pick_batch(c), false);
    int64_t k = pick_width(c);
    snprintf(c->shape, sizeof c->shape, "B=%" PRId64 " cap=%" PRId64 " K=%" PRId64, c->b, c->cap,
             k);
    lips_tensor x = opcase_output(c, k, 1, 1, k);
    opcase_ok(c->be->ops->eye(c->be, &x, -2));
    opcase_emit_tensor(c, "tensor", &x);
    for (int64_t i = 0; i < c->result[0].n; i++)
        assert_true(c->result[0].v[i] == (i / k % k == i % k ? -2 : 0));
}

/* A data set of bytes or of any floats; with a loaded memory that gather reads. */
static void gather(opcase *c)
{
    enum { N = 9 };
    const lips_ops *ops = c->be->ops;
    lips_tensor y = pick_tensor(c, 1, pick_bool(c));
    const int64_t row = lips_tensor_features(&y);
    const bool packed = pick_bool(c), by_index = pick_bool(c), by_order = pick_bool(c);
    const int64_t n = by_index || by_order ? N : N + y.b;
    lips_cursor cursor, *device = pick_cursor(c, false, &cursor);
    int64_t order[64], *on_device;
    for (int i = 0; i < 64; i++)
        order[i] = (i * 7 + 1) % N;
    lips_rows r = {.n = n, .c = y.c, .h = y.h, .w = y.w, .packed = packed};
    float *x = calloc((size_t)(n * row), sizeof *x), *table = calloc((size_t)y.c * 256, sizeof *x);
    int64_t *source = calloc((size_t)n, sizeof *source),
            *index = calloc((size_t)y.b, sizeof *index);
    assert_true(x && table && source && index);
    for (int64_t k = 0; k < y.c * 256; k++)
        table[k] = (float)((double)(k % 256) / 255.0 / 0.3 - (double)(k / 256));
    for (int64_t i = 0; i < n * row; i++)
        x[i] =
            packed
                ? table[i / (y.h * y.w) % y.c * 256 + (int64_t)(fabs(opcase_value(c)) * 999) % 256]
                : (float)opcase_value(c);
    for (int64_t i = 0; i < n; i++)
        source[i] = i * 7;
    for (int64_t i = 0; i < y.b; i++)
        index[i] = (i * 5 + 2) % n;
    on_device = opcase_bytes(c, order, sizeof order);
    if (packed)
        assert_true(lips_rows_fit(&r, x, table));
    opcase_ok(ops->alloc(c->be, &r.memory, lips_rows_bytes(&r)));
    opcase_ok(
        ops->rows_load(c->be, &r, &(lips_rows_source){.x = x, .table = table, .source = source}));
    free(x), free(table), free(source); /* the host's, read when the op returns */
    opcase_ok(ops->gather(c->be, &(lips_gather_args){.rows = &r,
                                                     .y = y,
                                                     .index = by_index ? index : NULL,
                                                     .order = by_order ? on_device : NULL,
                                                     .cursor = by_order ? device : NULL,
                                                     .first = by_index ? 0 : 4,
                                                     .augment = pick_bool(c),
                                                     .seed = 77,
                                                     .epoch = 3}));
    free(index);
    emit_all(c, &y);
    ops->release(c->be, r.memory);
}

static const opcase_row rows[] = {
    OPCASE_ROW(probe, life, OP_EXACT, 1),
    OPCASE_ROW(open, life, OP_EXACT, 1),
    OPCASE_ROW(close, life, OP_EXACT, 1),
    OPCASE_ROW(alloc, life, OP_EXACT, 1),
    OPCASE_ROW(alloc_shared, shared, OP_EXACT, 1),
    OPCASE_ROW(release, life, OP_EXACT, 1),
    OPCASE_ROW(sync, life, OP_EXACT, 1),
    OPCASE_ROW(write, vectors, OP_EXACT, 4),
    OPCASE_ROW(read, vectors, OP_EXACT, 4),
    OPCASE_ROW(zero, vectors, OP_EXACT, 4),
    OPCASE_ROW(copy, vectors, OP_EXACT, 4),
    OPCASE_ROW(plan_lanes, layout, OP_EXACT, 10),
    OPCASE_ROW(tensor_bytes, layout, OP_EXACT, 10),
    OPCASE_ROW(upload, upload, OP_EXACT, 20),
    OPCASE_ROW(upload_f64, upload_f64, OP_EXACT, 20),
    OPCASE_ROW(download, upload_f64, OP_EXACT, 20),
    OPCASE_ROW(rows_load, gather, OP_EXACT, 10),
    OPCASE_ROW(gather, gather, OP_EXACT, 40),
    OPCASE_ROW(fill, fill, OP_EXACT, 10),
    OPCASE_ROW(eye, eye, OP_EXACT, 20),
};

const opcase_table opcases_memory = {rows, sizeof rows / sizeof rows[0]};
