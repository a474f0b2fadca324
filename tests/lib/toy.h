/*
 * tests/lib/toy.h - a tiny data set, network and backend handle for tests of the trainer: samples
 * of three classes around three centres, some labels wrong.
 */
#ifndef LIPS_TESTS_TOY_H
#define LIPS_TESTS_TOY_H

#include "train/trainer.h"

typedef struct toy {
    lips_dataset d;
    lips_config cfg;
    lips_net *net;
    lips_backend *be;
    char dir[256];
} toy;

enum { TOY_N = 37, TOY_C = 2, TOY_H = 4, TOY_W = 4, TOY_K = 3, TOY_ROW = TOY_C * TOY_H * TOY_W };

/* 40 epochs of 5 steps, the last one smaller. optimizer: "sgd" or "adam". */
toy *toy_create(const char *model, bool batch_norm, const char *backend, const char *optimizer);
void toy_free(toy *t);

lips_trainer *toy_trainer(toy *t);
/* n epochs; a failure is cmocka's. */
void toy_epochs(lips_trainer *tr, int n);
/* Parameters, then buffers. malloc'ed. */
double *toy_weights(lips_trainer *tr, const toy *t, size_t *bytes);
/* In the toy's folder; until the next call. */
const char *toy_path(const toy *t, const char *name);

#endif
