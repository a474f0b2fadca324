/* The trainer: learning, its formulas, divergence, learning-rate schedule, signals. */
#include "../lib/cmocka_all.h"
#include "../lib/toy.h"
#include "base/signals.h"
#include "config/options.h"
#include "train/schedule.h"
#include "train/trainer_internal.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { N = TOY_N, K = TOY_K, ROW = TOY_ROW };

static lips_eval evaluate(lips_trainer *tr, const lips_split *s)
{
    lips_eval e;
    assert_int_equal(lips_trainer_evaluate(tr, s, &e, NULL, NULL), LIPS_OK);
    return e;
}

static void learns(const char *model, bool bn, const char *backend, const char *optimizer)
{
    toy *t = toy_create(model, bn, backend, optimizer);
    lips_trainer *tr = toy_trainer(t);
    double before = evaluate(tr, &t->d.train).loss;
    toy_epochs(tr, 40);
    lips_eval after = evaluate(tr, &t->d.train);
    assert_int_equal(after.n, N);
    assert_true(before > 0.8 && before < 3);
    assert_true(after.loss < 0.75 * before);
    assert_true(after.error < 0.45);
    assert_int_equal(lips_trainer_epoch(tr), 40);
    lips_trainer_free(tr);
    toy_free(t);
}

static void test_loss_goes_down(void **state)
{
    (void)state;
    const char *const backends[] = {"ref", "cpu"};
    for (int b = 0; b < 2; b++) {
        learns("mlp", false, backends[b], "sgd");
        learns("mlp", false, backends[b], "adam");
        learns("convnet", false, backends[b], "adam");
        learns("convnet", true, backends[b], "sgd");
    }
}

/* Scores one by one against a plain count. */
static void test_evaluate_counts(void **state)
{
    (void)state;
    toy *t = toy_create("mlp", false, "ref", "adam");
    t->cfg.lr = 0.03;
    lips_trainer *tr = toy_trainer(t);
    toy_epochs(tr, 25);
    lips_eval noisy, clean;
    double memorized, share = 0, wrong = 0, wrong_clean = 0;
    assert_int_equal(lips_trainer_evaluate(tr, &t->d.train, &noisy, &clean, &memorized), LIPS_OK);
    int64_t corrupted = 0;
    for (int64_t i = 0; i < N; i++) {
        lips_split one = {.n = 1, .x = t->d.train.x + i * ROW};
        int64_t hit = -1;
        for (int64_t k = 0; k < K; k++) {
            lips_eval e;
            one.label = &k;
            assert_int_equal(lips_trainer_evaluate(tr, &one, &e, NULL, NULL), LIPS_OK);
            hit = e.error == 0 ? k : hit;
        }
        assert_true(hit >= 0);
        wrong += hit != t->d.train.label[i];
        wrong_clean += hit != t->d.train.label_clean[i];
        if (t->d.train.label[i] != t->d.train.label_clean[i]) {
            corrupted++;
            share += hit == t->d.train.label[i];
        }
    }
    assert_true(noisy.error == wrong / N);
    assert_true(clean.error == wrong_clean / N);
    assert_true(memorized == share / (double)corrupted);
    assert_true(clean.error != noisy.error);
    /* In pieces of a few samples, as a split of more than a window is: the same bits. */
    lips_eval again, again_clean;
    double again_memorized;
    tr->window = 8;
    assert_int_equal(lips_trainer_evaluate(tr, &t->d.train, &again, &again_clean, &again_memorized),
                     LIPS_OK);
    assert_memory_equal(&again, &noisy, sizeof again);
    assert_memory_equal(&again_clean, &clean, sizeof clean);
    assert_true(again_memorized == memorized);
    /* Nothing corrupted: nothing to memorise. */
    memcpy(t->d.train.label, t->d.train.label_clean, sizeof(int64_t) * N);
    assert_int_equal(lips_trainer_evaluate(tr, &t->d.train, &noisy, NULL, &memorized), LIPS_OK);
    assert_true(isnan(memorized));
    lips_trainer_free(tr);
    toy_free(t);
}

static void test_regression(void **state)
{
    (void)state;
    toy *t = toy_create("mlp", false, "ref", "adam");
    lips_net_free(t->net);
    t->d.regression = true;
    t->d.classes = 1;
    t->cfg.loss = LIPS_LOSS_MSE;
    float target[N], clean_target[N];
    for (int i = 0; i < N; i++) {
        target[i] = t->d.train.x[i * ROW];
        clean_target[i] = target[i] + 1;
    }
    int64_t *label = t->d.train.label, *label_clean = t->d.train.label_clean;
    t->d.train.label = t->d.train.label_clean = NULL;
    t->d.train.target = target;
    t->d.train.target_clean = clean_target;
    const lips_model_spec spec = lips_config_model(&t->cfg, &t->d);
    assert_int_equal(lips_net_create(&t->net, &spec), LIPS_OK);
    lips_trainer *tr = toy_trainer(t);
    lips_eval before, after, clean;
    double memorized;
    assert_int_equal(lips_trainer_evaluate(tr, &t->d.train, &before, NULL, NULL), LIPS_OK);
    toy_epochs(tr, 40);
    assert_int_equal(lips_trainer_evaluate(tr, &t->d.train, &after, &clean, &memorized), LIPS_OK);
    assert_true(after.loss < 0.5 * before.loss);
    assert_true(clean.loss > after.loss);
    assert_true(isnan(after.error) && isnan(clean.error) && isnan(memorized));
    lips_trainer_free(tr);
    t->d.train.label = label;
    t->d.train.label_clean = label_clean;
    toy_free(t);
}

/* A signal leaves the cursor inside the epoch. Last of all tests: the flag stays set. */
static void test_signal_stops_after_a_step(void **state)
{
    (void)state;
    toy *t = toy_create("mlp", false, "ref", "sgd");
    lips_trainer *tr = toy_trainer(t);
    assert_int_equal(lips_signals_install(), LIPS_OK);
    raise(SIGUSR2);
    for (int k = 1; k < 5; k++) {
        assert_int_equal(lips_trainer_run_epoch(tr), LIPS_ERR_REQUEUE);
        assert_int_equal(lips_trainer_step(tr), k);
    }
    assert_int_equal(lips_trainer_run_epoch(tr), LIPS_OK);
    assert_int_equal(lips_trainer_epoch(tr), 1);
    lips_trainer_free(tr);
    toy_free(t);
}

/* Four epochs in f32 against f64. A step's rounding, 2^-24 a product, grows along 20 steps of a
 * smooth small problem by far less than 1e3, so 1e-4 of the largest weight is a bound with room. */
static void close_to_ref(const char *model, bool bn, const char *optimizer)
{
    double *w[2];
    size_t bytes;
    const char *const backends[] = {"ref", "cpu"};
    for (int b = 0; b < 2; b++) {
        toy *t = toy_create(model, bn, backends[b], optimizer);
        lips_trainer *tr = toy_trainer(t);
        toy_epochs(tr, 4);
        w[b] = toy_weights(tr, t, &bytes);
        lips_trainer_free(tr);
        toy_free(t);
    }
    double largest = 0, moved = 0;
    for (size_t i = 0; i < bytes / sizeof(double); i++) {
        largest = fmax(largest, fabs(w[0][i]));
        moved += w[0][i] != w[1][i];
    }
    for (size_t i = 0; i < bytes / sizeof(double); i++)
        assert_true(fabs(w[0][i] - w[1][i]) <= 1e-4 * largest);
    assert_true(moved > 0);
    free(w[0]);
    free(w[1]);
}

static void test_cpu_close_to_ref(void **state)
{
    (void)state;
    close_to_ref("mlp", false, "sgd");
    close_to_ref("convnet", false, "sgd");
    close_to_ref("convnet", true, "sgd");
}

static void test_learning_rate(void **state)
{
    (void)state;
    lips_config c;
    lips_config_defaults(&c);
    c.lr = 0.5;
    c.warmup_epochs = 0;
    c.lr_step = 0;
    assert_true(lips_learning_rate(&c, 0) == 0.5 && lips_learning_rate(&c, 1000) == 0.5);
    c.warmup_epochs = 4;
    c.warmup_lr = 0.25;
    const double warm[] = {0.25, 0.3125, 0.375, 0.4375, 0.5, 0.5};
    for (int e = 0; e < 6; e++)
        assert_true(lips_learning_rate(&c, e) == warm[e]);
    c.warmup_epochs = 0;
    c.lr_step = 10;
    c.lr_decay = 0.5;
    assert_true(lips_learning_rate(&c, 9) == 0.5);
    assert_true(lips_learning_rate(&c, 10) == 0.25);
    assert_true(lips_learning_rate(&c, 19) == 0.25);
    assert_true(lips_learning_rate(&c, 20) == 0.125);
}

/* g = the gradient of a linear network's mean loss at p. */
static void linear_gradient(const toy *t, const double *p, double g[K * ROW + K])
{
    memset(g, 0, sizeof(double) * (K * ROW + K));
    for (int i = 0; i < N; i++) {
        const float *x = t->d.train.x + i * ROW;
        double z[K], sum = 0;
        for (int k = 0; k < K; k++) {
            z[k] = p[K * ROW + k];
            for (int j = 0; j < ROW; j++)
                z[k] += p[k * ROW + j] * (double)x[j];
            sum += exp(z[k]);
        }
        for (int k = 0; k < K; k++) {
            double d = (exp(z[k]) / sum - (k == t->d.train.label[i])) / N;
            for (int j = 0; j < ROW; j++)
                g[k * ROW + j] += d * (double)x[j];
            g[K * ROW + k] += d;
        }
    }
}

/* Steps by hand: loss and gradient of a linear network, then p -= lr g, with the epoch's rate. */
static void test_step_is_the_formula(void **state)
{
    (void)state;
    toy *t = toy_create("mlp", false, "ref", "sgd");
    lips_net_free(t->net);
    t->cfg.depth = 0;
    t->cfg.batch = N; /* the order does not matter then, and an epoch is a step */
    t->cfg.momentum = 0;
    t->cfg.weight_decay = 0.1;
    t->cfg.lr = 0.2;
    t->cfg.lr_step = 2;
    t->cfg.lr_decay = 0.5;
    const lips_model_spec spec = lips_config_model(&t->cfg, &t->d);
    assert_int_equal(lips_net_create(&t->net, &spec), LIPS_OK);
    lips_trainer *tr = toy_trainer(t);
    size_t bytes;
    static const double rates[] = {0.2, 0.2, 0.1, 0.1, 0.05};
    double *p = toy_weights(tr, t, &bytes), g[K * ROW + K];
    for (int epoch = 0; epoch < 5; epoch++) {
        linear_gradient(t, p, g);
        toy_epochs(tr, 1);
        double *q = toy_weights(tr, t, &bytes);
        for (int i = 0; i < K * ROW + K; i++)
            assert_true(fabs(q[i] - (p[i] - rates[epoch] * (g[i] + 0.1 * p[i]))) < 1e-13);
        free(p);
        p = q;
    }
    free(p);
    lips_trainer_free(tr);
    toy_free(t);
}

static void diverges(const char *backend, bool bn, double lr, float poison)
{
    toy *t = toy_create("convnet", bn, backend, "sgd");
    t->cfg.lr = lr;
    if (poison != 0)
        t->d.train.x[11] = poison;
    lips_trainer *tr = toy_trainer(t);
    lips_status st = LIPS_OK;
    for (int i = 0; i < 40 && st == LIPS_OK; i++)
        st = lips_trainer_run_epoch(tr);
    assert_int_equal(st, LIPS_ERR_DIVERGED);
    assert_non_null(strstr(lips_error(), "epoch"));
    assert_non_null(strstr(lips_error(), "step"));
    size_t bytes;
    double *w = toy_weights(tr, t, &bytes);
    for (size_t i = 0; i < bytes / sizeof *w; i++)
        assert_true(isfinite(w[i]));
    free(w);
    lips_trainer_free(tr);
    toy_free(t);
}

static void test_divergence_keeps_finite_weights(void **state)
{
    (void)state;
    diverges("ref", false, 1e6, 0);
    diverges("cpu", false, 1e6, 0);
    diverges("cpu", false, 1e9, 0);
    diverges("ref", true, 0.05, NAN);
    diverges("cpu", true, 0.05, NAN);
    diverges("cpu", true, 0.05, INFINITY);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    toy *t = toy_create("mlp", false, "ref", "sgd");
    lips_trainer *tr = NULL;
    t->cfg.batch = N + 1;
    assert_int_equal(lips_trainer_create(&tr, &t->cfg, t->net, &t->d, t->be), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "batch: 38"));
    assert_null(tr);
    t->cfg.batch = N;
    t->d.classes = 4;
    assert_int_equal(lips_trainer_create(&tr, &t->cfg, t->net, &t->d, t->be), LIPS_ERR_USAGE);
    toy_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_goes_down),
        cmocka_unit_test(test_evaluate_counts),
        cmocka_unit_test(test_regression),
        cmocka_unit_test(test_step_is_the_formula),
        cmocka_unit_test(test_cpu_close_to_ref),
        cmocka_unit_test(test_learning_rate),
        cmocka_unit_test(test_divergence_keeps_finite_weights),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_signal_stops_after_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
