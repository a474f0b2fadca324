/*
 * The cpu convolutions, each algorithm with each instruction set that this machine runs, against a
 * plain f64 loop on odd shapes.
 *
 * Tolerance: a chain of n f32 products errs by at most n 2^-24 sum|ab|, and like a random walk for
 * data of random sign: rel_l2 <= TOL = 2e-6 holds a factor 5 above what the longest chain here
 * gives. Integer data in -2..2 (outputs below 2^24) must come out exactly, but for Winograd's
 * algorithm, whose fractions are rounded; its error is about twice that of the chain.
 */
#include "conv_cpu.h"

static void case_forward(data *d, const lips_cpu_kernels *k, lips_conv_algo algo, bool relu)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_FORWARD, algo);
    const int64_t nx = s->c * s->h * s->w, ny = s->o * d->oh * d->ow;
    float *w = floats(d->w, s->o * s->c * s->r * s->r), *bias = floats(d->bias, s->o);
    double *want = calloc((size_t)(s->b * s->t * ny), sizeof *want);
    assert_non_null(want);
    r.a.relu = relu && s->t == 1;
    r.a.w = w;
    r.a.bias = relu ? bias : NULL;
    for (int64_t i = 0; i < s->b * s->t; i++) {
        walk(d, add_forward, &(sums){.x = d->x + i * nx, .w = d->w, .out = want + i * ny});
        for (int64_t j = 0; j < ny; j++) {
            double *v = want + i * ny + j;
            *v += relu ? d->bias[j / (d->oh * d->ow)] : 0;
            *v = r.a.relu && *v < 0 ? 0 : *v;
        }
    }
    put(&r.a.x, d->x);
    finish(&r, LIPS_CONV_FORWARD, r.a.y.data, (size_t)reals(&r.a.y) * sizeof(float));
    double *got = take(&r.a.y);
    judge(&r, got, want, s->b * s->t * ny);
    close_run(&r);
    free(got);
    free(want);
    free(w);
    free(bias);
}

static void case_vjp(data *d, const lips_cpu_kernels *k, lips_conv_algo algo, bool masked)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_VJP, algo);
    const int64_t nx = s->c * s->h * s->w, ny = s->o * d->oh * d->ow;
    float *w = floats(d->w, s->o * s->c * s->r * s->r);
    double *want = calloc((size_t)(s->b * s->t * nx), sizeof *want);
    assert_non_null(want);
    lips_tensor mask = tensor(d, s->c, s->h, s->w, 1);
    put(&mask, d->mask);
    r.a.w = w;
    r.a.mask = masked ? &mask : NULL;
    for (int64_t i = 0; i < s->b * s->t; i++) {
        walk(d, add_vjp, &(sums){.y = d->y + i * ny, .w = d->w, .out = want + i * nx});
        for (int64_t j = 0; masked && j < nx; j++)
            want[i * nx + j] *= d->mask[i / s->t * nx + j] > 0;
    }
    put(&r.a.y, d->y);
    finish(&r, LIPS_CONV_VJP, r.a.x.data, (size_t)reals(&r.a.x) * sizeof(float));
    double *got = take(&r.a.x);
    judge(&r, got, want, s->b * s->t * nx);
    close_run(&r);
    release(mask.data, reals(&mask));
    free(got);
    free(want);
    free(w);
}

static void case_grad(data *d, const lips_cpu_kernels *k, lips_conv_algo algo)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_GRAD, algo);
    const int64_t nx = s->c * s->h * s->w, np = d->oh * d->ow, ny = s->o * np;
    const int64_t nw = s->o * s->c * s->r * s->r, n = nw + s->o;
    float *out = guarded(n);
    double *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got);
    assert_non_null(want);
    assert_non_null(got);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(want[i] = (double)(i % 3)); /* added to */
    for (int64_t b = 0; b < s->b; b++) {
        const double *y = d->y + b * s->t * ny; /* the first of t */
        walk(d, add_grad, &(sums){.x = d->x + b * nx, .y = y, .out = want});
        for (int64_t j = 0; j < ny; j++)
            want[nw + j / np] += y[j];
    }
    put(&r.a.x, d->x);
    for (int64_t b = 0; b < s->b; b++)
        for (int64_t j = 0; j < ny; j++)
            ((float *)r.a.y.data)[place(&r.a.y, b, 0, j)] = (float)d->y[b * s->t * ny + j];
    r.a.dw = out;
    r.a.db = out + nw;
    finish(&r, LIPS_CONV_GRAD, out, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        got[i] = (double)out[i];
    judge(&r, got, want, n);
    close_run(&r);
    release(out, n);
    free(got);
    free(want);
}

static void case_gram(data *d, const lips_cpu_kernels *k, lips_conv_algo algo)
{
    const shape *s = &d->s;
    run r = start(d, k, LIPS_CONV_GRAM, algo);
    const int64_t nx = s->c * s->h * s->w, ny = s->o * d->oh * d->ow;
    const int64_t nw = s->o * s->c * s->r * s->r, n = s->b * s->t * s->t;
    double *g = malloc((size_t)(s->t * nw) * sizeof *g);
    double *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got);
    assert_non_null(g);
    assert_non_null(want);
    assert_non_null(got);
    for (int64_t i = 0; i < n; i++)
        got[i] = want[i] = 0.25;
    for (int64_t b = 0; b < s->b; b++) {
        memset(g, 0, (size_t)(s->t * nw) * sizeof *g);
        for (int64_t t = 0; t < s->t; t++)
            walk(d, add_grad,
                 &(sums){.x = d->x + b * nx, .y = d->y + (b * s->t + t) * ny, .out = g + t * nw});
        for (int64_t i = 0; i < s->t * s->t; i++)
            for (int64_t j = 0; j < nw; j++)
                want[b * s->t * s->t + i] += g[i / s->t * nw + j] * g[i % s->t * nw + j];
    }
    put(&r.a.x, d->x);
    put(&r.a.y, d->y);
    r.a.theta = got;
    finish(&r, LIPS_CONV_GRAM, got, (size_t)n * sizeof *got);
    judge(&r, got, want, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = i / s->t % s->t, col = i % s->t;
        assert_true(got[i] == got[i + (col - row) * s->t + row - col]);
    }
    close_run(&r);
    free(g);
    free(got);
    free(want);
}

/* Channels around the tiles of 8, images around the blocks of rows, every kernel, stride, padding.
 */
static const shape shapes[] = {
    /*c  o   h   w  r  s  p  t   b  lanes */
    {1, 1, 1, 1, 1, 1, 0, 1, 17, 16},
    {1, 2, 5, 4, 3, 1, 1, 1, 16, 16},
    {3, 1, 32, 32, 3, 1, 1, 1, 3, 16},
    {2, 3, 7, 9, 3, 1, 1, 3, 17, 16},
    {3, 5, 8, 8, 3, 1, 1, 10, 15, 16},
    {5, 7, 6, 33, 3, 1, 1, 1, 2, 16},
    {7, 8, 9, 6, 3, 1, 0, 3, 1, 16},
    {8, 16, 8, 8, 3, 1, 1, 10, 2, 16},
    {16, 17, 7, 5, 3, 1, 1, 3, 16, 16},
    {17, 16, 33, 4, 3, 1, 1, 1, 1, 16},
    {33, 17, 6, 6, 3, 1, 1, 2, 3, 16},
    {70, 9, 10, 8, 3, 1, 1, 1, 2, 16},
    {85, 2, 32, 32, 3, 1, 1, 2, 1, 16}, /* Winograd's Gram: the input in two passes */
    {5, 7, 6, 6, 3, 1, 1, 33, 2, 16},   /* and few channels at a time, as t is large */
    {4, 9, 8, 7, 3, 2, 1, 3, 5, 16},
    {16, 5, 9, 8, 3, 2, 1, 3, 17, 16},
    {3, 8, 12, 12, 3, 2, 0, 1, 40, 16},
    {5, 3, 9, 9, 5, 1, 2, 2, 4, 16},
    {17, 4, 8, 11, 5, 2, 2, 1, 3, 16},
    {2, 2, 5, 5, 5, 1, 0, 3, 2, 16},
    {8, 16, 5, 6, 1, 1, 0, 4, 3, 16},
    {16, 8, 8, 8, 1, 2, 0, 3, 3, 16}, /* vjp: phases without taps */
    {3, 4, 6, 5, 1, 1, 2, 2, 3, 16},  /* padding beyond the kernel */
    {9, 12, 7, 6, 1, 2, 0, 3, 19, 16},
    {12, 9, 8, 7, 1, 3, 0, 2, 16, 16},
    {10, 11, 4, 5, 1, 1, 0, 3, 40, 32},
    {20, 12, 9, 9, 1, 1, 0, 6, 3, 16}, /* matrix products in several blocks */
    {40, 24, 17, 17, 1, 2, 0, 6, 3, 16},
    {2, 3, 4, 4, 3, 1, 2, 2, 3, 16},
    {3, 3, 7, 7, 3, 3, 1, 2, 2, 16},
    {1, 1, 2, 2, 3, 1, 1, 3, 9, 16}, /* every tap is clipped somewhere */
    {2, 3, 1, 7, 3, 1, 1, 10, 2, 16},
    {3, 4, 6, 5, 3, 1, 1, 3, 40, 32},
    {17, 3, 5, 6, 3, 1, 1, 2, 33, 48},
    {2, 3, 5, 5, 3, 2, 1, 1, 130, 128},
};

static void all_sets(void (*f)(data *d, const lips_cpu_kernels *k), bool stacked_x)
{
    for (int whole = 0; whole < 2; whole++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            data d = make(shapes[i], whole, stacked_x);
            const lips_cpu_kernels *k;
            for (int set = 0; (k = lips_cpu_kernels_at(set)); set++)
                f(&d, k);
            drop(&d);
        }
}

static void forward(data *d, const lips_cpu_kernels *k)
{
    case_forward(d, k, LIPS_CONV_DIRECT, true);
    case_forward(d, k, LIPS_CONV_AUTO, false);
    if (d->s.r == 3 && d->s.stride == 1)
        case_forward(d, k, LIPS_CONV_WINOGRAD, true);
    if (d->s.r == 1 && d->s.pad == 0)
        case_forward(d, k, LIPS_CONV_MATRIX, true);
}

static void vjp(data *d, const lips_cpu_kernels *k)
{
    case_vjp(d, k, LIPS_CONV_DIRECT, true);
    case_vjp(d, k, LIPS_CONV_AUTO, false);
    if (d->s.r == 3 && d->s.stride == 1)
        case_vjp(d, k, LIPS_CONV_WINOGRAD, true);
    if (d->s.r == 1 && d->s.pad == 0)
        case_vjp(d, k, LIPS_CONV_MATRIX, true);
}

static void grad(data *d, const lips_cpu_kernels *k)
{
    case_grad(d, k, LIPS_CONV_DIRECT);
    if (d->s.r == 3 && d->s.stride == 1)
        case_grad(d, k, LIPS_CONV_WINOGRAD);
    case_grad(d, k, LIPS_CONV_AUTO);
}

static void gram(data *d, const lips_cpu_kernels *k)
{
    case_gram(d, k, LIPS_CONV_DIRECT);
    case_gram(d, k, LIPS_CONV_PIXEL_GRAM);
    if (d->s.r == 3 && d->s.stride == 1)
        case_gram(d, k, LIPS_CONV_WINOGRAD);
    case_gram(d, k, LIPS_CONV_AUTO);
}

static void test_forward(void **state)
{
    (void)state;
    all_sets(forward, true);
}

static void test_vjp(void **state)
{
    (void)state;
    all_sets(vjp, true);
}

static void test_grad(void **state)
{
    (void)state;
    all_sets(grad, false);
}

static void test_gram(void **state)
{
    (void)state;
    all_sets(gram, false);
}

/* The op's outputs by the automatic choice, in samples' order. */
static double *outputs(const data *d, const lips_cpu_kernels *k, lips_conv_op op, int64_t *n)
{
    const shape *s = &d->s;
    const int64_t nw = s->o * s->c * s->r * s->r, ntheta = s->b * s->t * s->t;
    run r = start(d, k, op, LIPS_CONV_AUTO);
    float *w = floats(d->w, nw), *dw = calloc((size_t)nw, sizeof *dw);
    double *theta = calloc((size_t)ntheta, sizeof *theta), *out = NULL;
    assert_non_null(dw);
    assert_non_null(theta);
    put(&r.a.x, d->x);
    put(&r.a.y, d->y);
    r.a.w = w;
    r.a.dw = dw;
    r.a.theta = theta;
    r.a.work = guarded((int64_t)(lips_cpu_conv_work(op, &r.a, r.algo) / sizeof(float)));
    assert_int_equal(lips_cpu_conv_run(&r.be.base, op, &r.a, r.algo), LIPS_OK);
    if (op == LIPS_CONV_FORWARD || op == LIPS_CONV_VJP) {
        const lips_tensor *v = op == LIPS_CONV_FORWARD ? &r.a.y : &r.a.x;
        out = take(v);
        *n = v->b * v->t * lips_tensor_features(v);
    } else if (op == LIPS_CONV_GRAD) {
        out = calloc((size_t)nw, sizeof *out);
        for (int64_t i = 0; i < nw; i++)
            out[i] = (double)dw[i];
        *n = nw;
    } else {
        out = theta;
        theta = NULL;
        *n = ntheta;
    }
    free((char *)r.a.work - GUARD * sizeof(float));
    close_run(&r);
    free(w);
    free(dw);
    free(theta);
    return out;
}

/* One chain of fused multiply-adds per output, whatever the tile: avx512 and avx2 agree bit for
 * bit. */
static void test_same_bits(void **state)
{
    (void)state;
    const lips_cpu_kernels *a = NULL, *b = NULL, *k;
    for (int set = 0; (k = lips_cpu_kernels_at(set)); set++) {
        a = strcmp(k->name, "avx512") == 0 ? k : a;
        b = strcmp(k->name, "avx2") == 0 ? k : b;
    }
    if (!a || !b)
        skip();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int op = LIPS_CONV_FORWARD; op <= LIPS_CONV_GRAM; op++) {
            data d = make(shapes[i], false, true);
            double *got[2];
            int64_t n = 0;
            for (int set = 0; set < 2; set++)
                got[set] = outputs(&d, set ? b : a, (lips_conv_op)op, &n);
            if (memcmp(got[0], got[1], (size_t)n * sizeof **got) != 0)
                fail_msg("op %d, shape %zu: avx512 and avx2 differ", op, i);
            free(got[0]);
            free(got[1]);
            drop(&d);
        }
}

static void test_refusals(void **state)
{
    (void)state;
    data d = make((shape){2, 3, 4, 4, 3, 1, 1, 1, 2, 16}, false, true);
    float *w = floats(d.w, 54), *db = floats(d.bias, 3);
    run r = start(&d, lips_cpu_kernels_at(0), LIPS_CONV_FORWARD, LIPS_CONV_AUTO);
    const int64_t n = (int64_t)(lips_cpu_conv_workspace(&r.be.base, &r.a) / sizeof(float));
    float *work = guarded(n);
    r.a.w = w;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_ERR_USAGE); /* no work */
    r.a.work = work + 1;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_ERR_USAGE);
    r.a.work = work;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_OK);
    r.a.x.lanes = r.a.y.lanes = 8;
    assert_int_equal(lips_cpu_conv_vjp(&r.be.base, &r.a), LIPS_ERR_USAGE);
    r.a.x.lanes = r.a.y.lanes = 16;
    r.a.y.h = 5;
    assert_int_equal(lips_cpu_conv_forward(&r.be.base, &r.a), LIPS_ERR_USAGE);
    r.a.y.h = 4;
    r.a.db = db;
    assert_int_equal(lips_cpu_conv_run(&r.be.base, LIPS_CONV_GRAD, &r.a, LIPS_CONV_PIXEL_GRAM),
                     LIPS_ERR_UNSUPPORTED);
    assert_int_equal(lips_cpu_conv_run(&r.be.base, LIPS_CONV_GRAD, &r.a, LIPS_CONV_MATRIX),
                     LIPS_ERR_UNSUPPORTED);
    close_run(&r);
    release(work, n);
    free(w);
    free(db);
    drop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),   cmocka_unit_test(test_vjp),
        cmocka_unit_test(test_grad),      cmocka_unit_test(test_gram),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
