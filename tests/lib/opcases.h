/*
 * tests/lib/opcases.h - the table of op tests: one row per entry of lips_ops. A row's run() makes
 * one random case from the opcase's seed and index and emits every output; the same case on another
 * backend must give the same numbers to the row's tolerance.
 */
#ifndef LIPS_TESTS_OPCASES_H
#define LIPS_TESTS_OPCASES_H

#include "opcase.h"

/* What a float backend may differ by from ref, in relative L2 norm (ten times that for the worst
 * entry over the largest). u = 2^-24 = 6e-8. */
#define OP_EXACT 0.0    /* no rounding: copies, masks */
#define OP_ELEMENT 2e-7 /* a few roundings per element */
#define OP_SUM 2e-6     /* sums of up to 1000 products in f32: sqrt(1000) u */
#define OP_F64 1e-12    /* products of floats accumulated in f64 */
#define OP_TF32 1e-3    /* operands of 11 bits: two roundings of 2^-11 */
#define OP_BF16 8e-3    /* operands of 8 bits: two roundings of 2^-8 in a product */
#define OP_CONV 1e-5    /* sums, and the transforms of a fast algorithm */

typedef struct opcase_row {
    const char *name;
    size_t slot; /* offsetof in lips_ops */
    void (*run)(opcase *c);
    double tol;
    int cases;
    bool integers; /* exact on small integers, on every backend, unless the case says otherwise */
} opcase_row;

#define OPCASE_ROW(op, fn, tolerance, n)                                                           \
    {                                                                                              \
#op, offsetof(lips_ops, op), fn, tolerance, n, false                                       \
    }
#define OPCASE_ROW_INT(op, fn, tolerance, n)                                                       \
    {                                                                                              \
#op, offsetof(lips_ops, op), fn, tolerance, n, true                                        \
    }

typedef struct opcase_table {
    const opcase_row *row;
    int n;
} opcase_table;

/* NULL-terminated: one table per family. */
extern const opcase_table *const opcase_tables[];
extern const opcase_table opcases_memory, opcases_linear, opcases_conv, opcases_simple, opcases_bn,
    opcases_train, opcases_step, opcases_tokens, opcases_vectors;

/* Has the backend an op in this slot of its table? */
bool opcase_offered(const lips_ops *ops, size_t slot);

/* Usual picks. */
int64_t pick_batch(opcase *c); /* 1, 15, 16, 17, 31, 33 */
int64_t pick_width(opcase *c); /* 1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33; or LIPS_TEST_WIDTH */
int64_t pick_stack(opcase *c); /* 1, 2, 3, 10 */
bool pick_bool(opcase *c);
/* The cursor in backend memory, somewhere in an order of n places; stop: it has stopped. */
lips_cursor *pick_cursor(opcase *c, bool stop, lips_cursor *host);
/* Sets one of the precisions and libraries, where the backend has a choice. The tolerance of a
 * convolution or product that stands alone. */
double pick_arithmetic(opcase *c);

#endif
