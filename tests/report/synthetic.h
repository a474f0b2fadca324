/*
 * synthetic.h - output folders with made-up records in the shape of a double descent, so that a
 * report can be tested, and looked at, without training anything.
 */
#ifndef TESTS_REPORT_SYNTHETIC_H
#define TESTS_REPORT_SYNTHETIC_H

#include "base/file.h"
#include "base/random.h"
#include "base/record.h"
#include "config/config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Stands for one number: between -1 and 1, the same for the same place. */
static double jitter(const lips_config *c, uint64_t what)
{
    lips_rng r = {.seed = c->seed + 1000 * (uint64_t)c->width, .stream = LIPS_STREAM_TEST};
    return 2 * lips_rng_uniform(&r, what) - 1;
}

static void put(FILE *f, const lips_record *r)
{
    char line[2048];
    lips_record_json(r, line, sizeof line);
    fprintf(f, "%s\n", line);
}

static void put_value(FILE *f, const char *quantity, const char *split, int64_t epoch, double v)
{
    lips_record r = lips_record_init(quantity);
    r.split = split;
    r.epoch = epoch;
    r.n = 4000;
    r.value = v;
    r.precision = "float32";
    r.device = "cpu";
    put(f, &r);
}

static void put_stats_of(FILE *f, lips_record r, double mean)
{
    r.n = 1000;
    r.form = LIPS_FORM_STATS;
    r.mean = mean;
    r.std_err = mean / 100;
    r.min = mean / 2;
    r.median = mean;
    r.q90 = mean * 1.5;
    r.max = mean * 2;
    r.exact = true;
    put(f, &r);
}

static void put_stats(FILE *f, const char *quantity, const char *norm, const char *output,
                      int64_t epoch, double mean)
{
    lips_record r = lips_record_init(quantity);
    r.norm = norm;
    r.output = output;
    r.split = "train";
    r.epoch = epoch;
    put_stats_of(f, r, mean);
}

/* How far beyond the threshold the network is, in doublings of the width. */
static double beyond(const lips_config *c)
{
    return log2((double)c->width / 40) + 0.25 * jitter(c, 1);
}

static double progress(const lips_config *c, int64_t epoch)
{
    return 1 - exp(-(double)epoch * 6 / (double)(c->epochs > 0 ? c->epochs : 1));
}

static void put_fit(FILE *f, const lips_config *c, int64_t epoch)
{
    double b = beyond(c), t = progress(c, epoch),
           noise = c->label_noise > 0 ? c->label_noise : 0.02;
    double floor_error = b > 0 ? 0 : 0.08 * -b, start = 0.9;
    double train = floor_error + (start - floor_error) * (1 - t);
    if (t > 0.99 && b > 0)
        train = 0;
    double bump = noise * exp(-b * b / 3), test = 0.18 + bump + 0.03 * exp(-b) * t + 0.7 * (1 - t);
    bool regression = c->loss == LIPS_LOSS_MSE;
    put_value(f, "loss", "train", epoch, train * 2 + 1e-4 * (1 + jitter(c, 2)));
    if (!regression)
        put_value(f, "error", "train", epoch, train);
    put_value(f, "loss", "train_clean", epoch, 0.6 + bump * 4);
    if (!regression)
        put_value(f, "error", "train_clean", epoch, fabs(train - noise) + bump / 3);
    put_value(f, "loss", "test", epoch, 1 + 6 * bump + 1.2 * (1 - t));
    if (!regression)
        put_value(f, "error", "test", epoch, fmin(0.9, test + 0.01 * jitter(c, 3)));
    if (c->label_noise > 0)
        put_value(f, "memorized", "train", epoch, t / (1 + exp(-2 * b)));
}

/* bound.layer and bound.landscape: one record per part. */
static void put_part(FILE *f, const char *quantity, int layer, const char *output, int64_t epoch,
                     double v)
{
    lips_record r = lips_record_init(quantity);
    r.layer = layer;
    r.layer_name = layer == 0 ? NULL : layer == 1 ? "0" : "2";
    r.output = output;
    r.split = "train";
    r.epoch = epoch;
    r.n = 1000;
    r.value = v;
    put(f, &r);
}

static void put_layer(FILE *f, int layer, int64_t epoch, double op)
{
    lips_record r = lips_record_init("layer.input_jacobian");
    r.norm = "op";
    r.layer = layer;
    r.layer_name = layer == 1 ? "0" : "2";
    r.split = "train";
    r.epoch = epoch;
    put_stats_of(f, r, op / layer);
    r.quantity = "layer.param_jacobian";
    put_stats_of(f, r, 3 * op * layer);
    put_part(f, "bound.layer", layer, "left", epoch, op / layer);
    put_part(f, "bound.layer", layer, "right", epoch, op * 20);
    put_part(f, "bound.layer", layer, "ratio", epoch, 0.05 / layer);
    put_part(f, "bound.layer", layer, "violations", epoch, 0);
}

static void put_landscape(FILE *f, const lips_config *c, int64_t epoch, double op)
{
    double t = progress(c, epoch), g = op * exp(-4 * t) + 1e-3;
    put_stats(f, "landscape.input_grad", NULL, "norm", epoch, g);
    put_stats(f, "landscape.param_grad", NULL, "norm", epoch, 4 * g);
    put_stats(f, "landscape.param_grad_layer1", NULL, "norm", epoch, 3 * g);
    put_value(f, "hessian.trace", "train", epoch, 40 * g);
    put_value(f, "ggn.trace", "train", epoch, 40 * g);
    put_value(f, "hessian.lambda_max", "train", epoch, 9 * g);
    put_value(f, "ggn.lambda_max", "train", epoch, 8 * g);
    put_stats(f, "hessian.alignment", NULL, NULL, epoch, 0.1 + 0.3 * t);
    static const char *const part[] = {"input.left", "input.right", "input.ratio",
                                       "param.left", "param.right", "param.ratio"};
    const double v[] = {g, 3 * g, 1.0 / 3, 16 * g * g, 80 * g, g / 5};
    for (int i = 0; i < 6; i++)
        put_part(f, "bound.landscape", 0, part[i], epoch, v[i]);
    put_stats(f, "logit_hessian.max", NULL, NULL, epoch, 0.5 * exp(-10 * t));
    put_stats(f, "logit_hessian.min_nonzero", NULL, NULL, epoch, 0.01 * exp(-10 * t));
    put_value(f, "logit_hessian.degenerate", "train", epoch, t * 0.9);
}

static void put_beyond_data(FILE *f, const lips_config *c, int64_t epoch, double op)
{
    static const char *const probes[] = {"probe:uniform", "probe:normal", "probe:hypersphere",
                                         "probe:jitter", "probe:path"};
    for (int i = 0; i < 5; i++) {
        lips_record r = lips_record_init("jacobian");
        r.norm = "op";
        r.output = "logits";
        r.split = probes[i];
        r.epoch = epoch;
        put_stats_of(f, r, op * (0.5 + 0.4 * i));
    }
    put_value(f, "lipschitz.product", NULL, epoch, 100 * sqrt((double)c->width));
    put_value(f, "lipschitz.certified", NULL, epoch, 90 * sqrt((double)c->width));
}

static void put_measured(FILE *f, const lips_config *c, int64_t epoch)
{
    static const char *const outputs[] = {"logits", "softmax", "log_softmax", "target_logit",
                                          "loss"};
    double b = beyond(c),
           op = (4 + 14 * exp(-b * b / 4)) * (0.1 + progress(c, epoch)) + 0.5 * jitter(c, 4);
    for (int i = 0; i < 5; i++) {
        double v = i == 0 ? op : op * pow(0.3, i);
        put_stats(f, "jacobian", "op", outputs[i], epoch, v);
        put_stats(f, "jacobian", "fro", outputs[i], epoch, v * 1.7);
    }
    put_landscape(f, c, epoch, op);
    put_beyond_data(f, c, epoch, op);
    for (int l = 1; l <= 2; l++) {
        put_layer(f, l, epoch, op);
        lips_record r = lips_record_init("distance.layer");
        r.layer = l;
        r.layer_name = l == 1 ? "0" : "2";
        r.epoch = epoch;
        r.value = (3.0 / l) * pow((double)c->width, -0.4) * (1 + 0.05 * jitter(c, 5));
        put(f, &r);
    }
    put_value(f, "distance.total", NULL, epoch, 2.6 * pow((double)c->width, -0.4));
}

static void put_end(FILE *f, const lips_config *c)
{
    lips_record r = lips_record_init("interpolation_epoch");
    double b = beyond(c);
    r.split = "train";
    r.epoch = c->epochs;
    r.value = round((double)c->epochs * (0.15 + 0.8 * exp(-b)));
    if (b <= 0 || c->loss == LIPS_LOSS_MSE) {
        r.form = LIPS_FORM_NULL;
        r.reason = "the train error never reached interpolation_tol";
    }
    put(f, &r);
}

/* dir/metrics.jsonl of a cell that has run to its last epoch. */
static void write_metrics(const char *dir, const lips_config *c)
{
    char path[4096];
    lips_path(path, sizeof path, "%s/metrics.jsonl", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int64_t e = 0; e <= c->epochs; e++) {
        bool last = e == c->epochs;
        if (lips_schedule_has(&c->eval_epochs, e, c->epochs, last))
            put_fit(f, c, e);
        if (lips_schedule_has(&c->measure_epochs, e, c->epochs, last))
            put_measured(f, c, e);
    }
    put_end(f, c);
    fclose(f);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[4096];
    lips_path(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(lips_file_write(path, text, strlen(text)), LIPS_OK);
}

/* The folder of cell i, made. */
static void cell_dir(char dir[4096], const char *out, const lips_experiment *e, int64_t i,
                     lips_config *c)
{
    char name[LIPS_CELL_NAME_MAX];
    assert_int_equal(lips_experiment_cell(e, i, c), LIPS_OK);
    assert_int_equal(lips_experiment_cell_name(e, c, name, sizeof name), LIPS_OK);
    snprintf(dir, 4096, "%s/cells/%s", out, name);
    assert_int_equal(lips_dir_create(dir), LIPS_OK);
}

/* OUT with all cells of the experiment done. */
static void make_sweep(const char *out, const char *yaml, lips_experiment *e)
{
    char dir[4096], done[64], path[4096];
    lips_config c;
    if (lips_experiment_load(e, &(lips_config_sources){.yaml_text = yaml}) != LIPS_OK)
        fail_msg("%s", lips_error());
    assert_int_equal(lips_dir_create(out), LIPS_OK);
    lips_path(path, sizeof path, "%s/sweep.yaml", out);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(lips_experiment_yaml(e, f), LIPS_OK);
    fclose(f);
    for (int64_t i = 0; i < lips_experiment_cells(e); i++) {
        cell_dir(dir, out, e, i, &c);
        write_metrics(dir, &c);
        snprintf(done, sizeof done, "{\"epoch\":%lld,\"stopped\":\"epochs\"}\n",
                 (long long)c.epochs);
        write_text(dir, "done", done);
    }
}

#endif
