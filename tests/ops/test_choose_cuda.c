/*
 * cuda/choose.c: requests, the rule, measurement once per shape, and the file that keeps it. The
 * emulated device is given another name, so that it is measured.
 */
#include "../lib/cmocka_all.h"
#include "../lib/tempdir.h"
#include "backend/cuda/choose.h"
#include "kernels/linear.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOW = 1 << 20, MIDDLE = 1 << 17, FAST = 16 };

typedef struct fake {
    float *memory;
    void *sum;
    void *sums_seen[16];
    int runs[LIPS_CUDA_WAYS];
    int total;
    bool no_library; /* it does not do the shape */
} fake;

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
}

/* The narrow way is the fastest. */
static lips_status run(lips_cuda *h, const void *args, lips_cuda_way way)
{
    static const int64_t sizes[LIPS_CUDA_WAYS] = {
        [LIPS_CUDA_TILE] = SLOW, [LIPS_CUDA_NARROW] = FAST, [LIPS_CUDA_LIBRARY] = MIDDLE};
    fake *f = (fake *)(size_t)args;
    if (f->total < 16)
        f->sums_seen[f->total] = f->sum;
    f->total++;
    f->runs[way]++;
    if (f->no_library && way == LIPS_CUDA_LIBRARY)
        return lips_fail(LIPS_ERR_UNSUPPORTED, "not this shape");
    return lips_cuda_affine_end(f->memory, NULL, true, sizes[way], 1, h->stream);
}

static lips_cuda *open_device(bool measured)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    lips_backend *be;
    if (!ops || ops->probe(&d, 0) != LIPS_OK || !d.emulated)
        skip();
    ok(ops->open(&be, 0));
    if (measured)
        snprintf(((lips_cuda *)be)->prop.name, sizeof((lips_cuda *)be)->prop.name, "some device");
    return (lips_cuda *)be;
}

static void close_device(lips_cuda *h)
{
    h->base.ops->close(&h->base);
}

static lips_cuda_product product(fake *f, int64_t size)
{
    return (lips_cuda_product){
        .op = "fake",
        .precision = LIPS_PRECISION_TF32,
        .size = {size, 3},
        .offered = {[LIPS_CUDA_TILE] = true, [LIPS_CUDA_NARROW] = true, [LIPS_CUDA_LIBRARY] = true},
        .rule = LIPS_CUDA_TILE,
        .run = run,
        .args = f};
}

static lips_cuda_way choose(lips_cuda *h, fake *f, int64_t size, lips_library asked)
{
    lips_cuda_way way;
    const lips_cuda_product p = product(f, size);
    void *memory;
    ok(h->base.ops->alloc(&h->base, &memory, SLOW * sizeof(float)));
    f->memory = memory;
    ok(lips_cuda_choose(h, &p, asked, &way));
    h->base.ops->release(&h->base, memory);
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

static char *read_cache(const char *folder)
{
    static char text[4096];
    char path[512];
    snprintf(path, sizeof path, "%s/lipsweep/cuda-choices.tsv", folder);
    FILE *f = fopen(path, "r");
    text[0] = '\0';
    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = '\0';
        fclose(f);
    }
    return text;
}

static void test_requests(void **state)
{
    fake f = {0};
    lips_cuda *h = open_device(false);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_TILE); /* emulated: the rule */
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_OWN), LIPS_CUDA_TILE);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_NVIDIA), LIPS_CUDA_LIBRARY);
    assert_int_equal(f.total, 0);
    assert_string_equal(read_cache(*state), "");
    close_device(h);
}

static void test_measured_once(void **state)
{
    fake f = {0};
    lips_cuda *h = open_device(true);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    for (int way = 0; way < LIPS_CUDA_WAYS; way++)
        assert_int_equal(f.runs[way], product(&f, 1).offered[way] ? 4 : 0);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(f.total, 12);
    assert_int_equal(choose(h, &f, 2, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW); /* another shape */
    assert_int_equal(f.total, 24);
    close_device(h);
    const char *text = read_cache(*state);
    assert_non_null(strstr(text, "some device"));
    assert_non_null(strstr(text, "fake tf32 1 3 0"));
    assert_non_null(strstr(text, "\tnarrow\ttile "));
    h = open_device(true);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(f.total, 24); /* from the file */
    close_device(h);
}

/* A choice that is in the file stays, whatever would be measured; torn lines are passed over. */
static void test_file_rules(void **state)
{
    fake f = {0};
    lips_cuda *h = open_device(true);
    choose(h, &f, 1, LIPS_LIBRARY_AUTO);
    close_device(h);
    char text[4096], path[512];
    snprintf(text, sizeof text, "%s", read_cache(*state));
    char *way = strstr(text, "\tnarrow\t");
    assert_non_null(way);
    memcpy(way, "\tlibrary\t", 9);
    snprintf(path, sizeof path, "%s/lipsweep/cuda-choices.tsv", (char *)*state);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "torn\n\nsome device: fake\tnothing\tx\n%.*s\tnonsense\n%s\nlast line without",
            (int)(way - text), text, text);
    fclose(file);
    f.total = 0;
    h = open_device(true);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_LIBRARY);
    assert_int_equal(f.total, 0);
    close_device(h);
}

static void test_without_a_cache(void **state)
{
    fake f = {0};
    setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
    lips_cuda *h = open_device(true);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(f.total, 12);
    close_device(h);
    setenv("XDG_CACHE_HOME", *state, 1);
}

/* A library that says no after all is not chosen, and where it is asked for the rule runs. */
static void test_library_says_no(void **state)
{
    (void)state;
    fake f = {.no_library = true};
    lips_cuda *h = open_device(true);
    void *memory;
    assert_int_equal(choose(h, &f, 5, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(f.runs[LIPS_CUDA_LIBRARY], 1);
    ok(h->base.ops->alloc(&h->base, &memory, SLOW * sizeof(float)));
    f.memory = memory;
    memset(f.runs, 0, sizeof f.runs);
    const lips_cuda_product p = product(&f, 6);
    ok(lips_cuda_run(h, &p, LIPS_LIBRARY_NVIDIA));
    assert_int_equal(f.runs[LIPS_CUDA_LIBRARY], 1);
    assert_int_equal(f.runs[LIPS_CUDA_TILE], 1);
    f.no_library = false;
    ok(lips_cuda_run(h, &p, LIPS_LIBRARY_NVIDIA));
    assert_int_equal(f.runs[LIPS_CUDA_LIBRARY], 2);
    assert_int_equal(f.runs[LIPS_CUDA_TILE], 1);
    h->base.ops->release(&h->base, memory);
    close_device(h);
}

/* An op that adds is measured on other memory than the caller's. */
static void test_sum_is_kept(void **state)
{
    (void)state;
    fake f = {0};
    int target;
    lips_cuda_way way;
    lips_cuda *h = open_device(true);
    void *memory;
    ok(h->base.ops->alloc(&h->base, &memory, SLOW * sizeof(float)));
    f.memory = memory;
    f.sum = &target;
    lips_cuda_product p = product(&f, 9);
    p.sum = &f.sum;
    p.sum_bytes = 64;
    ok(lips_cuda_choose(h, &p, LIPS_LIBRARY_AUTO, &way));
    assert_ptr_equal(f.sum, &target);
    assert_int_equal(f.total, 14); /* two before the measurement, to compare (prove.h) */
    for (int i = 0; i < 14; i++)
        assert_ptr_not_equal(f.sums_seen[i], &target);
    h->base.ops->release(&h->base, memory);
    close_device(h);
}

static lips_cuda *open_keeping(const char *path)
{
    lips_cuda *h = open_device(true);
    ok(h->base.ops->keep_choices(&h->base, path));
    return h;
}

static void write_text(const char *path, const char *from, const char *to, const char *tail)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "%.*s%s", (int)(to - from), from, tail);
    fclose(file);
}

/* The named file has what was measured, and its word comes before the cache's. */
static void test_kept_file(void **state)
{
    fake f = {0};
    char kept[512], cache[512], text[4096];
    snprintf(kept, sizeof kept, "%s/kept.tsv", (char *)*state);
    snprintf(cache, sizeof cache, "%s/lipsweep/cuda-choices.tsv", (char *)*state);
    lips_cuda *h = open_keeping(kept);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    close_device(h);
    assert_int_equal(f.total, 12);
    assert_int_equal(remove(cache), 0);
    h = open_keeping(kept);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(f.total, 12); /* from the kept file alone */
    close_device(h);
    assert_string_equal(read_cache(*state), "");

    FILE *file = fopen(kept, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *way = strstr(text, "\tnarrow\t");
    assert_non_null(way);
    write_text(cache, text, way, "\tlibrary\tx\n");
    h = open_keeping(kept);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    close_device(h);

    /* What comes from the cache is kept as well. */
    assert_int_equal(remove(kept), 0);
    h = open_keeping(kept);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_LIBRARY);
    close_device(h);
    write_text(cache, text, way, "\ttile\tx\n");
    h = open_keeping(kept);
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_LIBRARY);
    assert_int_equal(h->base.ops->keep_choices(&h->base, kept), LIPS_ERR_USAGE);
    assert_int_equal(f.total, 12);
    close_device(h);
}

/* Where there is no cache, too. */
static void test_kept_file_alone(void **state)
{
    fake f = {0};
    char kept[512];
    snprintf(kept, sizeof kept, "%s/kept.tsv", (char *)*state);
    setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
    for (int i = 0; i < 2; i++) {
        lips_cuda *h = open_keeping(kept);
        assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
        close_device(h);
        assert_int_equal(f.total, 12);
    }
}

/* A file that cannot be written is no error. */
static void test_kept_file_unwritable(void **state)
{
    (void)state;
    fake f = {0};
    lips_cuda *h = open_keeping("/proc/nowhere/kept.tsv");
    assert_int_equal(choose(h, &f, 1, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    assert_int_equal(choose(h, &f, 2, LIPS_LIBRARY_AUTO), LIPS_CUDA_NARROW);
    close_device(h);
}

static void test_refusals(void **state)
{
    (void)state;
    lips_cuda *h = open_device(false);
    const lips_ops *ops = h->base.ops;
    assert_int_equal(ops->set_precision(&h->base, (lips_precision)3, LIPS_PRECISION_F32),
                     LIPS_ERR_USAGE);
    assert_int_equal(ops->set_precision(&h->base, LIPS_PRECISION_F32, (lips_precision)-1),
                     LIPS_ERR_USAGE);
    assert_int_equal(ops->set_libraries(&h->base, (lips_library)9, LIPS_LIBRARY_OWN),
                     LIPS_ERR_USAGE);
    assert_int_equal(h->forward, LIPS_PRECISION_F32);
    assert_int_equal(h->conv, LIPS_LIBRARY_AUTO);
    close_device(h);
}

#define WITH_CACHE(f) cmocka_unit_test_setup_teardown(f, cache_folder, cache_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(test_requests),
        WITH_CACHE(test_measured_once),
        WITH_CACHE(test_file_rules),
        WITH_CACHE(test_without_a_cache),
        WITH_CACHE(test_library_says_no),
        WITH_CACHE(test_sum_is_kept),
        WITH_CACHE(test_refusals),
        WITH_CACHE(test_kept_file),
        WITH_CACHE(test_kept_file_unwritable),
        WITH_CACHE(test_kept_file_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
