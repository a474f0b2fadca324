/*
 * measure/quantities.h - the table of quantities: what each is called, needs and how it becomes
 * records.
 *
 * A new measurement is a row here, a plan function that names its per-sample series (or none), and,
 * where its record is not simply the statistics of each series, an emit function.
 */
#ifndef LIPS_MEASURE_QUANTITIES_H
#define LIPS_MEASURE_QUANTITIES_H

#include "measure/measure.h"

#include <stdbool.h>

/* What a block must compute for a quantity. Grams come in five items, once for the K one-hot
 * cotangents (T = K) and once for the loss's (T = 1; shifted by LIPS_NEED_LOSS). */
enum {
    LIPS_ITEM_INPUT,  /* at the network's input */
    LIPS_ITEM_IN,     /* at each layer's input: theta_l' delta_l */
    LIPS_ITEM_WEIGHT, /* of each layer's weight Jacobian */
    LIPS_ITEM_BIAS,   /* of each layer's bias Jacobian */
    LIPS_ITEM_NORM,   /* of all parameters outside layers: norms', class token, positions */
    LIPS_ITEMS
};

enum {
    LIPS_NEED_INPUT = 1 << LIPS_ITEM_INPUT,
    LIPS_NEED_IN = 1 << LIPS_ITEM_IN,
    LIPS_NEED_WEIGHT = 1 << LIPS_ITEM_WEIGHT,
    LIPS_NEED_BIAS = 1 << LIPS_ITEM_BIAS,
    LIPS_NEED_NORM = 1 << LIPS_ITEM_NORM,
    LIPS_NEED_LOSS_SHIFT = LIPS_ITEMS,
    LIPS_NEED_LOSS_INPUT = LIPS_NEED_INPUT << LIPS_NEED_LOSS_SHIFT,
    LIPS_NEED_LOSS_IN = LIPS_NEED_IN << LIPS_NEED_LOSS_SHIFT,
    LIPS_NEED_LOSS_WEIGHT = LIPS_NEED_WEIGHT << LIPS_NEED_LOSS_SHIFT,
    LIPS_NEED_LOSS_BIAS = LIPS_NEED_BIAS << LIPS_NEED_LOSS_SHIFT,
    LIPS_NEED_LOSS_NORM = LIPS_NEED_NORM << LIPS_NEED_LOSS_SHIFT,
    LIPS_NEED_ACT = 1 << (2 * LIPS_ITEMS),         /* norms of the layers' inputs */
    LIPS_NEED_FORWARD = 1 << (2 * LIPS_ITEMS + 1), /* logits */
    LIPS_NEED_ITEMS_MASK = (1 << LIPS_ITEMS) - 1
};

typedef struct lips_survey lips_survey;
typedef struct lips_emit lips_emit;

typedef struct lips_quantity {
    const char *name;
    char section;
    unsigned needs;
    lips_status (*plan)(lips_survey *p, int row); /* adds the series; NULL: none */
    lips_status (*emit)(lips_emit *e, int row);   /* NULL: statistics of each series */
} lips_quantity;

extern const lips_quantity lips_quantities[];
extern const int lips_quantities_count;

/* Row of the table; -1 if there is none. */
int lips_quantity_find(const char *name);

static inline bool lips_metrics_has(const lips_metrics *m, int row)
{
    return (m->bits >> row) & 1;
}

#endif
