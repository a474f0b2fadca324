#include "train/trainer_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One spec, used for the plan and for the real thing. */
static lips_exec_spec train_spec(const lips_config *cfg, const lips_net *net,
                                 const lips_backend *be)
{
    return (lips_exec_spec){.cap = lips_net_chunk(net, be, cfg->batch), .t = 1, .training = true};
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
    if (lips_trainer_train_rows(tr))
        return LIPS_OK;
    if (tr->cfg.augment)
        LIPS_TRY(host_alloc(&tr->augmented, b * d->c * d->h * d->w, sizeof *tr->augmented));
    if (d->regression)
        LIPS_TRY(host_alloc(&tr->targets, b * d->classes, sizeof *tr->targets));
    else
        LIPS_TRY(host_alloc(&tr->labels, b, sizeof *tr->labels));
    return LIPS_OK;
}

static lips_status shared_alloc(lips_trainer *tr, void *out, int64_t count, size_t size)
{
    void *p = NULL;
    LIPS_TRY(tr->be->ops->alloc_shared(tr->be, &p, (size_t)count * size));
    memcpy(out, &p, sizeof p);
    return LIPS_OK;
}

/* Memory that ops write and the host reads. */
static lips_status alloc_shared(lips_trainer *tr)
{
    tr->window = lips_eval_window(tr->data, tr->net, tr->be);
    LIPS_TRY(shared_alloc(tr, &tr->losses, tr->window, sizeof *tr->losses));
    LIPS_TRY(shared_alloc(tr, &tr->clean_losses, tr->window, sizeof *tr->losses));
    LIPS_TRY(shared_alloc(tr, &tr->pred, tr->window, sizeof *tr->pred));
    return shared_alloc(tr, &tr->seen, LIPS_FETCHES, sizeof *tr->seen);
}

/* Memory that the steps use among themselves. */
static lips_status alloc_steps(lips_trainer *tr)
{
    const lips_ops *ops = tr->be->ops;
    LIPS_TRY(ops->alloc(tr->be, &tr->cursor, sizeof(lips_cursor)));
    LIPS_TRY(ops->alloc(tr->be, &tr->step_losses, (size_t)tr->cfg.batch * sizeof(double)));
    if (lips_trainer_train_rows(tr))
        LIPS_TRY(
            ops->alloc(tr->be, &tr->device_order, (size_t)tr->data->train.n * sizeof *tr->order));
    return LIPS_OK;
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
        LIPS_TRY(ops->alloc(tr->be, &tr->kept, (size_t)tr->n_buffers * ops->real_bytes));
    }
    lips_exec_spec ts = train_spec(&tr->cfg, tr->net, tr->be), es = eval_spec(tr->net, tr->be);
    LIPS_TRY(lips_exec_create(&tr->exec, tr->net, tr->be, &ts));
    LIPS_TRY(lips_exec_create(&tr->eval_exec, tr->net, tr->be, &es));
    lips_exec_set_params(tr->exec, tr->params, tr->buffers);
    lips_exec_set_params(tr->eval_exec, tr->params, tr->buffers);
    if (!tr->resident)
        LIPS_TRY(lips_resident_create(&tr->own_resident, tr->data, tr->be));
    tr->resident = tr->own_resident ? tr->own_resident : tr->resident;
    return alloc_steps(tr);
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
    LIPS_TRY_GOTO(st, alloc_shared(tr), fail);
    LIPS_TRY_GOTO(st, alloc_device(tr), fail);
    LIPS_TRY_GOTO(st, alloc_host(tr), fail);
    LIPS_TRY_GOTO(st, init_weights(tr), fail);
    tr->record = cfg->cuda_graph && be->ops->record_begin && lips_trainer_train_rows(tr);
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
    lips_trainer_erase(tr);
    lips_exec_free(tr->eval_exec);
    lips_exec_free(tr->exec);
    void *device[] = {tr->device_order, tr->step_losses, tr->cursor, tr->kept,
                      tr->buffers,      tr->v,           tr->m,      tr->grads,
                      tr->params,       tr->seen,        tr->pred,   tr->losses,
                      tr->clean_losses};
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
    size_t row = (size_t)(data->c * data->h * data->w) * sizeof(float);
    const bool rows = lips_resident_bytes(data, be) > 0;
    *bytes = train + eval + lips_exec_own_bytes(net, be, &ts) +
             vectors * (size_t)lips_net_params(net) * real +
             2 * (size_t)lips_net_buffers(net) * real +
             (rows ? 2 : 1) * (size_t)data->train.n * sizeof(int64_t) +
             (size_t)lips_eval_window(data, net, be) * (2 * sizeof(double) + sizeof(int64_t)) +
             (size_t)cfg->batch * sizeof(double) +
             (cfg->augment && !rows ? (size_t)cfg->batch * row : 0) + sizeof(lips_trainer);
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
