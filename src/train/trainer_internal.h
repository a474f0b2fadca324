/* train/trainer_internal.h - what trainer.c, step.c, evaluate.c and state.c share. */
#ifndef LIPS_TRAIN_TRAINER_INTERNAL_H
#define LIPS_TRAIN_TRAINER_INTERNAL_H

#include "train/trainer.h"

enum { LIPS_SPLITS = 3 }; /* train, val, test */

struct lips_resident {
    lips_backend *be;
    lips_rows rows[LIPS_SPLITS]; /* where the backend gathers; else no memory */
};

/* Steps on batches of one size, recorded where the backend can. */
typedef struct lips_tape {
    int64_t b;               /* of the size; 0: none has run */
    lips_recorded *recorded; /* NULL: none yet */
} lips_tape;

enum { LIPS_TAPES = 2 }; /* whole batches, and an epoch's last one */

struct lips_trainer {
    /* Configuration, the caller's except for the copy. */
    lips_config cfg;
    const lips_net *net;
    const lips_dataset *data;
    lips_backend *be;
    int64_t n_params, n_buffers;
    int64_t window; /* samples of an evaluation between two waits */

    /* Device memory. m, v: the optimiser's vectors, v only for Adam. */
    lips_exec *exec, *eval_exec;
    void *params, *grads, *m, *v; /* (P) real */
    void *buffers, *kept;         /* running statistics, and those before this step; or NULL */
    void *cursor;                 /* lips_cursor: what the device knows of step and updates below */
    void *step_losses;            /* (batch) f64 */
    void *device_order;           /* (N) i64: order, where the training rows lie with the backend */
    lips_tape tape[LIPS_TAPES];

    const lips_resident *resident; /* the data set: shared, or */
    lips_resident *own_resident;   /* its own; NULL: shared */

    /* Shared memory of the backend. */
    double *losses, *clean_losses; /* (window) of an evaluation */
    int64_t *pred;                 /* (window) */
    lips_cursor *seen;             /* (LIPS_FETCHES) the cursor as it was fetched */

    /* Host scratch. */
    int64_t *order;   /* (N) batch order of order_epoch */
    float *augmented; /* (batch,C,H,W), only with augmentation */
    int64_t *labels;  /* (batch) */
    float *targets;   /* (batch,K), regression */

    /* State: with params, buffers, m and v all that a resume needs. */
    int64_t epoch;   /* epochs finished */
    int64_t step;    /* steps finished in the epoch that runs */
    int64_t updates; /* steps in all: Adam's count */

    int64_t order_epoch;     /* whose order `order` holds; -1: none */
    bool record;             /* steps are recorded */
    int64_t fetched, looked; /* cursors of this epoch: asked for, and looked at */
};

/* Forgets what was recorded. */
void lips_trainer_erase(lips_trainer *tr);

/* Samples per evaluation pass: fixed by network and backend alone, so that no other setting moves a
 * bit. */
int64_t lips_eval_batch(const lips_net *net, const lips_backend *be);

/* Samples between two waits: whole batches, all of a split unless it is very large. */
int64_t lips_eval_window(const lips_dataset *d, const lips_net *net, const lips_backend *be);

/* Those of the steps, if any: then a step takes nothing from the host. */
static inline const lips_rows *lips_trainer_train_rows(const lips_trainer *tr)
{
    return lips_trainer_rows(tr, &tr->data->train);
}

#endif
