/* Reading configurations: defaults, types, axes, precedence. */
#include "base/file.h"
#include "loading.h"

#include <stdlib.h>
#include <unistd.h>

static void assert_axis(const lips_experiment *e, int axis, const char *key, const char *values)
{
    char text[4096] = "";
    assert_true(axis < e->n_axes);
    const lips_axis *a = &e->axes[axis];
    assert_int_equal(a->key, lips_option_find(key));
    for (int64_t i = 0; i < a->count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 a->values[i]);
    assert_string_equal(text, values);
}

static void assert_values(const char *override, const char *values)
{
    lips_experiment e;
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(override, "="), override);
    if (load(&e, "n_train: 5000\n", &override, 1) != LIPS_OK)
        fail_msg("%s: %s", override, lips_error());
    assert_axis(&e, 0, key, values);
    lips_experiment_free(&e);
}

static void test_defaults(void **state)
{
    (void)state;
    lips_experiment e;
    assert_int_equal(load(&e, "", NULL, 0), LIPS_OK);
    assert_int_equal(lips_experiment_cells(&e), 1);
    assert_string_equal(e.base.model, "mlp");
    assert_int_equal(e.base.batch, 128);
    assert_true(e.base.lr == 0.005 && e.base.momentum == 0.9 && e.base.adam_eps == 1e-8);
    assert_int_equal(e.base.warmup_epochs, 0);
    assert_true(e.base.warmup_lr == 0.001 && e.base.checkpoint_seconds == 10);
    assert_string_equal(e.base.eval_epochs.text, "log:40");
    assert_string_equal(e.base.measure_epochs.text, "end");
    assert_string_equal(e.base.metrics, "jacobian,distance");
    assert_int_equal(e.base.measure_seed, 1234);
    assert_string_equal(e.base.backend, "cpu");
    assert_int_equal(e.base.optimizer, LIPS_OPT_SGD);
    lips_experiment_free(&e);
}

static void test_every_default_is_valid(void **state)
{
    (void)state;
    const lips_option *o;
    int n = lips_options(&o);
    lips_config c;
    lips_config_defaults(&c);
    for (int i = 0; i < n; i++) {
        assert_int_equal(lips_option_set(&o[i], &c, o[i].fallback), LIPS_OK);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(o[i].name, o[j].name);
    }
}

static void test_types(void **state)
{
    (void)state;
    lips_experiment e;
    /* Both ends of a range belong to it. */
    assert_int_equal(load(&e, "label_noise: 1\nmomentum: 0\nwidth: 1\nbatch: 60000\n", NULL, 0),
                     LIPS_OK);
    lips_experiment_free(&e);
    assert_int_equal(load(&e,
                          "model: convnet\nepochs: 1e3\nwidth: 2.0\nseed: 18446744073709551615\n"
                          "lr: 1e-3\nbatch_norm: true\ndata: cifar10\ninit: he\nname: \"a: # b\"\n"
                          "metrics: [A, jacobian]\neval_epochs: [0, 10, end]\nout: 'x y'\n",
                          NULL, 0),
                     LIPS_OK);
    assert_int_equal(e.base.epochs, 1000);
    assert_int_equal(e.base.width, 2);
    assert_true(e.base.seed == UINT64_MAX);
    assert_true(e.base.lr == 1e-3);
    assert_true(e.base.batch_norm);
    assert_int_equal(e.base.data, LIPS_DATA_CIFAR10);
    assert_int_equal(e.base.init, LIPS_INIT_HE);
    assert_string_equal(e.base.name, "a: # b");
    assert_string_equal(e.base.metrics, "A,jacobian");
    assert_string_equal(e.base.eval_epochs.text, "0,10,end");
    assert_string_equal(e.base.out, "x y");
    assert_int_equal(e.n_axes, 0);
    lips_experiment_free(&e);
}

static void test_axes(void **state)
{
    (void)state;
    assert_values("width=1,2,4", "1 2 4");
    assert_values("width=4, 2 ,1", "4 2 1");
    assert_values("width=range(1,5)", "1 2 3 4");
    assert_values("width=range(1,10,4)", "1 5 9");
    assert_values("width=range(1, 9, 4)", "1 5");
    assert_values("width=range(9,1,-4)", "9 5");
    assert_values("width=logspace(2,512,9)", "2 4 8 16 32 64 128 256 512");
    assert_values("width=logspace(1,8,20)", "1 2 3 4 5 6 7 8");
    assert_values("width=1..3,range(7,9),20", "1 2 3 7 8 20");
    assert_values("seed=0..4", "0 1 2 3 4");
    assert_values("label_noise=0,0.2", "0 0.2");
    assert_values("label_noise=range(0,0.5,0.1)", "0 0.1 0.2 0.3 0.4");
    assert_values("lr=logspace(0.001,0.1,3)", "0.001 0.01 0.1");
    assert_values("lr=logspace(0.1,0.001,3)", "0.1 0.01 0.001");
    assert_values("lr=1e-3,1E-2", "0.001 0.01");
    assert_values("augment=false,true", "false true");
    assert_values("optimizer=sgd,adam", "sgd adam");
}

static void test_axis_order_and_cells(void **state)
{
    (void)state;
    lips_experiment e;
    /* In table order whatever the order in the file; the last axis is fastest. */
    assert_int_equal(load(&e, "seed: [5, 6]\nwidth: [2, 1, 3]\nlr: [0.5]\n", NULL, 0), LIPS_OK);
    assert_int_equal(e.n_axes, 2);
    assert_axis(&e, 0, "width", "2 1 3");
    assert_axis(&e, 1, "seed", "5 6");
    assert_int_equal(lips_experiment_cells(&e), 6);
    static const int64_t width[] = {2, 2, 1, 1, 3, 3};
    for (int64_t i = 0; i < 6; i++) {
        lips_config c;
        assert_int_equal(lips_experiment_cell(&e, i, &c), LIPS_OK);
        assert_int_equal(c.width, width[i]);
        assert_int_equal(c.seed, 5 + i % 2);
        assert_true(c.lr == 0.5);
    }
    lips_config c;
    assert_int_equal(lips_experiment_cell(&e, 6, &c), LIPS_ERR_USAGE);
    assert_int_equal(lips_experiment_cell(&e, -1, &c), LIPS_ERR_USAGE);
    lips_experiment_free(&e);
    assert_int_equal(load(&e, "width: []\nseed: 0..3\n", NULL, 0), LIPS_OK);
    assert_int_equal(lips_experiment_cells(&e), 0);
    lips_experiment_free(&e);
}

static void test_precedence(void **state)
{
    (void)state;
    char path[] = "/tmp/lips-test-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(dprintf(fd, "width: [1, 2]\nlr: 0.25\nbatch: 7\n"), 32);
    close(fd);
    setenv("LIPSWEEP_BATCH", "8", 1);
    setenv("LIPSWEEP_N_TRAIN", "99", 1);
    const char *overrides[] = {"width=3", "batch=9", "width=4"};
    lips_config_sources src = {.yaml_path = path, .overrides = overrides, .use_env = true};
    lips_experiment e;
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_OK);
    assert_int_equal(e.n_axes, 1);
    assert_int_equal(e.base.batch, 8);
    assert_int_equal(e.base.n_train, 99);
    assert_true(e.base.lr == 0.25);
    assert_string_equal(e.source, path);
    assert_string_equal(e.base.name, path + strlen("/tmp/"));
    assert_has(e.base.out, "out/lips-test-config-");
    lips_experiment_free(&e);
    src.n_overrides = 3;
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_OK);
    assert_int_equal(e.n_axes, 0);
    assert_int_equal(e.base.width, 4);
    assert_int_equal(e.base.batch, 9);
    lips_experiment_free(&e);
    setenv("LIPSWEEP_WIDHT", "1", 1);
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_ERR_USAGE);
    assert_string_equal(lips_error(), "environment: unknown key 'widht' (did you mean 'width'?)");
    unsetenv("LIPSWEEP_WIDHT");
    unsetenv("LIPSWEEP_BATCH");
    unsetenv("LIPSWEEP_N_TRAIN");
    unlink(path);
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_ERR_USAGE);
    assert_has(lips_error(), path);
}

/* An init that nobody gave is the model's; one that was given stays. */
static void test_default_init(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        lips_init init;
    } cases[] = {
        {"model: mlp\n", LIPS_INIT_PYTORCH},
        {"model: [mlp, convnet]\n", LIPS_INIT_PYTORCH},
        {"model: resnet18\n", LIPS_INIT_FIXUP},
        {"model: [resnet18]\nwidth: 1..3\n", LIPS_INIT_FIXUP},
        {"model: resnet18\nbatch_norm: true\n", LIPS_INIT_PYTORCH},
        {"model: resnet18\ninit: he\n", LIPS_INIT_HE},
        {"model: resnet18\ninit: pytorch\n", LIPS_INIT_PYTORCH},
        {"model: [mlp, resnet18]\ninit: pytorch\n", LIPS_INIT_PYTORCH},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lips_experiment e;
        lips_config cell;
        assert_int_equal(load(&e, cases[i].yaml, NULL, 0), LIPS_OK);
        assert_int_equal(lips_experiment_cell(&e, 0, &cell), LIPS_OK);
        assert_int_equal(cell.init, cases[i].init);
        lips_experiment_free(&e);
    }
}

/* So is a depth. */
static void test_default_depth(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        int64_t depth;
    } cases[] = {
        {"model: mlp\n", 1},
        {"model: convnet\n", 1},
        {"model: vit\n", 6},
        {"model: vit\nwidth: 1..3\n", 6},
        {"model: [convnet, vit]\n", 6},
        {"model: vit\ndepth: 2\n", 2},
        {"model: [vit, mlp]\ndepth: 3\n", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lips_experiment e;
        lips_config cell;
        assert_int_equal(load(&e, cases[i].yaml, NULL, 0), LIPS_OK);
        assert_int_equal(lips_experiment_cell(&e, 0, &cell), LIPS_OK);
        assert_int_equal(cell.depth, cases[i].depth);
        lips_experiment_free(&e);
    }
}

static lips_status only_jacobian(const char *key, const char *value)
{
    if (strcmp(value, "jacobian") == 0)
        return LIPS_OK;
    return lips_fail(LIPS_ERR_USAGE, "%s hates %s", key, value);
}

static void test_check_list(void **state)
{
    (void)state;
    lips_experiment e;
    lips_config_sources src = {.yaml_text = "metrics: jacobian\n", .check_list = only_jacobian};
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_OK);
    lips_experiment_free(&e);
    src.yaml_text = "lr: 1\nmetrics: distance\n";
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_ERR_USAGE);
    assert_string_equal(lips_error(), "config:2:10: metrics: metrics hates distance");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_default_is_valid),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_axis_order_and_cells),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_check_list),
        cmocka_unit_test(test_default_init),
        cmocka_unit_test(test_default_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
