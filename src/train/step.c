/*
 * train/step.c - the steps of an epoch.
 *
 * A step is a series of ops on the backend: batch, forward, loss, gradient, advance, update. What
 * moves from step to step is in the cursor (backend/cursor.h), which advance moves on; where the
 * training rows lie with the backend, nothing else comes from the host, so that a step is recorded
 * once and then replayed. The host runs ahead of the device and learns from cursors that it fetches
 * now and then whether a step could not be made: then none after it has changed anything either.
 */
#include "train/trainer_internal.h"

#include "base/log.h"
#include "base/signals.h"
#include "base/watch.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <string.h>

/* Losses and gradients above these are a run that is about to leave the range of float: the update
 * is then checked before it is made. Below, no finite gradient can carry a weight out of it. */
static const double LOSS_WATCH = 1e4, GRAD_MAX = 1e30;

/* Steps between two fetches: as many as take some 20 ms of a GPU, so that signals are soon heeded.
 * Two such parts may be under way. */
enum { AHEAD_MAX = 32 };
static const double AHEAD_FLOPS = 2e11;

/* Rows first.. of the batch, b of them, into the network's input. */
static lips_status take_rows(lips_trainer *tr, const int64_t *idx, int64_t first, int64_t b)
{
    const lips_dataset *d = tr->data;
    lips_tensor *in = lips_exec_input(tr->exec);
    in->b = b;
    if (lips_trainer_train_rows(tr))
        return tr->be->ops->gather(tr->be, &(lips_gather_args){.rows = lips_trainer_train_rows(tr),
                                                               .y = *in,
                                                               .order = tr->device_order,
                                                               .cursor = tr->cursor,
                                                               .first = first,
                                                               .augment = tr->cfg.augment,
                                                               .seed = tr->cfg.seed});
    if (tr->cfg.augment)
        return tr->be->ops->upload(tr->be, in, tr->augmented + first * d->c * d->h * d->w, NULL);
    return tr->be->ops->upload(tr->be, in, d->train.x, idx + first);
}

/* The batch as the host has it: labels or targets of its rows, and the rows augmented. */
static void host_batch(lips_trainer *tr, const int64_t *idx, int64_t b)
{
    const lips_split *s = &tr->data->train;
    size_t k = (size_t)tr->data->classes;
    if (tr->cfg.augment)
        lips_augment(tr->data, s, idx, b, tr->cfg.seed, tr->epoch, tr->augmented);
    for (int64_t i = 0; i < b; i++) {
        if (tr->data->regression)
            memcpy(tr->targets + (size_t)i * k, s->target + (size_t)idx[i] * k, k * sizeof(float));
        else
            tr->labels[i] = s->label[idx[i]];
    }
}

/* Losses, and the seed of their gradient times scale. */
static lips_status part_loss(lips_trainer *tr, const lips_tensor *logits, int64_t first,
                             double scale)
{
    lips_tensor seed;
    LIPS_TRY(lips_exec_seed(tr->exec, 1, &seed));
    lips_loss_args a = {.kind = tr->cfg.loss,
                        .z = *logits,
                        .loss = (double *)tr->step_losses + first,
                        .dz = &seed,
                        .scale = scale};
    if (lips_trainer_train_rows(tr)) {
        a.rows = lips_trainer_train_rows(tr);
        a.order = tr->device_order;
        a.cursor = tr->cursor;
        a.first = first;
    } else if (tr->data->regression) {
        a.targets = tr->targets + first * tr->data->classes;
    } else {
        a.labels = tr->labels + first;
    }
    return tr->be->ops->loss(tr->be, &a);
}

/* Adds the gradient of scale * the losses of rows first.. of the batch, b of them. */
static lips_status part_gradient(lips_trainer *tr, const int64_t *idx, int64_t first, int64_t b,
                                 double scale)
{
    lips_tensor logits;
    LIPS_TRY(take_rows(tr, idx, first, b));
    LIPS_TRY(lips_exec_forward(tr->exec, true, &logits));
    LIPS_TRY(part_loss(tr, &logits, first, scale));
    return first ? lips_exec_grad_add(tr->exec, tr->grads) : lips_exec_grad(tr->exec, tr->grads);
}

/* Judges the batch and its gradient: the cursor moves on, or stops. */
static lips_status advance(lips_trainer *tr, int64_t b)
{
    const bool adam = tr->cfg.optimizer == LIPS_OPT_ADAM;
    return tr->be->ops->advance(tr->be, &(lips_advance_args){.cursor = tr->cursor,
                                                             .loss = tr->step_losses,
                                                             .b = b,
                                                             .g = tr->grads,
                                                             .n = tr->n_params,
                                                             .buffers = tr->buffers,
                                                             .kept = tr->kept,
                                                             .n_buffers = tr->n_buffers,
                                                             .loss_watch = LOSS_WATCH,
                                                             .grad_max = GRAD_MAX,
                                                             .beta1 = adam ? tr->cfg.beta1 : 0,
                                                             .beta2 = adam ? tr->cfg.beta2 : 0});
}

static lips_status update(lips_trainer *tr)
{
    if (tr->cfg.optimizer == LIPS_OPT_ADAM) {
        const lips_adam_args a = {.p = tr->params,
                                  .g = tr->grads,
                                  .m = tr->m,
                                  .v = tr->v,
                                  .n = tr->n_params,
                                  .beta1 = tr->cfg.beta1,
                                  .beta2 = tr->cfg.beta2,
                                  .eps = tr->cfg.adam_eps,
                                  .weight_decay = tr->cfg.weight_decay,
                                  .cursor = tr->cursor};
        return tr->be->ops->adam(tr->be, &a);
    }
    const lips_sgd_args a = {.p = tr->params,
                             .g = tr->grads,
                             .m = tr->m,
                             .n = tr->n_params,
                             .momentum = tr->cfg.momentum,
                             .weight_decay = tr->cfg.weight_decay,
                             .cursor = tr->cursor};
    return tr->be->ops->sgd(tr->be, &a);
}

/* The ops of a step on b rows. */
static lips_status step_ops(lips_trainer *tr, int64_t b)
{
    const int64_t chunk = lips_net_chunk(tr->net, tr->be, tr->cfg.batch);
    const int64_t *idx = tr->order + tr->step * tr->cfg.batch;
    if (!lips_trainer_train_rows(tr))
        host_batch(tr, idx, b);
    for (int64_t first = 0; first < b; first += chunk)
        LIPS_TRY(
            part_gradient(tr, idx, first, b - first < chunk ? b - first : chunk, 1.0 / (double)b));
    LIPS_TRY(advance(tr, b));
    return update(tr);
}

/* What cannot be recorded is run: slower, with the same results. */
static lips_status give_up_recording(lips_trainer *tr, lips_status st)
{
    if (st == LIPS_ERR_DEVICE)
        return st;
    lips_warn("training steps run op by op, not as one CUDA graph: %s", lips_error());
    lips_error_clear();
    lips_trainer_erase(tr);
    tr->record = false;
    return LIPS_OK;
}

static lips_status record(lips_trainer *tr, lips_tape *t)
{
    const lips_ops *ops = tr->be->ops;
    lips_status st = ops->record_begin(tr->be);
    if (st != LIPS_OK)
        return give_up_recording(tr, st);
    st = step_ops(tr, t->b);
    if (st == LIPS_OK)
        st = ops->record_end(tr->be, &t->recorded);
    else if (ops->record_end(tr->be, NULL) == LIPS_ERR_DEVICE)
        st = LIPS_ERR_DEVICE;
    return st == LIPS_OK ? LIPS_OK : give_up_recording(tr, st);
}

/* Puts a step on b rows on its way. The first of each size runs op by op and so prepares what a
 * recording cannot; the second is recorded. */
static lips_status queue_step(lips_trainer *tr, int64_t b)
{
    lips_tape *t = &tr->tape[b < tr->cfg.batch];
    const bool again = t->b == b;
    t->b = b;
    if (tr->record && again && !t->recorded)
        LIPS_TRY(record(tr, t));
    if (tr->record && again)
        return tr->be->ops->replay(tr->be, t->recorded);
    return step_ops(tr, b);
}

void lips_trainer_erase(lips_trainer *tr)
{
    for (int i = 0; i < LIPS_TAPES; i++) {
        if (tr->tape[i].recorded)
            tr->be->ops->recorded_free(tr->be, tr->tape[i].recorded);
        tr->tape[i] = (lips_tape){0};
    }
}

/* The oldest cursor that was asked for. LIPS_ERR_DIVERGED if it has stopped: then the trainer
 * stands where it did. */
static lips_status look(lips_trainer *tr)
{
    const int slot = (int)(tr->looked % LIPS_FETCHES);
    LIPS_TRY(tr->be->ops->await(tr->be, slot));
    const lips_cursor *c = &tr->seen[slot];
    tr->looked++;
    if (c->stop == LIPS_STOP_NONE)
        return LIPS_OK;
    tr->step = c->row / tr->cfg.batch;
    tr->updates = c->updates;
    return lips_fail(
        LIPS_ERR_DIVERGED,
        "diverged: the %s is not finite in epoch %" PRId64 ", step %" PRId64 " (last loss %g)",
        c->stop == LIPS_STOP_LOSS ? "loss" : "gradient", tr->epoch + 1, tr->step + 1, c->loss);
}

static lips_status fetch(lips_trainer *tr)
{
    if (tr->fetched - tr->looked == LIPS_FETCHES)
        LIPS_TRY(look(tr));
    const int slot = (int)(tr->fetched % LIPS_FETCHES);
    LIPS_TRY(tr->be->ops->fetch(tr->be, &tr->seen[slot], tr->cursor, sizeof *tr->seen, slot));
    tr->fetched++;
    return LIPS_OK;
}

/* All steps are done. */
static lips_status drain(lips_trainer *tr)
{
    LIPS_TRY(fetch(tr));
    while (tr->looked < tr->fetched)
        LIPS_TRY(look(tr));
    return LIPS_OK;
}

/* The epoch's order and the cursor to the backend. */
static lips_status begin_epoch(lips_trainer *tr)
{
    const int64_t n = tr->data->train.n;
    const lips_ops *ops = tr->be->ops;
    if (tr->order_epoch != tr->epoch) {
        lips_batch_order(tr->cfg.seed, tr->epoch, n, tr->order);
        tr->order_epoch = tr->epoch;
    }
    if (tr->device_order)
        LIPS_TRY(ops->put(tr->be, tr->device_order, tr->order, (size_t)n * sizeof *tr->order));
    if (tr->buffers)
        LIPS_TRY(ops->copy(tr->be, tr->kept, tr->buffers, (size_t)tr->n_buffers * ops->real_bytes));
    const lips_cursor c = {.row = tr->step * tr->cfg.batch,
                           .updates = tr->updates,
                           .epoch = tr->epoch,
                           .rate = lips_learning_rate(&tr->cfg, tr->epoch)};
    tr->fetched = tr->looked = 0;
    return ops->put(tr->be, tr->cursor, &c, sizeof c);
}

/* One where ops are done when they return. */
static int64_t steps_ahead(const lips_trainer *tr)
{
    const double flops = 3 * lips_net_forward_flops(tr->net) * (double)tr->cfg.batch;
    if (!tr->be->ops->record_begin || flops * 2 > AHEAD_FLOPS)
        return 1;
    return flops * AHEAD_MAX > AHEAD_FLOPS ? (int64_t)(AHEAD_FLOPS / flops) : AHEAD_MAX;
}

lips_status lips_trainer_run_epoch(lips_trainer *tr)
{
    const int64_t n = tr->data->train.n, batch = tr->cfg.batch, steps = (n + batch - 1) / batch;
    const int64_t ahead = steps_ahead(tr);
    lips_status pending = LIPS_OK;
    LIPS_TRY(begin_epoch(tr));
    while (tr->step < steps && pending == LIPS_OK) {
        const int64_t left = n - tr->step * batch;
        lips_watch_at(tr->epoch + 1, tr->step + 1);
        LIPS_TRY(queue_step(tr, left < batch ? left : batch));
        tr->step++;
        tr->updates++;
        if (tr->step % ahead == 0)
            LIPS_TRY(fetch(tr));
        /* After a step, not before: a run that is stopped again and again still gets ahead. */
        pending = tr->step < steps ? lips_signals_pending() : LIPS_OK;
    }
    lips_status st = drain(tr);
    if (st != LIPS_OK || pending != LIPS_OK)
        return st != LIPS_OK ? st : pending;
    tr->step = 0;
    tr->epoch++;
    return LIPS_OK;
}
