/*
 * The Gram kernels (kernels/gram.h, conv_gram.h) by their launch wrappers, against plain f64 loops:
 * sizes around tiles, every number of stacked values where another kernel starts, both ways of the
 * convolution asked for, few samples (slices) and many. Behind the samples in use lie NaNs.
 *
 * Tolerances: products of floats in f64: TOL_F64. Convolutions: dW is a sum of P products with an
 * error of 2^-21 each at most (three tf32 products), like a random walk for data of random sign,
 * and theta a sum of many dW: 2e-6 holds a factor 5 above what is seen. One tf32 product: 2^-11
 * each. Small integers come out exactly.
 *
 * test_gram_cuda bits     prints a hash of all results: the same for every order of threads
 */
#include "kernels/conv_gram.h"
#include "kernels/gram.h"

#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "base/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define TOL_F64 1e-12
#define TOL_CONV 2e-6
#define TOL_TF32 2e-3

enum { SPARE = 700, CASES_MAX = 4000 };

typedef struct results {
    XXH64_state_t *hash; /* of everything computed; NULL: not wanted */
    bool bad;
} results;

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

/* Normal numbers, or integers -2..2. */
static float *numbers(uint64_t seed, int64_t n, bool whole)
{
    const lips_rng r = {.seed = seed, .stream = LIPS_STREAM_TEST};
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = whole ? (float)lips_rng_below(&r, (uint64_t)i, 5) - 2.0f
                     : (float)lips_rng_normal(&r, (uint64_t)i);
    return v;
}

/* n values of `size` bytes on the device, NaN-filled memory behind; free with cudaFree. */
static void *put(const void *src, int64_t n, size_t size)
{
    void *p = NULL;
    cuda(cudaMalloc(&p, ((size_t)n + SPARE) * size));
    cuda(cudaMemset(p, 0xff, ((size_t)n + SPARE) * size));
    if (src)
        cuda(cudaMemcpy(p, src, (size_t)n * size, cudaMemcpyHostToDevice));
    return p;
}

/* theta (n) before a kernel adds to it: not 0, small integers. */
static double *before(int64_t n)
{
    double *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (double)(i % 3);
    return v;
}

/* Reads theta (B,T,T), compares, looks at the symmetry and the memory behind; frees all three. */
static void judge(results *r, const char *what, double *device, double *want, int64_t b, int64_t t,
                  double tol)
{
    const int64_t n = b * t * t;
    double *got = malloc((size_t)(n + SPARE) * sizeof *got);
    assert_non_null(got);
    cuda(cudaMemcpy(got, device, (size_t)(n + SPARE) * sizeof *got, cudaMemcpyDeviceToHost));
    bool good = cmp_check(what, got, want, n, tol);
    for (int64_t i = n; i < n + SPARE; i++)
        good &= isnan(got[i]) != 0;
    for (int64_t s = 0; s < b; s++)
        for (int64_t i = 0; i < t; i++)
            for (int64_t j = 0; j < i; j++) {
                const int64_t at = (s * t + i) * t + j, other = (s * t + j) * t + i;
                good &= got[at] - (double)(at % 3) == got[other] - (double)(other % 3) ||
                        tol > 0; /* with what was there before, the sums round apart */
            }
    if (!good)
        fprintf(stderr, "FAIL %s\n", what);
    if (r->hash)
        XXH64_update(r->hash, got, (size_t)n * sizeof *got);
    r->bad |= !good;
    free(got);
    free(want);
    cuda(cudaFree(device));
}

/* ---- gram ---- */

typedef struct gram_case {
    int64_t b, p, t, c, n;
    int64_t parts; /* of wide x; 0: x is f32 */
    bool whole;
} gram_case;

/* The parts (B,parts,sample) of x, of which (B,sample) becomes the sum. */
static double *split(const gram_case *k, int64_t sample, double *x)
{
    double *part = malloc((size_t)(k->b * k->parts * sample) * sizeof *part);
    assert_non_null(part);
    memset(x, 0, (size_t)(k->b * sample) * sizeof *x);
    for (int64_t q = 0; q < k->parts; q++) {
        float *v = numbers(10 + (uint64_t)q, k->b * sample, k->whole);
        for (int64_t i = 0; i < k->b * sample; i++) {
            part[(i / sample * k->parts + q) * sample + i % sample] = (double)v[i];
            x[i] += (double)v[i];
        }
        free(v);
    }
    return part;
}

static void run_gram(results *r, gram_case k)
{
    const int64_t sample = k.p * k.t * k.c;
    float *x = numbers(1, k.b * sample, k.whole), *v = numbers(2, k.b * k.n + 1, k.whole);
    double *wide = malloc((size_t)(k.b * sample) * sizeof *wide), *want = before(k.b * k.t * k.t);
    assert_non_null(wide);
    for (int64_t i = 0; i < k.b * sample; i++)
        wide[i] = (double)x[i];
    double *part = k.parts ? split(&k, sample, wide) : NULL;
    for (int64_t s = 0; s < k.b; s++) {
        double scale = k.n ? 0 : 1;
        for (int64_t i = 0; i < k.n; i++)
            scale += (double)v[s * k.n + i] * (double)v[s * k.n + i];
        for (int64_t t = 0; t < k.t; t++)
            for (int64_t u = 0; u < k.t; u++) {
                double sum = 0;
                for (int64_t p = 0; p < k.p; p++)
                    for (int64_t c = 0; c < k.c; c++)
                        sum += wide[((s * k.p + p) * k.t + t) * k.c + c] *
                               wide[((s * k.p + p) * k.t + u) * k.c + c];
                want[(s * k.t + t) * k.t + u] += scale * sum;
            }
    }
    double *start = before(k.b * k.t * k.t);
    lips_cuda_gram_args a = {.theta = put(start, k.b * k.t * k.t, sizeof(double)),
                             .x = k.parts ? put(part, k.b * k.parts * sample, sizeof(double))
                                          : put(x, k.b * sample, sizeof(float)),
                             .wide = k.parts > 0,
                             .parts = k.parts,
                             .b = k.b,
                             .p = k.p,
                             .t = k.t,
                             .c = k.c,
                             .v = k.n ? put(v, k.b * k.n, sizeof(float)) : NULL,
                             .n = k.n};
    const size_t bytes = lips_cuda_gram_work(&a);
    a.work = put(NULL, (int64_t)bytes, 1);
    ok(lips_cuda_gram(&a, 0));
    cuda(cudaDeviceSynchronize());
    char what[160];
    snprintf(what, sizeof what,
             "gram B=%" PRId64 " P=%" PRId64 " T=%" PRId64 " C=%" PRId64 " N=%" PRId64
             " parts=%" PRId64 "%s%s",
             k.b, k.p, k.t, k.c, k.n, k.parts, k.whole ? " whole" : "", bytes ? " slices" : "");
    judge(r, what, a.theta, want, k.b, k.t, k.whole ? 0 : TOL_F64);
    cuda(cudaFree((void *)(size_t)a.x));
    cuda(cudaFree((void *)(size_t)a.v));
    cuda(cudaFree(a.work));
    free(x), free(v), free(wide), free(part), free(start);
}

static void all_grams(results *r)
{
    static const int64_t stacks[] = {1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 25, 32, 33, 65, 100, 130};
    static const int64_t channels[] = {1, 31, 32, 33, 37, 4};
    int64_t turn = 0;
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++)
        for (size_t j = 0; j < sizeof channels / sizeof *channels; j++, turn++)
            run_gram(r, (gram_case){.b = 1 + turn % 3,
                                    .p = turn % 2 ? 7 : 1,
                                    .t = stacks[i],
                                    .c = channels[j],
                                    .n = turn % 5 == 0 ? 1 + turn : 0,
                                    .parts = turn % 4 == 3 ? 1 + turn / 4 % 3 : 0,
                                    .whole = turn % 3 == 0});
    for (size_t i = 0; i < 4; i++) /* one sample, long enough for slices */
        run_gram(r, (gram_case){.b = 1,
                                .p = i % 2 ? 300 : 1,
                                .t = (const int64_t[]){1, 3, 10, 33}[i],
                                .c = i % 2 ? 7 : 2101,
                                .n = i % 2 ? 5 : 0,
                                .whole = i == 2});
    run_gram(r, (gram_case){.b = 300, .p = 1, .t = 2, .c = 5});
}

/* ---- channel sums ---- */

static void run_sums(results *r, int64_t b, int64_t p, int64_t t, int64_t c, bool norm)
{
    const int64_t width = norm ? 2 * c : c, n = b * t * width;
    float *y = numbers(3, b * p * t * c, false), *x = numbers(4, b * p * c, false);
    float *mean = numbers(5, c, false), *var = numbers(6, c, false);
    double *want = calloc((size_t)n, sizeof *want), *got = calloc((size_t)n, sizeof *got);
    assert_non_null(want);
    assert_non_null(got);
    for (int64_t i = 0; i < c; i++)
        var[i] = fabsf(var[i]);
    for (int64_t i = 0; i < b * p * t * c; i++) {
        const int64_t at = i % c, row = i / c % t, s = i / (p * t * c), pixel = i / (t * c);
        want[(s * t + row) * width + at] += (double)y[i];
        if (norm)
            want[(s * t + row) * width + c + at] += (double)y[i] *
                                                    ((double)x[pixel * c + at] - (double)mean[at]) /
                                                    sqrt((double)var[at] + 1e-5);
    }
    lips_cuda_channel_sums_args a = {.y = put(y, b * p * t * c, sizeof(float)),
                                     .x = norm ? put(x, b * p * c, sizeof(float)) : NULL,
                                     .mean = put(mean, c, sizeof(float)),
                                     .var = put(var, c, sizeof(float)),
                                     .eps = 1e-5,
                                     .b = b,
                                     .p = p,
                                     .t = t,
                                     .c = c};
    const int64_t parts = lips_cuda_channel_sums_parts(&a);
    double *part = calloc((size_t)(n * parts), sizeof *part);
    assert_non_null(part);
    assert_true((size_t)(n * parts) * sizeof *part <=
                lips_cuda_channel_sums_bytes(b, p, t, c, norm));
    a.sums = put(NULL, n * parts, sizeof(double));
    ok(lips_cuda_channel_sums(&a, 0));
    cuda(cudaMemcpy(part, a.sums, (size_t)(n * parts) * sizeof *part, cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < b * parts; i++)
        for (int64_t j = 0; j < t * width; j++)
            got[i / parts * t * width + j] += part[i * t * width + j];
    char what[120];
    snprintf(what, sizeof what, "channel sums B=%" PRId64 " P=%" PRId64 " T=%" PRId64 " C=%" PRId64,
             b, p, t, c);
    r->bad |= !cmp_check(what, got, want, n, TOL_F64);
    if (r->hash)
        XXH64_update(r->hash, got, (size_t)n * sizeof *got);
    const void *device[] = {a.sums, a.y, a.x, a.mean, a.var};
    for (int i = 0; i < 5; i++)
        cuda(cudaFree((void *)(size_t)device[i]));
    free(y), free(x), free(mean), free(var), free(want), free(got), free(part);
}

static void all_sums(results *r)
{
    static const int64_t sizes[] = {1, 31, 32, 33, 37};
    for (int i = 0; i < 5; i++)
        for (int norm = 0; norm < 2; norm++)
            run_sums(r, 1 + i % 2, (const int64_t[]){1, 7, 8, 9, 64}[i], 1 + 3 * (i % 3), sizes[i],
                     norm);
}

/* ---- convolution ---- */

typedef struct conv_case {
    int64_t b, c, h, w, o, r, stride, pad, t;
    bool single, whole;
} conv_case;

/* want += theta by explicit gradients of one sample. */
static void reference(const conv_case *k, int64_t oh, int64_t ow, const float *x, const float *dy,
                      double *want)
{
    const int64_t n = k->o * k->c * k->r * k->r;
    double *g = calloc((size_t)(k->t * n), sizeof *g);
    assert_non_null(g);
    for (int64_t i = 0; i < n; i++) {
        const int64_t o = i / (k->c * k->r * k->r), c = i / (k->r * k->r) % k->c;
        const int64_t ky = i / k->r % k->r, kx = i % k->r;
        for (int64_t p = 0; p < oh * ow; p++) {
            const int64_t y = p / ow * k->stride + ky - k->pad,
                          u = p % ow * k->stride + kx - k->pad;
            if (y < 0 || y >= k->h || u < 0 || u >= k->w)
                continue;
            for (int64_t t = 0; t < k->t; t++)
                g[t * n + i] +=
                    (double)dy[(p * k->t + t) * k->o + o] * (double)x[(y * k->w + u) * k->c + c];
        }
    }
    for (int64_t t = 0; t < k->t; t++)
        for (int64_t u = 0; u < k->t; u++)
            for (int64_t i = 0; i < n; i++)
                want[t * k->t + u] += g[t * n + i] * g[u * n + i];
    free(g);
}

static void run_conv(results *r, conv_case k, lips_cuda_gram_algo algo)
{
    const int64_t oh = (k.h + 2 * k.pad - k.r) / k.stride + 1,
                  ow = (k.w + 2 * k.pad - k.r) / k.stride + 1;
    const int64_t nx = k.h * k.w * k.c, ny = oh * ow * k.t * k.o;
    float *x = numbers(7, k.b * nx, k.whole), *dy = numbers(8, k.b * ny, k.whole);
    double *want = before(k.b * k.t * k.t), *start = before(k.b * k.t * k.t);
    for (int64_t s = 0; s < k.b; s++)
        reference(&k, oh, ow, x + s * nx, dy + s * ny, want + s * k.t * k.t);
    lips_cuda_conv_gram_args a = {.theta = put(start, k.b * k.t * k.t, sizeof(double)),
                                  .dy = put(dy, k.b * ny, sizeof(float)),
                                  .x = put(x, k.b * nx, sizeof(float)),
                                  .b = k.b,
                                  .c = k.c,
                                  .h = k.h,
                                  .w = k.w,
                                  .o = k.o,
                                  .oh = oh,
                                  .ow = ow,
                                  .t = k.t,
                                  .r = k.r,
                                  .stride = k.stride,
                                  .pad = k.pad,
                                  .single = k.single,
                                  .algo = algo};
    a.work = put(NULL, (int64_t)lips_cuda_conv_gram_work(&a), 1);
    ok(lips_cuda_conv_gram(&a, 0));
    cuda(cudaDeviceSynchronize());
    char what[200];
    snprintf(what, sizeof what,
             "conv_gram %s B=%" PRId64 " C=%" PRId64 " %" PRId64 "x%" PRId64 " O=%" PRId64
             " R=%" PRId64 " stride=%" PRId64 " pad=%" PRId64 " T=%" PRId64 "%s%s",
             algo == LIPS_CUDA_GRAM_PIXEL ? "pixel" : "direct", k.b, k.c, k.h, k.w, k.o, k.r,
             k.stride, k.pad, k.t, k.single ? " single" : "", k.whole ? " whole" : "");
    judge(r, what, a.theta, want, k.b, k.t, k.whole ? 0 : k.single ? TOL_TF32 : TOL_CONV);
    cuda(cudaFree((void *)(size_t)a.dy));
    cuda(cudaFree((void *)(size_t)a.x));
    cuda(cudaFree(a.work));
    free(x), free(dy), free(start);
}

static void all_convs(results *r)
{
    static const conv_case cases[] = {
        {2, 1, 4, 4, 1, 3, 1, 1, 1, false, false},
        {1, 3, 6, 5, 31, 3, 1, 1, 1, false, true},
        {1, 31, 5, 5, 33, 3, 1, 1, 1, false, false},
        {2, 2, 7, 6, 7, 3, 2, 1, 2, false, false},
        {1, 33, 4, 4, 37, 1, 1, 0, 4, false, true},
        {1, 5, 6, 6, 8, 5, 1, 2, 3, false, false},
        {1, 3, 8, 8, 13, 3, 1, 1, 10, false, false},
        {1, 8, 5, 7, 4, 2, 2, 1, 10, true, false},
        {2, 4, 4, 4, 3, 3, 1, 2, 10, false, true},
        {1, 3, 4, 5, 5, 3, 1, 1, 17, false, false},
        {1, 2, 5, 4, 3, 3, 1, 0, 32, false, false},
        {1, 2, 4, 4, 5, 3, 1, 1, 33, false, false},
        {1, 2, 4, 4, 2, 3, 1, 1, 100, false, true},
        {1, 1, 3, 3, 2, 3, 1, 1, 130, false, false},
        {1, 2, 12, 12, 2, 3, 1, 1, 2, false, false},
        {1, 1, 3, 3, 150, 3, 1, 1, 2, true, true},
        /* these fill wide tiles: direct, then by pixels; float32-grade, then tf32 */
        {2, 28, 5, 5, 128, 3, 1, 1, 1, false, false},
        {1, 28, 6, 5, 24, 3, 1, 1, 10, false, true},
        {1, 28, 9, 8, 40, 3, 2, 1, 3, false, true},
        {1, 28, 4, 4, 8, 3, 1, 1, 32, false, false},
        {2, 28, 5, 5, 128, 3, 1, 1, 1, true, true},
        {1, 28, 6, 5, 24, 3, 1, 1, 10, true, false},
        {1, 28, 9, 8, 40, 3, 2, 1, 3, true, false},
        {1, 28, 4, 4, 8, 3, 1, 1, 32, true, true},
        {2, 4, 10, 10, 128, 3, 1, 1, 1, false, true},
        {1, 4, 10, 10, 12, 3, 1, 1, 10, false, false},
        {1, 4, 10, 10, 40, 3, 1, 1, 3, false, false},
        {1, 4, 10, 12, 4, 3, 1, 1, 32, false, true},
        {2, 4, 10, 10, 128, 3, 1, 1, 1, true, false},
        {1, 4, 10, 10, 12, 3, 1, 1, 10, true, true},
        {1, 4, 10, 10, 40, 3, 1, 1, 3, true, true},
        {1, 4, 10, 12, 4, 3, 1, 1, 32, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run_conv(r, cases[i], LIPS_CUDA_GRAM_DIRECT);
        run_conv(r, cases[i], LIPS_CUDA_GRAM_PIXEL);
    }
}

/* ---- the tests ---- */

/* Where there is no device, the emulated one runs these. */
static void need_device(void)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0)
        skip();
}

static void test_gram(void **state)
{
    (void)state;
    need_device();
    results r = {0};
    all_grams(&r);
    assert_false(r.bad);
}

static void test_sums(void **state)
{
    (void)state;
    need_device();
    results r = {0};
    all_sums(&r);
    assert_false(r.bad);
}

static void test_conv(void **state)
{
    (void)state;
    need_device();
    results r = {0};
    all_convs(&r);
    assert_false(r.bad);
}

/* As the count says: pixel where positions are few against channels, direct where they are many. */
static void test_choice(void **state)
{
    (void)state;
    lips_cuda_conv_gram_args a = {.b = 1,
                                  .c = 64,
                                  .h = 8,
                                  .w = 8,
                                  .o = 128,
                                  .oh = 8,
                                  .ow = 8,
                                  .t = 1,
                                  .r = 3,
                                  .stride = 1,
                                  .pad = 1};
    assert_int_equal(lips_cuda_conv_gram_choose(&a), LIPS_CUDA_GRAM_PIXEL);
    a.h = a.w = a.oh = a.ow = 32;
    assert_int_equal(lips_cuda_conv_gram_choose(&a), LIPS_CUDA_GRAM_DIRECT);
    a.algo = LIPS_CUDA_GRAM_PIXEL;
    assert_int_equal(lips_cuda_conv_gram(&a, 0), LIPS_ERR_USAGE);
    a.b = 70000;
    assert_int_equal(lips_cuda_conv_gram(&a, 0), LIPS_ERR_USAGE);
    const lips_cuda_gram_args g = {.b = 1, .p = 1 << 20, .t = 1 << 10, .c = 2};
    assert_int_equal(lips_cuda_gram(&g, 0), LIPS_ERR_USAGE);
}

static uint64_t hash_all(void)
{
    results r = {.hash = XXH64_createState()};
    assert_non_null(r.hash);
    XXH64_reset(r.hash, 0);
    all_grams(&r);
    all_sums(&r);
    all_convs(&r);
    const uint64_t h = XXH64_digest(r.hash);
    XXH64_freeState(r.hash);
    return h;
}

/* What another process prints whose threads run in the given order. */
static uint64_t hash_in_order(const char *program, const char *order)
{
    char command[512];
    uint64_t h = 0;
    snprintf(command, sizeof command, "CUSIM_ORDER=%s '%s' bits", order, program);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%" SCNx64, &h), 1);
    assert_int_equal(pclose(f), 0);
    return h;
}

static void test_orders(void **state)
{
    need_device();
    const uint64_t here = hash_all();
    assert_true(here == hash_in_order(*state, "reverse"));
    assert_true(here == hash_in_order(*state, "random:7"));
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "bits")) {
        printf("%016" PRIx64 "\n", hash_all());
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gram),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_choice),
        cmocka_unit_test_prestate(test_orders, argv[0]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
