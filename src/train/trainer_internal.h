/* train/trainer_internal.h - what trainer.c, evaluate.c and state.c share. */
#ifndef LIPS_TRAIN_TRAINER_INTERNAL_H
#define LIPS_TRAIN_TRAINER_INTERNAL_H

#include "train/trainer.h"

enum { LIPS_SPLITS = 3 }; /* train, val, test */

struct lips_trainer {
    /* Configuration, the caller's except for the copy. */
    lips_config cfg;
    const lips_net *net;
    const lips_dataset *data;
    lips_backend *be;
    int64_t n_params, n_buffers;

    /* Device memory. m, v: the optimiser's vectors, v only for Adam. */
    lips_exec *exec, *eval_exec;
    void *params, *grads, *m, *v; /* (P) real */
    void *buffers, *buffers_old;  /* running statistics, and before this step; or NULL */

    lips_rows rows[LIPS_SPLITS]; /* the data set, where the backend gathers; else no memory */

    /* Shared memory of the backend. */
    double *losses; /* (largest batch) */
    int64_t *pred;  /* (largest batch) */

    /* Host scratch. */
    int64_t *order;   /* (N) batch order of order_epoch */
    float *augmented; /* (batch,C,H,W), only with augmentation */
    int64_t *labels;  /* (batch) */
    float *targets;   /* (batch,K), regression */

    /* State: with params, buffers, m and v all that a resume needs. */
    int64_t epoch;   /* epochs finished */
    int64_t step;    /* steps finished in the epoch that runs */
    int64_t updates; /* steps in all: Adam's count */

    int64_t order_epoch; /* whose order `order` holds; -1: none */
};

/* Samples per evaluation pass: fixed by the network alone, so that no other setting moves a bit. */
int64_t lips_eval_batch(const lips_net *net);

/* rows.c: the splits in the backend's memory, their bytes, and the rows of one of them; NULL: upload
 * them. */
lips_status lips_trainer_load_rows(lips_trainer *tr);
size_t lips_trainer_rows_bytes(const lips_dataset *d, const lips_backend *be);
const lips_rows *lips_trainer_rows(const lips_trainer *tr, const lips_split *split);

#endif
