/* Optimiser steps and the loss, at the sizes of an mlp 784-w-10 with w = 2, 64, 512. */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    bench *b;
    float *p, *g, *m, *v;
    int64_t n;
    bool adam;
} job;

static void run(void *user)
{
    job *j = user;
    lips_backend *be = bench_backend(j->b);
    if (j->adam)
        bench_ok(be->ops->adam(be, &(lips_adam_args){.p = j->p,
                                                     .g = j->g,
                                                     .m = j->m,
                                                     .v = j->v,
                                                     .n = j->n,
                                                     .step = 7,
                                                     .lr = 1e-3,
                                                     .beta1 = 0.9,
                                                     .beta2 = 0.999,
                                                     .eps = 1e-8}));
    else
        bench_ok(be->ops->sgd(
            be, &(lips_sgd_args){
                    .p = j->p, .g = j->g, .m = j->m, .n = j->n, .lr = 1e-3, .momentum = 0.9}));
}

static double expected(const job *j, int64_t i)
{
    double p = (double)j->p[i], g = (double)j->g[i], m = (double)j->m[i], v = (double)j->v[i];
    if (!j->adam)
        return p - 1e-3 * (0.9 * m + g);
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    return p - 1e-3 / (1 - pow(0.9, 7)) * m / (sqrt(v) / sqrt(1 - pow(0.999, 7)) + 1e-8);
}

static double check(void *user, int64_t *wrong)
{
    job *j = user;
    double *want = malloc((size_t)j->n * sizeof *want);
    if (!want)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    for (int64_t i = 0; i < j->n; i++)
        want[i] = expected(j, i);
    run(j);
    double err = bench_error(j->p, want, j->n, 1e-6, wrong);
    free(want);
    return err;
}

static void optimiser_rows(bench *b, int64_t w)
{
    int64_t n = 784 * w + w + 10 * w + 10;
    job j = {.b = b,
             .p = bench_reals(b, n),
             .g = bench_reals(b, n),
             .m = bench_reals(b, n),
             .v = bench_reals(b, n),
             .n = n};
    for (int64_t i = 0; i < n; i++)
        j.v[i] = fabsf(j.v[i]) + 0.1f;
    char shape[64];
    snprintf(shape, sizeof shape, "P=%lld", (long long)n);
    for (int adam = 0; adam < 2; adam++) {
        j.adam = adam;
        bench_row(b, &(bench_case){.op = adam ? "adam" : "sgd",
                                   .variant = "cpu",
                                   .dtype = "f32",
                                   .shape = shape,
                                   .bytes = 4.0 * (double)n * (adam ? 7 : 5),
                                   .call = run,
                                   .user = &j,
                                   .check = check});
    }
    float *done[] = {j.p, j.g, j.m, j.v};
    for (int i = 0; i < 4; i++)
        bench_backend(b)->ops->release(bench_backend(b), done[i]);
}

typedef struct loss_job {
    bench *b;
    lips_tensor z, dz;
    int64_t labels[128];
    double loss[128];
} loss_job;

static void run_loss(void *user)
{
    loss_job *j = user;
    bench_ok(bench_backend(j->b)->ops->loss(bench_backend(j->b),
                                            &(lips_loss_args){.kind = LIPS_LOSS_CROSS_ENTROPY,
                                                              .z = j->z,
                                                              .labels = j->labels,
                                                              .loss = j->loss,
                                                              .dz = &j->dz,
                                                              .scale = 1}));
}

static double check_loss(void *user, int64_t *wrong)
{
    loss_job *j = user;
    int64_t k = j->z.c;
    double *z = malloc((size_t)(j->z.b * k) * sizeof *z), want[128];
    float got[128];
    if (!z)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    run_loss(j);
    bench_ok(bench_backend(j->b)->ops->download(bench_backend(j->b), z, &j->z));
    for (int64_t i = 0; i < j->z.b; i++) {
        double sum = 0;
        for (int64_t c = 0; c < k; c++)
            sum += exp(z[i * k + c] - z[i * k + j->labels[i]]);
        want[i] = log(sum);
        got[i] = (float)j->loss[i];
    }
    free(z);
    return bench_error(got, want, j->z.b, 1e-6, wrong);
}

static void loss_row(bench *b, int64_t classes, bool spatial)
{
    loss_job j = {.b = b,
                  .z = bench_tensor(b, 128, classes, 1, 1, 1, spatial),
                  .dz = bench_tensor(b, 128, classes, 1, 1, 1, spatial)};
    for (int64_t i = 0; i < 128; i++)
        j.labels[i] = i % classes;
    char shape[64];
    snprintf(shape, sizeof shape, "B=128,K=%lld,lanes=%lld", (long long)classes,
             (long long)j.z.lanes);
    bench_row(b, &(bench_case){.op = "cross_entropy",
                               .variant = "loss+dz",
                               .dtype = "f64",
                               .shape = shape,
                               .bytes = 8.0 * 128 * (double)classes,
                               .call = run_loss,
                               .user = &j,
                               .check = check_loss});
    bench_backend(b)->ops->release(bench_backend(b), j.z.data);
    bench_backend(b)->ops->release(bench_backend(b), j.dz.data);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    for (int64_t w = 2; w <= 512; w *= w == 2 ? 32 : 8)
        optimiser_rows(b, w);
    loss_row(b, 10, false);
    loss_row(b, 10, true);
    loss_row(b, 100, false);
    return bench_end(b);
}
