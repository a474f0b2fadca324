/* train/weights.c: state_dicts into networks, and what does not fit, by name. */
#include "train/weights.h"
#include "../lib/tempdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TENSORS_MAX = 32, VALUES_MAX = 4096 };

static char dir[256], path[300];

/* The network's own tensors, ready to be written; value i of the parameters is i + 1/4. */
typedef struct sample {
    lips_net *net;
    lips_st_out_tensor t[TENSORS_MAX];
    int n;
    float values[VALUES_MAX];
    double params[VALUES_MAX], buffers[VALUES_MAX];
    int64_t counter;
} sample;

static void add(sample *s, const lips_segment *seg, const float *values)
{
    lips_st_out_tensor *t = &s->t[s->n++];
    *t = (lips_st_out_tensor){.name = seg->name, .dtype = LIPS_F32, .ndim = seg->ndim};
    memcpy(t->shape, seg->shape, sizeof seg->shape);
    t->data = values + seg->offset;
    if (seg->role == LIPS_ROLE_BATCHES_TRACKED) {
        t->dtype = LIPS_I64;
        t->data = &s->counter;
    }
}

static sample *make(const lips_model_spec *spec)
{
    const lips_segment *seg;
    sample *s = calloc(1, sizeof *s);
    assert_non_null(s);
    assert_int_equal(lips_net_create(&s->net, spec), LIPS_OK);
    assert_true(lips_net_params(s->net) + lips_net_buffers(s->net) <= VALUES_MAX);
    for (int i = 0; i < VALUES_MAX; i++)
        s->values[i] = (float)i + 0.25F;
    s->counter = 77;
    int n = lips_net_segments(s->net, &seg);
    for (int i = 0; i < n; i++)
        add(s, &seg[i], s->values);
    n = lips_net_buffer_segments(s->net, &seg);
    for (int i = 0; i < n; i++)
        add(s, &seg[i], s->values + lips_net_params(s->net));
    return s;
}

static void sample_free(sample *s)
{
    lips_net_free(s->net);
    free(s);
}

/* Writes the sample's tensors, with lipsweep's metadata or not, and fills from the file. */
static lips_status fill(sample *s)
{
    lips_st_file *f = NULL;
    assert_int_equal(lips_st_write(path, s->t, s->n, NULL, 0), LIPS_OK);
    assert_int_equal(lips_st_read(&f, path), LIPS_OK);
    lips_status st = lips_weights_fill(s->net, f, s->params, s->buffers);
    lips_st_free(f);
    return st;
}

static const lips_model_spec mlp = {
    .kind = "mlp", .width = 3, .depth = 1, .classes = 2, .c = 1, .h = 2, .w = 2};
static const lips_model_spec bn = {
    .kind = "convnet", .width = 1, .classes = 2, .c = 1, .h = 8, .w = 8, .batch_norm = true};

static lips_st_out_tensor *named(sample *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->t[i].name, name) == 0)
            return &s->t[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void values_reach_their_places(void **state)
{
    (void)state;
    sample *s = make(&mlp);
    assert_int_equal(fill(s), LIPS_OK);
    for (int64_t i = 0; i < lips_net_params(s->net); i++)
        assert_true(s->params[i] == (double)i + 0.25);
    sample_free(s);
}

static void buffers_and_counters_too(void **state)
{
    (void)state;
    const lips_segment *seg;
    sample *s = make(&bn);
    assert_int_equal(fill(s), LIPS_OK);
    int n = lips_net_buffer_segments(s->net, &seg), counters = 0;
    for (int i = 0; i < n; i++) {
        bool counter = seg[i].role == LIPS_ROLE_BATCHES_TRACKED;
        double want = counter ? 77 : (double)(lips_net_params(s->net) + seg[i].offset) + 0.25;
        assert_true(s->buffers[seg[i].offset] == want);
        counters += counter;
    }
    assert_true(counters > 0);
    /* Files of old versions of PyTorch have no counters. */
    int kept = 0;
    for (int i = 0; i < s->n; i++)
        if (s->t[i].dtype != LIPS_I64)
            s->t[kept++] = s->t[i];
    s->n = kept;
    assert_int_equal(fill(s), LIPS_OK);
    for (int i = 0; i < n; i++)
        if (seg[i].role == LIPS_ROLE_BATCHES_TRACKED)
            assert_true(s->buffers[seg[i].offset] == 0);
    sample_free(s);
}

static void misfits_are_all_named(void **state)
{
    (void)state;
    sample *s = make(&mlp);
    named(s, "0.weight")->shape[1] = 5;
    named(s, "2.bias")->name = "2.bia";
    assert_int_equal(fill(s), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "does not fit mlp of width 3: "));
    assert_non_null(strstr(lips_error(), "0.weight is F32 [3,5] (expected F32 [3,4])"));
    assert_non_null(strstr(lips_error(), "2.bias is missing (expected F32 [2])"));
    assert_non_null(strstr(lips_error(), "2.bia [2] is not a tensor of this network"));
    assert_null(strchr(lips_error(), '\n'));
    sample_free(s);
    /* The wrong rank, and integers where weights should be. */
    s = make(&mlp);
    named(s, "0.bias")->ndim = 2;
    named(s, "0.bias")->shape[1] = 1;
    static const int64_t whole[12] = {0};
    named(s, "0.weight")->dtype = LIPS_I64;
    named(s, "0.weight")->data = whole;
    assert_int_equal(fill(s), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "0.bias is F32 [3,1] (expected F32 [3])"));
    assert_non_null(strstr(lips_error(), "0.weight is I64 [3,4] (expected F32 [3,4])"));
    sample_free(s);
}

static void another_model_is_a_short_text(void **state)
{
    (void)state;
    sample *s = make(&bn), *other = make(&mlp);
    lips_net *net = s->net;
    s->net = other->net;
    assert_int_equal(fill(s), LIPS_ERR_DATA); /* over thirty misfits */
    assert_non_null(strstr(lips_error(), " more"));
    assert_true(strlen(lips_error()) < 1023);
    s->net = net;
    sample_free(other);
    sample_free(s);
}

int main(void)
{
    tempdir_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/w.safetensors", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_reach_their_places),
        cmocka_unit_test(buffers_and_counters_too),
        cmocka_unit_test(misfits_are_all_named),
        cmocka_unit_test(another_model_is_a_short_text),
    };
    int failed = cmocka_run_group_tests_name("weights", tests, NULL, NULL);
    tempdir_remove(dir);
    return failed;
}
