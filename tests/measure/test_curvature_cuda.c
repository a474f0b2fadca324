/*
 * Curvature on a device with more samples than one block takes: against ref; kept and computed
 * anew; with vectors on the device and, where its memory is too small, with the host; and no more
 * memory than planned.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/compare.h"
#include "../lib/tiny_net.h"
#include "measure/curvature.h"
#include "measure/lanczos.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const lips_model_spec MLP = {
    .kind = "mlp", .width = 5, .depth = 2, .classes = 3, .c = 1, .h = 2, .w = 3};
static const lips_model_spec CONVNET = {
    .kind = "convnet", .width = 1, .classes = 3, .c = 1, .h = 4, .w = 4, .batch_norm = true};
/* Vectors outweigh its activations. */
static const lips_model_spec LONG = {
    .kind = "mlp", .width = 40, .depth = 1, .classes = 4, .c = 1, .h = 5, .w = 8};
enum { BLOCKS_3 = 1100, BLOCKS_2 = 530, FEW = 12 };

static const lips_ops *device_ops(void)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    if (!ops || ops->probe(&d, 0) != LIPS_OK)
        skip();
    return ops;
}

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        print_error("%s\n", lips_error());
    assert_int_equal(st, LIPS_OK);
}

static lips_measure_args args_of(const tiny_net *t, const lips_ops *ops, const char *metrics)
{
    lips_measure_args a = {
        .ops = ops,
        .threads = 2,
        .network = {.net = t->net, .params = t->params, .buffers = t->buffers, .epoch = -1},
        .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    ok(lips_metrics_parse(&a.metrics, metrics));
    return a;
}

static void *device_memory(lips_backend *be, int64_t n)
{
    void *p;
    ok(be->ops->alloc(be, &p, (size_t)n * sizeof(double)));
    return p;
}

/* out (4,P): a Hessian product, a Gauss-Newton product, a gradient of samples across a border of
 * blocks, and the Hessian product again. Vectors on the device, or the host's. */
static void products(const tiny_net *t, const lips_ops *ops, size_t keep, bool host, double *out)
{
    const size_t bytes = (size_t)t->p * sizeof(double);
    lips_measure_args a = args_of(t, ops, "hessian,ggn");
    lips_survey *s;
    lips_curvature *c;
    lips_backend *be, *cpu;
    void *shared;
    ok(lips_survey_create(&s, &a));
    ok(lips_curvature_create(&c, s, t->n, keep));
    ok(lips_backend_find("cpu")->open(&cpu, 0));
    be = host ? cpu : lips_curvature_backend(c);
    double *v = device_memory(be, t->p), *w = device_memory(be, t->p);
    ok(be->ops->alloc_shared(be, &shared, bytes));
    ok(be->ops->put(be, v, t->params, bytes));
    for (int i = 0; i < 4; i++) {
        if (i == 2)
            ok(lips_curvature_gradient(c, be, w, t->n - 130, 128));
        else
            ok(lips_curvature_product(c, be, w, v, i == 1));
        ok(be->ops->fetch(be, shared, w, bytes, 0));
        ok(be->ops->await(be, 0));
        memcpy(out + i * t->p, shared, bytes);
    }
    be->ops->release(be, v);
    be->ops->release(be, w);
    be->ops->release(be, shared);
    cpu->ops->close(cpu);
    lips_curvature_free(c);
    lips_survey_free(s);
}

static void check_blocks(const lips_model_spec *spec, int64_t n)
{
    const lips_ops *ops = device_ops();
    const char *const names[] = {"Hessian", "Gauss-Newton", "gradient", "Hessian again"};
    tiny_net t = tiny_net_create(spec, n, 77);
    double *want = calloc((size_t)(4 * t.p), sizeof *want);
    double *kept = calloc((size_t)(4 * t.p), sizeof *kept);
    double *other = calloc((size_t)(4 * t.p), sizeof *other);
    assert_true(want && kept && other);
    assert_true(lips_survey_sum_block(t.net, ops, n) < n);
    products(&t, lips_backend_find("ref"), 1 << 30, false, want);
    products(&t, ops, 1 << 30, false, kept);
    for (int i = 0; i < 4; i++)
        assert_true(cmp_check(names[i], kept + i * t.p, want + i * t.p, t.p, 1e-5));
    assert_memory_equal(kept, kept + 3 * t.p, (size_t)t.p * sizeof *kept);
    /* Everything computed anew; and vectors that cross to the device and back. */
    products(&t, ops, 0, false, other);
    assert_memory_equal(kept, other, (size_t)(4 * t.p) * sizeof *kept);
    products(&t, ops, 1 << 30, true, other);
    assert_memory_equal(kept, other, (size_t)(4 * t.p) * sizeof *kept);
    free(want), free(kept), free(other);
    tiny_net_free(&t);
}

static void test_blocks(void **state)
{
    (void)state;
    check_blocks(&MLP, BLOCKS_3);
    check_blocks(&CONVNET, BLOCKS_2);
}

static const lips_record *record(const lips_measurement *m, const char *quantity, int rank)
{
    for (int i = 0; i < m->n_records; i++)
        if (strcmp(m->records[i].quantity, quantity) == 0 && m->records[i].rank == rank)
            return &m->records[i];
    fail_msg("no %s of rank %d", quantity, rank);
    return NULL;
}

static void limit(size_t bytes)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", bytes);
    setenv("CUSIM_MEMORY", text, 1);
}

/* The largest eigenvalues of two blocks against ref, to what a float's products leave; within the
 * planned memory, and not within half of it. */
static void test_eigenvalues(void **state)
{
    (void)state;
    const char *const names[] = {"hessian.lambda_max", "ggn.lambda_max"};
    const lips_ops *ops = device_ops();
    tiny_net t = tiny_net_create(&MLP, BLOCKS_2, 78);
    lips_measure_args a = args_of(&t, ops, "hessian.lambda_max,ggn.lambda_max"), b = a;
    lips_measurement device, ref;
    size_t plan = 0;
    b.ops = lips_backend_find("ref");
    ok(lips_measure_plan_bytes(&a, &plan));
    if (backend_is_emulated(ops)) {
        limit(plan / 2);
        assert_int_equal(lips_measure_run(&device, &a), LIPS_ERR_MEMORY);
        limit(plan);
    }
    ok(lips_measure_run(&device, &a));
    unsetenv("CUSIM_MEMORY");
    ok(lips_measure_run(&ref, &b));
    for (int i = 0; i < 2; i++) {
        const double want = record(&ref, names[i], 0)->value;
        assert_true(fabs(record(&device, names[i], 0)->value - want) <= 1e-5 * want);
    }
    lips_measurement_free(&device);
    lips_measurement_free(&ref);
    tiny_net_free(&t);
}

static bool same(const lips_measurement *a, const lips_measurement *b)
{
    bool equal = a->n_records == b->n_records;
    for (int i = 0; equal && i < a->n_records; i++) {
        const lips_record *x = &a->records[i], *y = &b->records[i];
        equal = x->form == y->form && memcmp(&x->value, &y->value, sizeof x->value) == 0 &&
                memcmp(&x->mean, &y->mean, sizeof x->mean) == 0 &&
                memcmp(&x->residual, &y->residual, sizeof x->residual) == 0;
    }
    return equal;
}

/* The same measurement on devices with these shares of the planned memory: with vectors that the
 * host keeps, to the same bits, or refused. */
static void less_memory(const tiny_net *t, const char *metrics, int pairs, const double *shares,
                        int ran, int refused)
{
    lips_measure_args a = args_of(t, device_ops(), metrics);
    lips_measurement want, got;
    size_t plan = 0, other = 0;
    const double vectors = lips_lanczos_bytes(t->p, pairs + 1);
    ok(lips_measure_plan_bytes(&a, &plan));
    assert_true((double)plan > vectors && (double)plan < 2 * vectors);
    ok(lips_measure_run(&want, &a));
    limit(2 * plan);
    ok(lips_measure_plan_bytes(&a, &other));
    assert_int_equal(other, plan);
    limit(plan); /* the vectors are more than half of it */
    ok(lips_measure_plan_bytes(&a, &other));
    assert_true(other >= plan);
    for (; *shares > 0; shares++) {
        limit((size_t)(*shares * (double)plan));
        lips_status st = lips_measure_run(&got, &a);
        if (st == LIPS_OK) {
            assert_true(same(&want, &got));
            lips_measurement_free(&got);
            ran--;
            continue;
        }
        assert_int_equal(st, LIPS_ERR_MEMORY);
        assert_non_null(strstr(lips_error(), "bytes asked"));
        assert_true(*shares < 0.5); /* the vectors alone are more than that */
        refused--;
    }
    unsetenv("CUSIM_MEMORY");
    assert_true(ran == 0 && refused == 0);
    lips_measurement_free(&want);
}

static void test_memory(void **state)
{
    (void)state;
    if (!backend_is_emulated(device_ops()))
        skip(); /* a real device's memory cannot be taken away */
    tiny_net t = tiny_net_create(&LONG, FEW, 79);
    less_memory(&t, "hessian.lambda_max,ggn.lambda_max", 1,
                (double[]){1.4, 0.9, 0.5, 0.05, 0.01, 0}, 3, 2);
    less_memory(&t, "hessian.alignment", 10, (double[]){0.8, 0}, 1, 0);
    tiny_net_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_eigenvalues),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
