/*
 * Linear layers of an mlp 784-w-10 and of a convnet's head, batch 128: forward, vjp, gradient, each
 * beside OpenBLAS' product of the same size. Also the stacked vjp of K = 10 cotangents.
 */
#include "common.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 128 };

typedef enum kind { FORWARD, VJP, GRAD } kind;

typedef struct job {
    bench *b;
    kind kind;
    bool blas;
    lips_tensor x, y;
    float *w, *bias;
    int64_t c, o, t;
} job;

static void run_blas(const job *j)
{
    blasint n = (blasint)(j->t * j->x.lanes), c = (blasint)j->c, o = (blasint)j->o;
    if (j->kind == FORWARD)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, o, n, c, 1, j->w, c, j->x.data, n, 0,
                    j->y.data, n);
    else if (j->kind == VJP)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, c, n, o, 1, j->w, c, j->y.data, n, 0,
                    j->x.data, n);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, o, c, n, 1, j->y.data, n, j->x.data, n,
                    0, j->w, c);
}

static void run(void *user)
{
    job *j = user;
    lips_backend *be = bench_backend(j->b);
    if (j->blas) {
        run_blas(j);
        return;
    }
    lips_linear_args a = {.y = j->y, .x = j->x, .w = j->w};
    if (j->kind == FORWARD)
        bench_ok(be->ops->linear_forward(be, &a));
    else if (j->kind == VJP)
        bench_ok(be->ops->linear_vjp(be, &a));
    else
        bench_ok(be->ops->linear_grad(
            be, &(lips_linear_args){.y = j->y, .x = j->x, .dw = j->w, .db = j->bias}));
}

/* Sample i's values, (t,features), as doubles. */
static double *host(job *j, const lips_tensor *t)
{
    double *v = malloc((size_t)(t->b * t->t * lips_tensor_features(t)) * sizeof *v);
    bench_ok(bench_backend(j->b)->ops->download(bench_backend(j->b), v, t));
    return v;
}

static double entry(const job *j, const double *x, const double *y, int64_t i, int64_t k)
{
    double sum = 0;
    if (j->kind == FORWARD) /* y[i][k] */
        for (int64_t c = 0; c < j->c; c++)
            sum += (double)j->w[k * j->c + c] * x[i * j->c + c];
    else if (j->kind == VJP) /* x[i][k] */
        for (int64_t o = 0; o < j->o; o++)
            sum += (double)j->w[o * j->c + k] * y[i * j->o + o];
    else /* w[i][k] */
        for (int64_t s = 0; s < B; s++)
            sum += y[s * j->o + i] * x[s * j->c + k];
    return sum;
}

/* About 2000 entries of the result, from a fresh call. */
static double check(void *user, int64_t *wrong)
{
    job *j = user;
    int64_t cols = j->kind == FORWARD ? j->o : j->c, rows = j->kind == GRAD ? j->o : B * j->t;
    int64_t step = rows * cols / 2000 + 1, n = 0;
    if (j->kind == GRAD)
        for (int64_t i = 0; i < j->o * j->c; i++)
            j->w[i] = 0;
    run(j);
    double *x = host(j, &j->x), *y = host(j, &j->y), want[2001];
    float got[2001];
    for (int64_t e = 0; e < rows * cols; e += step, n++) {
        int64_t i = e / cols, k = e % cols;
        got[n] = j->kind == GRAD ? j->w[e] : (float)(j->kind == FORWARD ? y : x)[e];
        want[n] = entry(j, x, y, i, k);
    }
    free(x);
    free(y);
    return bench_error(got, want, n, 1e-5, wrong);
}

static void rows(bench *b, int64_t c, int64_t o, int64_t t, bool spatial)
{
    static const char *const op[] = {"linear_forward", "linear_vjp", "linear_grad"};
    job j = {.b = b, .c = c, .o = o, .t = t, .w = bench_reals(b, c * o), .bias = bench_reals(b, o)};
    j.x = bench_tensor(b, B, c, 1, 1, t, spatial);
    j.y = bench_tensor(b, B, o, 1, 1, t, spatial);
    char shape[64];
    snprintf(shape, sizeof shape, "B=%d,C=%lld,O=%lld,T=%lld,lanes=%lld", B, (long long)c,
             (long long)o, (long long)t, (long long)j.x.lanes);
    for (int k = FORWARD; k <= (t == 1 ? GRAD : VJP); k++)
        for (int blas = 0; blas < (spatial ? 1 : 2); blas++) {
            j.kind = (kind)k;
            j.blas = blas;
            bench_row(b, &(bench_case){.op = op[k],
                                       .variant = blas ? "openblas" : "onednn",
                                       .dtype = "f32",
                                       .shape = shape,
                                       .bytes = 4.0 * (double)(c * o + B * t * (c + o)),
                                       .flops = 2.0 * (double)(B * t * c * o),
                                       .call = run,
                                       .user = &j,
                                       .check = blas ? NULL : check});
        }
    lips_backend *be = bench_backend(b);
    void *done[] = {j.w, j.bias, j.x.data, j.y.data};
    for (int i = 0; i < 4; i++)
        be->ops->release(be, done[i]);
}

int main(int argc, char **argv)
{
    openblas_set_num_threads(1);
    bench *b = bench_begin(argc, argv);
    const int64_t widths[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        rows(b, 784, widths[i], 1, false);
    rows(b, 512, 10, 1, false);
    rows(b, 784, 64, 10, false);
    for (int64_t w = 8; w <= 512; w *= 8) /* a convnet's head */
        rows(b, w, 10, 1, true);
    rows(b, 64, 10, 10, true);
    return bench_end(b);
}
