/*
 * measure/series.h - the plan functions of the quantity table: which per-sample series a quantity
 * is made of.
 */
#ifndef LIPS_MEASURE_SERIES_H
#define LIPS_MEASURE_SERIES_H

#include "measure/survey.h"

/* What the series takes of an item's Gram matrices: bits of LIPS_REDUCE_*. */
unsigned lips_series_reduces(const lips_survey *p, const lips_series *s, int item);
/* The same for those of series_trace.c. */
unsigned lips_series_trace_reduces(const lips_series *s, int item);

lips_status lips_series_loss(lips_survey *p, int row);
lips_status lips_series_error(lips_survey *p, int row);
lips_status lips_series_jacobian(lips_survey *p, int row);
lips_status lips_series_layer_gram(lips_survey *p, int row);
lips_status lips_series_layer_loss(lips_survey *p, int row);
lips_status lips_series_act_norm(lips_survey *p, int row);
lips_status lips_series_bound(lips_survey *p, int row);
lips_status lips_series_gradient(lips_survey *p, int row);
lips_status lips_series_loss_max(lips_survey *p, int row);
lips_status lips_series_logit_hessian(lips_survey *p, int row);
lips_status lips_series_degenerate(lips_survey *p, int row);
lips_status lips_series_chain(lips_survey *p, int row);
lips_status lips_series_trace(lips_survey *p, int row);
lips_status lips_series_hessian_trace(lips_survey *p, int row);
lips_status lips_series_bound_landscape(lips_survey *p, int row);

#endif
