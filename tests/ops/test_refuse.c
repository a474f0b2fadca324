/*
 * Bad arguments are refused by every op of every backend, with a message that names op and
 * argument, before anything is written.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/opcase.h"
#include "backend/check.h"
#include "backend/rows.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Each op is called with arguments that are good but for one change. */
static void refused(opcase *c, lips_status st, const char *op, const char *text)
{
    if (st == LIPS_OK || !strstr(lips_error(), op) || !strstr(lips_error(), text))
        fail_msg("%s on %s: wanted a refusal with \"%s\", got status %d: %s", op, c->be->ops->name,
                 text, (int)st, st ? lips_error() : "accepted");
}

#define REFUSE(op, type, good, change, text)                                                       \
    do {                                                                                           \
        type a = good;                                                                             \
        if (!c->be->ops->op)                                                                       \
            break; /* not offered */                                                               \
        opcase_ok(c->be->ops->op(c->be, &a));                                                      \
        change;                                                                                    \
        refused(c, c->be->ops->op(c->be, &a), #op, text);                                          \
    } while (0)

static void refuse_linear(opcase *c)
{
    lips_linear_args f = {.x = opcase_input(c, 5, 1, 1, 1),
                          .y = opcase_output(c, 3, 1, 1, 1),
                          .w = opcase_reals(c, 15),
                          .bias = opcase_reals(c, 3),
                          .relu = true};
    REFUSE(linear_forward, lips_linear_args, f, a.w = NULL, "w is NULL");
    REFUSE(linear_forward, lips_linear_args, f, a.x.data = NULL, "x is NULL");
    REFUSE(linear_forward, lips_linear_args, f, a.x.b--, "samples");
    REFUSE(linear_forward, lips_linear_args, f, a.x.lanes *= 2, "lanes");
    REFUSE(linear_forward, lips_linear_args, f, a.y.t = 2, "y.t is 2");
    REFUSE(linear_forward, lips_linear_args, f, a.y.t = a.x.t = 2, "relu");
    REFUSE(linear_forward, lips_linear_args, f, a.y.b = a.x.b = 0, "y.b is 0");
    REFUSE(linear_forward, lips_linear_args, f, a.y.b = a.x.b = a.x.cap + 1, "b is");
    REFUSE(linear_forward, lips_linear_args, f, a.y.c = 0, "y.c is 0");
    REFUSE(linear_forward, lips_linear_args, f, a.x.c = INT64_MAX, "x.c");
    REFUSE(linear_forward, lips_linear_args, f, a.x.h = 2, "x.h");
    lips_linear_args g = {.x = f.x,
                          .y = opcase_input(c, 3, 1, 1, 1),
                          .dw = opcase_reals(c, 15),
                          .theta = opcase_doubles(c, 100, false)};
    REFUSE(linear_grad, lips_linear_args, g, a.dw = NULL, "neither");
    REFUSE(linear_grad, lips_linear_args, g, a.y.t = 2, "y.t is 2");
    REFUSE(linear_gram, lips_linear_args, g, a.theta = NULL, "theta is NULL");
    REFUSE(linear_gram, lips_linear_args, g, a.x.t = 2, "x.t is 2");
    lips_tensor mask = opcase_input(c, 5, 1, 1, 1), wrong = mask;
    wrong.t = 2;
    lips_linear_args v = {.x = opcase_output(c, 5, 1, 1, 1), .y = g.y, .w = f.w, .mask = &mask};
    REFUSE(linear_vjp, lips_linear_args, v, a.mask = &wrong, "mask.t is 2");
    wrong = mask, wrong.c = 4;
    REFUSE(linear_vjp, lips_linear_args, v, a.mask = &wrong, "mask is (4,1,1)");
    REFUSE(linear_vjp, lips_linear_args, v, a.w = NULL, "w is NULL");
}

static void refuse_conv(opcase *c)
{
    lips_conv_args f = {.x = opcase_input(c, 2, 5, 6, 1),
                        .y = opcase_output(c, 3, 5, 6, 1),
                        .w = opcase_reals(c, 54),
                        .geom = {3, 1, 1},
                        .relu = true};
    f.work = opcase_work(c, c->be->ops->conv_workspace(c->be, &f));
    REFUSE(conv_forward, lips_conv_args, f, a.geom.r = 0, "r is 0");
    REFUSE(conv_forward, lips_conv_args, f, a.geom.stride = 0, "stride is 0");
    REFUSE(conv_forward, lips_conv_args, f, a.geom.pad = -1, "pad is -1");
    REFUSE(conv_forward, lips_conv_args, f, a.geom.r = 8, "r (against");
    REFUSE(conv_forward, lips_conv_args, f, a.geom.pad = 0, "y.h is 5");
    REFUSE(conv_forward, lips_conv_args, f, a.y.w = 5, "y.w is 5");
    REFUSE(conv_forward, lips_conv_args, f, a.w = NULL, "w is NULL");
    REFUSE(conv_forward, lips_conv_args, f, a.y.t = a.x.t = 2, "relu");
    lips_conv_args g = f;
    g.y = opcase_input(c, 3, 5, 6, 1);
    g.dw = opcase_reals(c, 54);
    g.theta = opcase_doubles(c, 100, false);
    REFUSE(conv_grad, lips_conv_args, g, a.dw = NULL, "neither");
    REFUSE(conv_grad, lips_conv_args, g, a.x.b--, "samples");
    REFUSE(conv_gram, lips_conv_args, g, a.theta = NULL, "theta is NULL");
    lips_tensor mask = opcase_input(c, 2, 5, 5, 1);
    lips_conv_args v = g;
    v.x = opcase_output(c, 2, 5, 6, 1);
    REFUSE(conv_vjp, lips_conv_args, v, a.mask = &mask, "mask is (2,5,5)");
    REFUSE(conv_vjp, lips_conv_args, v, a.y.t = 2, "y.t is 2");
}

static void refuse_simple(opcase *c)
{
    lips_tensor x = opcase_input(c, 2, 4, 6, 1), y = opcase_output(c, 2, 4, 6, 1);
    lips_tensor half = opcase_output(c, 2, 2, 3, 1), other = opcase_input(c, 3, 4, 6, 1);
    lips_bias_args b = {.y = x,
                        .bias = opcase_reals(c, 2),
                        .db = opcase_reals(c, 2),
                        .theta = opcase_doubles(c, 100, false)};
    REFUSE(bias_forward, lips_bias_args, b, a.bias = NULL, "bias is NULL");
    REFUSE(bias_grad, lips_bias_args, b, a.db = NULL, "db is NULL");
    REFUSE(bias_grad, lips_bias_args, b, a.y.t = 2, "y.t is 2");
    REFUSE(bias_gram, lips_bias_args, b, a.theta = NULL, "theta is NULL");
    lips_relu_args r = {.y = y, .x = x, .mask = &x};
    REFUSE(relu_forward, lips_relu_args, r, a.y.c = 1, "y is (1,4,6)");
    REFUSE(relu_mask, lips_relu_args, r, a.mask = NULL, "mask is NULL");
    REFUSE(relu_mask, lips_relu_args, r, a.mask = &other, "mask is (3,4,6)");
    lips_pool_args p = {.y = half, .x = x, .k = 2};
    REFUSE(avgpool_forward, lips_pool_args, p, a.k = 3, "divisible");
    REFUSE(avgpool_forward, lips_pool_args, p, a.k = -1, "k is -1");
    REFUSE(avgpool_forward, lips_pool_args, p, a.k = 0, "y.h is 2");
    REFUSE(avgpool_forward, lips_pool_args, p, a.y.c = 1, "y.c is 1");
    lips_pool_args q = {.y = opcase_input(c, 2, 2, 3, 1), .x = y, .k = 2};
    REFUSE(avgpool_vjp, lips_pool_args, q, a.mask = &other, "mask is (3,4,6)");
    lips_gram_args g = {.x = x, .g = opcase_doubles(c, 100, false)};
    REFUSE(gram, lips_gram_args, g, a.g = NULL, "g is NULL");
    REFUSE(gram, lips_gram_args, g, a.x.data = NULL, "x is NULL");
    lips_norms_args n = {
        .g = opcase_doubles(c, 4, false), .op = g.g, .fro = g.g + 1, .n = 1, .k = 2};
    REFUSE(norms, lips_norms_args, n, a.k = 105, "k is 105");
    REFUSE(norms, lips_norms_args, n, a.n = 0, "n is 0");
    REFUSE(norms, lips_norms_args, n, a.g = NULL, "g is NULL");
    REFUSE(norms, lips_norms_args, n, a.map = LIPS_MAP_SOFTMAX, "p is NULL");
    refused(c, c->be->ops->add(c->be, &y, &x, &other), "add", "b is (3,4,6)");
    refused(c, c->be->ops->add(c->be, &y, NULL, &x), "add", "a is NULL");
}

static void refuse_bn(opcase *c)
{
    lips_tensor in = opcase_input(c, 2, 3, 3, 1);
    lips_bn_args f = {.x = in,
                      .y = opcase_output(c, 2, 3, 3, 1),
                      .in = &in,
                      .gamma = opcase_reals(c, 2),
                      .beta = opcase_reals(c, 2),
                      .mean = opcase_reals(c, 2),
                      .var = opcase_poisoned(c, 2),
                      .batch_mean = opcase_doubles(c, 2, true),
                      .batch_var = opcase_doubles(c, 2, true),
                      .training = true,
                      .eps = 1e-5,
                      .momentum = 0.1,
                      .dgamma = opcase_reals(c, 2),
                      .theta = opcase_doubles(c, 100, false)};
    opcase_ok(c->be->ops->write(c->be, f.var, 0, (const double[]){1, 2}, 2));
    REFUSE(bn_forward, lips_bn_args, f, a.gamma = NULL, "gamma is NULL");
    REFUSE(bn_forward, lips_bn_args, f, a.beta = NULL, "beta is NULL");
    REFUSE(bn_forward, lips_bn_args, f, a.mean = NULL, "mean is NULL");
    REFUSE(bn_forward, lips_bn_args, f, a.batch_var = NULL, "batch_var is NULL");
    REFUSE(bn_forward, lips_bn_args, f, a.eps = 0, "eps is 0");
    REFUSE(bn_forward, lips_bn_args, f, a.eps = (double)NAN, "eps is");
    REFUSE(bn_forward, lips_bn_args, f, (a.x.b = a.y.b = 1, a.x.h = a.x.w = a.y.h = a.y.w = 1),
           "at least 2");
    REFUSE(bn_jvp, lips_bn_args, f, a.in = NULL, "in is NULL");
    REFUSE(bn_vjp, lips_bn_args, f, a.in = NULL, "in is NULL");
    REFUSE(bn_vjp, lips_bn_args, f, a.y.c = 3, "y is (3,3,3)");
    REFUSE(bn_grad, lips_bn_args, f, a.dgamma = NULL, "neither");
    f.training = false;
    REFUSE(bn_gram, lips_bn_args, f, a.theta = NULL, "theta is NULL");
    REFUSE(bn_gram, lips_bn_args, f, a.training = true, "mix samples");
}

static void refuse_ln(opcase *c)
{
    lips_tensor in = opcase_input(c, 5, 1, 3, 1), other = opcase_input(c, 4, 1, 3, 1);
    lips_ln_args f = {.x = in,
                      .y = opcase_output(c, 5, 1, 3, 1),
                      .in = &in,
                      .dot = &in,
                      .gamma = opcase_reals(c, 5),
                      .beta = opcase_reals(c, 5),
                      .eps = 1e-6,
                      .dgamma = opcase_reals(c, 5),
                      .theta = opcase_doubles(c, 100, false)};
    REFUSE(ln_forward, lips_ln_args, f, a.gamma = NULL, "gamma is NULL");
    REFUSE(ln_forward, lips_ln_args, f, a.beta = NULL, "beta is NULL");
    REFUSE(ln_forward, lips_ln_args, f, a.eps = 0, "eps is 0");
    REFUSE(ln_forward, lips_ln_args, f, a.y.t = a.x.t = 2, "y.t is 2");
    REFUSE(ln_jvp, lips_ln_args, f, a.in = NULL, "in is NULL");
    REFUSE(ln_vjp, lips_ln_args, f, a.in = &other, "in is (4,1,3)");
    REFUSE(ln_vjp, lips_ln_args, f, a.x = other, "y is (5,1,3)");
    REFUSE(ln_grad, lips_ln_args, f, a.dgamma = NULL, "neither");
    REFUSE(ln_grad, lips_ln_args, f, a.y.t = 2, "y.t is 2");
    REFUSE(ln_gram, lips_ln_args, f, a.theta = NULL, "theta is NULL");
    REFUSE(ln_vjp_dot, lips_ln_args, f, a.dot = NULL, "dot is NULL");
    REFUSE(ln_vjp_dot, lips_ln_args, f, a.dot = &other, "dot is (4,1,3)");
    REFUSE(ln_grad_dot, lips_ln_args, f, a.dgamma = NULL, "dgamma is NULL");
}

static void refuse_attn(opcase *c)
{
    lips_tensor in = opcase_input(c, 12, 1, 3, 1);
    lips_attn_args f = {
        .x = in, .y = opcase_output(c, 4, 1, 3, 1), .in = &in, .dot = &in, .heads = 2};
    if (c->be->ops->attn_workspace)
        f.work = opcase_work(c, c->be->ops->attn_workspace(c->be, &f));
    REFUSE(attn_forward, lips_attn_args, f, a.heads = 0, "heads is 0");
    REFUSE(attn_forward, lips_attn_args, f, a.heads = 3, "3 heads");
    REFUSE(attn_forward, lips_attn_args, f, a.work = NULL, "work is NULL");
    REFUSE(attn_forward, lips_attn_args, f, a.y.c = 3, "x.c is 12");
    REFUSE(attn_forward, lips_attn_args, f, a.y.w = 2, "x.w is 3");
    lips_attn_args v = f;
    v.x = opcase_output(c, 12, 1, 3, 1);
    v.y = opcase_input(c, 4, 1, 3, 1);
    REFUSE(attn_jvp, lips_attn_args, f, a.in = NULL, "in is NULL");
    REFUSE(attn_vjp, lips_attn_args, v, a.x.t = 2, "y.t is 1");
    REFUSE(attn_vjp_dot, lips_attn_args, v, a.dot = NULL, "dot is NULL");
}

static void refuse_tokens(opcase *c)
{
    lips_tensor x = opcase_input(c, 4, 2, 3, 1), y = opcase_output(c, 4, 1, 7, 1);
    lips_tensor mask = opcase_input(c, 4, 3, 2, 1), dy = opcase_input(c, 4, 1, 7, 1);
    lips_tokens_args f = {.y = y, .x = &x};
    REFUSE(tokens_forward, lips_tokens_args, f, a.y.w = 6, "y.w is 6");
    REFUSE(tokens_forward, lips_tokens_args, f, a.y.h = 2, "y.h is 2");
    REFUSE(tokens_forward, lips_tokens_args, f, a.y.c = 3, "y.c is 3");
    lips_tensor dx = opcase_output(c, 4, 2, 3, 1);
    lips_tokens_args v = {.y = dy, .x = &dx};
    REFUSE(tokens_vjp, lips_tokens_args, v, a.x = NULL, "x is NULL");
    REFUSE(tokens_vjp, lips_tokens_args, v, a.mask = &mask, "mask is (4,3,2)");
    lips_tokens_args g = {
        .y = dy, .dtoken = opcase_reals(c, 4), .theta = opcase_doubles(c, 100, false)};
    REFUSE(tokens_grad, lips_tokens_args, g, a.dtoken = NULL, "neither");
    REFUSE(tokens_gram, lips_tokens_args, g, a.theta = NULL, "theta is NULL");
    lips_pick_args p = {.x = x, .y = opcase_output(c, 4, 1, 1, 1), .at = 5};
    REFUSE(pick_forward, lips_pick_args, p, a.at = 6, "at is 6");
    REFUSE(pick_forward, lips_pick_args, p, a.at = -1, "at is -1");
    REFUSE(pick_forward, lips_pick_args, p, a.y.w = 2, "y.h * y.w is 2");
    lips_pick_args q = {.x = dx, .y = opcase_input(c, 4, 1, 1, 1)};
    REFUSE(pick_vjp, lips_pick_args, q, a.mask = &mask, "mask is (4,3,2)");
    lips_gelu_args e = {.x = x, .y = dx, .in = &x, .dot = &x};
    REFUSE(gelu_forward, lips_gelu_args, e, a.y = y, "y is (4,1,7)");
    REFUSE(gelu_slope, lips_gelu_args, e, a.in = NULL, "in is NULL");
    REFUSE(gelu_slope, lips_gelu_args, e, a.in = &mask, "in is (4,3,2)");
    REFUSE(gelu_vjp_dot, lips_gelu_args, e, a.dot = NULL, "dot is NULL");
}

static void refuse_training(opcase *c)
{
    const int64_t good[3] = {0, 1, 2}, bad[3] = {0, 5, 1}, negative[3] = {0, 0, -1};
    lips_tensor z = opcase_input(c, 4, 1, 1, 1), dz = opcase_output(c, 4, 1, 1, 1), small = dz;
    small.c = 3;
    lips_loss_args l = {
        .z = z, .labels = good, .loss = opcase_doubles(c, 3, true), .dz = &dz, .scale = 1};
    REFUSE(loss, lips_loss_args, l, a.labels = bad, "label of sample 1 is 5");
    REFUSE(loss, lips_loss_args, l, a.labels = negative, "sample 2 is -1");
    REFUSE(loss, lips_loss_args, l, a.labels = NULL, "labels is NULL");
    REFUSE(loss, lips_loss_args, l, (a.kind = LIPS_LOSS_MSE, a.labels = NULL), "targets is NULL");
    REFUSE(loss, lips_loss_args, l, a.kind = (lips_loss_kind)7, "kind is 7");
    REFUSE(loss, lips_loss_args, l, a.dz = &small, "dz is (3,1,1)");
    REFUSE(loss, lips_loss_args, l, a.scale = (double)NAN, "scale");
    lips_sgd_args s = {.p = opcase_reals(c, 9),
                       .g = opcase_reals(c, 9),
                       .m = opcase_reals(c, 9),
                       .n = 9,
                       .lr = 0.1,
                       .momentum = 0.9};
    REFUSE(sgd, lips_sgd_args, s, a.p = NULL, "vector is NULL");
    REFUSE(sgd, lips_sgd_args, s, a.m = NULL, "m is NULL");
    REFUSE(sgd, lips_sgd_args, s, a.n = -1, "n is -1");
    REFUSE(sgd, lips_sgd_args, s, a.lr = (double)INFINITY, "lr is inf");
    lips_adam_args d = {.p = s.p,
                        .g = s.g,
                        .m = opcase_poisoned(c, 9),
                        .v = opcase_poisoned(c, 9),
                        .n = 9,
                        .step = 1,
                        .lr = 0.1,
                        .beta1 = 0.9,
                        .beta2 = 0.999,
                        .eps = 1e-8};
    REFUSE(adam, lips_adam_args, d, a.step = 0, "step is 0");
    REFUSE(adam, lips_adam_args, d, a.v = NULL, "v is NULL");
    REFUSE(adam, lips_adam_args, d, a.beta2 = 1, "beta2 1");
}

static void refuse_steps(opcase *c)
{
    const lips_cursor start = {.rate = 0.1};
    const double losses[4] = {1, 2, 3, 4};
    const lips_advance_args a0 = {.cursor = opcase_bytes(c, &start, sizeof start),
                                  .loss = opcase_bytes(c, losses, sizeof losses),
                                  .b = 4,
                                  .g = opcase_reals(c, 9),
                                  .n = 9,
                                  .buffers = opcase_reals(c, 3),
                                  .kept = opcase_reals(c, 3),
                                  .n_buffers = 3,
                                  .loss_watch = 1e4,
                                  .grad_max = 1e30};
    REFUSE(advance, lips_advance_args, a0, a.cursor = NULL, "cursor is NULL");
    REFUSE(advance, lips_advance_args, a0, a.loss = NULL, "loss is NULL");
    REFUSE(advance, lips_advance_args, a0, a.b = 0, "b is 0");
    REFUSE(advance, lips_advance_args, a0, a.kept = NULL, "vector is NULL");
    REFUSE(advance, lips_advance_args, a0, a.beta1 = 1, "beta1 1");
    const lips_ops *ops = c->be->ops;
    double v = 0;
    refused(c, ops->put(c->be, NULL, &v, 8), "put", "NULL");
    refused(c, ops->fetch(c->be, &v, a0.g, 8, LIPS_FETCHES), "fetch", "slot is 2");
    refused(c, ops->await(c->be, -1), "await", "slot is -1");
    lips_rows rows = {.n = 4, .c = 1, .h = 1, .w = 1, .classes = 3};
    const float x[4] = {0}, table[256] = {0};
    const int64_t source[4] = {0}, bad[4] = {0, 1, 3, 2}, order[4] = {3, 2, 1, 0};
    if (!ops->rows_load)
        return;
    opcase_ok(ops->alloc(c->be, &rows.memory, lips_rows_bytes(&rows)));
    lips_rows_source from = {.x = x, .table = table, .source = source, .labels = bad};
    refused(c, ops->rows_load(c->be, &rows, &from), "rows_load", "a label is 3");
    from.labels = NULL;
    refused(c, ops->rows_load(c->be, &rows, &from), "rows_load", "labels is NULL");
    from.labels = source;
    opcase_ok(ops->rows_load(c->be, &rows, &from));
    const lips_loss_args l = {.z = opcase_input(c, 3, 1, 1, 1),
                              .rows = &rows,
                              .order = opcase_bytes(c, order, sizeof order),
                              .cursor = opcase_bytes(c, &start, sizeof start),
                              .first = 1,
                              .loss = opcase_doubles(c, 3, true)};
    REFUSE(loss, lips_loss_args, l, a.order = NULL, "order is NULL");
    REFUSE(loss, lips_loss_args, l, a.cursor = NULL, "cursor is NULL");
    REFUSE(loss, lips_loss_args, l, a.first = 4, "first is 4");
    rows.classes = 2;
    refused(c, ops->loss(c->be, &l), "loss", "rows.classes is 2");
    ops->release(c->be, rows.memory);
}

static void refuse_transfers(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    lips_tensor x = opcase_output(c, 2, 2, 2, 1), none = x, stacked = x, odd = x;
    double v[64] = {0};
    float f[64] = {0};
    none.data = NULL;
    stacked.t = 2;
    odd.h = -1;
    refused(c, ops->upload(c->be, &none, f, NULL), "upload", "NULL");
    refused(c, ops->upload(c->be, &x, NULL, NULL), "upload", "NULL");
    refused(c, ops->upload(c->be, &stacked, f, NULL), "upload", "t is 2");
    refused(c, ops->upload_f64(c->be, &odd, v), "upload_f64", "h is -1");
    refused(c, ops->download(c->be, NULL, &x), "download", "NULL");
    refused(c, ops->fill(c->be, &none, 0), "fill", "NULL");
    refused(c, ops->eye(c->be, &x, 1), "eye", "h * w is 4");
    x.h = x.w = 1;
    refused(c, ops->eye(c->be, &x, 1), "eye", "t is 1");
    refused(c, ops->write(c->be, x.data, -1, v, 1), "write", "off is -1");
    refused(c, ops->write(c->be, NULL, 0, v, 1), "write", "NULL");
    refused(c, ops->read(c->be, v, x.data, 0, -5), "read", "n is -5");
    refused(c, ops->diff_sumsq(c->be, v, NULL, NULL, 3), "diff_sumsq", "NULL");
}

static void refuse_vectors(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    const double v[12] = {0};
    double *q = opcase_bytes(c, v, sizeof v), *y = opcase_bytes(c, v, 4 * sizeof *v);
    void *reals = opcase_reals(c, 4);
    lips_dots_args d = {.out = opcase_doubles(c, 3, false), .q = q, .w = y, .count = 3, .n = 4};
    REFUSE(dots, lips_dots_args, d, a.out = NULL, "out is NULL");
    REFUSE(dots, lips_dots_args, d, a.q = NULL, "q is NULL");
    REFUSE(dots, lips_dots_args, d, a.w = NULL, "w is NULL");
    REFUSE(dots, lips_dots_args, d, a.n = 0, "n is 0");
    REFUSE(dots, lips_dots_args, d, a.count = 0, "count is 0");
    REFUSE(dots, lips_dots_args, d, a.count = LIPS_VECTORS_MAX + 1, "count is 129");
    lips_combine_args m = {.y = y, .keep = 1, .factor = 1, .q = q, .c = v, .count = 3, .n = 4};
    REFUSE(combine, lips_combine_args, m, a.y = NULL, "y is NULL");
    REFUSE(combine, lips_combine_args, m, a.q = NULL, "q is NULL");
    REFUSE(combine, lips_combine_args, m, a.c = NULL, "c is NULL");
    REFUSE(combine, lips_combine_args, m, a.y = q + 4, "y is one of q");
    REFUSE(combine, lips_combine_args, m, a.count = -1, "count is -1");
    REFUSE(combine, lips_combine_args, m, a.n = -2, "n is -2");
    refused(c, ops->narrow(c->be, NULL, y, 4), "narrow", "dst is NULL");
    refused(c, ops->narrow(c->be, reals, NULL, 4), "narrow", "src is NULL");
    refused(c, ops->widen(c->be, y, 1, reals, 0), "widen", "n is 0");
    refused(c, ops->widen(c->be, y, 1, NULL, 4), "widen", "src is NULL");
    refused(c, ops->signs(c->be, y, -1, 4), "signs", "draw is -1");
    refused(c, ops->signs(c->be, NULL, 1, 4), "signs", "dst is NULL");
}

typedef void (*family_fn)(opcase *);

static void run(family_fn family, bool spatial)
{
    for (int i = 0; tested_backend(i); i++) {
        opcase c;
        opcase_begin(&c, tested_backend(i), 0xbad, i);
        opcase_batch(&c, 3, spatial);
        family(&c);
        assert_true(opcase_end(&c));
    }
}

#define FAMILY(family, spatial)                                                                    \
    static void test_##family(void **state)                                                        \
    {                                                                                              \
        (void)state;                                                                               \
        run(refuse_##family, spatial);                                                             \
    }
FAMILY(linear, false)
FAMILY(conv, true)
FAMILY(simple, true)
FAMILY(bn, true)
FAMILY(ln, true)
FAMILY(attn, true)
FAMILY(tokens, true)
FAMILY(training, false)
FAMILY(steps, false)
FAMILY(transfers, true)
FAMILY(vectors, false)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),  cmocka_unit_test(test_conv),
        cmocka_unit_test(test_simple),  cmocka_unit_test(test_bn),
        cmocka_unit_test(test_ln),      cmocka_unit_test(test_attn),
        cmocka_unit_test(test_tokens),  cmocka_unit_test(test_training),
        cmocka_unit_test(test_steps),   cmocka_unit_test(test_transfers),
        cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
