#include "opcases.h"

#include "backend/rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_B = 33, MAX_K = 129 };

enum { ROWS = MAX_B + 20, FIRST = 2 };

/* The same labels and targets as the rows of a resident data set, in some order. */
static lips_rows *resident(opcase *c, lips_rows *r, lips_loss_args *a, const int64_t *labels,
                           const float *targets)
{
    const lips_ops *ops = c->be->ops;
    lips_cursor cursor;
    const float table[256] = {0}, x[ROWS] = {0};
    int64_t order[ROWS], row_labels[ROWS] = {0}, source[ROWS] = {0}, k = a->z.c;
    float *row_targets = calloc((size_t)(ROWS * k), sizeof *row_targets);
    a->cursor = pick_cursor(c, false, &cursor);
    a->first = FIRST;
    for (int64_t i = 0; i < ROWS; i++)
        order[i] = (i * 11 + 5) % ROWS;
    for (int64_t i = 0; i < c->b; i++) {
        int64_t row = order[cursor.row + FIRST + i];
        row_labels[row] = labels[i];
        memcpy(row_targets + row * k, targets + i * k, (size_t)k * sizeof *targets);
    }
    a->order = opcase_bytes(c, order, sizeof order);
    *r = (lips_rows){.n = ROWS, .c = 1, .h = 1, .w = 1};
    r->targets = a->targets ? k : 0;
    r->classes = a->targets ? 0 : k;
    opcase_ok(ops->alloc(c->be, &r->memory, lips_rows_bytes(r)));
    opcase_ok(ops->rows_load(c->be, r,
                             &(lips_rows_source){.x = x,
                                                 .table = table,
                                                 .source = source,
                                                 .labels = row_labels,
                                                 .targets = row_targets}));
    free(row_targets);
    return r;
}

static void loss(opcase *c)
{
    lips_rows rows = {0};
    opcase_batch(c, pick_batch(c), false);
    int64_t k = pick_width(c), labels[MAX_B], *pred = opcase_int64s(c, c->b);
    float targets[MAX_B * MAX_K];
    bool mse = pick_bool(c), given = mse && pick_bool(c);
    bool with_rows = pick_bool(c);
    snprintf(c->shape, sizeof c->shape, "B=%" PRId64 " cap=%" PRId64 " K=%" PRId64 " %s%s", c->b,
             c->cap, k, mse ? given ? "mse targets" : "mse labels" : "cross-entropy",
             with_rows ? " of rows" : "");
    lips_tensor dz = opcase_output(c, k, 1, 1, 1);
    lips_loss_args a = {.kind = mse ? LIPS_LOSS_MSE : LIPS_LOSS_CROSS_ENTROPY,
                        .z = opcase_input(c, k, 1, 1, 1),
                        .labels = given ? NULL : labels,
                        .targets = given ? targets : NULL,
                        .loss = opcase_doubles(c, c->b, true),
                        .pred = pred,
                        .dz = &dz,
                        .scale = 1 / (double)c->b};
    for (int64_t i = 0; i < c->b * k; i++)
        targets[i] = (float)opcase_value(c);
    for (int64_t i = 0; i < c->b; i++)
        labels[i] = (int64_t)(fabs(opcase_value(c)) * 100) % k;
    if (with_rows && c->be->ops->rows_load) {
        a.rows = resident(c, &rows, &a, labels, targets);
        a.labels = NULL, a.targets = NULL;
    }
    opcase_ok(c->be->ops->loss(c->be, &a));
    opcase_ok(c->be->ops->sync(c->be));
    c->be->ops->release(c->be, rows.memory);
    double p[MAX_B];
    for (int64_t i = 0; i < c->b; i++)
        p[i] = (double)pred[i];
    opcase_emit_doubles(c, "loss", a.loss, c->b);
    opcase_emit_doubles(c, "pred", p, c->b);
    opcase_emit_tensor(c, "dz", &dz);
}

/* Logits far apart every other time, as at interpolation. */
static void loss_curve(opcase *c)
{
    opcase_batch(c, pick_batch(c), false);
    int64_t k = pick_width(c);
    lips_loss_curve_args a = {.kind = pick_bool(c) ? LIPS_LOSS_MSE : LIPS_LOSS_CROSS_ENTROPY,
                              .v = opcase_input(c, k, 1, 1, 1),
                              .scale = 0.3};
    const bool far = pick_bool(c), in_place = pick_bool(c);
    snprintf(c->shape, sizeof c->shape, "B=%" PRId64 " cap=%" PRId64 " K=%" PRId64 " kind=%d%s",
             c->b, c->cap, k, (int)a.kind, far ? " far" : "");
    double z[MAX_B * MAX_K];
    for (int64_t i = 0; i < c->b * k; i++)
        z[i] = (double)(float)(opcase_value(c) * (far ? 15 : 1));
    a.z = opcase_output(c, k, 1, 1, 1);
    opcase_ok(c->be->ops->upload_f64(c->be, &a.z, z));
    a.y = in_place ? a.v : opcase_output(c, k, 1, 1, 1);
    opcase_ok(c->be->ops->loss_curve(c->be, &a));
    opcase_emit_tensor(c, "y", &a.y);
}

static int64_t vector_size(opcase *c)
{
    static const int64_t n[] = {0, 1, 15, 16, 17, 255, 1000, 4099};
    int64_t v = opcase_pick(c, n, 8);
    snprintf(c->shape, sizeof c->shape, "n=%" PRId64, v);
    return v;
}

static void sgd(opcase *c)
{
    lips_sgd_args a = {.n = vector_size(c) + 1,
                       .lr = 0.1,
                       .momentum = pick_bool(c) ? 0.9 : 0,
                       .weight_decay = pick_bool(c) ? 0.01 : 0};
    a.p = opcase_reals(c, a.n);
    a.g = opcase_reals(c, a.n);
    a.m = a.momentum != 0 ? opcase_reals(c, a.n) : NULL;
    lips_cursor host;
    if (pick_bool(c))
        a.cursor = pick_cursor(c, pick_bool(c), &host);
    for (int i = 0; i < 3; i++)
        opcase_ok(c->be->ops->sgd(c->be, &a));
    opcase_emit_reals(c, "p", a.p, a.n);
    if (a.m)
        opcase_emit_reals(c, "m", a.m, a.n);
}

static void adam(opcase *c)
{
    lips_adam_args a = {.n = vector_size(c) + 1,
                        .lr = 1e-2,
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .eps = 1e-8,
                        .weight_decay = pick_bool(c) ? 0.01 : 0};
    a.p = opcase_reals(c, a.n);
    a.g = opcase_reals(c, a.n);
    a.m = opcase_poisoned(c, a.n);
    a.v = opcase_poisoned(c, a.n);
    opcase_ok(c->be->ops->zero(c->be, a.m, (size_t)a.n * c->be->ops->real_bytes));
    opcase_ok(c->be->ops->zero(c->be, a.v, (size_t)a.n * c->be->ops->real_bytes));
    lips_cursor host;
    if (pick_bool(c))
        a.cursor = pick_cursor(c, pick_bool(c), &host);
    for (a.step = 1; a.step <= 3; a.step++)
        opcase_ok(c->be->ops->adam(c->be, &a));
    opcase_emit_reals(c, "p", a.p, a.n);
    opcase_emit_reals(c, "m", a.m, a.n);
    opcase_emit_reals(c, "v", a.v, a.n);
}

static void diff_sumsq(opcase *c)
{
    int64_t n = vector_size(c) + 1;
    void *a = opcase_reals(c, n), *b = pick_bool(c) ? opcase_reals(c, n) : NULL;
    double sum;
    opcase_ok(c->be->ops->diff_sumsq(c->be, &sum, a, b, n));
    opcase_emit_doubles(c, "sum", &sum, 1);
}

static const opcase_row rows[] = {
    OPCASE_ROW(loss, loss, OP_SUM, 40),
    OPCASE_ROW(loss_curve, loss_curve, OP_ELEMENT, 40),
    OPCASE_ROW(sgd, sgd, OP_ELEMENT, 40),
    OPCASE_ROW(adam, adam, OP_SUM, 40),
    OPCASE_ROW_INT(diff_sumsq, diff_sumsq, OP_F64, 20),
};

const opcase_table opcases_train = {rows, sizeof rows / sizeof rows[0]};
