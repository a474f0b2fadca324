#include "sweep/forecast.h"

#include "base/log.h"
#include "config/options.h"
#include "measure/probing.h"
#include "sweep/cost.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

enum { SOURCES = LIPS_DATA_SINE + 1, GROUPS_MAX = 16, ANCHORS_MAX = 4, RECORD_BYTES = 280 };

/* Keys that a cell's cost does not depend on (nor the checks made here). Any other key counts. */
static const char *const costless[] = {"init",         "label_noise",   "sine_noise",
                                       "sine_min",     "sine_max",      "seed",
                                       "data_seed",    "noise_seed",    "lr",
                                       "momentum",     "beta1",         "beta2",
                                       "adam_eps",     "stop_error",    "stop_loss",
                                       "lr_step",      "warmup_epochs", "warmup_lr",
                                       "weight_decay", "lr_decay",      "interpolation_tol",
                                       "measure_seed", "probe_seed",    NULL};

/* Tiles of the kernels for products are about that many outputs of a thread (kernels/gemm_tile.h).
 */
enum { VALUES_PER_THREAD = 32 };
static const double SHARE_MAX = 0.5;

/* Cells of one architecture, backend and data source: their speed is a curve over size. */
typedef struct group {
    char model[32], backend[16];
    bool batch_norm;
    lips_source source;
    lips_rate rate[ANCHORS_MAX];
    int n_rates;
} group;

/* What the planning carries along. */
typedef struct planner {
    lips_forecast *plan;
    lips_datasets *sets;
    const lips_dataset *shape[SOURCES]; /* the largest set of each source that is used */
    lips_backend *be;
    int64_t threads; /* that a device holds; 0: unknown */
    group groups[GROUPS_MAX];
    int n_groups;
    lips_config cfg; /* of the class in hand */
    /* Schedules counted last: most classes share them. */
    lips_schedule seen[4];
    int64_t seen_epochs, seen_count[4];
} planner;

static bool is_costless(const char *name)
{
    for (int i = 0; costless[i]; i++)
        if (strcmp(costless[i], name) == 0)
            return true;
    return false;
}

static void number_classes(lips_forecast *p)
{
    const lips_option *rows;
    lips_options(&rows);
    int64_t cells = 1, classes = 1;
    for (int a = p->e->n_axes - 1; a >= 0; a--) {
        const lips_axis *axis = &p->e->axes[a];
        p->suffix[a] = cells;
        p->stride[a] = is_costless(rows[axis->key].name) ? 0 : classes;
        cells *= axis->count;
        if (p->stride[a])
            classes *= axis->count;
    }
    p->n_cells = lips_experiment_cells(p->e);
    p->n_classes = p->n_cells > 0 ? classes : 0;
}

static int64_t class_number(const lips_forecast *p, int64_t cell)
{
    int64_t number = 0;
    for (int a = 0; a < p->e->n_axes; a++)
        if (p->stride[a])
            number += cell / p->suffix[a] % p->e->axes[a].count * p->stride[a];
    return number;
}

int64_t lips_forecast_first(const lips_forecast *p, int64_t number)
{
    int64_t cell = 0;
    for (int a = 0; a < p->e->n_axes; a++)
        if (p->stride[a])
            cell += number / p->stride[a] % p->e->axes[a].count * p->suffix[a];
    return cell;
}

const lips_cell_class *lips_forecast_class(const lips_forecast *p, int64_t cell)
{
    return &p->classes[class_number(p, cell)];
}

/* 0 means all. */
static bool more(int64_t a, int64_t b)
{
    return b != 0 && (a == 0 || a > b);
}

/* Loads, for each source, the set with the most samples that the sweep asks for: whatever is wrong
 * with files or sizes shows here, before anything runs. Such a cell exists, since cells are a
 * product. */
static lips_status load_shapes(planner *w)
{
    lips_config *largest = calloc(SOURCES, sizeof *largest);
    bool used[SOURCES] = {false};
    if (!largest)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory planning the sweep");
    lips_status st = LIPS_OK;
    for (int64_t i = 0; i < w->plan->n_classes; i++) {
        LIPS_TRY_GOTO(
            st, lips_experiment_cell(w->plan->e, lips_forecast_first(w->plan, i), &w->cfg), out);
        lips_config *c = &largest[w->cfg.data];
        if (!used[w->cfg.data])
            *c = w->cfg;
        used[w->cfg.data] = true;
        c->n_train = more(w->cfg.n_train, c->n_train) ? w->cfg.n_train : c->n_train;
        c->n_test = more(w->cfg.n_test, c->n_test) ? w->cfg.n_test : c->n_test;
        c->n_val = w->cfg.n_val > c->n_val ? w->cfg.n_val : c->n_val;
    }
    for (int k = 0; k < SOURCES; k++)
        if (used[k]) {
            LIPS_TRY_GOTO(st, lips_datasets_get(w->sets, &largest[k], &w->shape[k]), out);
            w->plan->data_bytes += lips_dataset_bytes(w->shape[k]);
        }
out:
    free(largest);
    return st;
}

static int64_t count_epochs(planner *w, int slot, const lips_schedule *s)
{
    if (w->seen_epochs != w->cfg.epochs)
        memset(w->seen, 0, sizeof w->seen);
    w->seen_epochs = w->cfg.epochs;
    if (strcmp(w->seen[slot].text, s->text) != 0) {
        int64_t n = 0;
        for (int64_t e = 0; e <= w->cfg.epochs; e++)
            n += lips_schedule_has(s, e, w->cfg.epochs, e == w->cfg.epochs);
        w->seen[slot] = *s;
        w->seen_count[slot] = n;
    }
    return w->seen_count[slot];
}

static lips_status find_group(planner *w, int *out)
{
    const lips_config *c = &w->cfg;
    for (int i = 0; i < w->n_groups; i++) {
        const group *g = &w->groups[i];
        if (strcmp(g->model, c->model) == 0 && strcmp(g->backend, c->backend) == 0 &&
            g->batch_norm == c->batch_norm && g->source == c->data) {
            *out = i;
            return LIPS_OK;
        }
    }
    if (w->n_groups == GROUPS_MAX)
        return lips_fail(LIPS_ERR_USAGE,
                         "more than %d combinations of model, batch_norm, data and "
                         "backend in one sweep",
                         GROUPS_MAX);
    group *g = &w->groups[w->n_groups];
    snprintf(g->model, sizeof g->model, "%s", c->model);
    snprintf(g->backend, sizeof g->backend, "%s", c->backend);
    g->batch_norm = c->batch_norm;
    g->source = c->data;
    *out = w->n_groups++;
    return LIPS_OK;
}

/* Devices are taken to be alike: the first is the one that is asked and timed. */
static int first_device(const planner *w)
{
    return w->plan->devices.at[0];
}

static lips_status open_backend(planner *w)
{
    if (w->be && strcmp(w->be->ops->name, w->cfg.backend) == 0)
        return LIPS_OK;
    if (w->be)
        w->be->ops->close(w->be);
    w->be = NULL;
    return lips_device_open(&w->be, &w->cfg, first_device(w));
}

/* How much is measured in a cell. */
typedef struct measuring {
    int64_t epochs, probes, n; /* measure_epochs; probes; training samples */
    int64_t trace_epochs, trace_n;
    double curvature; /* forward passes of samples */
} measuring;

static int64_t at_most(int64_t wanted, int64_t n)
{
    return wanted > 0 && wanted < n ? wanted : n;
}

static lips_status plan_measuring(planner *w, const lips_net *net, int64_t n_train, measuring *m)
{
    const lips_config *c = &w->cfg;
    unsigned probes;
    lips_metrics metrics, trace;
    LIPS_TRY(lips_probes_parse(&probes, c->probes));
    LIPS_TRY(lips_metrics_parse(&metrics, c->metrics));
    LIPS_TRY(lips_metrics_parse(&trace, c->trace_metrics));
    *m = (measuring){.epochs = count_epochs(w, 2, &c->measure_epochs),
                     .probes = __builtin_popcount(probes),
                     .n = at_most(c->measure_n, n_train),
                     .trace_epochs = count_epochs(w, 3, &c->trace_epochs),
                     .trace_n = at_most(c->trace_n, n_train)};
    m->curvature = (double)(m->epochs * at_most(c->curvature_n, m->n)) *
                       lips_measure_curvature_passes(&metrics) +
                   (double)(m->trace_epochs * at_most(c->curvature_n, m->trace_n)) *
                       lips_measure_curvature_passes(&trace) +
                   (double)(m->epochs * m->n) *
                       lips_measure_remainder_passes(&metrics, net, w->be->ops, m->n) +
                   (double)(m->trace_epochs * m->trace_n) *
                       lips_measure_remainder_passes(&trace, net, w->be->ops, m->trace_n);
    return LIPS_OK;
}

/* Of a pass over n samples with the metrics named. */
static lips_status pass_bytes(const planner *w, const lips_net *net, const char *metrics, int64_t n,
                              size_t *bytes)
{
    lips_measure_args a = {.ops = w->be->ops,
                           .device = first_device(w),
                           .threads = 1,
                           .curvature_n = w->cfg.curvature_n};
    *bytes = 0;
    LIPS_TRY(lips_metrics_parse(&a.metrics, metrics));
    a.network = (lips_network_view){.net = net, .loss = w->cfg.loss, .epoch = -1};
    const lips_split *s = &w->shape[w->cfg.data]->train;
    a.inputs =
        (lips_inputs){.n = n, .x = s->x, .label = s->label, .target = s->target, .split = "train"};
    return lips_measure_plan_bytes(&a, bytes);
}

/* Passes follow one another: the largest counts. The probes' rows stay. */
static lips_status measure_bytes(const planner *w, const lips_net *net, const measuring *m,
                                 size_t *bytes)
{
    size_t data = 0, probe = 0, trace = 0, kept = 0;
    LIPS_TRY(pass_bytes(w, net, w->cfg.metrics, m->n, &data));
    if (m->epochs == 0)
        data = 0;
    if (m->epochs > 0 && m->probes > 0) {
        LIPS_TRY(pass_bytes(w, net, w->cfg.metrics, w->cfg.probe_n, &probe));
        kept = (size_t)m->probes * lips_probe_rows_bytes(net, w->be->ops, w->cfg.probe_n);
    }
    if (m->trace_epochs > 0)
        LIPS_TRY(pass_bytes(w, net, w->cfg.trace_metrics, m->trace_n, &trace));
    *bytes = data > probe ? data : probe;
    *bytes = (*bytes > trace ? *bytes : trace) + kept;
    return LIPS_OK;
}

/* The class's data set in sizes only. */
static lips_dataset sizes_of(const planner *w)
{
    const lips_config *c = &w->cfg;
    lips_dataset d = *w->shape[c->data];
    d.train.n = c->n_train > 0 ? c->n_train : d.train.n;
    d.test.n = c->n_test > 0 ? c->n_test : d.test.n;
    d.val.n = c->n_val;
    return d;
}

double lips_device_share(const lips_net *net, int64_t batch, int64_t threads)
{
    double widest = 0;
    for (int l = 1; l <= lips_net_layers(net); l++) {
        const lips_layer_info *i = lips_net_layer(net, l);
        const double values = (double)batch * (double)(i->o * i->oh * i->ow);
        widest = values > widest ? values : widest;
    }
    const double share = threads > 0 ? widest / (VALUES_PER_THREAD * (double)threads) : 0;
    return share < SHARE_MAX ? share : SHARE_MAX;
}

static lips_status fill_class(planner *w, const lips_net *net, const lips_dataset *d,
                              lips_cell_class *k)
{
    const lips_config *c = &w->cfg;
    int64_t real = (int64_t)w->be->ops->real_bytes, adam = c->optimizer == LIPS_OPT_ADAM;
    measuring m = {0};
    size_t training = 0, for_measuring = 0;
    LIPS_TRY(lips_trainer_plan_bytes(c, net, d, w->be, &training));
    int64_t n_eval = count_epochs(w, 0, &c->eval_epochs);
    int64_t n_save = count_epochs(w, 1, &c->save_epochs);
    LIPS_TRY(plan_measuring(w, net, d->train.n, &m));
    LIPS_TRY(measure_bytes(w, net, &m, &for_measuring));
    k->flops = lips_net_forward_flops(net);
    k->params = lips_net_params(net);
    k->n_train = d->train.n;
    k->n_test = d->test.n;
    /* The trainer stays while its network is measured; weights are copied out in f64 for it. */
    k->bytes = training + for_measuring + 3 * (size_t)k->params * sizeof(double);
    k->resident = lips_resident_bytes(d, w->be);
    k->share = lips_device_share(net, c->batch, w->threads);
    int64_t records = 9 * n_eval + 40 * (1 + m.probes) * m.epochs + 20 * m.trace_epochs;
    k->disk = n_save * k->params * 4 + RECORD_BYTES * records;
    k->state = 2 * (2 + adam) * k->params * real;
    const lips_cell_work work = {.epochs = c->epochs,
                                 .n_train = d->train.n,
                                 .n_test = d->test.n,
                                 .n_val = d->val.n,
                                 .classes = d->classes,
                                 .n_eval = n_eval,
                                 .measured = m.epochs * (m.n + m.probes * c->probe_n) +
                                             m.trace_epochs * m.trace_n,
                                 .curvature = m.curvature};
    const group *g = &w->groups[k->group];
    if (g->n_rates > 0) {
        lips_rate rate = lips_rate_at(g->rate, g->n_rates, k->flops);
        k->seconds = lips_cell_seconds(&work, &rate);
    }
    return LIPS_OK;
}

static lips_status plan_class(planner *w, int64_t number)
{
    lips_net *net = NULL;
    int64_t cell = lips_forecast_first(w->plan, number);
    lips_status st;
    LIPS_TRY_GOTO(st, lips_experiment_cell(w->plan->e, cell, &w->cfg), out);
    LIPS_TRY_GOTO(st, open_backend(w), out);
    LIPS_TRY_GOTO(st, find_group(w, &w->plan->classes[number].group), out);
    const lips_dataset d = sizes_of(w);
    const lips_model_spec spec = lips_config_model(&w->cfg, &d);
    LIPS_TRY_GOTO(st, lips_net_create(&net, &spec), out);
    LIPS_TRY_GOTO(st, fill_class(w, net, &d, &w->plan->classes[number]), out);
out:
    lips_net_free(net);
    return st;
}

typedef struct sized {
    double flops;
    int64_t number;
} sized;

static int by_flops(const void *a, const void *b)
{
    double x = ((const sized *)a)->flops, y = ((const sized *)b)->flops;
    return (x > y) - (x < y);
}

/* Times the smallest, the largest and two sizes between, a third of the ranks apart; of those that
 * fit into memory. */
static lips_status measure_group(planner *w, int number, sized *members)
{
    group *g = &w->groups[number];
    int64_t n = 0;
    double memory = lips_memory_available(w->plan->devices.ops, first_device(w));
    for (int64_t i = 0; i < w->plan->n_classes; i++) {
        const lips_cell_class *k = &w->plan->classes[i];
        if (k->group == number && (double)k->bytes + (double)k->resident < memory)
            members[n++] = (sized){k->flops, i};
    }
    qsort(members, (size_t)n, sizeof *members, by_flops);
    for (int a = 0; a < ANCHORS_MAX && n > 0; a++) {
        const sized *m = &members[(n - 1) * a / (ANCHORS_MAX - 1)];
        if (g->n_rates > 0 && g->rate[g->n_rates - 1].flops >= m->flops)
            continue;
        LIPS_TRY(
            lips_experiment_cell(w->plan->e, lips_forecast_first(w->plan, m->number), &w->cfg));
        lips_status st = lips_rate_measure(&g->rate[g->n_rates], &w->cfg, w->shape[w->cfg.data],
                                           first_device(w));
        if (st == LIPS_ERR_MEMORY) /* planned too little: its cells will say so, one by one */
            continue;
        LIPS_TRY(st);
        g->n_rates++;
    }
    return LIPS_OK;
}

static lips_status plan_all(planner *w)
{
    lips_forecast *p = w->plan;
    LIPS_TRY(load_shapes(w));
    for (int64_t i = 0; i < p->n_classes; i++)
        LIPS_TRY(plan_class(w, i));
    sized *members = malloc((size_t)p->n_classes * sizeof *members + 1);
    if (!members)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory planning the sweep");
    lips_status st = LIPS_OK;
    for (int g = 0; g < w->n_groups && st == LIPS_OK; g++)
        st = measure_group(w, g, members);
    free(members);
    LIPS_TRY(st);
    /* Again, now that the rates are known. */
    for (int64_t i = 0; i < p->n_classes; i++)
        LIPS_TRY(plan_class(w, i));
    return LIPS_OK;
}

lips_status lips_forecast_create(lips_forecast *out, const lips_experiment *e,
                                 const lips_devices *devices, lips_datasets *s)
{
    *out = (lips_forecast){.e = e, .devices = *devices, .jobs = lips_sweep_jobs(&e->base, devices)};
    number_classes(out);
    planner *w = calloc(1, sizeof *w);
    out->classes = calloc((size_t)out->n_classes + 1, sizeof *out->classes);
    lips_status st;
    if (!w || !out->classes) {
        st = lips_fail(LIPS_ERR_MEMORY, "out of memory planning the sweep");
        goto out;
    }
    w->plan = out;
    w->sets = s;
    lips_device d;
    if (devices->own && devices->ops->probe(&d, first_device(w)) == LIPS_OK)
        w->threads = d.threads;
    LIPS_TRY_GOTO(st, plan_all(w), out);
out:
    if (w && w->be)
        w->be->ops->close(w->be);
    for (int k = 0; w && k < SOURCES; k++)
        if (w->shape[k])
            lips_datasets_put(s, w->shape[k]);
    free(w);
    if (st != LIPS_OK)
        lips_forecast_free(out);
    return st;
}

void lips_forecast_free(lips_forecast *p)
{
    free(p->classes);
    p->classes = NULL;
}

static int by_bytes_down(const void *a, const void *b)
{
    size_t x = ((const lips_cell_class *)a)->bytes, y = ((const lips_cell_class *)b)->bytes;
    return (x < y) - (x > y);
}

/* The part of its device that a cell takes from others: what it keeps busy, or one slot if that is
 * more; a core. */
static double occupied(const lips_forecast *p, const lips_cell_class *k)
{
    if (!p->devices.own)
        return 1;
    const double slot = (double)p->devices.n / (double)p->jobs;
    return k->share > slot || slot > 1 ? k->share : slot;
}

lips_status lips_forecast_sum(const lips_forecast *p, lips_forecast_totals *out)
{
    *out = (lips_forecast_totals){.bytes = p->data_bytes};
    if (p->n_classes == 0)
        return LIPS_OK;
    int64_t each = p->n_cells / p->n_classes, slots = p->jobs;
    size_t size = (size_t)p->n_classes * sizeof *p->classes;
    lips_cell_class *sorted = malloc(size);
    if (!sorted)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory planning the sweep");
    memcpy(sorted, p->classes, size);
    qsort(sorted, (size_t)p->n_classes, sizeof *sorted, by_bytes_down);
    for (int64_t i = 0; i < p->n_classes; i++) {
        const lips_cell_class *k = &sorted[i];
        int64_t at_once = slots < each ? slots : each;
        slots -= at_once;
        out->bytes += (size_t)at_once * k->bytes;
        out->disk += each * k->disk + at_once * k->state;
        out->seconds += (double)each * k->seconds;
        out->busy += (double)each * k->seconds * occupied(p, k);
        out->longest = k->seconds > out->longest ? k->seconds : out->longest;
    }
    free(sorted);
    return LIPS_OK;
}
