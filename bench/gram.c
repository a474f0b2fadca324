/* Per-sample Gram matrices of T stacked vectors, f64, at the sizes of the Jacobian pass. */
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct job {
    bench *b;
    lips_tensor x;
    double *g;
} job;

static void run(void *user)
{
    job *j = user;
    bench_ok(bench_backend(j->b)->ops->gram(bench_backend(j->b),
                                            &(lips_gram_args){.x = j->x, .g = j->g}));
}

static double check(void *user, int64_t *wrong)
{
    job *j = user;
    int64_t t = j->x.t, f = lips_tensor_features(&j->x), n = j->x.b * t * t;
    double *x = malloc((size_t)(j->x.b * t * f) * sizeof *x), norm = 0, diff = 0;
    if (!x)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    bench_ok(bench_backend(j->b)->ops->download(bench_backend(j->b), x, &j->x));
    for (int64_t i = 0; i < n; i++)
        j->g[i] = 0;
    run(j);
    for (int64_t e = 0; e < n; e++) {
        const double *u = x + e / t * f, *v = x + (e / (t * t) * t + e % t) * f;
        double want = 0;
        for (int64_t k = 0; k < f; k++)
            want += u[k] * v[k];
        norm += want * want;
        diff += (j->g[e] - want) * (j->g[e] - want);
        *wrong += !(fabs(j->g[e] - want) <= 1e-14 * (double)f); /* entries are within -1..1 */
    }
    free(x);
    return sqrt(diff / norm);
}

static void rows(bench *b, int64_t samples, int64_t c, int64_t h, int64_t t, bool spatial)
{
    job j = {.b = b, .x = bench_tensor(b, samples, c, h, h, t, spatial)};
    j.g = calloc((size_t)(samples * t * t), sizeof *j.g);
    if (!j.g)
        bench_ok(lips_fail(LIPS_ERR_MEMORY, "bench: out of memory"));
    char shape[64];
    snprintf(shape, sizeof shape, "B=%lld,C=%lld,H=W=%lld,T=%lld", (long long)samples, (long long)c,
             (long long)h, (long long)t);
    double reals = (double)(samples * c * h * h * t);
    bench_row(b, &(bench_case){.op = "gram",
                               .variant = spatial ? "lanes16" : "lanes128",
                               .dtype = "f64",
                               .shape = shape,
                               .bytes = 4 * reals,
                               .flops = reals * (double)(t + 1),
                               .call = run,
                               .user = &j,
                               .check = check});
    bench_backend(b)->ops->release(bench_backend(b), j.x.data);
    free(j.g);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    rows(b, 16, 3, 32, 10, true);
    rows(b, 16, 3, 32, 1, true);
    rows(b, 16, 3, 32, 3, true);
    rows(b, 16, 64, 8, 10, true);
    rows(b, 16, 3, 32, 100, true);
    rows(b, 128, 784, 1, 10, false);
    rows(b, 128, 16, 1, 10, false);
    return bench_end(b);
}
