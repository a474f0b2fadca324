/*
 * train/evaluate.c - passes in evaluation mode over a split.
 *
 * Batches are queued one after another; only when a window of samples is full, or the split ends,
 * does the host wait for their losses, and adds them up in the samples' order.
 */
#include "train/trainer_internal.h"

#include <math.h>

/* Enough rows for full matrix products; fewer for images, whose activations must fit the cache. */
enum {
    EVAL_BATCH_FLAT = 256,
    EVAL_BATCH_SPATIAL = 64,
    EVAL_BATCH_DEVICE = 1024 /* at most: a narrow network's launches then cost less than its work */
};

enum { WINDOW = 1 << 16 };

int64_t lips_eval_window(const lips_dataset *d, const lips_net *net, const lips_backend *be)
{
    const int64_t cap = lips_eval_batch(net, be);
    int64_t most = d->train.n > d->test.n ? d->train.n : d->test.n;
    most = d->val.n > most ? d->val.n : most;
    most = most < WINDOW ? most : WINDOW;
    return (most + cap - 1) / cap * cap;
}

int64_t lips_eval_batch(const lips_net *net, const lips_backend *be)
{
    const lips_ops *ops = be->ops;
    if (ops->pass_bytes)
        return lips_net_fits(net, 0, ops->real_bytes, ops->pass_bytes / 4, EVAL_BATCH_DEVICE);
    return lips_net_layer(net, 1)->conv ? EVAL_BATCH_SPATIAL : EVAL_BATCH_FLAT;
}

/* What samples are scored against: labels or targets, given or clean. */
typedef struct truth {
    const int64_t *label;
    const float *target;
} truth;

static truth from(truth t, int64_t first, int64_t classes)
{
    return (truth){.label = t.label ? t.label + first : NULL,
                   .target = t.target ? t.target + first * classes : NULL};
}

static lips_status queue_loss(lips_trainer *tr, const lips_tensor *logits, truth t, double *losses,
                              int64_t *pred)
{
    return tr->be->ops->loss(tr->be, &(lips_loss_args){.kind = tr->cfg.loss,
                                                       .z = *logits,
                                                       .labels = t.label,
                                                       .targets = t.target,
                                                       .loss = losses,
                                                       .pred = t.label ? pred : NULL,
                                                       .scale = 1});
}

/* Losses and predictions of b rows of the split from `first` on, to place `at` of the window. */
static lips_status queue_batch(lips_trainer *tr, const lips_split *split, int64_t first, int64_t b,
                               int64_t at, const truth *given, const truth *clean)
{
    const lips_dataset *d = tr->data;
    const lips_rows *rows = lips_trainer_rows(tr, split);
    lips_tensor *in = lips_exec_input(tr->eval_exec), logits;
    in->b = b;
    if (rows)
        LIPS_TRY(tr->be->ops->gather(tr->be,
                                     &(lips_gather_args){.rows = rows, .y = *in, .first = first}));
    else
        LIPS_TRY(tr->be->ops->upload(tr->be, in, split->x + first * d->c * d->h * d->w, NULL));
    LIPS_TRY(lips_exec_forward(tr->eval_exec, false, &logits));
    if (clean)
        LIPS_TRY(queue_loss(tr, &logits, from(*clean, first, d->classes), tr->clean_losses + at,
                            tr->pred + at));
    return queue_loss(tr, &logits, from(*given, first, d->classes), tr->losses + at, tr->pred + at);
}

static void add(lips_eval *sum, const double *losses, const int64_t *pred, const int64_t *label,
                int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        sum->loss += losses[i];
        sum->error += label && pred[i] != label[i] ? 1.0 : 0.0;
    }
    sum->n += n;
}

static void finish(lips_eval *sum, bool classes)
{
    sum->loss = sum->n > 0 ? sum->loss / (double)sum->n : NAN;
    sum->error = classes && sum->n > 0 ? sum->error / (double)sum->n : NAN;
}

/* Corrupted samples, and those of them that are predicted as their wrong label. */
typedef struct learning {
    int64_t corrupted, learnt;
} learning;

static void count(learning *l, const int64_t *pred, const int64_t *label, const int64_t *clean,
                  int64_t n)
{
    for (int64_t i = 0; label && clean && i < n; i++) {
        l->corrupted += label[i] != clean[i];
        l->learnt += label[i] != clean[i] && pred[i] == label[i];
    }
}

lips_status lips_trainer_evaluate(lips_trainer *tr, const lips_split *split, lips_eval *noisy,
                                  lips_eval *clean, double *memorized)
{
    const int64_t cap = lips_eval_batch(tr->net, tr->be), k = tr->data->classes;
    const truth given = {split->label, split->target};
    const truth pure = {split->label_clean, split->target_clean};
    learning l = {0};
    *noisy = (lips_eval){0};
    if (clean)
        *clean = (lips_eval){0};
    for (int64_t first = 0, n; first < split->n; first += n) {
        n = split->n - first < tr->window ? split->n - first : tr->window;
        for (int64_t at = 0; at < n; at += cap)
            LIPS_TRY(queue_batch(tr, split, first + at, n - at < cap ? n - at : cap, at, &given,
                                 clean ? &pure : NULL));
        LIPS_TRY(tr->be->ops->sync(tr->be));
        const int64_t *label = from(given, first, k).label;
        const int64_t *label_clean = from(pure, first, k).label;
        if (clean)
            add(clean, tr->clean_losses, tr->pred, label_clean, n);
        add(noisy, tr->losses, tr->pred, label, n);
        count(&l, tr->pred, label, label_clean, n);
    }
    finish(noisy, split->label != NULL);
    if (clean)
        finish(clean, split->label_clean != NULL);
    if (memorized)
        *memorized = l.corrupted > 0 ? (double)l.learnt / (double)l.corrupted : NAN;
    return LIPS_OK;
}
