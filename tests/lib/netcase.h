/*
 * tests/lib/netcase.h - one network with parameters, inputs and labels on one backend, for the
 * tests of whole networks. Values are seeded and representable in f32, the same on every backend.
 */
#ifndef LIPS_TESTS_NETCASE_H
#define LIPS_TESTS_NETCASE_H

#include "nn/graph.h"

enum { NETCASE_BATCH = 20 };

typedef struct netcase {
    const lips_ops *ops;
    lips_backend *be;
    lips_net *net;
    lips_exec *ex;
    int64_t n_params, n_buffers, features, classes;
    double *params, *buffers, *x; /* host: (P), (buffers), (NETCASE_BATCH, features) */
    int64_t labels[NETCASE_BATCH];
    void *dev_params, *dev_buffers, *dev_grads;
} netcase;

/* Parameters pytorch-initialised, batch norms with parameters and statistics away from the
 * identity. */
void netcase_open(netcase *c, const lips_ops *ops, const lips_model_spec *model,
                  const lips_exec_spec *exec);
/* The same with a network that the test built; takes it over. */
void netcase_open_net(netcase *c, const lips_ops *ops, lips_net *net, const lips_exec_spec *exec);
void netcase_close(netcase *c);

/* Host parameters and buffers to the device. */
void netcase_push(netcase *c);
/* Samples first..first+b-1 uploaded and run forward; *z the logits' tensor. */
void netcase_forward(netcase *c, int64_t first, int64_t b, bool training, lips_tensor *z);
/* Mean cross-entropy of the first b samples at the host's parameters and x. */
double netcase_loss(netcase *c, int64_t b, bool training);
/* Its gradient, grads (P) host. */
void netcase_grad(netcase *c, int64_t b, bool training, double *grads);
/* Stacked seed: values (b,t,K) host. */
void netcase_seed(netcase *c, int64_t t, const double *values);
/* Downloads a tensor; caller frees. */
double *netcase_values(netcase *c, const lips_tensor *t);

/* n seeded normals rounded to f32. Caller frees. */
double *netcase_random(uint32_t stream_epoch, int64_t n);

/* The networks that every test runs: mlp of depth 0..3, convnet and resnet18 with and without batch
 * norm. */
typedef struct netcase_model {
    const char *name;
    lips_model_spec spec;
} netcase_model;
extern const netcase_model netcase_models[];
extern const int netcase_n_models;
/* How many of them, from the first on, the backend offers: one that lacks ops is said once. */
int netcase_offered(const lips_ops *ops);

#endif
