/*
 * Attention's kernels (kernels/attention.h) where the table's cases do not reach: heads and tokens
 * beyond a tile, stacked values in groups. Forward against plain f64 loops, vjp against jvp by
 * <dy, ydot> = <dx, xdot>, and the same bits from every size of group.
 */
#include "kernels/attention.h"

#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, T = 5, HEADS = 2, D = 40, C = HEADS * D, MOST_N = 72 };

/* Tokens: of a tile and a ragged one, with a class token, in fours. */
static const int64_t tokens[] = {35, 65, 72};

#define TOL 2e-6

static void cuda(cudaError_t e)
{
    if (e != cudaSuccess)
        fail_msg("%s", cudaGetErrorString(e));
}

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
}

static float *numbers(uint64_t seed, int64_t n)
{
    const lips_rng r = {.seed = seed, .stream = LIPS_STREAM_TEST};
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)lips_rng_normal(&r, (uint64_t)i);
    return v;
}

/* bytes on the device, from src where given; free with cudaFree. */
static void *put(const void *src, size_t bytes)
{
    void *p = NULL;
    cuda(cudaMalloc(&p, bytes));
    if (src)
        cuda(cudaMemcpy(p, src, bytes, cudaMemcpyHostToDevice));
    return p;
}

static float *take(void *p, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    cuda(cudaMemcpy(v, p, (size_t)n * sizeof *v, cudaMemcpyDeviceToHost));
    cuda(cudaFree(p));
    return v;
}

static bool no_device(void)
{
    int n = 0;
    return cudaGetDeviceCount(&n) != cudaSuccess || n == 0; /* the emulated device runs this */
}

/* jvp of x (T = 1 primal in), or vjp of it, with stacked values in groups; the caller frees. */
static float *derivative(int64_t n, bool forward, const float *x, const float *in, int64_t group)
{
    const int64_t width = forward ? 3 * C : C, out_n = (int64_t)B * n * T * (4 * C - width);
    lips_cuda_attn a = {.b = B, .cap = B, .n = n, .t = T, .c = C, .heads = HEADS, .group = group};
    void *dx = put(x, sizeof(float) * (size_t)(B * n * T * width));
    void *din = put(in, sizeof(float) * (size_t)(B * n * 3 * C));
    void *out = put(NULL, sizeof(float) * (size_t)out_n);
    a.work = put(NULL, lips_cuda_attn_bytes(&a));
    ok((forward ? lips_cuda_attn_jvp : lips_cuda_attn_vjp)(&a, out, dx, din, 0));
    cuda(cudaFree(a.work));
    cuda(cudaFree(dx));
    cuda(cudaFree(din));
    return take(out, out_n);
}

static void test_groups(void **state)
{
    const int64_t n = *(const int64_t *)*state;
    if (no_device())
        skip();
    float *in = numbers(1, B * n * 3 * C), *xdot = numbers(2, B * n * T * 3 * C);
    float *dy = numbers(3, B * n * T * C);
    float *ydot = derivative(n, true, xdot, in, 0), *dx = derivative(n, false, dy, in, 0);
    double left = 0, right = 0, size = 0;
    for (int64_t i = 0; i < B * n * T * C; i++) {
        left += (double)dy[i] * ydot[i];
        size += fabs((double)dy[i] * ydot[i]);
    }
    for (int64_t i = 0; i < B * n * T * 3 * C; i++)
        right += (double)dx[i] * xdot[i];
    assert_true(fabs(left - right) <= TOL * size);
    for (int64_t group = 1; group <= 3; group++) {
        float *y = derivative(n, true, xdot, in, group), *x = derivative(n, false, dy, in, group);
        assert_memory_equal(y, ydot, sizeof *y * (size_t)(B * n * T * C));
        assert_memory_equal(x, dx, sizeof *x * (size_t)(B * n * T * 3 * C));
        free(y), free(x);
    }
    free(in), free(xdot), free(dy), free(ydot), free(dx);
}

/* One query of one head: its outputs. */
static void attend(double *y, const float *x, int64_t n, int64_t i, int64_t head)
{
    double p[MOST_N], most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        p[j] = 0;
        for (int64_t c = head * D; c < (head + 1) * D; c++)
            p[j] += (double)x[i * 3 * C + c] * x[j * 3 * C + C + c] / sqrt(D);
        most = fmax(most, p[j]);
    }
    for (int64_t j = 0; j < n; j++)
        sum += p[j] = exp(p[j] - most);
    for (int64_t c = head * D; c < (head + 1) * D; c++) {
        y[c] = 0;
        for (int64_t j = 0; j < n; j++)
            y[c] += p[j] / sum * x[j * 3 * C + 2 * C + c];
    }
}

static void test_forward(void **state)
{
    const int64_t n = *(const int64_t *)*state;
    if (no_device())
        skip();
    lips_cuda_attn a = {.b = B, .cap = B, .n = n, .t = 1, .c = C, .heads = HEADS};
    float *x = numbers(4, B * n * 3 * C);
    void *dx = put(x, sizeof(float) * (size_t)(B * n * 3 * C)),
         *y = put(NULL, sizeof(float) * (size_t)(B * n * C));
    a.work = put(NULL, lips_cuda_attn_bytes(&a));
    ok(lips_cuda_attn_forward(&a, y, dx, 0));
    cuda(cudaFree(a.work));
    cuda(cudaFree(dx));
    float *values = take(y, B * n * C);
    double *got = calloc((size_t)(B * n * C), sizeof *got),
           *want = calloc((size_t)(B * n * C), sizeof *want);
    assert_non_null(got);
    assert_non_null(want);
    for (int64_t s = 0; s < B; s++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t head = 0; head < HEADS; head++)
                attend(want + (s * n + i) * C, x + s * n * 3 * C, n, i, head);
    for (int64_t i = 0; i < B * n * C; i++)
        got[i] = values[i];
    assert_true(cmp_check("forward", got, want, B * n * C, TOL));
    a.n = 0;
    assert_int_equal(lips_cuda_attn_forward(&a, NULL, NULL, 0), LIPS_ERR_USAGE);
    free(x), free(values), free(got), free(want);
}

#define WITH(test, i)                                                                              \
    {                                                                                              \
#test, test, NULL, NULL, (void *)&tokens[i]                                                \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_groups, 0),  WITH(test_forward, 0), WITH(test_groups, 1),
        WITH(test_forward, 1), WITH(test_groups, 2),  WITH(test_forward, 2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
