/*
 * measure/survey.h - what one measurement computes: its per-sample series and what the blocks owe
 * them.
 */
#ifndef LIPS_MEASURE_SURVEY_H
#define LIPS_MEASURE_SURVEY_H

#include "measure/quantities.h"

typedef struct lips_block lips_block;
typedef struct lips_series lips_series;

/* Fills out[0..n_v)[0..b->b) with the block's values. */
typedef void (*lips_series_eval)(const lips_series *s, lips_block *b, double *out[2]);

/* One or two per-sample vectors that come from the same matrices ("op" and "fro"). */
struct lips_series {
    int row;   /* quantity */
    int layer; /* 1..L; 0: of the network */
    int n_v;
    const char *norm[2]; /* of each vector; NULL: none */
    const char *output[2];
    lips_series_eval eval;
    int mode;           /* the eval's: an output map or an item */
    double if_broken;   /* value of a sample with a non-finite input or logit */
    const char *reason; /* why it cannot be given; NULL: it can */
    double *v[2];       /* (n), owned by the survey */
};

struct lips_survey {
    const lips_measure_args *args;
    const lips_net *net;
    int64_t n, k, block; /* samples, classes, samples per block */
    int layers;
    uint64_t wanted, planned; /* rows whose records are asked for; rows whose series exist */
    unsigned needs;           /* LIPS_NEED_* of all series that can be given */
    unsigned full, one;       /* items of the K-cotangent pass and of the loss pass */
    bool triangle;            /* the input's Grams come from the first layer's triangular factor */
    double *first_factor;     /* (O,O) of the first layer; NULL before lips_survey_alloc */
    const char *no_class;     /* reason why there are no class labels; NULL: there are */
    const char *no_loss;      /* reason why there is no loss; NULL: there is one */
    lips_series *series;
    int n_series, cap_series;
    lips_handles *handles, *own; /* the caller's or its own */
    lips_backend *rows_be;       /* holds rows; NULL: there are none */
    lips_rows rows;              /* the samples in their order, on the device (lips_survey_load) */
};

/* Checks args, plans every wanted quantity, resolves needs and passes. Allocates no per-sample
 * memory yet, and reads no sample. LIPS_ERR_USAGE: no samples, ... */
lips_status lips_survey_create(lips_survey **out, const lips_measure_args *a);
/* LIPS_ERR_DATA: a label is out of range. */
lips_status lips_survey_check_labels(const lips_survey *p);
void lips_survey_free(lips_survey *p);
/* Allocates the series' vectors, factorises the first layer if that is to be used. */
lips_status lips_survey_alloc(lips_survey *p);
/* Puts the samples into the device's memory, if they are read more than once and are not there.
 * Bytes that this takes: 0 where it is not done. */
lips_status lips_survey_load(lips_survey *p);
size_t lips_survey_load_bytes(const lips_survey *p);
/* Samples per block of n, and where blocks are summed in reals: of network and backend alone, so
 * that neither a choice of block nor the machine shows in a result. */
int64_t lips_survey_block(const lips_net *net, const lips_ops *ops, int64_t n);
int64_t lips_survey_sum_block(const lips_net *net, const lips_ops *ops, int64_t n);
/* Bytes that lips_survey_alloc will take. */
size_t lips_survey_bytes(const lips_survey *p);

/* For plan functions. row, n_v, norm, output, layer, eval, mode, reason are copied from s. */
lips_status lips_survey_add(lips_survey *p, const lips_series *s);
/* Plans another quantity's series without asking for its records. */
lips_status lips_survey_require(lips_survey *p, const char *name);

/* The series of a quantity at a layer; NULL if not planned. */
const lips_series *lips_survey_find(const lips_survey *p, const char *name, int layer);

/* A handle on the backend with the libraries and choices that the caller asks for, and these
 * precisions; and its way back. */
lips_status lips_survey_open(const lips_survey *p, lips_precision forward, lips_precision backward,
                             lips_backend **out);
void lips_survey_close(const lips_survey *p, lips_backend *be);

/* Samples first..first+input->b-1 into an exec's input. */
lips_status lips_survey_input(const lips_survey *p, lips_backend *be, const lips_tensor *input,
                              int64_t first);

/* Row of inputs.x of sample i, and its class (needs no_class == NULL). */
int64_t lips_survey_row(const lips_survey *p, int64_t i);
int64_t lips_survey_class(const lips_survey *p, int64_t i);

#endif
