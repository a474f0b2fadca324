/* Configurations that are refused: values, keys, what does not go together, hostile YAML. */
#include "loading.h"

#include <stdio.h>
#include <stdlib.h>

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
        "epochs: 1e15",
        "seed: -1",
        "seed: 1.5",
        "seed: 18446744073709551616",
        "seed: 1e16",
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
    assert_string_equal(refused("width: 1000001\n"),
                        "c.yaml:1:8: width: must be a whole number from 1 to 1000000, not "
                        "'1000001'");
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
    /* A cell for each device is enough. */
    assert_has(refused("backend: cuda\ndevice: [0, 1]\njobs: 1\n"), "jobs: 1 leaves some");
    assert_int_equal(load(&e, "backend: cuda\ndevice: [0, 1]\njobs: 2\n", NULL, 0), LIPS_OK);
    lips_experiment_free(&e);
    char many[512] = "device=0";
    for (int i = 1; i <= LIPS_DEVICES_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ",%d", i);
    assert_has(refused_override(many), "device: names more than 64 devices");
    /* Sizes in a folder of the user's are not known here. */
    assert_int_equal(load(&e, "data_dir: x\nn_train: 70000\n", NULL, 0), LIPS_OK);
    lips_experiment_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_values),         cmocka_unit_test(test_messages),
        cmocka_unit_test(test_all_errors_at_once), cmocka_unit_test(test_yaml_forms),
        cmocka_unit_test(test_yaml_hostile),       cmocka_unit_test(test_cross_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
