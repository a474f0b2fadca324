#include "toy.h"

#include "base/random.h"
#include "config/options.h"
#include "tempdir.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = TOY_N, C = TOY_C, H = TOY_H, W = TOY_W, K = TOY_K, ROW = TOY_ROW };

static void fill_split(lips_split *s, uint64_t seed)
{
    const lips_rng rng = {.seed = seed, .stream = LIPS_STREAM_TEST};
    s->n = N;
    s->x = malloc(sizeof(float) * N * ROW);
    s->label = malloc(sizeof(int64_t) * N);
    s->label_clean = malloc(sizeof(int64_t) * N);
    s->source_index = calloc(N, sizeof(int64_t));
    for (int64_t i = 0; i < N; i++) {
        s->label_clean[i] = i % K;
        s->label[i] = i % 5 == 0 ? (i + 1) % K : i % K;
        for (int64_t j = 0; j < ROW; j++)
            s->x[i * ROW + j] = (float)(0.5 * lips_rng_normal(&rng, (uint64_t)(i * ROW + j)) +
                                        (j % K == i % K ? 1.0 : 0.0));
    }
}

toy *toy_create(const char *model, bool batch_norm, const char *backend, const char *optimizer)
{
    toy *t = calloc(1, sizeof *t);
    assert_non_null(t);
    lips_config_defaults(&t->cfg);
    snprintf(t->cfg.model, sizeof t->cfg.model, "%s", model);
    snprintf(t->cfg.backend, sizeof t->cfg.backend, "%s", backend);
    t->cfg.batch_norm = batch_norm;
    t->cfg.width = 3;
    t->cfg.batch = 8;
    t->cfg.epochs = 40;
    t->cfg.seed = 5;
    t->cfg.optimizer = strcmp(optimizer, "adam") == 0 ? LIPS_OPT_ADAM : LIPS_OPT_SGD;
    t->cfg.lr = t->cfg.optimizer == LIPS_OPT_ADAM ? 0.01 : 0.05;
    t->d.c = C;
    t->d.h = H;
    t->d.w = W;
    t->d.classes = K;
    t->d.hash = 0x1234;
    for (int i = 0; i < 4; i++)
        t->d.std[i] = 1;
    fill_split(&t->d.train, 1);
    fill_split(&t->d.test, 2);
    const lips_model_spec spec = lips_config_model(&t->cfg, &t->d);
    assert_int_equal(lips_net_create(&t->net, &spec), LIPS_OK);
    assert_int_equal(lips_backend_find(backend)->open(&t->be, 0), LIPS_OK);
    tempdir_make(t->dir, sizeof t->dir);
    return t;
}

static void split_clear(lips_split *s)
{
    free(s->x);
    free(s->label);
    free(s->label_clean);
    free(s->source_index);
}

void toy_free(toy *t)
{
    tempdir_remove(t->dir);
    t->be->ops->close(t->be);
    lips_net_free(t->net);
    split_clear(&t->d.train);
    split_clear(&t->d.test);
    free(t);
}

lips_trainer *toy_trainer(toy *t)
{
    lips_trainer *tr = NULL;
    lips_status st = lips_trainer_create(&tr, &t->cfg, t->net, &t->d, t->be);
    if (st != LIPS_OK)
        fail_msg("%s", lips_error());
    return tr;
}

void toy_epochs(lips_trainer *tr, int n)
{
    for (int i = 0; i < n; i++)
        if (lips_trainer_run_epoch(tr) != LIPS_OK)
            fail_msg("%s", lips_error());
}

double *toy_weights(lips_trainer *tr, const toy *t, size_t *bytes)
{
    size_t p = (size_t)lips_net_params(t->net), b = (size_t)lips_net_buffers(t->net);
    double *w = malloc((p + b) * sizeof *w);
    assert_int_equal(lips_trainer_get_params(tr, w, w + p), LIPS_OK);
    *bytes = (p + b) * sizeof *w;
    return w;
}

const char *toy_path(const toy *t, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    return path;
}
