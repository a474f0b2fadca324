/*
 * Gathering a batch of rows by index into lanes, as every training step does, beside a plain memcpy
 * of the same rows (which leaves them untransposed). 4000 samples, drawn anew for each call: mostly
 * out of the second-level cache, as in training.
 */
#include "common.h"

#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 4000, B = 128 };

typedef struct job {
    bench *b;
    lips_tensor x;
    float *rows, *flat;
    int64_t *order, at; /* a walk through 64 random batches */
    bool plain;
} job;

static const int64_t *next_batch(job *j)
{
    const int64_t *idx = j->order + j->at * B;
    j->at = (j->at + 1) % 64;
    return idx;
}

static void run(void *user)
{
    job *j = user;
    const int64_t *idx = next_batch(j);
    int64_t f = lips_tensor_features(&j->x);
    if (!j->plain) {
        bench_ok(bench_backend(j->b)->ops->upload(bench_backend(j->b), &j->x, j->rows, idx));
        return;
    }
    for (int64_t i = 0; i < B; i++)
        memcpy(j->flat + i * f, j->rows + idx[i] * f, (size_t)f * sizeof(float));
}

static double check(void *user, int64_t *wrong)
{
    job *j = user;
    int64_t f = lips_tensor_features(&j->x);
    double *v = malloc((size_t)(B * f) * sizeof *v);
    if (!v)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    const int64_t *idx = j->order + j->at * B;
    run(j);
    bench_ok(bench_backend(j->b)->ops->download(bench_backend(j->b), v, &j->x));
    for (int64_t i = 0; i < B; i++)
        for (int64_t k = 0; k < f; k++)
            *wrong += v[i * f + k] != (double)j->rows[idx[i] * f + k];
    free(v);
    return 0;
}

static void rows(bench *b, int64_t c, int64_t h)
{
    int64_t f = c * h * h;
    job j = {.b = b, .rows = bench_reals(b, SAMPLES * f), .flat = bench_reals(b, B * f)};
    j.order = malloc(64 * B * sizeof *j.order);
    if (!j.order)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    lips_rng rng = {.seed = 1, .stream = LIPS_STREAM_TEST};
    for (uint64_t i = 0; i < 64 * B; i++)
        j.order[i] = (int64_t)lips_rng_below(&rng, i, SAMPLES);
    char shape[64];
    snprintf(shape, sizeof shape, "B=%d,C=%lld,H=W=%lld", B, (long long)c, (long long)h);
    for (int variant = 0; variant < 3; variant++) {
        static const char *const name[] = {"lanes128", "lanes16", "memcpy"};
        j.plain = variant == 2;
        j.x = bench_tensor(b, B, c, h, h, 1, variant == 1);
        bench_row(b, &(bench_case){.op = "upload",
                                   .variant = name[variant],
                                   .dtype = "f32",
                                   .shape = shape,
                                   .bytes = 8.0 * (double)(B * f),
                                   .call = run,
                                   .user = &j,
                                   .check = j.plain ? NULL : check});
        bench_backend(b)->ops->release(bench_backend(b), j.x.data);
    }
    bench_backend(b)->ops->release(bench_backend(b), j.rows);
    bench_backend(b)->ops->release(bench_backend(b), j.flat);
    free(j.order);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    rows(b, 1, 28);
    rows(b, 3, 32);
    rows(b, 1, 1);
    return bench_end(b);
}
