/*
 * cuda/prove.c: a way whose results differ is refused for the shape, with one warning, however fast
 * it is. The emulated device is given another name, so that it is measured.
 */
#include "../lib/cmocka_all.h"
#include "../lib/tempdir.h"
#include "backend/cuda/choose.h"
#include "kernels/linear.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VALUES = 70000, SLOW = 1 << 20, FAST = 16 };

/* What is wrong with the fast way. */
typedef enum flaw { RIGHT, ROUNDED, SCALED, ONE_ENTRY, ONE_NAN, UNWRITTEN_END, LEFT_OLD } flaw;

typedef struct fake {
    float *memory; /* that takes time */
    float *out;
    float *tile, *other; /* (VALUES) host: what the two kinds of ways write */
    int64_t written;     /* by the fast way */
    lips_cuda_way fast;
} fake;

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
}

static lips_status run(lips_cuda *h, const void *args, lips_cuda_way way)
{
    const fake *f = args;
    const bool fast = way == f->fast;
    const int64_t n = fast ? f->written : VALUES;
    LIPS_TRY_CUDA(cudaMemcpyAsync(f->out, fast ? f->other : f->tile, (size_t)n * sizeof(float),
                                  cudaMemcpyHostToDevice, h->stream));
    return lips_cuda_affine_end(f->memory, NULL, true, fast ? FAST : SLOW, 1, h->stream);
}

static lips_cuda *open_measured(void)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    lips_backend *be;
    if (!ops || ops->probe(&d, 0) != LIPS_OK || !d.emulated)
        skip();
    ok(ops->open(&be, 0));
    snprintf(((lips_cuda *)be)->prop.name, sizeof((lips_cuda *)be)->prop.name, "some device");
    return (lips_cuda *)be;
}

static void prepare(fake *f, flaw kind, bool zeros)
{
    f->written = kind == UNWRITTEN_END ? VALUES - 1 : kind == LEFT_OLD ? 0 : VALUES;
    for (int i = 0; i < VALUES; i++) {
        f->tile[i] = zeros ? 0 : sinf((float)i);
        f->other[i] = f->tile[i] * (kind == SCALED ? 1.01f : kind == ROUNDED ? 1.0003f : 1.0f);
    }
    if (kind == ONE_ENTRY)
        f->other[VALUES - 5] += 0.5f;
    if (kind == ONE_NAN)
        f->other[3] = NAN;
}

/* stderr of f() as text. */
static void listen_begin(int *kept, FILE **log)
{
    fflush(stderr);
    *kept = dup(STDERR_FILENO);
    *log = tmpfile();
    assert_non_null(*log);
    dup2(fileno(*log), STDERR_FILENO);
}

static void listen_end(int kept, FILE *log, char *text, size_t size)
{
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(log);
    text[fread(text, 1, size - 1, log)] = '\0';
    fclose(log);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

/* The way chosen where `fast` is fastest by far, and what was said. */
static lips_cuda_way choose(flaw kind, lips_cuda_way fast, bool zeros, char *text, size_t size)
{
    lips_cuda *h = open_measured();
    fake f = {.fast = fast};
    void *memory, *out;
    int kept;
    FILE *log;
    lips_cuda_way way;
    ok(h->base.ops->alloc(&h->base, &memory, SLOW * sizeof(float)));
    ok(h->base.ops->alloc(&h->base, &out, VALUES * sizeof(float)));
    f.memory = memory;
    f.out = out;
    f.tile = malloc(VALUES * sizeof(float));
    f.other = malloc(VALUES * sizeof(float));
    assert_true(f.tile && f.other);
    prepare(&f, kind, zeros);
    lips_cuda_product p = {.op = "fake",
                           .precision = LIPS_PRECISION_TF32,
                           .size = {kind, zeros, fast},
                           .offered = {[LIPS_CUDA_TILE] = true, [LIPS_CUDA_LIBRARY] = true},
                           .rule = LIPS_CUDA_TILE,
                           .run = run,
                           .args = &f,
                           .out = f.out,
                           .out_count = VALUES};
    p.offered[fast] = true;
    listen_begin(&kept, &log);
    lips_status st = lips_cuda_choose(h, &p, LIPS_LIBRARY_AUTO, &way);
    listen_end(kept, log, text, size);
    ok(st);
    free(f.tile);
    free(f.other);
    h->base.ops->release(&h->base, memory);
    h->base.ops->release(&h->base, out);
    h->base.ops->close(&h->base);
    return way;
}

static int cache_folder(void **state)
{
    static char path[256];
    tempdir_make(path, sizeof path);
    setenv("XDG_CACHE_HOME", path, 1);
    *state = path;
    return 0;
}

static int cache_remove(void **state)
{
    tempdir_remove(*state);
    return 0;
}

static void test_right_ways_stay(void **state)
{
    (void)state;
    static const lips_cuda_way ways[] = {LIPS_CUDA_PATCH, LIPS_CUDA_WGMMA, LIPS_CUDA_NARROW};
    char text[2048];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (flaw kind = RIGHT; kind <= ROUNDED; kind++) {
            assert_int_equal(choose(kind, ways[i], false, text, sizeof text), ways[i]);
            assert_int_equal(count(text, "warning"), 0);
        }
}

static void test_wrong_ways_are_refused(void **state)
{
    (void)state;
    static const lips_cuda_way ways[] = {LIPS_CUDA_PATCH, LIPS_CUDA_WGMMA, LIPS_CUDA_NARROW};
    static const char *const names[] = {"patch", "wgmma", "narrow"};
    char text[2048], name[64];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (flaw kind = SCALED; kind <= LEFT_OLD; kind++) {
            assert_int_not_equal(choose(kind, ways[i], false, text, sizeof text), ways[i]);
            snprintf(name, sizeof name, "\"%s\"", names[i]);
            assert_int_equal(count(text, "warning"), 1);
            assert_int_equal(count(text, "\n"), 1);
            assert_int_equal(count(text, name), 1);
            assert_int_equal(count(text, "fake tf32 "), 1);
        }
}

/* Nothing to compare with: only the unproven instructions are refused, without a word. */
static void test_zeros_prove_nothing(void **state)
{
    (void)state;
    char text[2048];
    assert_int_equal(choose(RIGHT, LIPS_CUDA_PATCH, true, text, sizeof text), LIPS_CUDA_PATCH);
    assert_int_equal(count(text, "warning"), 0);
    assert_int_not_equal(choose(RIGHT, LIPS_CUDA_WGMMA, true, text, sizeof text), LIPS_CUDA_WGMMA);
    assert_int_equal(count(text, "warning"), 0);
}

static void *tensor(lips_cuda *h, lips_tensor *t)
{
    const int64_t n = t->b * lips_tensor_features(t) * t->t;
    double *host = malloc((size_t)n * sizeof *host);
    assert_non_null(host);
    ok(h->base.ops->alloc(&h->base, &t->data, h->base.ops->tensor_bytes(&h->base, t)));
    for (int64_t i = 0; i < n; i++)
        host[i] = sin((double)(7 * i));
    ok(h->base.ops->upload_f64(&h->base, t, host));
    free(host);
    return t->data;
}

/* The kernels themselves, each precision, forward and back: none is refused, all have a time. */
static void test_kernels_agree(void **state)
{
    lips_cuda *h = open_measured();
    const lips_ops *ops = h->base.ops;
    char text[4096], path[512];
    int kept;
    FILE *log;
    for (int precision = LIPS_PRECISION_F32; precision <= LIPS_PRECISION_BF16; precision++) {
        lips_tensor x = {.cap = 3, .b = 2, .c = 40, .h = 9, .w = 8, .t = 1, .lanes = 1}, y = x;
        lips_tensor w = {.cap = 1, .b = 1, .c = 48 * 40, .h = 3, .w = 3, .t = 1, .lanes = 1};
        y.c = 48;
        lips_conv_args a = {.geom = {.r = 3, .stride = 1, .pad = 1}};
        void *all[] = {tensor(h, &x), tensor(h, &y), tensor(h, &w), NULL};
        a.x = x;
        a.y = y;
        a.w = w.data;
        ok(ops->alloc(&h->base, &all[3], ops->conv_workspace(&h->base, &a)));
        a.work = all[3];
        ok(ops->set_precision(&h->base, (lips_precision)precision, (lips_precision)precision));
        listen_begin(&kept, &log);
        lips_status st = ops->conv_forward(&h->base, &a);
        st = st == LIPS_OK ? ops->conv_vjp(&h->base, &a) : st;
        listen_end(kept, log, text, sizeof text);
        ok(st);
        assert_int_equal(count(text, "warning"), 0);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            ops->release(&h->base, all[i]);
    }
    ops->close(&h->base);
    snprintf(path, sizeof path, "%s/lipsweep/cuda-choices.tsv", (char *)*state);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(count(text, "\n"), 6);
    assert_int_equal(count(text, "wgmma 0.0000"), 0);
    assert_int_equal(count(text, "patch 0.0000"), 0);
}

#define WITH_CACHE(f) cmocka_unit_test_setup_teardown(f, cache_folder, cache_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(test_right_ways_stay),
        WITH_CACHE(test_wrong_ways_are_refused),
        WITH_CACHE(test_zeros_prove_nothing),
        WITH_CACHE(test_kernels_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
