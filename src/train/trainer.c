#include "train/trainer_internal.h"

#include "base/signals.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Losses and gradients above these are a run that is about to leave the range of float: the update
 * is then checked before it is made. Below, no finite gradient can carry a weight out of it. */
static const double LOSS_WATCH = 1e4, GRAD_MAX = 1e30;

/* One spec, used for the plan and for the real thing. */
static lips_exec_spec train_spec(const lips_config *cfg, const lips_net *net,
                                 const lips_backend *be)
{
    return (lips_exec_spec){
        .cap = lips_net_chunk(net, be, cfg->batch), .t = 1, .training = true};
}

static lips_exec_spec eval_spec(const lips_net *net, const lips_backend *be)
{
    return (lips_exec_spec){.cap = lips_eval_batch(net, be), .t = 0, .training = false};
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static lips_status check_args(const lips_config *cfg, const lips_net *net, const lips_dataset *data)
{
    const lips_model_spec *s = lips_net_spec(net);
    if (data->train.n < 1)
        return lips_fail(LIPS_ERR_USAGE, "n_train: the training set is empty");
    if (cfg->batch < 1 || cfg->batch > data->train.n)
        return lips_fail(LIPS_ERR_USAGE,
                         "batch: %" PRId64 " is outside 1..%" PRId64
                         ", the number of training samples",
                         cfg->batch, data->train.n);
    if (s->c != data->c || s->h != data->h || s->w != data->w || s->classes != data->classes)
        return lips_fail(LIPS_ERR_USAGE,
                         "the network takes %" PRId64 "x%" PRId64 "x%" PRId64 " to %" PRId64
                         " outputs, the data set has %" PRId64 "x%" PRId64 "x%" PRId64
                         " and %" PRId64,
                         s->c, s->h, s->w, s->classes, data->c, data->h, data->w, data->classes);
    if (data->regression && cfg->loss != LIPS_LOSS_MSE)
        return lips_fail(LIPS_ERR_USAGE, "loss: a regression data set needs mse");
    return LIPS_OK;
}

static lips_status host_alloc(void *out, int64_t count, size_t size)
{
    void *p = calloc((size_t)larger(count, 1), size);
    if (!p)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory: %" PRId64 " x %zu bytes for training",
                         count, size);
    memcpy(out, &p, sizeof p);
    return LIPS_OK;
}

static lips_status alloc_host(lips_trainer *tr)
{
    const lips_dataset *d = tr->data;
    int64_t b = tr->cfg.batch;
    LIPS_TRY(host_alloc(&tr->order, d->train.n, sizeof *tr->order));
    if (tr->cfg.augment)
        LIPS_TRY(host_alloc(&tr->augmented, b * d->c * d->h * d->w, sizeof *tr->augmented));
    if (d->regression)
        LIPS_TRY(host_alloc(&tr->targets, b * d->classes, sizeof *tr->targets));
    else
        LIPS_TRY(host_alloc(&tr->labels, b, sizeof *tr->labels));
    return LIPS_OK;
}

/* Memory that ops write and the host reads. */
static lips_status alloc_shared(lips_trainer *tr)
{
    size_t most = (size_t)larger(tr->cfg.batch, lips_eval_batch(tr->net, tr->be));
    void *losses = NULL, *pred = NULL;
    lips_status st = tr->be->ops->alloc_shared(tr->be, &losses, most * sizeof *tr->losses);
    tr->losses = losses;
    if (st == LIPS_OK)
        st = tr->be->ops->alloc_shared(tr->be, &pred, most * sizeof *tr->pred);
    tr->pred = pred;
    return st;
}

static lips_status alloc_device(lips_trainer *tr)
{
    const lips_ops *ops = tr->be->ops;
    size_t bytes = (size_t)tr->n_params * ops->real_bytes;
    LIPS_TRY(ops->alloc(tr->be, &tr->params, bytes));
    LIPS_TRY(ops->alloc(tr->be, &tr->grads, bytes));
    LIPS_TRY(ops->alloc(tr->be, &tr->m, bytes));
    if (tr->cfg.optimizer == LIPS_OPT_ADAM)
        LIPS_TRY(ops->alloc(tr->be, &tr->v, bytes));
    if (tr->n_buffers > 0) {
        LIPS_TRY(ops->alloc(tr->be, &tr->buffers, (size_t)tr->n_buffers * ops->real_bytes));
        LIPS_TRY(ops->alloc(tr->be, &tr->buffers_old, (size_t)tr->n_buffers * ops->real_bytes));
    }
    lips_exec_spec ts = train_spec(&tr->cfg, tr->net, tr->be), es = eval_spec(tr->net, tr->be);
    LIPS_TRY(lips_exec_create(&tr->exec, tr->net, tr->be, &ts));
    LIPS_TRY(lips_exec_create(&tr->eval_exec, tr->net, tr->be, &es));
    lips_exec_set_params(tr->exec, tr->params, tr->buffers);
    lips_exec_set_params(tr->eval_exec, tr->params, tr->buffers);
    if (!tr->resident)
        LIPS_TRY(lips_resident_create(&tr->own_resident, tr->data, tr->be));
    tr->resident = tr->own_resident ? tr->own_resident : tr->resident;
    return LIPS_OK;
}

static lips_status init_weights(lips_trainer *tr)
{
    double *p = NULL, *b = NULL;
    lips_status st;
    LIPS_TRY_GOTO(st, host_alloc(&p, tr->n_params, sizeof *p), out);
    LIPS_TRY_GOTO(st, host_alloc(&b, tr->n_buffers, sizeof *b), out);
    LIPS_TRY_GOTO(st, lips_net_init(tr->net, tr->cfg.init, tr->cfg.seed, p, b), out);
    LIPS_TRY_GOTO(st, tr->be->ops->write(tr->be, tr->params, 0, p, tr->n_params), out);
    if (tr->n_buffers > 0)
        LIPS_TRY_GOTO(st, tr->be->ops->write(tr->be, tr->buffers, 0, b, tr->n_buffers), out);
out:
    free(b);
    free(p);
    return st;
}

lips_status lips_trainer_create(lips_trainer **out, const lips_config *cfg, const lips_net *net,
                                const lips_dataset *data, lips_backend *be)
{
    return lips_trainer_create_on(out, cfg, net, data, be, NULL);
}

lips_status lips_trainer_create_on(lips_trainer **out, const lips_config *cfg, const lips_net *net,
                                   const lips_dataset *data, lips_backend *be,
                                   const lips_resident *resident)
{
    *out = NULL;
    LIPS_TRY(check_args(cfg, net, data));
    lips_trainer *tr = NULL;
    LIPS_TRY(host_alloc(&tr, 1, sizeof *tr));
    tr->cfg = *cfg;
    tr->net = net;
    tr->data = data;
    tr->be = be;
    tr->resident = resident;
    tr->n_params = lips_net_params(net);
    tr->n_buffers = lips_net_buffers(net);
    tr->order_epoch = -1;

    lips_status st;
    LIPS_TRY_GOTO(st, alloc_host(tr), fail);
    LIPS_TRY_GOTO(st, alloc_shared(tr), fail);
    LIPS_TRY_GOTO(st, alloc_device(tr), fail);
    LIPS_TRY_GOTO(st, init_weights(tr), fail);
    *out = tr;
    return LIPS_OK;
fail:
    lips_trainer_free(tr);
    return st;
}

void lips_trainer_free(lips_trainer *tr)
{
    if (!tr)
        return;
    lips_exec_free(tr->eval_exec);
    lips_exec_free(tr->exec);
    void *device[] = {tr->buffers_old, tr->buffers, tr->v,    tr->m,
                      tr->grads,       tr->params,  tr->pred, tr->losses};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i])
            tr->be->ops->release(tr->be, device[i]);
    lips_resident_free(tr->own_resident);
    free(tr->targets);
    free(tr->labels);
    free(tr->augmented);
    free(tr->order);
    free(tr);
}

lips_status lips_trainer_plan_bytes(const lips_config *cfg, const lips_net *net,
                                    const lips_dataset *data, lips_backend *be, size_t *bytes)
{
    LIPS_TRY(check_args(cfg, net, data));
    lips_exec_spec ts = train_spec(cfg, net, be), es = eval_spec(net, be);
    size_t train = 0, eval = 0, real = be->ops->real_bytes;
    LIPS_TRY(lips_exec_plan_bytes(net, be, &ts, &train));
    LIPS_TRY(lips_exec_plan_bytes(net, be, &es, &eval));
    size_t vectors = cfg->optimizer == LIPS_OPT_ADAM ? 4 : 3;
    size_t most = (size_t)larger(cfg->batch, es.cap);
    size_t row = (size_t)(data->c * data->h * data->w) * sizeof(float);
    *bytes = train + eval + vectors * (size_t)lips_net_params(net) * real +
             2 * (size_t)lips_net_buffers(net) * real + (size_t)data->train.n * sizeof(int64_t) +
             most * (sizeof(double) + sizeof(int64_t)) +
             (cfg->augment ? (size_t)cfg->batch * row : 0) + sizeof(lips_trainer);
    return LIPS_OK;
}

int64_t lips_trainer_epoch(const lips_trainer *tr)
{
    return tr->epoch;
}

int64_t lips_trainer_step(const lips_trainer *tr)
{
    return tr->step;
}

/* Rows first.. of the batch, b of them, into the network's input. */
static lips_status upload_rows(lips_trainer *tr, const int64_t *idx, int64_t first, int64_t b)
{
    const lips_dataset *d = tr->data;
    lips_tensor *in = lips_exec_input(tr->exec);
    const lips_rows *rows = lips_trainer_rows(tr, &d->train);
    in->b = b;
    if (rows)
        return tr->be->ops->gather(tr->be, &(lips_gather_args){.rows = rows,
                                                               .y = *in,
                                                               .index = idx + first,
                                                               .augment = tr->cfg.augment,
                                                               .seed = tr->cfg.seed,
                                                               .epoch = tr->epoch});
    if (tr->cfg.augment)
        return tr->be->ops->upload(tr->be, in, tr->augmented + first * d->c * d->h * d->w, NULL);
    return tr->be->ops->upload(tr->be, in, d->train.x, idx + first);
}

/* Labels or targets of the batch's rows. */
static void gather_labels(lips_trainer *tr, const int64_t *idx, int64_t b)
{
    const lips_split *s = &tr->data->train;
    size_t k = (size_t)tr->data->classes;
    for (int64_t i = 0; i < b; i++) {
        if (tr->data->regression)
            memcpy(tr->targets + (size_t)i * k, s->target + (size_t)idx[i] * k, k * sizeof(float));
        else
            tr->labels[i] = s->label[idx[i]];
    }
}

/* Adds the gradient of scale * the losses of rows first.. of the batch, b of them. */
static lips_status part_gradient(lips_trainer *tr, const int64_t *idx, int64_t first, int64_t b,
                                 double scale)
{
    lips_tensor logits, seed;
    LIPS_TRY(upload_rows(tr, idx, first, b));
    LIPS_TRY(lips_exec_forward(tr->exec, true, &logits));
    LIPS_TRY(lips_exec_seed(tr->exec, 1, &seed));
    bool classes = !tr->data->regression;
    const lips_loss_args a = {.kind = tr->cfg.loss,
                              .z = logits,
                              .labels = classes ? tr->labels + first : NULL,
                              .targets = classes ? NULL : tr->targets + first * tr->data->classes,
                              .loss = tr->losses + first,
                              .dz = &seed,
                              .scale = scale};
    LIPS_TRY(tr->be->ops->loss(tr->be, &a));
    return first ? lips_exec_grad_add(tr->exec, tr->grads) : lips_exec_grad(tr->exec, tr->grads);
}

/* Loss and gradient of the mean loss over the batch's b rows; grads overwritten. */
static lips_status batch_gradient(lips_trainer *tr, const int64_t *idx, int64_t b, double *loss)
{
    const lips_dataset *d = tr->data;
    int64_t chunk = lips_net_chunk(tr->net, tr->be, tr->cfg.batch);
    if (tr->cfg.augment && !lips_trainer_rows(tr, &d->train))
        lips_augment(d, &d->train, idx, b, tr->cfg.seed, tr->epoch, tr->augmented);
    gather_labels(tr, idx, b);
    for (int64_t first = 0; first < b; first += chunk)
        LIPS_TRY(part_gradient(tr, idx, first, b - first < chunk ? b - first : chunk,
                               1.0 / (double)b));
    LIPS_TRY(tr->be->ops->sync(tr->be));
    *loss = 0;
    for (int64_t i = 0; i < b; i++)
        *loss += tr->losses[i];
    *loss /= (double)b;
    return LIPS_OK;
}

static lips_status update(lips_trainer *tr)
{
    double rate = lips_learning_rate(&tr->cfg, tr->epoch);
    tr->updates++;
    if (tr->cfg.optimizer == LIPS_OPT_ADAM) {
        const lips_adam_args a = {.p = tr->params,
                                  .g = tr->grads,
                                  .m = tr->m,
                                  .v = tr->v,
                                  .n = tr->n_params,
                                  .step = tr->updates,
                                  .lr = rate,
                                  .beta1 = tr->cfg.beta1,
                                  .beta2 = tr->cfg.beta2,
                                  .eps = tr->cfg.adam_eps,
                                  .weight_decay = tr->cfg.weight_decay};
        return tr->be->ops->adam(tr->be, &a);
    }
    const lips_sgd_args a = {.p = tr->params,
                             .g = tr->grads,
                             .m = tr->m,
                             .n = tr->n_params,
                             .lr = rate,
                             .momentum = tr->cfg.momentum,
                             .weight_decay = tr->cfg.weight_decay};
    return tr->be->ops->sgd(tr->be, &a);
}

/* LIPS_ERR_DIVERGED, with the running statistics put back, if the step must not be made. */
static lips_status check_step(lips_trainer *tr, double loss)
{
    double grad_sumsq = 0;
    if (loss > LOSS_WATCH)
        LIPS_TRY(tr->be->ops->diff_sumsq(tr->be, &grad_sumsq, tr->grads, NULL, tr->n_params));
    bool ok = isfinite(loss) && sqrt(grad_sumsq) < GRAD_MAX;
    if (ok)
        return LIPS_OK;
    if (tr->buffers)
        LIPS_TRY(tr->be->ops->copy(tr->be, tr->buffers, tr->buffers_old,
                                   (size_t)tr->n_buffers * tr->be->ops->real_bytes));
    const char *what = isfinite(loss) ? "gradient" : "loss";
    return lips_fail(LIPS_ERR_DIVERGED,
                     "diverged: the %s is not finite in epoch %" PRId64 ", step %" PRId64
                     " (last loss %g)",
                     what, tr->epoch + 1, tr->step + 1, loss);
}

static lips_status run_step(lips_trainer *tr)
{
    int64_t n = tr->data->train.n, first = tr->step * tr->cfg.batch;
    int64_t b = n - first < tr->cfg.batch ? n - first : tr->cfg.batch;
    double loss = 0;
    if (tr->buffers)
        LIPS_TRY(tr->be->ops->copy(tr->be, tr->buffers_old, tr->buffers,
                                   (size_t)tr->n_buffers * tr->be->ops->real_bytes));
    LIPS_TRY(batch_gradient(tr, tr->order + first, b, &loss));
    LIPS_TRY(check_step(tr, loss));
    LIPS_TRY(update(tr));
    tr->step++;
    return LIPS_OK;
}

lips_status lips_trainer_run_epoch(lips_trainer *tr)
{
    int64_t n = tr->data->train.n, steps = (n + tr->cfg.batch - 1) / tr->cfg.batch;
    if (tr->order_epoch != tr->epoch) {
        lips_batch_order(tr->cfg.seed, tr->epoch, n, tr->order);
        tr->order_epoch = tr->epoch;
    }
    while (tr->step < steps) {
        LIPS_TRY(run_step(tr));
        /* After a step, not before: a run that is stopped again and again still gets ahead. */
        lips_status pending = tr->step < steps ? lips_signals_pending() : LIPS_OK;
        if (pending != LIPS_OK)
            return pending;
    }
    tr->step = 0;
    tr->epoch++;
    return LIPS_OK;
}

const void *lips_trainer_params(const lips_trainer *tr)
{
    return tr->params;
}

void *lips_trainer_buffers(const lips_trainer *tr)
{
    return tr->buffers;
}

lips_status lips_trainer_get_params(lips_trainer *tr, double *params, double *buffers)
{
    LIPS_TRY(tr->be->ops->sync(tr->be));
    LIPS_TRY(tr->be->ops->read(tr->be, params, tr->params, 0, tr->n_params));
    if (tr->n_buffers > 0)
        LIPS_TRY(tr->be->ops->read(tr->be, buffers, tr->buffers, 0, tr->n_buffers));
    return LIPS_OK;
}
