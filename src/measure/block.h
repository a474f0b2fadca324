/*
 * measure/block.h - one block of samples on one backend handle: forward, stacked vjps, Grams; and
 * the host-side results that the series are evaluated from.
 *
 * On a device a block costs, whatever its size (convnet, counted by CUSIM_SUMMARY as in
 * tests/cusim/test_measure.py): `jacobian` 25 launches, all of sections B and C 64; two waits, for
 * the logits and at the end; over the bus and back one piece of some hundred bytes per sample,
 * never an image of the resident data set, never a Gram matrix.
 *
 * Per-sample gradient norms of every layer (layer.loss_grad_param, 21 launches): forward, vjp, and
 * the smaller of direct and pixel form of the layer's Gram (kernels/conv_gram.cu). Million
 * multiply-adds per sample against the three passes of a plain gradient step: w = 4: 2.9 : 3.0,
 * w = 16: 40 : 44, w = 64: 557 : 685; f64 products are below 0.4 % of them. Bytes are the step's.
 * Prediction, H100: at most a gradient step's time at each width; at w = 4 launches decide.
 */
#ifndef LIPS_MEASURE_BLOCK_H
#define LIPS_MEASURE_BLOCK_H

#include "measure/reduce.h"
#include "measure/survey.h"

/* Everything here belongs to one thread. Per-layer arrays have one part per layer, network-wide
 * ones one. */
struct lips_block {
    const lips_survey *survey;
    int64_t first, b; /* samples first..first+b-1 of the survey */
    int64_t cap, k;
    double *logits, *p, *rest; /* (cap,K); rest = 1 - p */
    double *u;                 /* (cap,K) dL/dz; NULL without a loss */
    double *pick;              /* (cap,K) 1 at the sample's class; NULL: not wanted */
    double *loss;              /* (cap) */
    double *full[LIPS_ITEMS];  /* (parts,cap,K,K) Grams of the K cotangents; NULL: not wanted; the
                                * backend's own where it makes `reduced` of them */
    double *reduced[LIPS_ITEMS][LIPS_REDUCES]; /* ([2,] parts,cap) by the backend; NULL: not wanted,
                                                * or the host's */
    double *one[LIPS_ITEMS];                   /* (parts,cap) of the loss's; NULL: not wanted */
    double *act;          /* (L,cap) squared norms of the layers' inputs; NULL: not wanted */
    double *maps, *eigen; /* (cap,K,K), lips_eigen_scratch(K): where the host reduces; else NULL */
    double *work;         /* (K) */
    double *part;         /* (cap) */

    /* device side */
    lips_backend *be;
    lips_exec *exec;
    double *shared; /* p, u, pick, reduced, one, act, and full where the host reduces it */
    void *params, *buffers;
    void *factor,
        *through; /* first layer's triangular factor, and the cotangents behind it; or NULL */
    double *seed,
        *unit; /* (cap,K) loss cotangents scaled to a largest entry of 1; (cap) their scales */
    bool in_loss_pass; /* the loss pass is running (which of full, one the visitor fills) */
};

lips_status lips_block_create(lips_block **out, const lips_survey *survey);
void lips_block_free(lips_block *b);
/* Bytes that lips_block_create takes on host and device, without taking them; *own: those of them
 * that its handle keeps. */
lips_status lips_block_plan_bytes(const lips_survey *survey, size_t *bytes, size_t *own);

/* Runs samples first..first+b-1 through the passes and fills the series' vectors at their places.
 */
lips_status lips_block_run(lips_block *b, int64_t first);

/* Layers of an item; 1 where it is the network's. */
int lips_block_parts(const lips_survey *p, int item);
/* Doubles of `shared`, from *bytes on; with b NULL they are only counted. */
void lips_block_take_shared(lips_block *b, double **dst, int64_t count, size_t *bytes);

/* out (b) = squared norms of the loss gradient's item, from whichever pass computed it. */
void lips_block_loss_sq(lips_block *b, int item, int layer, double *out);

#endif
