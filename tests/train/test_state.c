/* What a trainer saves: exact resume at every step, refusals, damage, and weights for others. */
#include "base/file.h"
#include "base/safetensors.h"
#include "config/options.h"
#include "../lib/cmocka_all.h"
#include "../lib/tempdir.h"
#include "../lib/toy.h"
#include "train/schedule.h"
#include "train/trainer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stop after k steps of 20, by a state saved there; go on in a new trainer: the same bits from k
 * on. */
static void resumes(const char *model, bool bn, const char *backend, const char *optimizer)
{
    toy *t = toy_create(model, bn, backend, optimizer);
    t->cfg.augment = bn; /* any place of the cursor has its own crops */
    t->cfg.warmup_epochs = 2;
    t->cfg.lr_step = 3;
    t->cfg.epochs = 4;
    lips_trainer *tr = toy_trainer(t);
    toy_epochs(tr, 4); /* five steps each */
    size_t bytes;
    double *want = toy_weights(tr, t, &bytes);
    lips_trainer_free(tr);
    for (int k = 0; k < 20; k++) {
        lips_trainer *a = toy_trainer(t);
        toy_epochs(a, k / 5);
        /* Inside an epoch a trainer stops for signals only: shorten the epoch's data instead. */
        int64_t whole = t->d.train.n;
        if (k % 5 > 0) {
            lips_batch_order(t->cfg.seed, k / 5, whole, a->order);
            a->order_epoch = k / 5;
            t->d.train.n = (k % 5) * t->cfg.batch;
            toy_epochs(a, 1);
            t->d.train.n = whole;
            a->epoch--;
            a->step = k % 5;
        }
        assert_int_equal(lips_trainer_save(a, toy_path(t, "state.safetensors"), "k"), LIPS_OK);
        lips_trainer_free(a);
        lips_trainer *b = toy_trainer(t);
        bool found = false;
        char *extra = NULL;
        if (lips_trainer_load(b, toy_path(t, "state.safetensors"), &extra, &found) != LIPS_OK)
            fail_msg("%s", lips_error());
        assert_true(found);
        assert_string_equal(extra, "k");
        free(extra);
        assert_int_equal(lips_trainer_epoch(b), k / 5);
        assert_int_equal(lips_trainer_step(b), k % 5);
        toy_epochs(b, 4 - k / 5);
        double *got = toy_weights(b, t, &bytes);
        assert_memory_equal(got, want, bytes);
        free(got);
        lips_trainer_free(b);
    }
    free(want);
    toy_free(t);
}

static void test_resume_at_every_step(void **state)
{
    (void)state;
    resumes("mlp", false, "ref", "sgd");
    resumes("mlp", false, "cpu", "adam");
    resumes("convnet", true, "ref", "adam");
    resumes("convnet", true, "cpu", "sgd");
}

/* Saves a state, lets change() alter the toy, and expects a refusal that names `field`. */
static void refuses(void (*change)(toy *), const char *field)
{
    toy *t = toy_create("mlp", false, "cpu", "adam");
    lips_trainer *tr = toy_trainer(t);
    toy_epochs(tr, 1);
    assert_int_equal(lips_trainer_save(tr, toy_path(t, "state.safetensors"), ""), LIPS_OK);
    lips_trainer_free(tr);
    change(t);
    tr = toy_trainer(t);
    size_t bytes;
    double *before = toy_weights(tr, t, &bytes);
    char *extra = NULL, *file = NULL, *file_after = NULL;
    size_t size, size_after;
    bool found = true;
    assert_int_equal(lips_file_read(&file, &size, toy_path(t, "state.safetensors"), 1 << 20),
                     LIPS_OK);
    assert_int_equal(lips_trainer_load(tr, toy_path(t, "state.safetensors"), &extra, &found),
                     LIPS_ERR_DATA);
    if (!strstr(lips_error(), field))
        fail_msg("'%s' does not name %s", lips_error(), field);
    assert_false(found);
    assert_null(extra);
    double *after = toy_weights(tr, t, &bytes);
    assert_memory_equal(before, after, bytes);
    assert_int_equal(
        lips_file_read(&file_after, &size_after, toy_path(t, "state.safetensors"), 1 << 20),
        LIPS_OK);
    assert_int_equal(size, size_after);
    assert_memory_equal(file, file_after, size);
    free(file);
    free(file_after);
    free(before);
    free(after);
    lips_trainer_free(tr);
    toy_free(t);
}

static void other_rate(toy *t)
{
    t->cfg.lr *= 2;
}

static void other_seed(toy *t)
{
    t->cfg.seed++;
}

static void other_data(toy *t)
{
    t->d.hash++;
}

static void other_backend(toy *t)
{
    t->be->ops->close(t->be);
    assert_int_equal(lips_backend_find("ref")->open(&t->be, 0), LIPS_OK);
}

static void test_state_of_another_run_is_refused(void **state)
{
    (void)state;
    refuses(other_rate, "lr: ");
    refuses(other_seed, "seed: ");
    refuses(other_data, "data_hash");
    refuses(other_backend, "backend");
}

static void flip(const char *path, size_t at)
{
    char *bytes = NULL;
    size_t size;
    assert_int_equal(lips_file_read(&bytes, &size, path, 1 << 20), LIPS_OK);
    bytes[at < size ? at : size - 1] ^= 1;
    assert_int_equal(lips_file_write(path, bytes, size), LIPS_OK);
    free(bytes);
}

static int64_t loaded_epoch(toy *t, lips_status want)
{
    lips_trainer *tr = toy_trainer(t);
    char *extra = NULL;
    bool found = false;
    assert_int_equal(lips_trainer_load(tr, toy_path(t, "state.safetensors"), &extra, &found), want);
    int64_t epoch = found ? lips_trainer_epoch(tr) : -1;
    if (found)
        assert_int_equal(strtol(extra, NULL, 10), epoch);
    free(extra);
    lips_trainer_free(tr);
    return epoch;
}

static void test_damaged_state_falls_back(void **state)
{
    (void)state;
    toy *t = toy_create("mlp", false, "cpu", "sgd");
    assert_int_equal(loaded_epoch(t, LIPS_OK), -1); /* nothing there */
    lips_trainer *tr = toy_trainer(t);
    for (int i = 1; i <= 3; i++) {
        char extra[8];
        toy_epochs(tr, 1);
        snprintf(extra, sizeof extra, "%d", i);
        assert_int_equal(lips_trainer_save(tr, toy_path(t, "state.safetensors"), extra), LIPS_OK);
    }
    lips_trainer_free(tr);
    assert_int_equal(tempdir_count(t->dir), 2);
    assert_int_equal(loaded_epoch(t, LIPS_OK), 3);
    flip(toy_path(t, "state.safetensors"), 1 << 20);
    assert_int_equal(loaded_epoch(t, LIPS_OK), 2);
    /* Gone altogether, as between the two renames of a save. */
    assert_int_equal(remove(toy_path(t, "state.safetensors")), 0);
    assert_int_equal(loaded_epoch(t, LIPS_OK), 2);
    flip(toy_path(t, "state.prev.safetensors"), 100);
    assert_int_equal(loaded_epoch(t, LIPS_ERR_DATA), -1);
    toy_free(t);
}

static void test_export(void **state)
{
    (void)state;
    toy *t = toy_create("convnet", true, "cpu", "sgd");
    lips_trainer *tr = toy_trainer(t);
    toy_epochs(tr, 2);
    assert_int_equal(lips_trainer_export(tr, toy_path(t, "w.safetensors")), LIPS_OK);
    size_t bytes;
    double *w = toy_weights(tr, t, &bytes);
    lips_st_file *f = NULL;
    assert_int_equal(lips_st_read(&f, toy_path(t, "w.safetensors")), LIPS_OK);
    const lips_segment *s;
    int n = lips_net_segments(t->net, &s);
    for (int i = 0; i < n; i++) {
        const lips_st_tensor *x = lips_st_find(f, s[i].name);
        assert_non_null(x);
        assert_int_equal(x->dtype, LIPS_F32);
        assert_int_equal(x->ndim, s[i].ndim);
        double *v = malloc(sizeof *v * (size_t)s[i].count);
        assert_int_equal(lips_st_to_f64(x, v), LIPS_OK);
        assert_memory_equal(v, w + s[i].offset, sizeof *v * (size_t)s[i].count);
        free(v);
    }
    const lips_st_tensor *tracked = lips_st_find(f, "layer1.bn.num_batches_tracked");
    int64_t batches = 0;
    assert_non_null(tracked);
    assert_int_equal(tracked->dtype, LIPS_I64);
    assert_int_equal(tracked->ndim, 0);
    assert_int_equal(lips_st_to_i64(tracked, &batches), LIPS_OK);
    assert_int_equal(batches, 10);
    assert_string_equal(lips_st_meta(f, "lipsweep.epoch"), "2");
    assert_string_equal(lips_st_meta(f, "lipsweep.input"), "2x4x4");
    assert_string_equal(lips_st_meta(f, "lipsweep.data_hash"), "0000000000001234");
    assert_non_null(strstr(lips_st_meta(f, "lipsweep.config"), "model: convnet"));
    lips_st_free(f);
    free(w);
    lips_trainer_free(tr);
    toy_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_at_every_step),
        cmocka_unit_test(test_state_of_another_run_is_refused),
        cmocka_unit_test(test_damaged_state_falls_back),
        cmocka_unit_test(test_export),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
