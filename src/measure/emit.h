/*
 * measure/emit.h - from a survey's filled series to records.
 */
#ifndef LIPS_MEASURE_EMIT_H
#define LIPS_MEASURE_EMIT_H

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
    const char *split;       /* as the names, owned by out->storage */
    const char **names;      /* (L + 1), [l] of layer l */
    lips_layer_norms *norms; /* (L + 1), filled when first asked for */
};

/* Appends the records of every wanted row, in table order, and the per-sample vectors if args ask
 * for them. */
lips_status lips_emit_all(lips_measurement *out, const lips_survey *p);

/* emit functions of the quantity table */
lips_status lips_emit_mean(lips_emit *e, int row);        /* one value: the mean */
lips_status lips_emit_weight_norm(lips_emit *e, int row); /* layer.weight_* */
lips_status lips_emit_bound(lips_emit *e, int row);       /* bound.layer */
lips_status lips_emit_distance_layer(lips_emit *e, int row);
lips_status lips_emit_distance_total(lips_emit *e, int row);
lips_status lips_emit_loss_max(lips_emit *e, int row);
lips_status lips_emit_degenerate(lips_emit *e, int row);

/* A record of row with split, epoch, precision and device filled; host: computed in f64 from the
 * weights alone, whatever the backend, and of no split. */
lips_record lips_emit_base(const lips_emit *e, int row, int layer, bool host);
lips_status lips_emit_add(lips_emit *e, const lips_record *r);

#endif
