/*
 * measure/emit.h - from a survey's filled series to records.
 */
#ifndef LIPS_MEASURE_EMIT_H
#define LIPS_MEASURE_EMIT_H

#include "measure/curvature.h"
#include "measure/lanczos.h"
#include "measure/operator.h"
#include "measure/survey.h"

typedef struct lips_layer_norms {
    double fro;
    lips_spectral op;       /* of the layer as an operator */
    lips_spectral reshaped; /* of the kernel as a matrix */
    bool has_op, has_reshaped;
} lips_layer_norms;

struct lips_emit {
    const lips_survey *survey;
    lips_measurement *out;
    int cap_records;
    const char *split;            /* as the names, owned by out->storage */
    const char *device;           /* what the records say they were computed on */
    const char **names;           /* (L + 1), [l] of layer l */
    lips_layer_norms *norms;      /* (L + 1), filled when first asked for */
    const char *not_finite;       /* why numbers are not finite, found when first asked for */
    lips_curvature *curvature;    /* made when first asked for, as the pairs below */
    lips_backend *host;           /* for vectors that do not fit the device; NULL: not needed yet */
    lips_eigenpairs hessian, ggn; /* value NULL: not yet */
    double *remainder; /* (2,L+1) trace of Hessian - Gauss-Newton, errors; NULL: not yet */
    int64_t draws;     /* its sign vectors */
};

/* Appends the records of every wanted row, in table order, and the per-sample vectors if args ask
 * for them. */
lips_status lips_emit_all(lips_measurement *out, const lips_survey *p);

/* Bytes that lips_emit_all takes for the curvature, after the blocks are gone. */
lips_status lips_emit_plan_bytes(const lips_survey *p, size_t *bytes);

/* Bytes that the layers' spectral norms take, one after the other; 0 where none is wanted. */
size_t lips_emit_weight_bytes(const lips_survey *p);

/* Where maps are curved: e->remainder over all measured samples, which the Gauss-Newton part is
 * over too. */
lips_status lips_emit_need_remainder(lips_emit *e);
/* Frees what the curvature's rows have made. */
void lips_emit_drop_curvature(lips_emit *e);

/* emit functions of the quantity table */
lips_status lips_emit_mean(lips_emit *e, int row);        /* one value: the mean */
lips_status lips_emit_weight_norm(lips_emit *e, int row); /* layer.weight_* */
lips_status lips_emit_bound(lips_emit *e, int row);       /* bound.layer */
lips_status lips_emit_distance_layer(lips_emit *e, int row);
lips_status lips_emit_distance_total(lips_emit *e, int row);
lips_status lips_emit_loss_max(lips_emit *e, int row);
lips_status lips_emit_degenerate(lips_emit *e, int row);
lips_status lips_emit_product(lips_emit *e, int row);         /* lipschitz.product */
lips_status lips_emit_certified(lips_emit *e, int row);       /* lipschitz.certified */
lips_status lips_emit_chain(lips_emit *e, int row);           /* lipschitz.chain */
lips_status lips_emit_trace(lips_emit *e, int row);           /* hessian.trace, ggn.trace */
lips_status lips_emit_lambda_max(lips_emit *e, int row);      /* hessian., ggn.lambda_max */
lips_status lips_emit_top(lips_emit *e, int row);             /* hessian.top */
lips_status lips_emit_alignment(lips_emit *e, int row);       /* hessian.alignment */
lips_status lips_emit_bound_landscape(lips_emit *e, int row); /* bound.landscape */

/* E op <= max op <= certified, each link but for a relative rounding. */
typedef struct lips_chain {
    double mean, max, certified;
    double rounding;
    const char *no_bound; /* why there is no certified bound, or NULL */
} lips_chain;

/* Into r: 1 where the chain holds; 0 and the reason where a link fails, which is a bug; null where
 * there is no bound or a norm is not a number. */
void lips_chain_judge(lips_record *r, const lips_chain *c);

/* A record of row with split, epoch, precision and device filled; host: computed in f64 from the
 * weights alone, whatever the backend, and of no split. */
lips_record lips_emit_base(const lips_emit *e, int row, int layer, bool host);
lips_status lips_emit_add(lips_emit *e, const lips_record *r);
/* One number of several that a row is made of, called `what` in the field output; or why it is not
 * there. */
lips_status lips_emit_part(lips_emit *e, int row, int layer, const char *what, double value);
lips_status lips_emit_part_null(lips_emit *e, int row, int layer, const char *what,
                                const char *reason);

/* Sees to it that e->norms[layer].op is there. */
lips_status lips_emit_operator_norm(lips_emit *e, int layer);
/* *out = the network's certified bound (NaN and *reason where none exists), widened by *slack
 * (relative) so that the layers' norms, which are found from below, are above the true ones;
 * *iterations: products it took. */
lips_status lips_emit_certify(lips_emit *e, double *out, double *slack, int64_t *iterations,
                              const char **reason);

#endif
