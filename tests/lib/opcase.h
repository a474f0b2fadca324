/*
 * tests/lib/opcase.h - one case of one operation on one backend: seeded random inputs, outputs that
 * are poisoned and fenced, results collected as doubles so that backends can be compared.
 *
 * A case makes the same picks and the same values (rounded to float, so that every backend starts
 * from the same numbers) on every backend. Tensors have room for more samples than are used; the
 * unused ones hold large junk in inputs. Vectors of reals stand at unaligned places for odd cases.
 */
#ifndef LIPS_TESTS_OPCASE_H
#define LIPS_TESTS_OPCASE_H

#include "backend/backend.h"

enum { OPCASE_BLOCKS = 32, OPCASE_RESULTS = 16 };

typedef struct opcase_block {
    char *base; /* fence, data, fence */
    int64_t n;  /* reals (or doubles) of data */
    bool f64;
} opcase_block;

typedef struct opcase_result {
    const char *name;
    double *v;
    int64_t n;
} opcase_result;

typedef struct opcase {
    lips_backend *be;
    uint64_t seed, draws; /* values so far */
    int index;
    char shape[160]; /* for messages */
    int64_t b, cap, lanes;
    opcase_block block[OPCASE_BLOCKS];
    int n_blocks;
    opcase_result result[OPCASE_RESULTS];
    int n_results;
    bool integers; /* values are small integers */
    double rounds; /* set by a case whose op may use fractions all the same: f32 rounds them so */
    double tol;    /* set by a case that is more exact than its row says; 0: it is not */
} opcase;

/* Any failing call of the backend is a failed assertion of cmocka. */
void opcase_ok(lips_status st);

/* Are cases to keep away from the vendor's libraries? With LIPS_TEST_FEW, so that what watches
 * every access watches our kernels. */
bool opcase_own_kernels(void);

void opcase_begin(opcase *c, const lips_ops *ops, uint64_t seed, int index);
/* Checks the fences, releases all memory; results stay until opcase_drop. Returns false and prints
 * if a fence was written over. */
bool opcase_end(opcase *c);
void opcase_drop(opcase *c);

int64_t opcase_pick(opcase *c, const int64_t *list, int n);
double opcase_value(opcase *c);
/* Batch and layout of all tensors that follow. */
void opcase_batch(opcase *c, int64_t b, bool spatial);

lips_tensor opcase_input(opcase *c, int64_t ch, int64_t h, int64_t w, int64_t t);
lips_tensor opcase_output(opcase *c, int64_t ch, int64_t h, int64_t w, int64_t t); /* NaN */
/* n reals: random, or NaN. */
void *opcase_reals(opcase *c, int64_t n);
void *opcase_poisoned(opcase *c, int64_t n);
/* n doubles of shared memory: random, or NaN. */
double *opcase_doubles(opcase *c, int64_t n, bool poison);
/* n integers of shared memory, none of them a sensible one. */
int64_t *opcase_int64s(opcase *c, int64_t n);
/* Scratch bytes, with a fence behind. */
void *opcase_work(opcase *c, size_t bytes);

/* Backend memory with a copy of bytes. */
void *opcase_bytes(opcase *c, const void *from, size_t bytes);

/* Collect an output. */
void opcase_emit_tensor(opcase *c, const char *name, const lips_tensor *t);
void opcase_emit_reals(opcase *c, const char *name, const void *p, int64_t n);
void opcase_emit_doubles(opcase *c, const char *name, const double *p, int64_t n);
/* The values of an input, for tests that compute from them; caller frees. */
double *opcase_values(opcase *c, const lips_tensor *t);

#endif
