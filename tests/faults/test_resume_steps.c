/*
 * A run of 20 steps stopped after each of its steps, and checkpoints that are damaged or belong to
 * another run.
 */
#include "../lib/data_files.h"
#include "../lib/tempdir.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/signals.h"
#include "config/options.h"
#include "train/trainer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* 4 epochs of 5 steps, the last one of an epoch smaller. */
enum { N_TRAIN = 44, BATCH = 10, EPOCHS = 4, STEPS = 20 };

/* Stands for base/signals.c: a signal is pending once so many steps have been asked about. */
static int steps_left = -1;

lips_status lips_signals_pending(void)
{
    if (steps_left > 0 && --steps_left == 0)
        return lips_fail(LIPS_ERR_REQUEUE, "stopped by the test");
    return LIPS_OK;
}

typedef struct setting {
    const char *model, *backend;
    bool batch_norm, augment;
    lips_optimizer optimizer;
} setting;

typedef struct world {
    char dir[TEST_PATH_MAX], state[2 * TEST_PATH_MAX], prev[2 * TEST_PATH_MAX];
    lips_config cfg;
    lips_dataset *data;
    lips_net *net;
    lips_backend *be;
} world;

static void ok(lips_status st)
{
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
}

static void world_open(world *w, const setting *s)
{
    memset(w, 0, sizeof *w);
    tempdir_make(w->dir, sizeof w->dir);
    test_idx_set(w->dir, 60, 20, 8, 8, false);
    snprintf(w->state, sizeof w->state, "%s/state.safetensors", w->dir);
    snprintf(w->prev, sizeof w->prev, "%s/state.prev.safetensors", w->dir);
    lips_config_defaults(&w->cfg);
    snprintf(w->cfg.model, sizeof w->cfg.model, "%s", s->model);
    snprintf(w->cfg.backend, sizeof w->cfg.backend, "%s", s->backend);
    snprintf(w->cfg.data_dir, sizeof w->cfg.data_dir, "%s", w->dir);
    w->cfg.data = LIPS_DATA_IDX;
    w->cfg.width = 3;
    w->cfg.batch_norm = s->batch_norm;
    w->cfg.augment = s->augment;
    w->cfg.optimizer = s->optimizer;
    w->cfg.n_train = N_TRAIN;
    w->cfg.batch = BATCH;
    w->cfg.epochs = EPOCHS;
    w->cfg.label_noise = 0.2;
    w->cfg.warmup_epochs = 2;
    w->cfg.weight_decay = 1e-3;
    w->cfg.lr_step = 3;
    lips_data_spec spec = lips_config_data(&w->cfg);
    ok(lips_dataset_load(&w->data, &spec));
    lips_model_spec model = lips_config_model(&w->cfg, w->data);
    ok(lips_net_create(&w->net, &model));
    ok(lips_backend_find(w->cfg.backend)->open(&w->be, 0));
}

static void world_close(world *w)
{
    w->be->ops->close(w->be);
    lips_net_free(w->net);
    lips_dataset_free(w->data);
    tempdir_remove(w->dir);
}

static lips_trainer *trainer(world *w)
{
    lips_trainer *tr;
    ok(lips_trainer_create(&tr, &w->cfg, w->net, w->data, w->be));
    return tr;
}

/* To the end, or until `steps` steps are done (0: no limit); true at the end. */
static bool run(lips_trainer *tr, int steps)
{
    steps_left = steps > 0 ? steps : -1;
    while (lips_trainer_epoch(tr) < EPOCHS) {
        lips_status st = lips_trainer_run_epoch(tr);
        if (st == LIPS_ERR_REQUEUE)
            return false;
        ok(st);
        /* The trainer asks between the steps of an epoch; its last one is for its caller to ask. */
        if (lips_trainer_epoch(tr) < EPOCHS && lips_signals_pending() != LIPS_OK)
            return false;
    }
    return true;
}

/* Everything the trainer holds, as the checkpoint it writes. */
static uint64_t fingerprint(world *w, lips_trainer *tr)
{
    char path[2 * TEST_PATH_MAX], *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/end.safetensors", w->dir);
    ok(lips_trainer_save(tr, path, "end"));
    ok(lips_file_read(&bytes, &size, path, 1 << 24));
    uint64_t hash = lips_hash64(bytes, size);
    free(bytes);
    unlink(path);
    return hash;
}

static uint64_t undisturbed(world *w)
{
    lips_trainer *tr = trainer(w);
    assert_true(run(tr, 0));
    uint64_t hash = fingerprint(w, tr);
    lips_trainer_free(tr);
    return hash;
}

static void resume_everywhere(const setting *s)
{
    world w;
    world_open(&w, s);
    uint64_t expected = undisturbed(&w);
    for (int k = 1; k < STEPS; k++) {
        char *extra = NULL, note[32];
        bool found;
        lips_trainer *tr = trainer(&w);
        snprintf(note, sizeof note, "after step %d", k);
        assert_false(run(tr, k));
        ok(lips_trainer_save(tr, w.state, note));
        lips_trainer_free(tr);

        tr = trainer(&w);
        ok(lips_trainer_load(tr, w.state, &extra, &found));
        assert_true(found);
        assert_string_equal(extra, note);
        assert_int_equal(lips_trainer_epoch(tr) * 5 + lips_trainer_step(tr), k);
        assert_true(run(tr, 0));
        if (fingerprint(&w, tr) != expected)
            fail_msg("%s %s: a run resumed after step %d of %d ends otherwise", s->backend,
                     s->model, k, STEPS);
        free(extra);
        lips_trainer_free(tr);
    }
    world_close(&w);
}

static void resume_after_each_step(void **state)
{
    (void)state;
    const setting settings[] = {
        {"mlp", "cpu", false, false, LIPS_OPT_SGD},
        {"mlp", "cpu", false, true, LIPS_OPT_ADAM},
        {"convnet", "cpu", true, true, LIPS_OPT_SGD},
        {"convnet", "cpu", false, false, LIPS_OPT_ADAM},
        {"mlp", "ref", false, false, LIPS_OPT_ADAM},
        {"convnet", "ref", true, false, LIPS_OPT_SGD},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        resume_everywhere(&settings[i]);
}

/* The run that is stopped after every single step. */
static void resume_twenty_times(void **state)
{
    (void)state;
    const setting s = {"convnet", "cpu", true, true, LIPS_OPT_ADAM};
    world w;
    world_open(&w, &s);
    uint64_t expected = undisturbed(&w);
    int pieces = 0;
    for (bool end = false; !end; pieces++) {
        bool found;
        lips_trainer *tr = trainer(&w);
        ok(lips_trainer_load(tr, w.state, NULL, &found));
        assert_int_equal(found, pieces > 0);
        end = run(tr, 1);
        if (end)
            assert_true(fingerprint(&w, tr) == expected);
        ok(lips_trainer_save(tr, w.state, ""));
        lips_trainer_free(tr);
        assert_true(pieces < STEPS);
    }
    assert_int_equal(pieces, STEPS);
    world_close(&w);
}

/* Two generations: after steps 5 and 10. */
static void two_generations(world *w)
{
    lips_trainer *tr = trainer(w);
    run(tr, 5);
    ok(lips_trainer_save(tr, w->state, "5"));
    run(tr, 5);
    ok(lips_trainer_save(tr, w->state, "10"));
    lips_trainer_free(tr);
}

static lips_status load(world *w, char **extra, bool *found)
{
    lips_trainer *tr = trainer(w);
    uint64_t before = fingerprint(w, tr);
    lips_status st = lips_trainer_load(tr, w->state, extra, found);
    if (st != LIPS_OK) { /* refused means: nothing changed */
        assert_true(fingerprint(w, tr) == before);
        assert_null(*extra);
    }
    lips_trainer_free(tr);
    return st;
}

static void damage_falls_back(void **state)
{
    (void)state;
    const setting s = {"mlp", "cpu", false, false, LIPS_OPT_SGD};
    world w;
    world_open(&w, &s);
    two_generations(&w);
    char *bytes, *extra;
    size_t size;
    bool found;
    ok(lips_file_read(&bytes, &size, w.state, 1 << 24));
    /* The format's own tests flip and cut everywhere; here it is what the trainer makes of it. */
    for (size_t i = 0; i < 60; i++) {
        size_t bit = (i * 7919 + 13) % (size * 8), cut = i % 2 ? size : (i * 104729) % size;
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        ok(lips_file_write(w.state, bytes, cut));
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        ok(load(&w, &extra, &found));
        assert_true(found);
        assert_string_equal(extra, "5");
        free(extra);
    }
    /* Both damaged: an error that names the file, and nothing is changed or removed. */
    ok(lips_file_write(w.prev, bytes, size - 1));
    ok(lips_file_write(w.state, bytes, size / 2));
    assert_int_equal(load(&w, &extra, &found), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), w.state));
    assert_true(lips_file_exists(w.state) && lips_file_exists(w.prev));
    /* The newest whole again. */
    ok(lips_file_write(w.state, bytes, size));
    ok(load(&w, &extra, &found));
    assert_string_equal(extra, "10");
    free(extra);
    free(bytes);
    world_close(&w);
}

static void another_runs_checkpoint_is_refused(void **state)
{
    (void)state;
    const setting s = {"mlp", "cpu", false, false, LIPS_OPT_SGD};
    const char *const named[] = {"lr", "seed: 1", "data_hash", "backend"};
    for (int i = 0; i < 4; i++) {
        world w;
        char *extra = NULL;
        bool found;
        world_open(&w, &s);
        two_generations(&w);
        if (i == 0)
            w.cfg.lr *= 2;
        if (i == 1)
            w.cfg.seed = 1;
        if (i == 2)
            w.data->hash ^= 1;
        if (i == 3) {
            w.be->ops->close(w.be);
            snprintf(w.cfg.backend, sizeof w.cfg.backend, "ref");
            ok(lips_backend_find("ref")->open(&w.be, 0));
        }
        assert_int_equal(load(&w, &extra, &found), LIPS_ERR_DATA);
        if (!strstr(lips_error(), named[i]) || !strstr(lips_error(), "state.safetensors"))
            fail_msg("\"%s\" names neither file nor \"%s\"", lips_error(), named[i]);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resume_after_each_step),
        cmocka_unit_test(resume_twenty_times),
        cmocka_unit_test(damage_falls_back),
        cmocka_unit_test(another_runs_checkpoint_is_refused),
    };
    lips_log_set_level(LIPS_LOG_QUIET); /* each damaged checkpoint is warned of */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
