/* The public API against the rooms behind it: a network written to a file, loaded, run, measured.
 */
#include "../lib/tempdir.h"
#include "../lib/tiny_net.h"
#include "base/safetensors.h"
#include "lipsweep/lipsweep.h"
#include "measure/measure.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const lips_model_spec SPEC = {
    .kind = "convnet", .width = 2, .classes = 3, .c = 2, .h = 4, .w = 4, .batch_norm = true};

/* Writes params (or init) and buffers under PyTorch's names; meta: with a description. */
static void write_weights(const tiny_net *t, const double *params, const char *path, bool meta)
{
    enum { MAX = 64 };
    lips_st_out_tensor out[MAX];
    void *copies[MAX];
    const lips_segment *seg[2];
    int count[2] = {lips_net_segments(t->net, &seg[0]), lips_net_buffer_segments(t->net, &seg[1])},
        n = 0;
    for (int v = 0; v < 2; v++)
        for (int s = 0; s < count[v]; s++, n++) {
            const lips_segment *g = &seg[v][s];
            const double *src = (v ? t->buffers : params) + g->offset;
            bool counter = g->role == LIPS_ROLE_BATCHES_TRACKED;
            copies[n] = calloc((size_t)g->count, sizeof(int64_t));
            assert_non_null(copies[n]);
            for (int64_t i = 0; i < g->count && !counter; i++)
                ((float *)copies[n])[i] = (float)src[i];
            out[n] = (lips_st_out_tensor){.name = g->name,
                                          .dtype = counter ? LIPS_I64 : LIPS_F32,
                                          .ndim = g->ndim,
                                          .data = copies[n]};
            memcpy(out[n].shape, g->shape, sizeof g->shape);
        }
    const lips_st_meta_pair pairs[] = {
        {"lipsweep.model", "convnet"}, {"lipsweep.width", "2"},     {"lipsweep.depth", "0"},
        {"lipsweep.classes", "3"},     {"lipsweep.input", "2x4x4"}, {"lipsweep.batch_norm", "true"},
        {"lipsweep.epoch", "17"}};
    assert_int_equal(lips_st_write(path, out, n, pairs, meta ? 7 : 0), LIPS_OK);
    for (int i = 0; i < n; i++)
        free(copies[i]);
}

typedef struct setting {
    char dir[256];
    char weights[512], plain[512], init[512];
    tiny_net t;
} setting;

static int set_up(void **state)
{
    setting *s = calloc(1, sizeof *s);
    assert_non_null(s);
    tempdir_make(s->dir, sizeof s->dir);
    snprintf(s->weights, sizeof s->weights, "%s/weights.safetensors", s->dir);
    snprintf(s->plain, sizeof s->plain, "%s/plain.safetensors", s->dir);
    snprintf(s->init, sizeof s->init, "%s/init.safetensors", s->dir);
    s->t = tiny_net_create(&SPEC, 6, 31);
    write_weights(&s->t, s->t.params, s->weights, true);
    write_weights(&s->t, s->t.params, s->plain, false);
    write_weights(&s->t, s->t.init, s->init, false);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    setting *s = *state;
    tiny_net_free(&s->t);
    tempdir_remove(s->dir);
    free(s);
    return 0;
}

static const lips_model_args DESCRIBED = {.kind = "convnet",
                                          .width = 2,
                                          .classes = 3,
                                          .channels = 2,
                                          .height = 4,
                                          .width_pixels = 4,
                                          .batch_norm = true};

static void loads_and_describes(void **state)
{
    setting *s = *state;
    lips_model *own = NULL, *given = NULL;
    lips_model_args a = {.path = s->weights}, b = DESCRIBED;
    b.path = s->plain;
    assert_int_equal(lips_model_load(&own, &a), LIPS_OK);
    assert_int_equal(lips_model_load(&given, &b), LIPS_OK);
    lips_model_info i = lips_model_describe(own), j = lips_model_describe(given);
    assert_string_equal(i.kind, "convnet");
    assert_true(i.width == 2 && i.classes == 3 && i.channels == 2 && i.height == 4 &&
                i.width_pixels == 4);
    assert_true(i.batch_norm && i.epoch == 17 && i.layers == 5 && i.parameters == s->t.p);
    assert_true(j.epoch == -1 && j.parameters == s->t.p);
    assert_string_equal(lips_model_layer_name(own, 1), "layer1.conv");
    assert_string_equal(lips_model_layer_name(own, 5), "fc");
    assert_null(lips_model_layer_name(own, 0));
    assert_null(lips_model_layer_name(own, 6));
    lips_model_free(own);
    lips_model_free(given);
    lips_model_free(NULL);
}

static void measures_as_the_pass_does(void **state)
{
    setting *s = *state;
    lips_model *model = NULL;
    lips_results *results = NULL;
    lips_model_args a = {.path = s->weights, .init_path = s->init};
    assert_int_equal(lips_model_load(&model, &a), LIPS_OK);
    lips_measuring what = {.inputs = {.x = s->t.x, .n = s->t.n, .labels = s->t.label},
                           .metrics = "all",
                           .per_sample = true,
                           .backend = "ref"};
    assert_int_equal(lips_model_measure(&results, model, &what), LIPS_OK);
    lips_measurement m;
    lips_measure_args direct = {.ops = lips_backend_find("ref"),
                                .threads = 1,
                                .per_sample = true,
                                .network = {.net = s->t.net,
                                            .params = s->t.params,
                                            .buffers = s->t.buffers,
                                            .init = s->t.init,
                                            .epoch = 17},
                                .inputs = {.n = s->t.n, .x = s->t.x, .label = s->t.label}};
    assert_int_equal(lips_metrics_parse(&direct.metrics, "all"), LIPS_OK);
    assert_int_equal(lips_measure_run(&m, &direct), LIPS_OK);
    assert_int_equal(lips_results_count(results), m.n_records);
    for (int i = 0; i < m.n_records; i++) {
        char line[2048];
        lips_result r = lips_results_get(results, i);
        lips_record_json(&m.records[i], line, sizeof line);
        assert_string_equal(lips_results_json(results, i), line);
        assert_string_equal(r.quantity, m.records[i].quantity);
        if (r.form == LIPS_RESULT_STATS)
            assert_true(r.mean == m.records[i].mean && r.max == m.records[i].max &&
                        r.n == m.records[i].n);
        assert_int_equal(r.form == LIPS_RESULT_NONE, r.reason != NULL);
    }
    for (int i = 0; i < m.n_samples; i++)
        assert_memory_equal(lips_results_per_sample(results, m.samples[i].name), m.samples[i].v,
                            (size_t)s->t.n * sizeof(double));
    assert_null(lips_results_per_sample(results, "nothing"));
    assert_null(lips_results_json(results, m.n_records));
    assert_null(lips_results_get(results, -1).quantity);
    lips_measurement_free(&m);
    lips_results_free(results);
    lips_model_free(model);
}

static void logits_of_any_number_of_samples(void **state)
{
    setting *s = *state;
    lips_model *model = NULL;
    lips_model_args a = {.path = s->weights};
    enum { N = 150 }; /* more than two batches */
    float *x = calloc((size_t)(N * s->t.d), sizeof *x);
    double *logits = calloc(N * 3, sizeof *logits), z[3];
    assert_true(x && logits);
    for (int64_t i = 0; i < N; i++)
        memcpy(x + i * s->t.d, s->t.x + i % s->t.n * s->t.d, (size_t)s->t.d * sizeof *x);
    assert_int_equal(lips_model_load(&model, &a), LIPS_OK);
    assert_int_equal(lips_model_logits(model, logits, &(lips_samples){.x = x, .n = N}, "ref"),
                     LIPS_OK);
    for (int64_t i = 0; i < N; i++) {
        tiny_net_differences(&s->t, i % s->t.n, NULL, NULL, z);
        for (int k = 0; k < 3; k++)
            assert_true(fabs(logits[i * 3 + k] - z[k]) < 1e-12);
    }
    free(x), free(logits);
    lips_model_free(model);
}

static void refuses(void **state)
{
    setting *s = *state;
    lips_model *model = (lips_model *)(void *)s, *good = NULL;
    lips_results *results = NULL;
    lips_model_args a = {0};
    assert_int_equal(lips_model_load(&model, &a), LIPS_ERR_USAGE);
    assert_null(model);
    a.path = s->plain; /* says nothing of itself */
    assert_int_equal(lips_model_load(&model, &a), LIPS_ERR_USAGE);
    a = DESCRIBED;
    a.path = s->plain;
    a.batch_norm = false;
    assert_int_equal(lips_model_load(&model, &a), LIPS_ERR_DATA);
    a.batch_norm = true;
    a.width = 0;
    assert_int_equal(lips_model_load(&model, &a), LIPS_ERR_USAGE);
    a = (lips_model_args){.path = s->weights, .width = 3};
    assert_int_equal(lips_model_load(&model, &a), LIPS_ERR_USAGE);
    a = (lips_model_args){.path = s->weights};
    assert_int_equal(lips_model_load(&good, &a), LIPS_OK);
    lips_measuring what = {.inputs = {.x = s->t.x, .n = s->t.n}, .metrics = "jacobain"};
    assert_int_equal(lips_model_measure(&results, good, &what), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "jacobian"));
    what.metrics = NULL;
    assert_int_equal(lips_model_measure(&results, good, &what), LIPS_ERR_USAGE);
    what.metrics = "jacobian";
    what.backend = "abacus";
    assert_int_equal(lips_model_measure(&results, good, &what), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "ref"));
    what.backend = "ref";
    what.inputs.n = 0;
    assert_int_equal(lips_model_measure(&results, good, &what), LIPS_ERR_USAGE);
    assert_null(results);
    lips_results_free(NULL);
    lips_model_free(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(loads_and_describes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(measures_as_the_pass_does, set_up, tear_down),
        cmocka_unit_test_setup_teardown(logits_of_any_number_of_samples, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
