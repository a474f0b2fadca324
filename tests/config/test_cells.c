/* Canonical text, hash, names of cells; YAML that reads back to the same bits; a million cells. */
#include "config/options.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static lips_status load(lips_experiment *e, const char *yaml)
{
    lips_config_sources src = {.yaml_text = yaml};
    return lips_experiment_load(e, &src);
}

static void load_ok(lips_experiment *e, const char *yaml)
{
    if (load(e, yaml) != LIPS_OK)
        fail_msg("%s: %s", yaml, lips_error());
}

static uint64_t hash_of(const char *yaml)
{
    lips_experiment e;
    load_ok(&e, yaml);
    uint64_t hash = lips_config_hash(&e.base);
    lips_experiment_free(&e);
    return hash;
}

/* Bits from a splitmix64 sequence: any finite double is as likely as any other. */
static double any_double(uint64_t *s)
{
    for (;;) {
        uint64_t z = *s += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        double v;
        memcpy(&v, &z, sizeof v);
        if (isfinite(v))
            return v;
    }
}

static void assert_prints(double v, const char *text)
{
    char buf[32];
    int n = lips_real_print(v, buf);
    assert_int_equal(n, strlen(buf));
    assert_string_equal(buf, text);
    assert_true(strtod(buf, NULL) == v);
}

static void test_real_print(void **state)
{
    (void)state;
    assert_prints(0, "0");
    assert_prints(0.005, "0.005");
    assert_prints(-0.2, "-0.2");
    assert_prints(128, "128");
    assert_prints(1e-6, "0.000001");
    assert_prints(1e-8, "1e-08");
    assert_prints(0.1 + 0.2, "0.30000000000000004");
    assert_prints(999999999.5, "999999999.5");
    assert_prints(1e9, "1000000000");
    assert_prints(1.0 / 3, "0.3333333333333333");
    assert_prints(5e-324, "4.94065645841247e-324");
    uint64_t s = 1;
    for (int i = 0; i < 20000; i++) {
        char buf[32];
        double v = any_double(&s);
        if (i % 2)
            v = fmod(v, 1000.0) / 64; /* magnitudes that configurations have */
        lips_real_print(v, buf);
        assert_true(strtod(buf, NULL) == v);
    }
}

static void test_hash_follows_results_only(void **state)
{
    (void)state;
    const lips_option *o;
    int n = lips_options(&o);
    lips_config c;
    lips_config_defaults(&c);
    uint64_t hash = lips_config_hash(&c);
    static const char *const others[] = {"convnet", "ref",  "cifar10", "he",   "mse",
                                         "adam",    "true", "17",      "0.5",  "every:3",
                                         "loss,A",  "bf16", "own",     "false"};
    for (int i = 0; i < n; i++) {
        lips_config d = c;
        char before[LIPS_PATH_MAX], after[LIPS_PATH_MAX];
        lips_option_print(&o[i], &d, before, sizeof before);
        bool changed = false;
        for (size_t k = 0; k < sizeof others / sizeof others[0] && !changed; k++) {
            if (lips_option_set(&o[i], &d, others[k]) != LIPS_OK)
                continue;
            lips_option_print(&o[i], &d, after, sizeof after);
            changed = strcmp(before, after) != 0;
        }
        assert_true(changed);
        bool hashed = o[i].flags & LIPS_OPTION_HASHED;
        assert_true((lips_config_hash(&d) != hash) == hashed);
    }
    static const char *const apart[] = {"name",
                                        "out",
                                        "data_dir",
                                        "device",
                                        "cells_per_device",
                                        "emulated",
                                        "cuda_graph",
                                        "checkpoint_epochs",
                                        "checkpoint_seconds",
                                        "jobs",
                                        "hang_seconds"};
    int n_apart = 0;
    for (int i = 0; i < n; i++)
        n_apart += !(o[i].flags & LIPS_OPTION_HASHED);
    assert_int_equal(n_apart, sizeof apart / sizeof apart[0]);
    for (size_t i = 0; i < sizeof apart / sizeof apart[0]; i++)
        assert_false(o[lips_option_find(apart[i])].flags & LIPS_OPTION_HASHED);
}

static void test_hash_of_equal_values(void **state)
{
    (void)state;
    assert_true(hash_of("lr: 1e-3\n") == hash_of("lr: 0.001\n"));
    assert_true(hash_of("epochs: 1e3\n") == hash_of("epochs: +1000\n"));
    assert_true(hash_of("sine_min: -0.0\n") == hash_of("sine_min: 0\n"));
    assert_true(hash_of("metrics: 'A, jacobian'\n") == hash_of("metrics: [A, jacobian]\n"));
    assert_true(hash_of("seed: 1\n") != hash_of("seed: 2\n"));
}

static void test_canonical(void **state)
{
    (void)state;
    lips_config c;
    char text[LIPS_CANONICAL_MAX];
    lips_config_defaults(&c);
    assert_int_equal(lips_config_canonical(&c, text, sizeof text), LIPS_OK);
    const char *head = "model: mlp\nwidth: 64\ndepth: 1\nbatch_norm: false\ninit: pytorch\n"
                       "data: fashion-mnist\nn_train: 0\n";
    assert_int_equal(strncmp(text, head, strlen(head)), 0);
    assert_null(strstr(text, "out: "));
    size_t exact = strlen(text) + 1;
    for (size_t size = 0; size < exact; size += 7)
        assert_int_equal(lips_config_canonical(&c, text, size), LIPS_ERR_RUNTIME);
    /* The longest texts there can be still fit. */
    memset(c.metrics, 'm', sizeof c.metrics - 1);
    memset(c.eval_epochs.text, '1', LIPS_SCHEDULE_MAX - 1);
    c.save_epochs = c.measure_epochs = c.eval_epochs;
    memset(c.out, '"', sizeof c.out - 1);
    memset(c.data_dir, '\\', sizeof c.data_dir - 1);
    memset(c.name, '\\', sizeof c.name - 1);
    assert_int_equal(lips_config_canonical(&c, text, sizeof text), LIPS_OK);
    char *yaml = malloc(LIPS_YAML_MAX);
    assert_int_equal(lips_config_yaml(&c, yaml, LIPS_YAML_MAX), LIPS_OK);
    free(yaml);
}

/* Any value that can be set comes back from YAML with the same bits. */
static void test_yaml_round_trip(void **state)
{
    (void)state;
    const lips_option *o;
    int n = lips_options(&o);
    lips_config c;
    lips_config_defaults(&c);
    uint64_t s = 7;
    for (int i = 0; i < n; i++) {
        if (o[i].type != LIPS_OPTION_REAL)
            continue;
        double v = 0;
        while (v < 1e-300) /* denormals are refused */
            v = fmod(fabs(any_double(&s)), o[i].max > 2 ? 1e3 : 1);
        char text[32];
        snprintf(text, sizeof text, "%.17g", v);
        assert_int_equal(lips_option_set(&o[i], &c, text), LIPS_OK);
    }
    c.seed = UINT64_MAX;
    c.n_train = 7919;
    strcpy(c.name, "a \"b\" \\ # : [c] \xC3\xA5");
    strcpy(c.out, " ~ ");
    strcpy(c.data_dir, "null");
    strcpy(c.metrics, "A,jacobian");
    strcpy(c.eval_epochs.text, "0,1,10,end");
    char text[LIPS_YAML_MAX];
    assert_int_equal(lips_config_yaml(&c, text, sizeof text), LIPS_OK);
    lips_experiment e;
    load_ok(&e, text);
    assert_int_equal(e.n_axes, 0);
    for (int i = 0; i < n; i++) {
        char a[LIPS_PATH_MAX], b[LIPS_PATH_MAX];
        lips_option_print(&o[i], &c, a, sizeof a);
        lips_option_print(&o[i], &e.base, b, sizeof b);
        assert_string_equal(a, b);
    }
    assert_memory_equal(&c.lr, &e.base.lr, sizeof c.lr);
    assert_true(lips_config_hash(&c) == lips_config_hash(&e.base));
    lips_experiment_free(&e);
}

static void test_experiment_yaml(void **state)
{
    (void)state;
    static const char *const sweeps[] = {
        "width: 1..64\nseed: [0, 1, 2]\nlabel_noise: [0, 0.2]\noptimizer: [sgd, adam]\n",
        "width: [5, 4, 3]\nlr: logspace(0.001, 1, 7)\naugment: [true, false]\n",
        "seed: [18446744073709551613, 18446744073709551614, 18446744073709551615]\n",
        "width: []\nseed: 0..3\n",
        "epochs: [1, 2]\n",
    };
    for (size_t i = 0; i < sizeof sweeps / sizeof sweeps[0]; i++) {
        lips_experiment a, b;
        load_ok(&a, sweeps[i]);
        char *text;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        assert_int_equal(lips_experiment_yaml(&a, f), LIPS_OK);
        fclose(f);
        load_ok(&b, text);
        int64_t cells = lips_experiment_cells(&a);
        assert_int_equal(lips_experiment_cells(&b), cells);
        for (int64_t k = 0; k < cells; k++) {
            lips_config x, y;
            char name_x[LIPS_CELL_NAME_MAX], name_y[LIPS_CELL_NAME_MAX];
            assert_int_equal(lips_experiment_cell(&a, k, &x), LIPS_OK);
            assert_int_equal(lips_experiment_cell(&b, k, &y), LIPS_OK);
            assert_int_equal(lips_experiment_cell_name(&a, &x, name_x, sizeof name_x), LIPS_OK);
            assert_int_equal(lips_experiment_cell_name(&b, &y, name_y, sizeof name_y), LIPS_OK);
            assert_string_equal(name_x, name_y);
        }
        free(text);
        lips_experiment_free(&a);
        lips_experiment_free(&b);
    }
}

static void test_cell_name(void **state)
{
    (void)state;
    lips_experiment e;
    lips_config c;
    char name[LIPS_CELL_NAME_MAX], expected[LIPS_CELL_NAME_MAX];
    load_ok(&e, "width: [16, 32]\nseed: 0..2\nlabel_noise: [0.1, 0.2]\nloss: [mse, "
                "cross_entropy]\nlr_step: [0, 5]\n");
    assert_int_equal(lips_experiment_cell(&e, 0, &c), LIPS_OK);
    assert_int_equal(lips_experiment_cell_name(&e, &c, name, sizeof name), LIPS_OK);
    snprintf(expected, sizeof expected, "mlp-w16-noise0.1-s0-lossmse-lrstep0-%08llx",
             (unsigned long long)(lips_config_hash(&c) >> 32));
    assert_string_equal(name, expected);
    assert_int_equal(lips_experiment_cell_name(&e, &c, name, 20), LIPS_ERR_USAGE);
    lips_experiment_free(&e);
}

/* Listing costs no memory per cell, and no two cells share a name. */
static void test_million_cells(void **state)
{
    (void)state;
    lips_experiment e;
    load_ok(&e, "width: 1..1000\nseed: 0..999\n");
    assert_int_equal(lips_experiment_cells(&e), 1000000);
    uint64_t seen = 0;
    for (int64_t i = 0; i < 1000000; i++) {
        lips_config c;
        char name[LIPS_CELL_NAME_MAX];
        assert_true(lips_experiment_cell(&e, i, &c) == LIPS_OK);
        assert_true(lips_experiment_cell_name(&e, &c, name, sizeof name) == LIPS_OK);
        seen += strlen(name);
    }
    assert_true(seen > 0);
    lips_experiment_free(&e);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    assert_true(usage.ru_maxrss < 512 * 1024); /* KiB */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_print),
        cmocka_unit_test(test_hash_follows_results_only),
        cmocka_unit_test(test_hash_of_equal_values),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_yaml_round_trip),
        cmocka_unit_test(test_experiment_yaml),
        cmocka_unit_test(test_cell_name),
        cmocka_unit_test(test_million_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
