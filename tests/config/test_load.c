/* Reading configurations: types, places of errors, precedence, axes, cross-checks, hostile YAML. */
#include "base/file.h"
#include "config/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static lips_status load(lips_experiment *e, const char *yaml, const char *const *overrides, int n)
{
    lips_config_sources src = {
        .yaml_text = yaml, .yaml_label = "c.yaml", .overrides = overrides, .n_overrides = n};
    return lips_experiment_load(e, &src);
}

/* The whole error text of a configuration that must be refused. */
static const char *refused(const char *yaml)
{
    lips_experiment e;
    assert_int_equal(load(&e, yaml, NULL, 0), LIPS_ERR_USAGE);
    return lips_error();
}

static const char *refused_override(const char *override)
{
    lips_experiment e;
    assert_int_equal(load(&e, "", &override, 1), LIPS_ERR_USAGE);
    return lips_error();
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in '%s'", part, text);
}

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

/* Each value is refused, with its place, the key and what was given. */
static void test_bad_values(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "width: 0",
        "width: -1",
        "width: 3.5",
        "width: 1e999",
        "width: nan",
        "width: 0x10",
        "width: 2147483648",
        "width: 99999999999999999999",
        "width: 12abc",
        "width: '5'",
        "width: true",
        "width: 1_000",
        "width: \" 5\"",
        "epochs: 1e-1",
        "seed: -1",
        "seed: 1.5",
        "seed: 18446744073709551616",
        "lr: nan",
        "lr: .nan",
        "lr: .inf",
        "lr: inf",
        "lr: -inf",
        "lr: 1e999",
        "lr: 1e-999",
        "weight_decay: 1e-999",
        "lr: 0",
        "lr: -0.1",
        "lr: 0.1.2",
        "lr: 0,5x",
        "lr: 1e",
        "label_noise: 1.5",
        "label_noise: -0.1",
        "momentum: 2",
        "batch: 0",
        "depth: -1",
        "batch_norm: yes",
        "batch_norm: 1",
        "batch_norm: True",
        "model: resnet",
        "data: mnist",
        "optimizer: [sgd, rmsprop]",
        "eval_epochs: sometimes",
        "eval_epochs: log:0",
        "eval_epochs: every:0",
        "eval_epochs: every:x",
        "eval_epochs: 1,,2",
        "eval_epochs: -1",
        "metrics: 'a b'",
        "metrics: ','",
        "name: \"a\\nb\"",
        "name: \"a\\0b\"",
        "width:",
        "width: ~",
        "width: null",
        "out: null",
        "name: [a, b]",
        "metrics: []",
        "jobs: [1, 2]",
        "width: [1, 2, 1]",
        "width: {a: 1}",
        "width: [[1]]",
        "width: [1, {a: 2}]",
        "width: range(1)",
        "width: range(1,5,0)",
        "width: range(5,5)",
        "width: range(1,2",
        "width: range(1,2)x",
        "width: range(a,b)",
        "width: 5..2",
        "width: 1..2..3",
        "width: ..",
        "width: logspace(0,5,3)",
        "width: logspace(1,5)",
        "width: logspace(1,5,0)",
        "width: range(0,3)",
        "width: 1..2000000",
        "lr: range(0,1,0)",
        "lr: range(0.1,0.2,1e-9)",
        "width: range(1.5,3)",
        "lr: 1..2",
        "model: range(1,2)",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char place[64], yaml[128];
        snprintf(yaml, sizeof yaml, "# comment\n%s\n", bad[i]);
        const char *text = refused(yaml);
        snprintf(place, sizeof place, "c.yaml:2:");
        if (strncmp(text, place, strlen(place)) != 0 || strchr(text, '\n'))
            fail_msg("%s: %s", bad[i], text);
        snprintf(place, sizeof place, ": %.*s: ", (int)strcspn(bad[i], ":"), bad[i]);
        if (!strstr(text, place) && !strstr(text, "mapping") && !strstr(text, "lists") &&
            !strstr(text, "NUL"))
            fail_msg("%s: %s", bad[i], text);
    }
}

static void test_messages(void **state)
{
    (void)state;
    assert_string_equal(refused("# x\n  \nwidht: 5\n"),
                        "c.yaml:3:1: unknown key 'widht' (did you mean 'width'?)");
    assert_string_equal(refused("zzzzzzzzzzzz: 5\n"), "c.yaml:1:1: unknown key 'zzzzzzzzzzzz'");
    assert_string_equal(refused("width: 3.5\n"),
                        "c.yaml:1:8: width: must be a whole number from 1 to 1000000, not '3.5'");
    assert_string_equal(refused("optimizer: adm\n"),
                        "c.yaml:1:12: optimizer: must be one of sgd, adam, not 'adm' "
                        "(did you mean 'adam'?)");
    assert_string_equal(refused("width: 5\nlr: 1\nwidth: 6\n"),
                        "c.yaml:3:1: width: duplicate key, first given on line 1");
    assert_string_equal(refused("width: [4, 5,\n  0]\n"),
                        "c.yaml:2:3: width: must be a whole number from 1 to 1000000, not '0'");
    assert_string_equal(refused("width: 5\n\tlr: 1\n"),
                        "c.yaml:2:1: a tab where YAML wants spaces");
    assert_string_equal(refused("- a\n"), "c.yaml:1:1: expected lines of 'key: value'");
    assert_string_equal(refused("lr: 0\n"),
                        "c.yaml:1:5: lr: must be a number above 0 up to 1000000000, not '0'");
    assert_string_equal(refused_override("width"), "command line: expected key=value, not 'width'");
    assert_string_equal(refused_override("widht=2"),
                        "command line: unknown key 'widht' (did you mean 'width'?)");
    assert_string_equal(refused_override("noise-sed=2"),
                        "command line: unknown key 'noise-sed' (did you mean 'noise_seed'?)");
    assert_has(refused_override("width=0"), "command line: width: must be");
    assert_has(refused_override("width=1,,2"), "not ''");
    assert_has(refused_override("name=\xff"), "command line: name: must be text");
}

static void test_all_errors_at_once(void **state)
{
    (void)state;
    assert_string_equal(refused("widht: 5\nlr: fast\nbatch: 0\nlr: 1\n"),
                        "c.yaml:1:1: unknown key 'widht' (did you mean 'width'?)\n"
                        "c.yaml:2:5: lr: must be a number above 0 up to 1000000000, not 'fast'\n"
                        "c.yaml:3:8: batch: must be a whole number from 1 to 1000000, not '0'\n"
                        "c.yaml:4:1: lr: duplicate key, first given on line 2");
    /* Of very many the first fifty are shown, the others counted. */
    char yaml[8192] = "";
    for (int i = 0; i < 300; i++)
        snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), "nonsense%d: 1\n", i);
    const char *text = refused(yaml);
    assert_has(text, "c.yaml:50:1: unknown key 'nonsense49'");
    assert_null(strstr(text, "nonsense50"));
    assert_has(text, "\n... and 250 more errors");
}

static void test_yaml_forms(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *part;
    } bad[] = {
        {"width: &a 5\n", "anchors (&name) are not supported"},
        {"width: 5\nlr: *a\n", "c.yaml:2:5: aliases"},
        {"width: !!int 5\n", "tags"},
        {"&a\nwidth: 5\n", "anchors"},
        {"width: 5\n---\nwidth: 6\n", "c.yaml:2:1: a second document"},
        {"width: 5\n...\nlr: 1\n", "document"},
        {"? [a, b]\n: 5\nlr: 0\n", "c.yaml:1:3: a key must be a name\nc.yaml:3:5: lr"},
        {"width: {a: 1, b: [2, {c: d}]}\nlr: 0\n", "c.yaml:1:8: expected a value or a list, not a "
                                                   "mapping\nc.yaml:2:5: lr"},
        {"width: [1, 2\nlr: 5\n", "YAML syntax"},
        {"width: \"5\n", "YAML syntax"},
        {"just text\n", "expected lines of 'key: value'"},
        {"width: 5\n lr: 5\n", "c.yaml:2:4: YAML syntax"},
        {"name: \xff\xfe\n", "c.yaml:1:7: not readable as UTF-8"},
        {"<<: 5\n", "unknown key '<<'"},
        {"width: @5\n", "YAML syntax"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_has(refused(bad[i].yaml), bad[i].part);

    static const char *const good[] = {
        "\xEF\xBB\xBFwidth: 7\n",
        "width: 7",
        "width: 7\r\nlr: 0.5\r\n",
        "---\nwidth: 7\n...\n",
        "%YAML 1.1\n---\nwidth: 7\n",
        "{width: 7, lr: 0.5}",
        "width: [7]\n",
        "width:   7   # x\n",
        "# only\n\nwidth:\n  7\n",
        "width: range(7,8)\n",
        "width: 7..7\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        lips_experiment e;
        if (load(&e, good[i], NULL, 0) != LIPS_OK)
            fail_msg("%s: %s", good[i], lips_error());
        assert_int_equal(e.base.width, 7);
        lips_experiment_free(&e);
    }
    lips_experiment e;
    assert_int_equal(load(&e, "# nothing\n", NULL, 0), LIPS_OK);
    lips_experiment_free(&e);
}

/* Long lines, long keys, deep nesting, NULs: one clean refusal each, in little time and memory. */
static void test_yaml_hostile(void **state)
{
    (void)state;
    enum { BIG = 1 << 20 };
    char *text = malloc(BIG + 64);
    assert_non_null(text);
    static const struct {
        const char *head, *part;
        char fill;
    } cases[] = {
        {"name: ", "c.yaml:1:7: name: must be text of at most 511 bytes", 'a'},
        {"width: ", "c.yaml:1:8: width: must be", '9'},
        {"width: ", "nested too deeply", '['},
        {"", "c.yaml:1:", '['},
        {"", "c.yaml:1:1: ", 'k'},
        {"width: 5\n", "c.yaml:2:", '\t'},
        {"width: 5\n? ", "c.yaml:2:", '{'},
        {"eval_epochs: ", "c.yaml:1:14: eval_epochs: must be", '1'},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].head);
        memcpy(text, cases[i].head, n);
        memset(text + n, cases[i].fill, BIG);
        strcpy(text + n + BIG, "\n");
        const char *error = refused(text);
        if (!strstr(error, cases[i].part) || strlen(error) > 400)
            fail_msg("case %zu: %.500s", i, error);
    }
    free(text);
    lips_experiment e;
    lips_config_sources src = {.yaml_text = "width: 5\0\nlr: 1\n", .yaml_size = 16};
    assert_int_equal(lips_experiment_load(&e, &src), LIPS_ERR_USAGE);
    assert_has(lips_error(), "config:1:9: not readable as UTF-8 text");
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

static void test_cross_checks(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *text;
    } bad[] = {
        {"n_train: 100\n", "c.yaml:1:1: batch: 128 is more than the 100 training samples"},
        {"lr: 1\nbatch: 70000\n", "c.yaml:2:1: batch: 70000 is more than the 60000"},
        {"n_train: 60000\nn_val: 1\n", "c.yaml:1:1: n_train: 60000 and n_val 1"},
        {"n_val: 60000\n", "c.yaml:1:1: n_val: 60000 leaves no sample"},
        {"n_test: 10001\n", "c.yaml:1:1: n_test: 10001 is more than the 10000"},
        {"warmup_epochs: 101\n", "c.yaml:1:1: warmup_epochs: 101 is more than epochs 100"},
        {"data: sine\nn_train: 200\n", "c.yaml:1:1: loss: cross_entropy needs classes"},
        {"data: sine\nloss: mse\n", "c.yaml:1:1: n_train: data sine has no \"all\""},
        {"data: sine\nloss: mse\nn_train: 200\nlabel_noise: 0.2\n",
         "c.yaml:4:1: label_noise: data sine has no labels"},
        {"data: sine\nloss: mse\nn_train: 200\naugment: true\n", "c.yaml:4:1: augment: data sine"},
        {"data: sine\nloss: mse\nn_train: 200\nmodel: convnet\n", "c.yaml:4:1: model: convnet"},
        {"data: sine\nloss: mse\nn_train: 200\nsine_min: 4\n", "c.yaml:4:1: sine_min: must be"},
        {"data: idx\n", "c.yaml:1:1: data_dir: data idx needs"},
        {"batch_norm: true\n", "c.yaml:1:1: batch_norm: mlp has none"},
        {"precision: bf16\n", "c.yaml:1:1: precision: bf16 needs backend: cuda, not cpu"},
        {"backend: [cuda, ref]\nmeasure_precision: tf32\n",
         "c.yaml:2:1: measure_precision: tf32 needs backend: cuda, not ref"},
        {"width: 1000000\ndepth: 9\n", "c.yaml:1:1: width: 1000000 gives about 8.0e+12"},
        /* Found in any cell of a sweep, reported once. */
        {"seed: 0..9\nn_train: [4000, 100, 50]\n", "c.yaml:2:1: batch: 128 is more than the 100"},
        {"n_train: [4000, 100]\nbatch: [128, 50]\n", "c.yaml:2:1: batch: 128 is more than the 100"},
        {"model: [convnet, mlp]\nbatch_norm: [false, true]\n", "c.yaml:2:1: batch_norm: mlp"},
        {"model: [convnet, resnet18]\ndata: cifar10\n", "init: must be given"},
        {"model: resnet18\nbatch_norm: [false, true]\n", "init: must be given"},
        {"model: [mlp, vit]\n", "depth: must be given: an mlp of this sweep would have 1, a vit 6"},
        {"model: vit\nbatch_norm: true\n", "c.yaml:2:1: batch_norm: vit has none"},
        {"model: vit\ndepth: [2, 0]\n", "c.yaml:2:1: depth: 0, but a vit has at least 1 block"},
        {"model: vit\nwidth: 1000000\n", "c.yaml:2:1: width: 1000000 gives about 7.2e+13"},
        {"width: 1..1000\nseed: 0..99999\n", "the sweep has 100000000 cells; at most 10000000"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *text = refused(bad[i].yaml);
        if (strncmp(text, bad[i].text, strlen(bad[i].text)) != 0 || strchr(text, '\n'))
            fail_msg("%s: %s", bad[i].yaml, text);
    }
    /* No rule is applied to a key that has an error of its own, and a batch may be all of the
     * samples. */
    assert_null(strchr(refused("n_train: 100\nbatch: x\n"), '\n'));
    lips_experiment e;
    assert_int_equal(load(&e, "n_train: 128\n", NULL, 0), LIPS_OK);
    lips_experiment_free(&e);
    /* Sizes in a folder of the user's are not known here. */
    assert_int_equal(load(&e, "data_dir: x\nn_train: 70000\n", NULL, 0), LIPS_OK);
    lips_experiment_free(&e);
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
        {"model: mlp\n", 1},           {"model: convnet\n", 1},
        {"model: vit\n", 6},           {"model: vit\nwidth: 1..3\n", 6},
        {"model: [convnet, vit]\n", 6}, {"model: vit\ndepth: 2\n", 2},
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
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_every_default_is_valid),
        cmocka_unit_test(test_types),      cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_messages),   cmocka_unit_test(test_all_errors_at_once),
        cmocka_unit_test(test_yaml_forms), cmocka_unit_test(test_yaml_hostile),
        cmocka_unit_test(test_axes),       cmocka_unit_test(test_axis_order_and_cells),
        cmocka_unit_test(test_precedence), cmocka_unit_test(test_cross_checks),
        cmocka_unit_test(test_check_list), cmocka_unit_test(test_default_init),
        cmocka_unit_test(test_default_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
