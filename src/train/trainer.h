/*
 * train/trainer.h - trains one network, an epoch at a time; knows nothing of files of results,
 * of measuring or of sweeps.
 */
#ifndef LIPS_TRAIN_TRAINER_H
#define LIPS_TRAIN_TRAINER_H

#include "config/config.h"
#include "data/data.h"
#include "nn/net.h"
#include "train/resident.h"

typedef struct lips_trainer lips_trainer;

/* net, data and be stay the caller's and outlive the trainer. Initial weights from cfg->init and
 * cfg->seed. LIPS_ERR_USAGE: batch larger than the training set, network and data do not fit. */
lips_status lips_trainer_create(lips_trainer **out, const lips_config *cfg, const lips_net *net,
                                const lips_dataset *data, lips_backend *be);
/* The same with data in the device's memory already, made from equal data on the same device. NULL:
 * the trainer makes its own. */
lips_status lips_trainer_create_on(lips_trainer **out, const lips_config *cfg, const lips_net *net,
                                   const lips_dataset *data, lips_backend *be,
                                   const lips_resident *resident);
void lips_trainer_free(lips_trainer *tr);
/* Bytes it will allocate, for --dry-run (parameters, gradients, optimiser, activations), beside a
 * resident set. */
lips_status lips_trainer_plan_bytes(const lips_config *cfg, const lips_net *net,
                                    const lips_dataset *data, lips_backend *be, size_t *bytes);

int64_t lips_trainer_epoch(const lips_trainer *tr); /* epochs finished */
int64_t lips_trainer_step(const lips_trainer *tr);  /* steps finished in the epoch that runs */

/* One epoch of minibatch steps, or the rest of it after a resume; the last batch may be smaller.
 * LIPS_ERR_DIVERGED: a batch loss (or a gradient under a huge loss) was not finite; the weights are
 * those before that step, the text says epoch and step. LIPS_ERR_REQUEUE/INTERRUPTED: a signal
 * came; the current step is finished, the cursor stands inside the epoch, lips_trainer_save keeps
 * it. */
lips_status lips_trainer_run_epoch(lips_trainer *tr);

typedef struct lips_eval {
    double loss, error; /* mean over the split; error is NaN for regression */
    int64_t n;
} lips_eval;

/* Evaluation-mode pass over one forward of the split: given labels (or targets) and clean ones at
 * once. clean may be NULL. memorized: share of the corrupted samples that are predicted as their
 * wrong label, NaN if none is corrupted; may be NULL. */
lips_status lips_trainer_evaluate(lips_trainer *tr, const lips_split *split, lips_eval *noisy,
                                  lips_eval *clean, double *memorized);

/* The split's rows in the device's memory, as long as the trainer (or its resident set) lives;
 * NULL: they are the host's alone. */
const lips_rows *lips_trainer_rows(const lips_trainer *tr, const lips_split *split);

/* Views for measuring: device vectors, valid until the next step. */
const void *lips_trainer_params(const lips_trainer *tr);
void *lips_trainer_buffers(const lips_trainer *tr);

/* Host copies. */
lips_status lips_trainer_get_params(lips_trainer *tr, double *params /*(P)*/, double *buffers);

/* Bit-exact state: parameters, buffers, optimiser, cursor (epoch, step in epoch), and `extra`
 * (caller's text, e.g. the length of metrics.jsonl), in one safetensors file; written atomically,
 * the previous one kept as path with ".prev" before the suffix. */
lips_status lips_trainer_save(lips_trainer *tr, const char *path, const char *extra);
/* Falls back to the previous generation, with a warning if the newest is damaged. *extra is
 * malloc'ed (or NULL). LIPS_ERR_DATA names the differing field if the state is of another
 * configuration, data hash, backend or engine version, or if every generation is damaged; the
 * trainer is then unchanged. *found = false if there is no file at all. */
lips_status lips_trainer_load(lips_trainer *tr, const char *path, char **extra, bool *found);

/* Weights under PyTorch names, F32, with metadata lipsweep.config (YAML), epoch, data_hash,
 * version, commit, model, width, depth, classes, input (CxHxW), batch_norm. */
lips_status lips_trainer_export(lips_trainer *tr, const char *path);

#endif
