/*
 * Training steps recorded as a CUDA graph: the same bits as op by op, on resume at every step, for
 * several trainers at once, and where a step cannot be made; nothing of a recording is lost to what
 * else the handle does.
 */
#include "../lib/backends.h"
#include "../lib/cmocka_all.h"
#include "../lib/toy.h"
#include "train/trainer_internal.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EPOCHS = 4, STEPS_PER_EPOCH = 5, STEPS = EPOCHS * STEPS_PER_EPOCH };

/* Stands for base/signals.c: a signal is pending once so many steps have been asked about. */
static __thread int steps_left = -1;

lips_status lips_signals_pending(void)
{
    if (steps_left > 0 && --steps_left == 0)
        return lips_fail(LIPS_ERR_REQUEUE, "stopped by the test");
    return LIPS_OK;
}

static void need_device(void)
{
    const lips_ops *ops = lips_backend_find("cuda");
    lips_device d;
    if (!ops || ops->probe(&d, 0) != LIPS_OK)
        skip();
}

typedef struct setting {
    const char *model;
    bool batch_norm, augment;
    const char *optimizer;
    lips_loss_kind loss;
    bool regression;
    bool whole; /* all samples are one batch */
} setting;

static const setting settings[] = {
    {"mlp", false, false, "sgd", LIPS_LOSS_CROSS_ENTROPY, false, false},
    {"mlp", false, true, "adam", LIPS_LOSS_MSE, false, false},
    {"mlp", false, false, "adam", LIPS_LOSS_MSE, true, false},
    {"convnet", true, true, "sgd", LIPS_LOSS_CROSS_ENTROPY, false, false},
    {"convnet", false, false, "adam", LIPS_LOSS_CROSS_ENTROPY, false, false},
    {"convnet", true, false, "sgd", LIPS_LOSS_CROSS_ENTROPY, false, true},
};
enum { SETTINGS = sizeof settings / sizeof settings[0] - 1 }; /* with steps of both sizes */

/* A toy on `backend`; the rates change from epoch to epoch. */
static toy *make(const setting *s, const char *backend, bool graph)
{
    toy *t = toy_create(s->model, s->batch_norm, backend, s->optimizer);
    t->cfg.augment = s->augment;
    t->cfg.loss = s->loss;
    t->cfg.warmup_epochs = 2;
    t->cfg.lr_step = 3;
    t->cfg.epochs = EPOCHS;
    t->cfg.weight_decay = 1e-3;
    t->cfg.cuda_graph = graph;
    if (s->whole)
        t->cfg.batch = TOY_N;
    t->d.regression = s->regression;
    if (s->regression) {
        t->d.train.target = malloc(sizeof(float) * TOY_N * TOY_K);
        assert_non_null(t->d.train.target);
        for (int i = 0; i < TOY_N * TOY_K; i++)
            t->d.train.target[i] = t->d.train.x[i / TOY_K * TOY_ROW + i % TOY_K];
    }
    return t;
}

static void unmake(toy *t)
{
    free(t->d.train.target);
    toy_free(t);
}

/* To the end, or until `steps` steps are done (0: no limit); true at the end. */
static bool run(lips_trainer *tr, int steps)
{
    lips_status st = LIPS_OK;
    steps_left = steps > 0 ? steps : -1;
    while (lips_trainer_epoch(tr) < EPOCHS) {
        st = lips_trainer_run_epoch(tr);
        /* The last step of an epoch is the caller's to ask about. */
        if (st == LIPS_OK && lips_trainer_epoch(tr) < EPOCHS)
            st = lips_signals_pending();
        if (st != LIPS_OK)
            break;
    }
    if (st != LIPS_OK && st != LIPS_ERR_REQUEUE)
        fail_msg("%s", lips_error());
    return st == LIPS_OK;
}

static double *trained(const setting *s, const char *backend, bool graph, size_t *bytes)
{
    toy *t = make(s, backend, graph);
    lips_trainer *tr = toy_trainer(t);
    assert_true(run(tr, 0));
    for (int i = 0; i < LIPS_TAPES && graph; i++)
        assert_non_null(tr->tape[i].recorded);
    for (int i = 0; i < LIPS_TAPES && !graph; i++)
        assert_null(tr->tape[i].recorded);
    double *w = toy_weights(tr, t, bytes);
    lips_trainer_free(tr);
    unmake(t);
    return w;
}

/* Op by op the same bits; and near ref's. A step's rounding, 2^-24 a product, grows along 20 steps
 * of a smooth small problem by far less than 1e3. */
static void test_same_as_op_by_op(void **state)
{
    (void)state;
    need_device();
    for (int i = 0; i < SETTINGS; i++) {
        size_t bytes;
        double *graph = trained(&settings[i], "cuda", true, &bytes), largest = 0;
        double *direct = trained(&settings[i], "cuda", false, &bytes);
        double *ref = trained(&settings[i], "ref", false, &bytes);
        assert_memory_equal(graph, direct, bytes);
        for (size_t k = 0; k < bytes / sizeof *ref; k++)
            largest = fmax(largest, fabs(ref[k]));
        for (size_t k = 0; k < bytes / sizeof *ref && strcmp(settings[i].optimizer, "sgd") == 0;
             k++)
            assert_true(fabs(graph[k] - ref[k]) <= 1e-4 * largest);
        free(graph), free(direct), free(ref);
    }
}

/* Stopped after k steps and gone on with in another trainer, recorded or not. */
static void resumes(const setting *s, int every)
{
    size_t bytes;
    double *want = trained(s, "cuda", true, &bytes);
    for (int k = 1; k < STEPS; k += every) {
        char *extra = NULL;
        bool found = false;
        toy *t = make(s, "cuda", k % 3 != 0);
        lips_trainer *tr = toy_trainer(t);
        assert_false(run(tr, k));
        assert_int_equal(lips_trainer_epoch(tr) * STEPS_PER_EPOCH + lips_trainer_step(tr), k);
        assert_int_equal(lips_trainer_save(tr, toy_path(t, "state.safetensors"), "k"), LIPS_OK);
        lips_trainer_free(tr);
        t->cfg.cuda_graph = k % 2;
        tr = toy_trainer(t);
        if (lips_trainer_load(tr, toy_path(t, "state.safetensors"), &extra, &found) != LIPS_OK)
            fail_msg("%s", lips_error());
        assert_true(found);
        free(extra);
        assert_true(run(tr, 0));
        double *got = toy_weights(tr, t, &bytes);
        assert_memory_equal(got, want, bytes);
        free(got);
        lips_trainer_free(tr);
        unmake(t);
    }
    free(want);
}

static void test_resume(void **state)
{
    (void)state;
    need_device();
    resumes(&settings[0], 1);
    resumes(&settings[1], 3);
    resumes(&settings[3], 4);
}

/* What a run ends with that meets a step which cannot be made. */
typedef struct ending {
    char text[256];
    int64_t step, updates;
    double *weights;
    size_t bytes;
} ending;

static ending ends(const setting *s, const char *backend, bool graph, double lr, float poison)
{
    ending e = {0};
    toy *t = make(s, backend, graph);
    t->cfg.warmup_epochs = 0;
    t->cfg.epochs = 40;
    t->cfg.lr = lr;
    if (poison != 0)
        t->d.train.x[30 * TOY_ROW + 5] = poison;
    lips_trainer *tr = toy_trainer(t);
    lips_status st = LIPS_OK;
    for (int i = 0; i < 40 && st == LIPS_OK; i++)
        st = lips_trainer_run_epoch(tr);
    assert_int_equal(st, LIPS_ERR_DIVERGED);
    snprintf(e.text, sizeof e.text, "%s", lips_error());
    e.step = lips_trainer_epoch(tr) * STEPS_PER_EPOCH + lips_trainer_step(tr);
    e.updates = tr->updates;
    assert_int_equal(e.step, e.updates);
    e.weights = toy_weights(tr, t, &e.bytes);
    for (size_t i = 0; i < e.bytes / sizeof(double); i++)
        assert_true(isfinite(e.weights[i]));
    lips_trainer_free(tr);
    unmake(t);
    return e;
}

/* The weights and statistics of the same run after so many steps. */
static void same_as_stopped(const setting *s, const ending *e, double lr, float poison)
{
    size_t bytes;
    toy *t = make(s, "cuda", true);
    t->cfg.warmup_epochs = 0;
    t->cfg.epochs = 40;
    t->cfg.lr = lr;
    t->d.train.x[30 * TOY_ROW + 5] = poison != 0 ? poison : t->d.train.x[30 * TOY_ROW + 5];
    lips_trainer *tr = toy_trainer(t);
    steps_left = (int)e->step;
    lips_status st = LIPS_OK;
    while (steps_left > 0 && st == LIPS_OK)
        st = lips_trainer_run_epoch(tr) == LIPS_OK ? lips_signals_pending() : LIPS_ERR_REQUEUE;
    assert_int_equal(tr->updates, e->updates);
    double *w = toy_weights(tr, t, &bytes);
    assert_memory_equal(w, e->weights, bytes);
    free(w);
    lips_trainer_free(tr);
    unmake(t);
}

/* The weights and statistics as they were made. */
static void never_moved(const setting *s, const ending *e)
{
    size_t bytes;
    toy *t = make(s, "cuda", true);
    lips_trainer *tr = toy_trainer(t);
    double *w = toy_weights(tr, t, &bytes);
    assert_memory_equal(w, e->weights, bytes);
    free(w);
    lips_trainer_free(tr);
    unmake(t);
}

/* The step that cannot be made is named, and nothing after it has changed a bit, though the host
 * had queued more. */
static void test_divergence(void **state)
{
    (void)state;
    need_device();
    static const struct {
        int setting;
        double lr;
        float poison;
        const char *what;
    } cases[] = {
        {0, 0.05, NAN, "loss"},       {3, 0.05, NAN, "loss"}, {5, 0.05, NAN, "loss"},
        {3, 0.05, INFINITY, "loss"},  {4, 0.01, NAN, "loss"}, {0, 1e6, 0, "is not finite"},
        {4, 1e9, 0, "is not finite"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const setting *s = &settings[cases[i].setting];
        ending graph = ends(s, "cuda", true, cases[i].lr, cases[i].poison);
        ending direct = ends(s, "cuda", false, cases[i].lr, cases[i].poison);
        assert_string_equal(graph.text, direct.text);
        assert_non_null(strstr(graph.text, cases[i].what));
        char at[64];
        snprintf(at, sizeof at, "epoch %" PRId64 ", step %" PRId64 " ",
                 graph.step / STEPS_PER_EPOCH + 1, graph.step % STEPS_PER_EPOCH + 1);
        assert_non_null(strstr(graph.text, at));
        assert_memory_equal(graph.weights, direct.weights, graph.bytes);
        if (cases[i].poison != 0) {
            ending ref = ends(s, "ref", false, cases[i].lr, cases[i].poison);
            assert_string_equal(graph.text, ref.text);
            free(ref.weights);
        }
        if (graph.step > 0)
            same_as_stopped(s, &graph, cases[i].lr, cases[i].poison);
        else
            never_moved(s, &graph);
        free(graph.weights), free(direct.weights);
    }
}

/* A step that cannot be made is seen in the epoch it belongs to, however far the host has run ahead
 * (32 steps, and what is left): 37 steps of one row, and its row spoils one of them. */
static void test_divergence_at_any_step(void **state)
{
    (void)state;
    need_device();
    for (int step = 0; step < TOY_N; step += step == 0 || step >= 30 ? 1 : 15) {
        toy *t = make(&settings[0], "cuda", true);
        char at[64];
        int64_t order[TOY_N];
        t->cfg.batch = 1;
        lips_batch_order(t->cfg.seed, 0, TOY_N, order);
        t->d.train.x[order[step] * TOY_ROW + 1] = NAN;
        lips_trainer *tr = toy_trainer(t);
        assert_int_equal(lips_trainer_run_epoch(tr), LIPS_ERR_DIVERGED);
        snprintf(at, sizeof at, "epoch 1, step %d ", step + 1);
        if (!strstr(lips_error(), at))
            fail_msg("'%s' is not of %s", lips_error(), at);
        lips_trainer_free(tr);
        unmake(t);
    }
}

/* Between epochs the handle is used for other things, some of which want more scratch than any step
 * did: evaluation, transfers. */
static void test_other_work_between(void **state)
{
    (void)state;
    need_device();
    size_t bytes;
    const setting *s = &settings[3];
    double *want = trained(s, "cuda", true, &bytes);
    toy *t = make(s, "cuda", true);
    lips_trainer *tr = toy_trainer(t);
    for (int e = 0; e < EPOCHS; e++) {
        lips_eval eval;
        assert_int_equal(lips_trainer_run_epoch(tr), LIPS_OK);
        assert_int_equal(lips_trainer_evaluate(tr, &t->d.test, &eval, NULL, NULL), LIPS_OK);
        lips_tensor big = {.cap = 1, .b = 1, .c = 2, .h = 1, .w = 100000 << e, .t = 1};
        float *x = calloc((size_t)(2 * big.w), sizeof *x);
        assert_non_null(x);
        big.lanes = t->be->ops->plan_lanes(t->be, 1, true);
        assert_int_equal(t->be->ops->alloc(t->be, &big.data, t->be->ops->tensor_bytes(t->be, &big)),
                         LIPS_OK);
        assert_int_equal(t->be->ops->upload(t->be, &big, x, NULL), LIPS_OK);
        t->be->ops->release(t->be, big.data);
        free(x);
    }
    double *got = toy_weights(tr, t, &bytes);
    assert_memory_equal(got, want, bytes);
    lips_trainer_free(tr);
    unmake(t);
    free(want), free(got);
}

typedef struct worker {
    pthread_t id;
    const setting *s;
    double *w;
    size_t bytes;
} worker;

static void *work(void *argument)
{
    worker *w = argument;
    toy *t = make(w->s, "cuda", true);
    lips_trainer *tr = toy_trainer(t);
    w->w = run(tr, 0) ? toy_weights(tr, t, &w->bytes) : NULL;
    lips_trainer_free(tr);
    unmake(t);
    return NULL;
}

/* A handle, a stream and recordings each; one records while others allocate and wait. */
static void test_several_at_once(void **state)
{
    (void)state;
    need_device();
    enum { THREADS = 4 };
    worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (worker){.s = &settings[i % 2 ? 3 : 0]};
        assert_int_equal(pthread_create(&w[i].id, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        size_t bytes;
        assert_int_equal(pthread_join(w[i].id, NULL), 0);
        double *want = trained(w[i].s, "cuda", true, &bytes);
        assert_non_null(w[i].w);
        assert_memory_equal(w[i].w, want, bytes);
        free(want), free(w[i].w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_op_by_op),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_other_work_between),
        cmocka_unit_test(test_divergence_at_any_step),
        cmocka_unit_test(test_several_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
