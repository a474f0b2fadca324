/*
 * data/data.h - data sets in memory: images or real vectors with labels or targets.
 *
 * A lips_split holds standardised inputs, resident as f32 rows in (C,H,W) order, so that a batch is
 * one gather. Augmentation works on rows as it gathers.
 */
#ifndef LIPS_DATA_DATA_H
#define LIPS_DATA_DATA_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum lips_source {
    LIPS_DATA_FASHION_MNIST, /* IDX files, raw or gzip: Debian's dataset-fashion-mnist, data_dir */
    LIPS_DATA_IDX,           /* any IDX set with the MNIST file names, in data_dir */
    LIPS_DATA_CIFAR10,       /* data_batch_1..5.bin, test_batch.bin in data_dir */
    LIPS_DATA_CIFAR100,      /* train.bin, test.bin in data_dir, fine labels */
    LIPS_DATA_SINE           /* noisy samples of sin(x), made here */
} lips_source;

typedef struct lips_data_spec {
    lips_source source;
    const char *data_dir;      /* NULL or "": the source's default places */
    int64_t n_train;           /* samples drawn from the training file; 0: all */
    int64_t n_test;            /* 0: all (sine: 200) */
    int64_t n_val;             /* further samples kept apart from the training file; 0: none */
    double label_noise;        /* share p of training labels moved to another class: round(n p) */
    uint64_t data_seed;        /* which samples, sine inputs */
    uint64_t noise_seed;       /* which labels, to what; sine observation noise */
    double sine_noise;         /* standard deviation of the observation noise */
    double sine_min, sine_max; /* range of x */
} lips_data_spec;

typedef struct lips_split {
    int64_t n;
    float *x;              /* (n,C,H,W) standardised */
    int64_t *label;        /* (n) the labels trained on (noisy); NULL for regression */
    int64_t *label_clean;  /* (n) true labels; NULL for regression. Equal to label where no noise */
    float *target;         /* (n,K) regression targets (noisy); NULL for classes */
    float *target_clean;   /* (n,K) */
    int64_t *source_index; /* (n) row in the source file */
} lips_split;

typedef struct lips_dataset {
    int64_t c, h, w, classes; /* classes = K; 1 for sine */
    bool regression;
    lips_split train, val, test; /* val.n may be 0 */
    float mean[4], std[4];       /* per channel, of the training pixels used, in [0,1] (sine: of x);
                               * split's x = (pixel - mean) / std */
    uint64_t hash;               /* XXH3 of everything above that training sees */
    char origin[256];            /* where it came from, for the report */
} lips_dataset;

/* Loads, checks, draws the subset, corrupts labels, standardises. Errors: LIPS_ERR_DATA (missing,
 * truncated, wrong magic, label out of range, ...: file, offset, and where missing the command that
 * gets the data), LIPS_ERR_USAGE (n_train larger than the set, ...), LIPS_ERR_MEMORY. */
lips_status lips_dataset_load(lips_dataset **out, const lips_data_spec *spec);
void lips_dataset_free(lips_dataset *d);

/* out (epoch's order of 0..n-1): the same for every width. */
void lips_batch_order(uint64_t seed, int64_t epoch, int64_t n, int64_t *out);

/* dst (b,C,H,W) = rows idx of split, each cropped at random from its image padded by 4 and flipped
 * with probability 1/2. The padding is black, pixel 0, i.e. (0 - mean) / std once standardised,
 * as torchvision's. Depends on (seed, epoch, source_index) only: not on batch or thread. */
void lips_augment(const lips_dataset *d, const lips_split *s, const int64_t *idx, int64_t b,
                  uint64_t seed, int64_t epoch, float *dst);

/* table (C,256): what pixel v of channel c is once standardised, (v / 255 - mean) / std in f64,
 * rounded once. */
void lips_pixel_table(const lips_dataset *d, float *table);

/* The command that gets the source's data on Debian or from its site, for messages. */
const char *lips_source_hint(lips_source s);

#endif
