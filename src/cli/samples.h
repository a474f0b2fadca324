/* cli/samples.h - what a network is measured on: the user's file, or the data set of a sweep's own
 * cell. */
#ifndef LIPS_CLI_SAMPLES_H
#define LIPS_CLI_SAMPLES_H

#include "base/safetensors.h"
#include "cli/shape.h"
#include "measure/measure.h"

/* Owns everything that view points to. */
typedef struct lips_samples_file {
    lips_inputs view;
    lips_image_shape shape;
    float *x, *target;
    int64_t *label, *index;
    int64_t targets;       /* K of target */
    lips_dataset *dataset; /* of a cell; x, target and label are then NULL */
} lips_samples_file;

/* X.safetensors: x (N,C,H,W) or (N,D), and y (N) classes or (N,K) targets, or no y. At most n
 * samples, the first (0: all). */
lips_status lips_samples_read(lips_samples_file *out, const char *path, int64_t n);
/* split (train, train_clean, val, test) of the configuration's data; must be what `hash` (16 hex
 * digits, NULL: unknown) says. n samples drawn by cfg's measure_seed; -1: cfg's measure_n, 0: all.
 */
lips_status lips_samples_load(lips_samples_file *out, const lips_config *cfg, const char *hash,
                              const char *split, int64_t n);
/* Do labels or targets fit a network of so many classes? Names the first that does not. */
lips_status lips_samples_check(const lips_samples_file *s, int64_t classes);
void lips_samples_free(lips_samples_file *s);

#endif
