/* Kernels that no op of gpu_ops.c runs by itself: sums of squares, transposes, gathering batches.
 */
#include "gpu_op.h"

#include "common.h"
#include "network.h"

#include "backend/rows.h"
#include "kernels/reduce.h"
#include "kernels/tensor.h"
#include "kernels/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DISTINCT = 1 << 16 }; /* numbers that repeat */

typedef struct bare {
    gpu *g;
    float *a, *b;
    int64_t n; /* floats of a and of b */
    int64_t rows, cols;
    double *out; /* device */
    void *scratch;
    lips_gather_args gather;
    double *q, *w, *y; /* (count,n), (n), (n) doubles */
    int64_t count;
} bare;

static void *take(gpu *g, size_t bytes)
{
    void *p = NULL;
    bench_ok(gpu_handle(g)->base.ops->alloc(&gpu_handle(g)->base, &p, bytes));
    return p;
}

/* n floats, the first DISTINCT of a seed's again and again. */
static float *numbers(gpu *g, int64_t n, uint64_t seed)
{
    lips_backend *be = &gpu_handle(g)->base;
    float *p = take(g, (size_t)n * sizeof *p);
    double *host = bench_take(DISTINCT, sizeof *host);
    for (int64_t i = 0; i < DISTINCT; i++)
        host[i] = (double)bench_uniform(seed, i);
    bench_ok(be->ops->write(be, p, 0, host, DISTINCT));
    free(host);
    for (int64_t done = DISTINCT; done < n; done += DISTINCT)
        bench_ok(be->ops->copy(be, p + done, p, DISTINCT * sizeof *p));
    return p;
}

static lips_status sum_squares(void *user)
{
    const bare *j = user;
    return lips_cuda_diff_sumsq(j->out, j->a, j->b, j->n, j->scratch, gpu_handle(j->g)->stream);
}

static lips_status transpose(void *user)
{
    const bare *j = user;
    return lips_cuda_transpose(j->b, j->a, j->n / (j->rows * j->cols), j->rows, j->cols,
                               gpu_handle(j->g)->stream);
}

static lips_status gather(void *user)
{
    const bare *j = user;
    return gpu_handle(j->g)->base.ops->gather(&gpu_handle(j->g)->base, &j->gather);
}

static void check_sum(bare *j, gpu_found *found)
{
    double got = 0, want = 0;
    bench_ok(sum_squares(j));
    bench_ok(lips_cuda_wait(gpu_handle(j->g)));
    if (cudaMemcpy(&got, j->out, sizeof got, cudaMemcpyDeviceToHost) != cudaSuccess)
        bench_ok(lips_fail(LIPS_ERR_RUNTIME, "bench: cudaMemcpy failed"));
    for (int64_t i = 0; i < DISTINCT; i++) {
        const double d = (double)bench_uniform(1, i) - (double)bench_uniform(2, i);
        want += d * d;
    }
    want *= (double)(j->n / DISTINCT);
    found->checked = true;
    found->error = fabs(got - want) / want;
    found->wrong = !(found->error <= 1e-12);
}

static void check_transpose(bare *j, gpu_found *found)
{
    lips_backend *be = &gpu_handle(j->g)->base;
    double *got = bench_take(DISTINCT, sizeof *got);
    bench_ok(transpose(j));
    bench_ok(be->ops->read(be, got, j->b, 0, DISTINCT));
    for (int64_t i = 0; i < DISTINCT; i++) { /* entry (s, c, r) of the result */
        const int64_t s = i / (j->rows * j->cols), at = i % (j->rows * j->cols);
        const int64_t from = s * j->rows * j->cols + at % j->rows * j->cols + at / j->rows;
        found->wrong += got[i] != (double)bench_uniform(1, from % DISTINCT);
    }
    free(got);
    found->checked = true;
}

static void print(gpu *g, bare *j, gpu_row *r, lips_status (*call)(void *),
                  void (*check)(bare *, gpu_found *))
{
    gpu_found found = {0};
    if (!gpu_selected(g, r))
        return;
    if (!gpu_is_there(g)) {
        gpu_print(g, r, NULL);
        return;
    }
    check(j, &found);
    found.time = gpu_clock(g, call, j, GPU_COLD);
    gpu_print(g, r, &found);
}

/* Of 64 Mi floats each. */
static void of_vectors(gpu *g)
{
    bare j = {.g = g, .n = gpu_is_tiny(g) ? 2 * DISTINCT : 1 << 26, .rows = 32, .cols = 1024};
    char shape[64];
    snprintf(shape, sizeof shape, "n=%lld,T=1", (long long)j.n);
    gpu_row sum = {.op = "diff_sumsq",
                   .variant = "cuda",
                   .dtype = "f64",
                   .shape = shape,
                   .bytes = 8.0 * (double)j.n,
                   .expected = 0.92,
                   .launches = 2,
                   .streams = true};
    gpu_row turn = sum;
    turn.op = "transpose";
    turn.dtype = "f32";
    turn.launches = 1;
    if (!gpu_selected(g, &sum) && !gpu_selected(g, &turn))
        return;
    if (gpu_is_there(g)) {
        j.a = numbers(g, j.n, 1);
        j.b = numbers(g, j.n, 2);
        j.out = take(g, sizeof *j.out);
        j.scratch = take(g, lips_cuda_diff_sumsq_bytes(j.n) + 64);
    }
    print(g, &j, &sum, sum_squares, check_sum);
    print(g, &j, &turn, transpose, check_transpose);
    void *done[] = {j.a, j.b, j.out, j.scratch};
    for (int i = 0; i < 4 && gpu_is_there(g); i++)
        gpu_handle(g)->base.ops->release(&gpu_handle(g)->base, done[i]);
}

static lips_status dots(void *user)
{
    const bare *j = user;
    return lips_cuda_dots(j->out, j->q, j->w, j->count, j->n, j->scratch, gpu_handle(j->g)->stream);
}

static lips_status combine(void *user)
{
    const bare *j = user;
    return lips_cuda_combine(
        &(lips_cuda_combine_args){
            .y = j->y, .factor = 0.5, .q = j->q, .c = j->out, .count = j->count, .n = j->n},
        gpu_handle(j->g)->stream);
}

/* What the cpu backend makes of the same signs: the same bits. */
static void check_doubles(bare *j, gpu_found *found, bool sums)
{
    const lips_ops *ops = lips_backend_find("cpu");
    lips_backend *be;
    double *q = bench_take(j->count * j->n, sizeof *q), *w = bench_take(j->n, sizeof *w);
    double *want = bench_take(j->count, sizeof *want), *got = bench_take(j->n, sizeof *got);
    bench_ok(ops->open(&be, 0));
    for (int64_t i = 0; i < j->count; i++)
        bench_ok(ops->signs(be, q + i * j->n, i, j->n));
    bench_ok(ops->signs(be, w, j->count, j->n));
    bench_ok(ops->dots(
        be, &(lips_dots_args){.out = want, .q = q, .w = w, .count = j->count, .n = j->n}));
    if (!sums)
        bench_ok(ops->combine(
            be, &(lips_combine_args){
                    .y = w, .factor = 0.5, .q = q, .c = want, .count = j->count, .n = j->n}));
    bench_ok(dots(j));
    bench_ok(combine(j));
    bench_ok(lips_cuda_wait(gpu_handle(j->g)));
    const int64_t n = sums ? j->count : j->n;
    if (cudaMemcpy(got, sums ? j->out : j->y, (size_t)n * sizeof *got, cudaMemcpyDeviceToHost) !=
        cudaSuccess)
        bench_ok(lips_fail(LIPS_ERR_RUNTIME, "bench: cudaMemcpy failed"));
    for (int64_t i = 0; i < n; i++)
        found->wrong += got[i] != (sums ? want : w)[i];
    found->checked = true;
    ops->close(be);
    free(q), free(w), free(want), free(got);
}

static void check_dots(bare *j, gpu_found *found)
{
    check_doubles(j, found, true);
}

static void check_combine(bare *j, gpu_found *found)
{
    check_doubles(j, found, false);
}

/* Of 32 vectors: a group of a Lanczos basis. */
static void of_doubles(gpu *g)
{
    bare j = {.g = g, .n = gpu_is_tiny(g) ? 3000 : 1 << 21, .count = gpu_is_tiny(g) ? 3 : 32};
    const double vector = 8.0 * (double)j.n;
    char shape[64];
    snprintf(shape, sizeof shape, "S=%lld,doubles=%lld", (long long)j.count, (long long)j.n);
    gpu_row products = {.op = "dots",
                        .variant = "cuda",
                        .dtype = "f64",
                        .shape = shape,
                        .bytes = vector * (double)(j.count + 1),
                        .expected = 0.9,
                        .launches = 2,
                        .streams = true};
    gpu_row sum = products;
    sum.op = "combine";
    sum.launches = 1;
    if (!gpu_selected(g, &products) && !gpu_selected(g, &sum))
        return;
    if (gpu_is_there(g)) {
        lips_backend *be = &gpu_handle(g)->base;
        j.q = take(g, (size_t)(j.count * j.n) * sizeof *j.q);
        j.w = take(g, (size_t)j.n * sizeof *j.w);
        j.y = take(g, (size_t)j.n * sizeof *j.y);
        j.out = take(g, (size_t)j.count * sizeof *j.out);
        j.scratch = take(g, lips_cuda_dots_bytes(j.count, j.n));
        for (int64_t i = 0; i < j.count; i++)
            bench_ok(be->ops->signs(be, j.q + i * j.n, i, j.n));
        bench_ok(be->ops->signs(be, j.w, j.count, j.n));
    }
    print(g, &j, &products, dots, check_dots);
    print(g, &j, &sum, combine, check_combine);
    void *done[] = {j.q, j.w, j.y, j.out, j.scratch};
    for (int i = 0; i < 5 && gpu_is_there(g); i++)
        gpu_handle(g)->base.ops->release(&gpu_handle(g)->base, done[i]);
}

enum { C = 3, SIDE = 32, PIXELS = C * SIDE * SIDE };

/* Pixel v of every channel is v / 8; row s holds (7 s + i) mod 256. */
static double pixel(int64_t s, int64_t i)
{
    return (double)((7 * s + i) % 256) / 8;
}

static void check_gather(bare *j, gpu_found *found)
{
    lips_backend *be = &gpu_handle(j->g)->base;
    lips_tensor first = j->gather.y;
    first.b = first.cap = 4;
    double *got = bench_take(first.b * PIXELS, sizeof *got);
    bench_ok(gather(j));
    bench_ok(be->ops->download(be, got, &first));
    for (int64_t s = 0; s < first.b; s++)
        for (int64_t i = 0; i < PIXELS; i++)
            found->wrong += got[s * PIXELS + i] != pixel(j->gather.index[s], i);
    free(got);
    found->checked = true;
}

/* The rows on the device. */
static void load(gpu *g, lips_rows *rows)
{
    lips_backend *be = &gpu_handle(g)->base;
    float *x = bench_take(rows->n * PIXELS, sizeof *x), *table = bench_take(C * 256, sizeof *table);
    int64_t *source = bench_take(rows->n, sizeof *source);
    for (int64_t i = 0; i < rows->n * PIXELS; i++)
        x[i] = (float)pixel(i / PIXELS, i % PIXELS);
    for (int i = 0; i < C * 256; i++)
        table[i] = (float)(i % 256) / 8;
    rows->memory = take(g, lips_rows_bytes(rows));
    bench_ok(be->ops->rows_load(be, rows,
                                &(lips_rows_source){.x = x, .table = table, .source = source}));
    free(x), free(table), free(source);
}

static void of_rows(gpu *g, int64_t b)
{
    lips_rows rows = {.n = 2 * b, .c = C, .h = SIDE, .w = SIDE, .packed = true};
    bare j = {.g = g, .gather = {.rows = &rows}};
    char shape[64];
    snprintf(shape, sizeof shape, "B=%lld,C=%d,HW=%d,T=1", (long long)b, C, SIDE);
    gpu_row r = {.op = "gather",
                 .variant = "packed",
                 .dtype = "f32",
                 .shape = shape,
                 .bytes = 5.0 * (double)(b * PIXELS),
                 .expected = 0.92,
                 .busy = gpu_busy(0, 0, 34.0 * (double)(b * PIXELS)),
                 .launches = 1};
    int64_t *index = bench_take(b, sizeof *index);
    if (!gpu_selected(g, &r)) {
        free(index);
        return;
    }
    if (gpu_is_there(g)) {
        lips_tensor *y = &j.gather.y;
        lips_backend *be = &gpu_handle(g)->base;
        *y = (lips_tensor){.cap = b, .b = b, .c = C, .h = SIDE, .w = SIDE, .t = 1};
        y->lanes = be->ops->plan_lanes(be, b, true);
        y->data = take(g, be->ops->tensor_bytes(be, y));
        for (int64_t i = 0; i < b; i++)
            index[i] = (i * 5 + 3) % rows.n;
        j.gather.index = index;
        load(g, &rows);
    }
    print(g, &j, &r, gather, check_gather);
    if (gpu_is_there(g)) {
        gpu_handle(g)->base.ops->release(&gpu_handle(g)->base, j.gather.y.data);
        gpu_handle(g)->base.ops->release(&gpu_handle(g)->base, rows.memory);
    }
    free(index);
}

void gpu_bare_rows(gpu *g)
{
    of_vectors(g);
    of_doubles(g);
    of_rows(g, gpu_is_tiny(g) ? 8 : 128);
    of_rows(g, gpu_is_tiny(g) ? 16 : 4096);
}
