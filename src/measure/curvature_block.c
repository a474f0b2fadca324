/* measure: one block's forward pass, loss and products with a direction. */
#include "measure/curvature_internal.h"
#include "measure/head.h"

#include <math.h>

static bool finite_all(const float *x, int64_t n)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= !isfinite(x[i]);
    return !bad;
}

/* The loss's derivatives at the logits z of samples first..first+b-1. */
static void fill_head(const worker *w, head *h, int64_t first, int64_t b, int64_t features)
{
    const lips_survey *s = w->c->s;
    const lips_inputs *in = &s->args->inputs;
    const int64_t k = s->k;
    h->unit = 0;
    h->finite = true;
    for (int64_t i = 0; i < b; i++) {
        double *p = h->p + i * k, *rest = w->rest + i * k, *u = h->u ? h->u + i * k : NULL;
        lips_head(s, first + i, w->z + i * k, p, rest, u);
        h->unit = fmax(h->unit, lips_head_curvature(s, p, rest));
        for (int64_t j = 0; j < k; j++) {
            h->finite = h->finite && isfinite(w->z[i * k + j]);
            h->unit = u ? fmax(h->unit, fabs(u[j])) : h->unit;
        }
        h->finite =
            h->finite && finite_all(in->x + lips_survey_row(s, first + i) * features, features);
    }
    if (!(h->unit > 0))
        h->unit = 1;
    h->ready = true;
}

/* Forward pass of samples first..first+b-1, and their head if it is not there yet. */
static lips_status forward(worker *w, seat *t, head *h, int64_t first, int64_t b)
{
    lips_tensor *input = lips_exec_input(t->exec), logits;
    input->b = b;
    LIPS_TRY(lips_survey_input(w->c->s, w->be, input, first));
    LIPS_TRY(lips_exec_forward(t->exec, false, &logits));
    t->logits = logits;
    t->loss = h;
    if (h->ready)
        return LIPS_OK;
    LIPS_TRY(w->be->ops->download(w->be, w->z, &logits));
    fill_head(w, h, first, b, lips_tensor_features(input));
    return LIPS_OK;
}

/* The loss's cotangent into the given tensor of the seat's backward pass. */
static lips_status upload_loss(worker *w, const seat *t, const lips_tensor *seed)
{
    int64_t n = seed->b * w->c->s->k;
    for (int64_t i = 0; i < n; i++)
        w->z[i] = t->loss->u[i] / t->loss->unit;
    return w->be->ops->upload_f64(w->be, seed, w->z);
}

lips_status lips_seat_prepare(worker *w, seat *t, head *h, int64_t first, int64_t b)
{
    lips_tensor seed;
    LIPS_TRY(forward(w, t, h, first, b));
    if (h->u) {
        LIPS_TRY(lips_second_seed(t->second, &seed));
        LIPS_TRY(upload_loss(w, t, &seed));
        LIPS_TRY(lips_second_primal(t->second));
    }
    t->ready = true;
    return LIPS_OK;
}

/* seed = (d2 loss/dz2) zdot / unit: on the device, or here. */
static lips_status curve(worker *w, seat *t, const lips_tensor *zdot, const lips_tensor *seed)
{
    const lips_survey *s = w->c->s;
    const lips_ops *ops = w->be->ops;
    if (ops->loss_curve)
        return ops->loss_curve(w->be, &(lips_loss_curve_args){.kind = s->args->network.loss,
                                                              .z = t->logits,
                                                              .v = *zdot,
                                                              .y = *seed,
                                                              .scale = 1 / t->loss->unit});
    LIPS_TRY(ops->download(w->be, w->z, zdot));
    for (int64_t i = 0; i < zdot->b; i++) {
        lips_head_curve(s, t->loss->p + i * s->k, w->z + i * s->k);
        for (int64_t j = 0; j < s->k; j++)
            w->z[i * s->k + j] /= t->loss->unit;
    }
    return ops->upload_f64(w->be, seed, w->z);
}

lips_status lips_seat_product(worker *w, seat *t, bool gauss_newton)
{
    lips_tensor zdot, seed;
    LIPS_TRY(lips_second_jvp(t->second, w->v, &zdot));
    LIPS_TRY(lips_second_seed_dot(t->second, &seed));
    LIPS_TRY(curve(w, t, &zdot, &seed));
    const size_t bytes = (size_t)lips_net_params(w->c->s->net) * w->be->ops->real_bytes;
    LIPS_TRY(w->be->ops->zero(w->be, w->sum, bytes));
    return lips_second_vjp(t->second, gauss_newton ? NULL : w->v, w->sum);
}

lips_status lips_seat_gradient(worker *w, seat *t, int64_t first, int64_t b)
{
    lips_tensor seed;
    w->batch.ready = false;
    LIPS_TRY(forward(w, t, &w->batch, first, b));
    LIPS_TRY(lips_exec_seed(t->exec, 1, &seed));
    LIPS_TRY(upload_loss(w, t, &seed));
    return lips_exec_grad(t->exec, w->sum);
}
