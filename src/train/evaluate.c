#include "train/trainer_internal.h"

#include <math.h>

/* Enough rows for full matrix products; fewer for images, whose activations must fit the cache. */
enum {
    EVAL_BATCH_FLAT = 256,
    EVAL_BATCH_SPATIAL = 64,
    EVAL_BATCH_DEVICE = 1024 /* at most: a narrow network's launches then cost less than its work */
};

int64_t lips_eval_batch(const lips_net *net, const lips_backend *be)
{
    const lips_ops *ops = be->ops;
    if (ops->pass_bytes)
        return lips_net_fits(net, 0, ops->real_bytes, ops->pass_bytes / 4, EVAL_BATCH_DEVICE);
    return lips_net_layer(net, 1)->conv ? EVAL_BATCH_SPATIAL : EVAL_BATCH_FLAT;
}

/* Adds the batch's losses and errors against one set of labels or targets. */
static lips_status score(lips_trainer *tr, const lips_tensor *logits, const int64_t *labels,
                         const float *targets, lips_eval *sum)
{
    const lips_loss_args a = {.kind = tr->cfg.loss,
                              .z = *logits,
                              .labels = labels,
                              .targets = targets,
                              .loss = tr->losses,
                              .pred = labels ? tr->pred : NULL,
                              .scale = 1};
    LIPS_TRY(tr->be->ops->loss(tr->be, &a));
    LIPS_TRY(tr->be->ops->sync(tr->be));
    for (int64_t i = 0; i < logits->b; i++) {
        sum->loss += tr->losses[i];
        sum->error += labels && tr->pred[i] != labels[i] ? 1.0 : 0.0;
    }
    sum->n += logits->b;
    return LIPS_OK;
}

static void finish(lips_eval *sum, bool classes)
{
    sum->loss = sum->n > 0 ? sum->loss / (double)sum->n : NAN;
    sum->error = classes && sum->n > 0 ? sum->error / (double)sum->n : NAN;
}

lips_status lips_trainer_evaluate(lips_trainer *tr, const lips_split *split, lips_eval *noisy,
                                  lips_eval *clean, double *memorized)
{
    const lips_dataset *d = tr->data;
    int64_t row = d->c * d->h * d->w, cap = lips_eval_batch(tr->net, tr->be), corrupted = 0, learnt = 0;
    const lips_rows *rows = lips_trainer_rows(tr, split);
    *noisy = (lips_eval){0};
    if (clean)
        *clean = (lips_eval){0};
    for (int64_t first = 0; first < split->n; first += cap) {
        lips_tensor *in = lips_exec_input(tr->eval_exec), logits;
        const int64_t *label = split->label ? split->label + first : NULL;
        const int64_t *truth = split->label_clean ? split->label_clean + first : NULL;
        const float *target = split->target ? split->target + first * d->classes : NULL;
        const float *target_clean =
            split->target_clean ? split->target_clean + first * d->classes : NULL;
        in->b = split->n - first < cap ? split->n - first : cap;
        if (rows)
            LIPS_TRY(tr->be->ops->gather(
                tr->be, &(lips_gather_args){.rows = rows, .y = *in, .first = first}));
        else
            LIPS_TRY(tr->be->ops->upload(tr->be, in, split->x + first * row, NULL));
        LIPS_TRY(lips_exec_forward(tr->eval_exec, false, &logits));
        if (clean)
            LIPS_TRY(score(tr, &logits, truth, target_clean, clean));
        LIPS_TRY(score(tr, &logits, label, target, noisy));
        for (int64_t i = 0; label && truth && i < logits.b; i++) {
            corrupted += label[i] != truth[i];
            learnt += label[i] != truth[i] && tr->pred[i] == label[i];
        }
    }
    finish(noisy, split->label != NULL);
    if (clean)
        finish(clean, split->label_clean != NULL);
    if (memorized)
        *memorized = corrupted > 0 ? (double)learnt / (double)corrupted : NAN;
    return LIPS_OK;
}
