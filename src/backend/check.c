#include "backend/check_parts.h"

lips_status lips_check_extents(const char *op, const char *name, const lips_tensor *t)
{
    const int64_t v[] = {t->cap, t->c, t->h, t->w, t->t, t->lanes};
    static const char *const label[] = {"cap", "c", "h", "w", "t", "lanes"};
    int64_t total = 1;
    for (int i = 0; i < 6; i++) {
        if (v[i] < 1 || v[i] > LIPS_REALS_MAX / total)
            return lips_fail(LIPS_ERR_USAGE, "%s: %s.%s is %" PRId64 ", must be in 1..%" PRId64, op,
                             name, label[i], v[i], LIPS_REALS_MAX / total);
        total *= v[i];
    }
    return LIPS_OK;
}

lips_status lips_check_tensor(const char *op, const char *name, const lips_tensor *t)
{
    LIPS_TRY(need_set(op, name, t));
    LIPS_TRY(need_set(op, name, t->data));
    LIPS_TRY(lips_check_extents(op, name, t));
    if (t->b < 1 || t->b > t->cap)
        return lips_fail(LIPS_ERR_USAGE, "%s: %s.b is %" PRId64 ", must be in 1..%" PRId64, op,
                         name, t->b, t->cap);
    return LIPS_OK;
}

/* What linear and convolution demand alike; w, bias... as in lips_linear_args. */
typedef struct affine {
    const lips_tensor *y, *x, *mask;
    const void *w, *bias, *dw, *db, *theta;
    bool relu;
} affine;

static lips_status check_affine(const char *op, lips_pass pass, const affine *a)
{
    LIPS_TRY(lips_check_tensor(op, "y", a->y));
    LIPS_TRY(lips_check_tensor(op, "x", a->x));
    LIPS_TRY(need_same_batch(op, a->y, a->x));
    LIPS_TRY(need_stack(op, pass, a->y->t, a->x->t));
    if (pass == LIPS_FORWARD || pass == LIPS_VJP)
        LIPS_TRY(need_set(op, "w", a->w));
    if (a->relu && pass == LIPS_FORWARD && a->y->t != 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: relu with t = %" PRId64 ", must be 1", op, a->y->t);
    if (pass == LIPS_VJP && a->mask)
        LIPS_TRY(need_mask(op, a->mask, a->x));
    if (pass == LIPS_GRAD && !a->dw && !a->db)
        return lips_fail(LIPS_ERR_USAGE, "%s: neither dw nor db is wanted", op);
    if (pass == LIPS_GRAM)
        LIPS_TRY(need_set(op, "theta", a->theta));
    return LIPS_OK;
}

lips_status lips_check_linear(lips_pass pass, const lips_linear_args *a)
{
    op_name op = name_of("linear", pass);
    LIPS_TRY(check_affine(op.text, pass,
                          &(affine){.y = &a->y,
                                    .x = &a->x,
                                    .mask = a->mask,
                                    .w = a->w,
                                    .bias = a->bias,
                                    .dw = a->dw,
                                    .db = a->db,
                                    .theta = a->theta,
                                    .relu = a->relu}));
    LIPS_TRY(need_equal(op.text, "y.h * y.w", a->y.h * a->y.w, 1));
    return need_equal(op.text, "x.h * x.w", a->x.h * a->x.w, 1);
}

/* Geometry and sizes without data. */
static lips_status check_conv_sizes(const char *op, const lips_conv_args *a)
{
    LIPS_TRY(lips_check_extents(op, "y", &a->y));
    LIPS_TRY(lips_check_extents(op, "x", &a->x));
    LIPS_TRY(need_range(op, "r", a->geom.r, 1, INT32_MAX));
    LIPS_TRY(need_range(op, "stride", a->geom.stride, 1, INT32_MAX));
    LIPS_TRY(need_range(op, "pad", a->geom.pad, 0, INT32_MAX));
    LIPS_TRY(need_range(op, "r (against x.h + 2 pad)", a->geom.r, 1, a->x.h + 2 * a->geom.pad));
    LIPS_TRY(need_range(op, "r (against x.w + 2 pad)", a->geom.r, 1, a->x.w + 2 * a->geom.pad));
    LIPS_TRY(need_equal(op, "y.h", a->y.h, lips_conv_out(a->x.h, &a->geom)));
    return need_equal(op, "y.w", a->y.w, lips_conv_out(a->x.w, &a->geom));
}

lips_status lips_check_conv_plan(const lips_conv_args *a)
{
    return check_conv_sizes("conv_workspace", a);
}

lips_status lips_check_conv(lips_pass pass, const lips_conv_args *a)
{
    op_name op = name_of("conv", pass);
    LIPS_TRY(check_affine(op.text, pass,
                          &(affine){.y = &a->y,
                                    .x = &a->x,
                                    .mask = a->mask,
                                    .w = a->w,
                                    .bias = a->bias,
                                    .dw = a->dw,
                                    .db = a->db,
                                    .theta = a->theta,
                                    .relu = a->relu}));
    return check_conv_sizes(op.text, a);
}

lips_status lips_check_bias(lips_pass pass, const lips_bias_args *a)
{
    op_name op = name_of("bias", pass);
    LIPS_TRY(lips_check_tensor(op.text, "y", &a->y));
    if (pass == LIPS_FORWARD)
        return need_set(op.text, "bias", a->bias);
    if (pass == LIPS_GRAM)
        return need_set(op.text, "theta", a->theta);
    LIPS_TRY(need_equal(op.text, "y.t", a->y.t, 1));
    return need_set(op.text, "db", a->db);
}

lips_status lips_check_relu(lips_pass pass, const lips_relu_args *a)
{
    const char *op = pass == LIPS_FORWARD ? "relu_forward" : "relu_mask";
    LIPS_TRY(lips_check_tensor(op, "y", &a->y));
    LIPS_TRY(lips_check_tensor(op, "x", &a->x));
    LIPS_TRY(need_same_image(op, "y", &a->y, &a->x));
    LIPS_TRY(need_equal(op, "y.t", a->y.t, a->x.t));
    if (pass == LIPS_FORWARD)
        return LIPS_OK;
    LIPS_TRY(need_set(op, "mask", a->mask));
    return need_mask(op, a->mask, &a->x);
}

lips_status lips_check_avgpool(lips_pass pass, const lips_pool_args *a)
{
    op_name op = name_of("avgpool", pass);
    LIPS_TRY(lips_check_tensor(op.text, "y", &a->y));
    LIPS_TRY(lips_check_tensor(op.text, "x", &a->x));
    LIPS_TRY(need_same_batch(op.text, &a->y, &a->x));
    LIPS_TRY(need_stack(op.text, pass, a->y.t, a->x.t));
    LIPS_TRY(need_range(op.text, "k", a->k, 0, INT32_MAX));
    LIPS_TRY(need_equal(op.text, "y.c", a->y.c, a->x.c));
    int64_t kh = a->k ? a->k : a->x.h, kw = a->k ? a->k : a->x.w;
    if (a->x.h % kh || a->x.w % kw)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: image %" PRId64 "x%" PRId64 " is not divisible by k = %" PRId64,
                         op.text, a->x.h, a->x.w, a->k);
    LIPS_TRY(need_equal(op.text, "y.h", a->y.h, a->x.h / kh));
    LIPS_TRY(need_equal(op.text, "y.w", a->y.w, a->x.w / kw));
    return pass == LIPS_VJP && a->mask ? need_mask(op.text, a->mask, &a->x) : LIPS_OK;
}

static lips_status check_bn_statistics(const char *op, lips_pass pass, const lips_bn_args *a)
{
    if (!a->training || pass == LIPS_FORWARD) {
        LIPS_TRY(need_set(op, "mean", a->mean));
        LIPS_TRY(need_set(op, "var", a->var));
    }
    if (!a->training)
        return LIPS_OK;
    LIPS_TRY(need_set(op, "batch_mean", a->batch_mean));
    LIPS_TRY(need_set(op, "batch_var", a->batch_var));
    int64_t n = a->x.b * a->x.h * a->x.w;
    if (n < 2)
        return lips_fail(LIPS_ERR_USAGE,
                         "%s: %" PRId64 " value per channel, batch statistics need at least 2", op,
                         n);
    return LIPS_OK;
}

lips_status lips_check_bn(lips_pass pass, const lips_bn_args *a)
{
    op_name op = name_of("bn", pass);
    LIPS_TRY(lips_check_tensor(op.text, "y", &a->y));
    LIPS_TRY(lips_check_tensor(op.text, "x", &a->x));
    LIPS_TRY(need_same_image(op.text, "y", &a->y, &a->x));
    LIPS_TRY(need_stack(op.text, pass, a->y.t, a->x.t));
    if (pass == LIPS_FORWARD)
        LIPS_TRY(need_equal(op.text, "x.t", a->x.t, 1));
    if (!(a->eps > 0 && isfinite(a->eps)))
        return lips_fail(LIPS_ERR_USAGE, "%s: eps is %g, must be positive", op.text, a->eps);
    LIPS_TRY(check_bn_statistics(op.text, pass, a));
    if (pass == LIPS_FORWARD || pass == LIPS_JVP || pass == LIPS_VJP)
        LIPS_TRY(need_set(op.text, "gamma", a->gamma));
    if (pass == LIPS_FORWARD) {
        LIPS_TRY(need_set(op.text, "beta", a->beta));
        return need_finite(op.text, "momentum", a->momentum);
    }
    if ((pass == LIPS_JVP || pass == LIPS_VJP) && a->training) {
        LIPS_TRY(need_set(op.text, "in", a->in));
        LIPS_TRY(lips_check_tensor(op.text, "in", a->in));
        LIPS_TRY(need_equal(op.text, "in.t", a->in->t, 1));
        return need_same_image(op.text, "in", a->in, &a->x);
    }
    if (pass == LIPS_GRAD && !a->dgamma && !a->dbeta)
        return lips_fail(LIPS_ERR_USAGE, "%s: neither dgamma nor dbeta is wanted", op.text);
    if (pass == LIPS_GRAM) {
        if (a->training)
            return lips_fail(LIPS_ERR_UNSUPPORTED,
                             "%s: batch statistics mix samples, there is no Gram per sample",
                             op.text);
        return need_set(op.text, "theta", a->theta);
    }
    return LIPS_OK;
}

static lips_status need_rows(const char *op, const lips_rows *r)
{
    LIPS_TRY(need_set(op, "rows", r));
    LIPS_TRY(need_set(op, "rows.memory", r->memory));
    LIPS_TRY(lips_check_extents(
        op, "rows",
        &(lips_tensor){.cap = r->n, .c = r->c, .h = r->h, .w = r->w, .t = 1, .lanes = 1}));
    LIPS_TRY(need_range(op, "rows.classes", r->classes, 0, INT32_MAX));
    return need_range(op, "rows.targets", r->targets, 0, INT32_MAX);
}

/* Rows that order[cursor->row + first + i] name; what lies there only the op itself can see. */
static lips_status need_course(const char *op, const lips_rows *r, const int64_t *order,
                               const lips_cursor *cursor, int64_t first)
{
    LIPS_TRY(need_set(op, "order", order));
    LIPS_TRY(need_set(op, "cursor", cursor));
    return need_range(op, "first", first, 0, r->n - 1);
}

/* What the loss is taken against, where it lies with the rows. */
static lips_status check_loss_rows(const lips_loss_args *a)
{
    LIPS_TRY(need_rows("loss", a->rows));
    if (a->kind != LIPS_LOSS_MSE || !a->rows->targets)
        LIPS_TRY(need_equal("loss", "rows.classes", a->rows->classes, a->z.c));
    else
        LIPS_TRY(need_equal("loss", "rows.targets", a->rows->targets, a->z.c));
    return need_course("loss", a->rows, a->order, a->cursor, a->first);
}

lips_status lips_check_loss(const lips_loss_args *a)
{
    LIPS_TRY(lips_check_tensor("loss", "z", &a->z));
    LIPS_TRY(need_equal("loss", "z.t", a->z.t, 1));
    LIPS_TRY(need_equal("loss", "z.h * z.w", a->z.h * a->z.w, 1));
    LIPS_TRY(need_range("loss", "kind", (int64_t)a->kind, LIPS_LOSS_CROSS_ENTROPY, LIPS_LOSS_MSE));
    if (a->dz) {
        LIPS_TRY(lips_check_tensor("loss", "dz", a->dz));
        LIPS_TRY(need_same_image("loss", "dz", a->dz, &a->z));
        LIPS_TRY(need_equal("loss", "dz.t", a->dz->t, 1));
        LIPS_TRY(need_finite("loss", "scale", a->scale));
    }
    if (!a->loss && !a->dz)
        return LIPS_OK; /* predictions only: no label is read */
    if (a->rows)
        return check_loss_rows(a);
    if (a->kind == LIPS_LOSS_MSE && a->targets)
        return LIPS_OK;
    LIPS_TRY(
        need_set("loss", a->kind == LIPS_LOSS_MSE ? "labels and targets" : "labels", a->labels));
    for (int64_t i = 0; i < a->z.b; i++)
        if (a->labels[i] < 0 || a->labels[i] >= a->z.c)
            return lips_fail(LIPS_ERR_USAGE,
                             "loss: label of sample %" PRId64 " is %" PRId64
                             ", must be in 0..%" PRId64,
                             i, a->labels[i], a->z.c - 1);
    return LIPS_OK;
}

lips_status lips_check_loss_curve(const lips_loss_curve_args *a)
{
    const char *op = "loss_curve";
    LIPS_TRY(need_range(op, "kind", (int64_t)a->kind, LIPS_LOSS_CROSS_ENTROPY, LIPS_LOSS_MSE));
    LIPS_TRY(lips_check_tensor(op, "z", &a->z));
    LIPS_TRY(lips_check_tensor(op, "v", &a->v));
    LIPS_TRY(lips_check_tensor(op, "y", &a->y));
    LIPS_TRY(need_equal(op, "z.h * z.w * z.t", a->z.h * a->z.w * a->z.t, 1));
    LIPS_TRY(need_same_image(op, "v", &a->v, &a->z));
    LIPS_TRY(need_same_image(op, "y", &a->y, &a->z));
    LIPS_TRY(need_equal(op, "v.t", a->v.t, 1));
    LIPS_TRY(need_equal(op, "y.t", a->y.t, 1));
    return need_finite(op, "scale", a->scale);
}

lips_status lips_check_sgd(const lips_sgd_args *a)
{
    LIPS_TRY(lips_check_vector("sgd", a->p, 0, a->n));
    LIPS_TRY(need_set("sgd", "g", a->g));
    if (a->momentum != 0)
        LIPS_TRY(need_set("sgd", "m", a->m));
    if (!a->cursor)
        LIPS_TRY(need_finite("sgd", "lr", a->lr));
    LIPS_TRY(need_finite("sgd", "momentum", a->momentum));
    return need_finite("sgd", "weight_decay", a->weight_decay);
}

lips_status lips_check_adam(const lips_adam_args *a)
{
    LIPS_TRY(lips_check_vector("adam", a->p, 0, a->n));
    LIPS_TRY(need_set("adam", "g", a->g));
    LIPS_TRY(need_set("adam", "m", a->m));
    LIPS_TRY(need_set("adam", "v", a->v));
    if (!a->cursor)
        LIPS_TRY(need_range("adam", "step", a->step, 1, INT64_MAX));
    const double v[] = {a->cursor ? 0 : a->lr, a->eps, a->weight_decay};
    static const char *const label[] = {"lr", "eps", "weight_decay"};
    for (int i = 0; i < 3; i++)
        LIPS_TRY(need_finite("adam", label[i], v[i]));
    if (!(a->beta1 >= 0 && a->beta1 < 1 && a->beta2 >= 0 && a->beta2 < 1))
        return lips_fail(LIPS_ERR_USAGE, "adam: beta1 %g, beta2 %g, must be in [0,1)", a->beta1,
                         a->beta2);
    return LIPS_OK;
}

lips_status lips_check_advance(const lips_advance_args *a)
{
    LIPS_TRY(need_set("advance", "cursor", a->cursor));
    LIPS_TRY(need_set("advance", "loss", a->loss));
    LIPS_TRY(need_range("advance", "b", a->b, 1, LIPS_REALS_MAX));
    LIPS_TRY(lips_check_vector("advance", a->g, 0, a->n));
    LIPS_TRY(lips_check_vector("advance", a->buffers, 0, a->n_buffers));
    LIPS_TRY(lips_check_vector("advance", a->kept, 0, a->n_buffers));
    if (!(a->beta1 >= 0 && a->beta1 < 1 && a->beta2 >= 0 && a->beta2 < 1))
        return lips_fail(LIPS_ERR_USAGE, "advance: beta1 %g, beta2 %g, must be in [0,1)", a->beta1,
                         a->beta2);
    return LIPS_OK;
}

lips_status lips_check_bytes(const char *op, const void *dst, const void *src, size_t bytes)
{
    LIPS_TRY(lips_check_vector(op, dst, 0, bytes != 0));
    return lips_check_vector(op, src, 0, bytes != 0);
}

lips_status lips_check_slot(const char *op, int slot)
{
    return need_range(op, "slot", slot, 0, LIPS_FETCHES - 1);
}

lips_status lips_check_gram(const lips_gram_args *a)
{
    LIPS_TRY(lips_check_tensor("gram", "x", &a->x));
    return need_set("gram", "g", a->g);
}

lips_status lips_check_norms(const lips_norms_args *a)
{
    LIPS_TRY(need_range("norms", "map", (int64_t)a->map, LIPS_MAP_PLAIN, LIPS_MAP_TRACE));
    LIPS_TRY(need_range("norms", "n", a->n, 1, LIPS_REALS_MAX));
    LIPS_TRY(need_range("norms", "k", a->k, 1, LIPS_NORMS_MAX));
    LIPS_TRY(need_range("norms", "rows", a->rows, 0, a->n));
    LIPS_TRY(need_set("norms", "g", a->g));
    LIPS_TRY(need_set("norms", "op", a->op));
    LIPS_TRY(need_set("norms", "fro", a->fro));
    return a->map == LIPS_MAP_PLAIN ? LIPS_OK : need_set("norms", "p", a->p);
}

lips_status lips_check_rows(const lips_rows *r, const lips_rows_source *s)
{
    LIPS_TRY(need_rows("rows_load", r));
    LIPS_TRY(need_set("rows_load", "x", s->x));
    LIPS_TRY(need_set("rows_load", "table", s->table));
    if (r->targets)
        LIPS_TRY(need_set("rows_load", "targets", s->targets));
    if (r->classes)
        LIPS_TRY(need_set("rows_load", "labels", s->labels));
    for (int64_t i = 0; r->classes && i < r->n; i++)
        LIPS_TRY(need_range("rows_load", "a label", s->labels[i], 0, r->classes - 1));
    return need_set("rows_load", "source", s->source);
}

lips_status lips_check_gather(const lips_gather_args *a)
{
    const lips_rows *r = a->rows;
    LIPS_TRY(need_rows("gather", r));
    LIPS_TRY(lips_check_tensor("gather", "y", &a->y));
    LIPS_TRY(need_equal("gather", "y.t", a->y.t, 1));
    LIPS_TRY(need_equal("gather", "y.c", a->y.c, r->c));
    LIPS_TRY(need_equal("gather", "y.h", a->y.h, r->h));
    LIPS_TRY(need_equal("gather", "y.w", a->y.w, r->w));
    if (a->order)
        return need_course("gather", r, a->order, a->cursor, a->first);
    if (!a->index)
        return need_range("gather", "first", a->first, 0, r->n - a->y.b);
    for (int64_t i = 0; i < a->y.b; i++)
        LIPS_TRY(need_range("gather", "an index", a->index[i], 0, r->n - 1));
    return LIPS_OK;
}

lips_status lips_check_add(const lips_tensor *y, const lips_tensor *a, const lips_tensor *b)
{
    LIPS_TRY(lips_check_tensor("add", "y", y));
    LIPS_TRY(lips_check_tensor("add", "a", a));
    LIPS_TRY(lips_check_tensor("add", "b", b));
    LIPS_TRY(need_same_image("add", "a", a, y));
    LIPS_TRY(need_same_image("add", "b", b, y));
    LIPS_TRY(need_equal("add", "a.t", a->t, y->t));
    return need_equal("add", "b.t", b->t, y->t);
}

lips_status lips_check_eye(const lips_tensor *dst)
{
    LIPS_TRY(lips_check_tensor("eye", "dst", dst));
    LIPS_TRY(need_equal("eye", "h * w", dst->h * dst->w, 1));
    return need_equal("eye", "t", dst->t, dst->c);
}

lips_status lips_check_transfer(const char *op, const lips_tensor *t, const void *host, bool flat)
{
    LIPS_TRY(lips_check_tensor(op, "tensor", t));
    LIPS_TRY(need_set(op, "host array", host));
    return flat ? need_equal(op, "t", t->t, 1) : LIPS_OK;
}

lips_status lips_check_vector(const char *op, const void *data, int64_t off, int64_t n)
{
    LIPS_TRY(need_range(op, "n", n, 0, LIPS_REALS_MAX));
    LIPS_TRY(need_range(op, "off", off, 0, LIPS_REALS_MAX));
    return n ? need_set(op, "vector", data) : LIPS_OK;
}
