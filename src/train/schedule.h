/* train/schedule.h - the learning rate of each epoch. */
#ifndef LIPS_TRAIN_SCHEDULE_H
#define LIPS_TRAIN_SCHEDULE_H

#include "config/config.h"

/*
 * Learning rate of epoch e = 0, 1, ..., constant within an epoch:
 *
 *   base(e) = warmup_lr + (lr - warmup_lr) e / warmup_epochs   for e < warmup_epochs, else lr
 *   rate(e) = base(e) lr_decay^floor(e / lr_step)              (lr_step = 0: no decay)
 *
 * So the first epoch runs at warmup_lr and epoch number warmup_epochs is the first at lr.
 */
double lips_learning_rate(const lips_config *cfg, int64_t epoch);

#endif
