/* lipsweep measure WEIGHTS.safetensors: every quantity of one network, a sweep's or the user's own.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/signals.h"
#include "cli/cli.h"
#include "cli/records.h"
#include "cli/samples.h"
#include "cli/shape.h"
#include "config/options.h"
#include "measure/probing.h"
#include "train/weights.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const lips_flag flags[] = {
    {"inputs", "X.safetensors",
     "x (N,C,H,W) F32, standardized; y (N) I64 or (N,K) F32 where needed"},
    {"metrics", "LIST", "quantities or sections, or all; default: the cell's own, else all"},
    {"json", NULL, "JSON instead of a table"},
    {"per-sample", "FILE", "write the per-sample values too, F64 (N) each, as safetensors"},
    {"init", "FILE", "weights before training, for the distance from initialisation"},
    {"backend", "NAME", "cpu (default), cuda, ref or auto (cuda if it is there)"},
    {"device", "N", "which GPU, counted from 0"},
    {"measure-precision", "NAME",
     "of the backward passes: f32, tf32 or bf16 (cuda); default: the cell's, else f32"},
    {"threads", "N", "threads; default: one per core. The results do not depend on it"},
    {"n", "N", "samples; default: the cell's measure_n, else all; 0: all"},
    {"curvature-n", "N",
     "of these, the first for eigenvalues of the Hessian, at most; default: the cell's, else 512; "
     "0: all"},
    {"probe", "NAMES",
     "measure inputs that are not data instead: uniform, normal, hypersphere, jitter, path; --n of "
     "each (default: the cell's probe_n, else 500)"},
    {"probe-seed", "N", "random numbers of the probes; default: the cell's, else 1234"},
    {"split", "NAME", "of a cell's data: train (default), train_clean, val, test"},
    {"data-dir", "DIR", "folder of a cell's data, if it has moved"},
    {"loss", "NAME", "cross_entropy or mse; default: the cell's, else by the type of y"},
    {"model", "NAME",
     "mlp, convnet, resnet18 or vit; this and the following are found in the file where possible"},
    {"width", "N", "units, first channels or embedding"},
    {"depth", "N", "hidden layers of an mlp, blocks of a vit"},
    {"classes", "N", "outputs"},
    {"input", "CxHxW", "shape of one sample"},
    {"batch-norm", NULL, "the convnet or resnet18 has batch norm"},
    {0},
};

/* Everything of one run; owned. */
typedef struct job {
    const lips_args *args;
    const char *path;
    lips_st_file *file, *init_file;
    lips_experiment cell; /* configuration in the file's metadata */
    bool own;             /* there is one */
    lips_samples_file samples;
    lips_model_spec spec;
    lips_net *net;
    double *params, *buffers, *init, *init_buffers;
    lips_measure_args measure;
    unsigned probes; /* 0: the data are measured */
    int64_t probe_n, probe_seed;
    char inputs[128]; /* what is measured, for people */
    lips_measurement results[LIPS_PROBES];
    int n_results;
} job;

static lips_status read_cell(job *j)
{
    const char *yaml = lips_st_meta(j->file, "lipsweep.config"), *dir;
    lips_config_defaults(&j->cell.base);
    if (!yaml)
        return LIPS_OK;
    char label[LIPS_PATH_MAX + 32], override[LIPS_PATH_MAX + 32];
    snprintf(label, sizeof label, "%s (lipsweep.config)", j->path);
    const char *overrides[] = {override};
    lips_config_sources src = {.yaml_text = yaml, .yaml_label = label, .overrides = overrides};
    if ((dir = lips_args_value(j->args, "data-dir")) || (dir = getenv("LIPSWEEP_DATA_DIR"))) {
        snprintf(override, sizeof override, "data_dir=%s", dir);
        src.n_overrides = 1;
    }
    LIPS_TRY(lips_experiment_load(&j->cell, &src));
    j->own = true;
    return LIPS_OK;
}

static lips_status read_samples(job *j)
{
    const char *inputs = lips_args_value(j->args, "inputs"),
               *split = lips_args_value(j->args, "split");
    int64_t n = -1;
    if (split && (inputs || j->probes))
        return lips_fail(LIPS_ERR_USAGE, "measure: --split is for a cell's data, not with --%s",
                         inputs ? "inputs" : "probe");
    if (!j->probes) /* probes are made from all samples */
        LIPS_TRY(lips_args_int(j->args, "n", 0, INT64_C(1) << 40, &n));
    if (inputs)
        return lips_samples_read(&j->samples, inputs, n);
    if (!j->own)
        return lips_fail(
            LIPS_ERR_USAGE,
            "measure: %s does not say what data it belongs to (no lipsweep.config): give "
            "--inputs X.safetensors",
            j->path);
    return lips_samples_load(&j->samples, &j->cell.base,
                             lips_st_meta(j->file, "lipsweep.data_hash"), split ? split : "train",
                             n);
}

static lips_status check_memory(const job *j)
{
    enum { BIG = 1 << 27 };
    int64_t have = 0, want = lips_net_params(j->net);
    for (int i = 0; i < lips_st_count(j->file); i++)
        have += lips_st_at(j->file, i)->count;
    /* Small differences are named tensor by tensor by lips_weights_fill; this is before memory is
     * asked for. */
    if (want > BIG && want > have)
        return lips_fail(LIPS_ERR_DATA,
                         "%s: %s of width %" PRId64 " has %" PRId64
                         " parameters, the file %" PRId64,
                         j->path, j->spec.kind, j->spec.width, want, have);
    return LIPS_OK;
}

/* Halves are worth a line: another program may have rounded them on the way here. */
static void say_converted(const lips_st_file *f)
{
    static const lips_dtype other[] = {LIPS_F16, LIPS_BF16};
    for (size_t d = 0; d < sizeof other / sizeof *other; d++) {
        int n = 0;
        for (int i = 0; i < lips_st_count(f); i++)
            n += lips_st_at(f, i)->dtype == other[d];
        if (n)
            lips_info("%s: %d of %d tensors are %s, converted to float32", lips_st_label(f), n,
                      lips_st_count(f), lips_dtype_name(other[d]));
    }
}

static lips_status fill_from(const job *j, const lips_st_file *f, double **params, double **buffers)
{
    size_t p = (size_t)lips_net_params(j->net) + 1, b = (size_t)lips_net_buffers(j->net) + 1;
    *params = malloc(p * sizeof **params);
    *buffers = malloc(b * sizeof **buffers);
    if (!*params || !*buffers)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for %zu parameters", p);
    if (f) {
        LIPS_TRY(lips_weights_fill(j->net, f, *params, *buffers));
        say_converted(f);
        return LIPS_OK;
    }
    return lips_net_init(j->net, j->cell.base.init, j->cell.base.seed, *params, *buffers);
}

static lips_status build_network(job *j)
{
    const char *init = lips_args_value(j->args, "init");
    const char *inputs = lips_args_value(j->args, "inputs");
    LIPS_TRY(lips_shape_resolve(&j->spec, j->file, j->path, j->args, &j->samples.shape));
    LIPS_TRY(lips_net_create(&j->net, &j->spec));
    LIPS_TRY(check_memory(j));
    lips_status st = lips_samples_check(&j->samples, j->spec.classes);
    if (st != LIPS_OK)
        return inputs ? lips_fail_prefix(st, "%s: ", inputs) : st;
    LIPS_TRY(fill_from(j, j->file, &j->params, &j->buffers));
    if (init)
        LIPS_TRY(lips_st_read(&j->init_file, init));
    if (init || j->own)
        LIPS_TRY(fill_from(j, j->init_file, &j->init, &j->init_buffers));
    return LIPS_OK;
}

static lips_status choose_loss(const job *j, lips_loss_kind *out)
{
    const char *asked = lips_args_value(j->args, "loss");
    const lips_option *options;
    lips_config c;
    lips_options(&options);
    *out = j->own ? j->cell.base.loss : j->samples.target ? LIPS_LOSS_MSE : LIPS_LOSS_CROSS_ENTROPY;
    if (!asked)
        return LIPS_OK;
    lips_status st = lips_option_set(&options[lips_option_find("loss")], &c, asked);
    if (st != LIPS_OK)
        return lips_fail_prefix(st, "measure: --loss ");
    *out = c.loss;
    return LIPS_OK;
}

static lips_status choose_backend(job *j)
{
    const char *asked = lips_args_value(j->args, "backend");
    const char *name = asked ? asked : j->own ? j->cell.base.backend : "cpu";
    int64_t device = 0;
    LIPS_TRY(lips_args_int(j->args, "device", 0, 1023, &device));
    j->measure.device = (int)device;
    lips_status st = lips_backend_choose(&j->measure.ops, name, (int)device);
    if (st == LIPS_ERR_USAGE && asked && !lips_backend_find(name))
        return lips_fail_prefix(st, "measure: --");
    return st;
}

/* Of the backward passes; forward passes are f32. */
static lips_status choose_arithmetic(job *j)
{
    const char *asked = lips_args_value(j->args, "measure-precision");
    const lips_option *options;
    lips_config c = j->cell.base;
    lips_options(&options);
    if (asked) {
        lips_status st =
            lips_option_set(&options[lips_option_find("measure_precision")], &c, asked);
        if (st != LIPS_OK)
            return lips_fail_prefix(st, "measure: --measure-precision ");
    }
    if (!j->measure.ops->set_precision && c.measure_precision != LIPS_PRECISION_F32) {
        if (asked)
            return lips_fail(LIPS_ERR_USAGE,
                             "measure: --measure-precision %s needs --backend cuda, not %s", asked,
                             j->measure.ops->name);
        /* The cell's wish is for where it ran. */
        c.measure_precision = LIPS_PRECISION_F32;
    }
    j->measure.arithmetic = (lips_arithmetic){
        .backward = c.measure_precision, .conv = c.cuda_conv, .linear = c.cuda_linear};
    return LIPS_OK;
}

static lips_status choose_epoch(const job *j, int64_t *out)
{
    const char *text = lips_st_meta(j->file, "lipsweep.epoch");
    *out = -1;
    if (text && (!lips_read_int(text, out) || *out < 0))
        return lips_fail(LIPS_ERR_DATA, "%s: its lipsweep.epoch is no epoch", j->path);
    return LIPS_OK;
}

static int cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Hours later is too late to learn that results cannot be written. */
static lips_status check_target(const char *path)
{
    lips_file_atomic a;
    LIPS_TRY(lips_file_begin(&a, path));
    lips_file_abandon(&a);
    return LIPS_OK;
}

/* Flags first: a mistyped one is refused before anything large is read. */
static lips_status read_flags(job *j)
{
    const char *metrics = lips_args_value(j->args, "metrics");
    int64_t threads = cores();
    LIPS_TRY(lips_args_int(j->args, "threads", 1, 4096, &threads));
    j->measure.threads = (int)threads;
    j->measure.curvature_n = j->cell.base.curvature_n;
    LIPS_TRY(lips_args_int(j->args, "curvature-n", 0, INT64_C(1) << 40, &j->measure.curvature_n));
    LIPS_TRY(choose_backend(j));
    LIPS_TRY(choose_arithmetic(j));
    if (lips_args_has(j->args, "per-sample"))
        LIPS_TRY(check_target(lips_args_value(j->args, "per-sample")));
    if (!metrics)
        metrics = j->own ? j->cell.base.metrics : "all";
    lips_status st = lips_metrics_parse(&j->measure.metrics, metrics);
    return st == LIPS_OK ? st : lips_fail_prefix(st, "measure: --metrics: ");
}

static lips_status read_probes(job *j)
{
    const char *names = lips_args_value(j->args, "probe");
    const lips_config *cell = &j->cell.base;
    j->probe_n = cell->probe_n;
    j->probe_seed = (int64_t)cell->probe_seed;
    LIPS_TRY(lips_args_int(j->args, "probe-seed", 0, INT64_MAX, &j->probe_seed));
    if (!names)
        return lips_args_has(j->args, "probe-seed")
                   ? lips_fail(LIPS_ERR_USAGE, "measure: --probe-seed goes with --probe")
                   : LIPS_OK;
    LIPS_TRY(lips_args_int(j->args, "n", 1, INT64_C(1) << 40, &j->probe_n));
    lips_status st = lips_probes_parse(&j->probes, names);
    if (st != LIPS_OK)
        return lips_fail_prefix(st, "measure: --probe: ");
    if (!j->probes)
        return lips_fail(LIPS_ERR_USAGE, "measure: --probe none: nothing to measure");
    if (lips_metrics_of_probes(&j->measure.metrics).bits == 0)
        return lips_fail(LIPS_ERR_USAGE, "measure: --probe: none of the metrics is defined on "
                                         "inputs without labels; sections B and C are");
    if (__builtin_popcount(j->probes) > 1 && lips_args_has(j->args, "per-sample"))
        return lips_fail(LIPS_ERR_USAGE,
                         "measure: --per-sample goes with one --probe, not with several");
    return LIPS_OK;
}

static lips_status measure_probes(job *j)
{
    const lips_dataset *d = j->samples.dataset;
    lips_probing p = {.n = j->probe_n, .seed = (uint64_t)j->probe_seed};
    p.source = (lips_probe_source){.x = d ? d->train.x : j->samples.x,
                                   .n = d ? d->train.n : j->samples.view.n,
                                   .c = j->spec.c,
                                   .h = j->spec.h,
                                   .w = j->spec.w};
    snprintf(j->inputs, sizeof j->inputs, "probe:");
    for (int k = 0; k < LIPS_PROBES; k++) {
        p.kind = (lips_probe)k;
        if (!lips_probes_has(j->probes, p.kind))
            continue;
        size_t used = strlen(j->inputs);
        snprintf(j->inputs + used, sizeof j->inputs - used, "%s%s", j->n_results ? "," : "",
                 lips_probe_name(p.kind));
        LIPS_TRY(lips_measure_probe(&j->results[j->n_results++], &j->measure, &p));
    }
    return LIPS_OK;
}

static lips_status run_measurement(job *j)
{
    lips_measure_args *m = &j->measure;
    m->network = (lips_network_view){
        .net = j->net, .params = j->params, .buffers = j->buffers, .init = j->init};
    LIPS_TRY(choose_epoch(j, &m->network.epoch));
    LIPS_TRY(choose_loss(j, &m->network.loss));
    m->inputs = j->samples.view;
    m->per_sample = lips_args_has(j->args, "per-sample");
    m->progress = lips_log_get_level() >= LIPS_LOG_INFO;
    if (j->probes)
        return measure_probes(j);
    snprintf(j->inputs, sizeof j->inputs, "%s", m->inputs.split);
    return lips_measure_run(&j->results[j->n_results++], m);
}

static lips_status write_per_sample(const job *j, const char *path)
{
    const lips_measurement *m = &j->results[0];
    int n = m->n_samples;
    lips_st_out_tensor *t = calloc((size_t)n + 1, sizeof *t);
    if (!t)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for %d tensors", n);
    for (int i = 0; i < n; i++)
        t[i] = (lips_st_out_tensor){.name = m->samples[i].name,
                                    .dtype = LIPS_F64,
                                    .ndim = 1,
                                    .shape = {m->n},
                                    .data = m->samples[i].v};
    lips_status st = lips_st_write(path, t, n, NULL, 0);
    free(t);
    return st;
}

static lips_status write_results(const job *j)
{
    const char *per_sample = lips_args_value(j->args, "per-sample");
    const lips_measured what = {.weights = j->path,
                                .backend = j->measure.ops->name,
                                .model = &j->spec,
                                .inputs = j->inputs,
                                .n = j->results[0].n,
                                .epoch = j->measure.network.epoch,
                                .results = j->results,
                                .n_results = j->n_results};
    if (per_sample)
        LIPS_TRY(write_per_sample(j, per_sample));
    return lips_args_has(j->args, "json") ? lips_records_print_json(&what)
                                          : lips_records_print_table(&what);
}

static void job_free(job *j)
{
    for (int i = 0; i < j->n_results; i++)
        lips_measurement_free(&j->results[i]);
    free(j->init_buffers);
    free(j->init);
    free(j->buffers);
    free(j->params);
    lips_net_free(j->net);
    lips_samples_free(&j->samples);
    lips_experiment_free(&j->cell);
    lips_st_free(j->init_file);
    lips_st_free(j->file);
    free(j);
}

static lips_status run(const lips_args *a)
{
    job *j = calloc(1, sizeof *j);
    if (!j)
        return lips_fail(LIPS_ERR_MEMORY, "no memory");
    j->args = a;
    j->path = a->positional[0];
    lips_status st;
    LIPS_TRY_GOTO(st, lips_signals_install(), out);
    LIPS_TRY_GOTO(st, lips_st_read(&j->file, j->path), out);
    LIPS_TRY_GOTO(st, read_cell(j), out);
    LIPS_TRY_GOTO(st, read_flags(j), out);
    LIPS_TRY_GOTO(st, read_probes(j), out);
    LIPS_TRY_GOTO(st, read_samples(j), out);
    LIPS_TRY_GOTO(st, build_network(j), out);
    LIPS_TRY_GOTO(st, run_measurement(j), out);
    LIPS_TRY_GOTO(st, write_results(j), out);
out:
    job_free(j);
    return st;
}

const lips_command lips_command_measure = {
    .name = "measure",
    .usage = "WEIGHTS.safetensors [--inputs X.safetensors] [options]",
    .summary =
        "measures one network: a sweep's cell, or weights of PyTorch under the models' names",
    .details =
        "A cell's epoch-NNNN.safetensors needs nothing else: model, data and metrics are in it.\n"
        "Other weights need --inputs; the architecture is read from the tensors.",
    .flags = flags,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
