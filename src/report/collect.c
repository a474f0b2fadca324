/* report/collect.c - from OUT to a lips_report. */
#include "report/model.h"

#include "base/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t metrics_max = (size_t)1 << 31; /* of one cell */

bool lips_report_is_seed(const char *key)
{
    size_t n = strlen(key);
    return n >= 4 && strcmp(key + n - 4, "seed") == 0;
}

const char *lips_cell_state_name(lips_cell_state state)
{
    switch (state) {
    case LIPS_CELL_DONE: return "done";
    case LIPS_CELL_FAILED: return "failed";
    case LIPS_CELL_WAITING: break;
    }
    return "unfinished";
}

const char *lips_report_axis_name(const lips_report *r, int axis)
{
    return r->options[r->experiment.axes[axis].key].name;
}

/* Which of the axis' values cell number i has: the last axis runs fastest. */
static int64_t digit(const lips_experiment *e, int axis, int64_t i)
{
    for (int a = e->n_axes - 1; a > axis; a--)
        i /= e->axes[a].count;
    return i % e->axes[axis].count;
}

const char *lips_report_axis_value(const lips_report *r, int axis, int64_t cell)
{
    return r->experiment.axes[axis].values[digit(&r->experiment, axis, cell)];
}

/* ---- axes ---- */

static bool is_number(const lips_option *o)
{
    return o->type == LIPS_OPTION_INT || o->type == LIPS_OPTION_REAL;
}

/* The width if it is swept, else the first number that is. */
static int choose_x_axis(const lips_report *r)
{
    int first = -1;
    for (int a = r->experiment.n_axes - 1; a >= 0; a--) {
        const lips_option *o = &r->options[r->experiment.axes[a].key];
        if (strcmp(o->name, "width") == 0)
            return a;
        if (is_number(o))
            first = a;
    }
    return first;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static lips_status collect_x(lips_report *r)
{
    r->x_axis = choose_x_axis(r);
    const lips_axis *axis = r->x_axis >= 0 ? &r->experiment.axes[r->x_axis] : NULL;
    r->n_x = axis ? (int)axis->count : 1;
    r->x_name = axis ? lips_report_axis_name(r, r->x_axis) : "width";
    r->x = calloc((size_t)r->n_x + 1, sizeof *r->x);
    if (!r->x)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a report's axis");
    r->x[0] = (double)r->experiment.base.width;
    for (int i = 0; axis && i < r->n_x; i++)
        r->x[i] = strtod(axis->values[i], NULL);
    qsort(r->x, (size_t)r->n_x, sizeof *r->x, by_value);
    /* A width counts by its ratios even where few are swept. */
    r->x_log = strcmp(r->x_name, "width") == 0 ||
               (r->n_x > 1 && r->x[0] > 0 && r->x[r->n_x - 1] >= 8 * r->x[0]);
    return LIPS_OK;
}

static bool is_variant_axis(const lips_report *r, int axis)
{
    return axis != r->x_axis && !lips_report_is_seed(lips_report_axis_name(r, axis));
}

/* The cell's number among the combinations of the variant axes. */
static int variant_of(const lips_report *r, int64_t cell)
{
    int64_t v = 0;
    for (int a = 0; a < r->experiment.n_axes; a++)
        if (is_variant_axis(r, a))
            v = v * r->experiment.axes[a].count + digit(&r->experiment, a, cell);
    return (int)v;
}

/* The cell's number among the combinations of the seeds. */
static int64_t replicate_of(const lips_report *r, int64_t cell)
{
    int64_t v = 0;
    for (int a = 0; a < r->experiment.n_axes; a++)
        if (a != r->x_axis && !is_variant_axis(r, a))
            v = v * r->experiment.axes[a].count + digit(&r->experiment, a, cell);
    return v;
}

static int x_place_of(const lips_report *r, int64_t cell)
{
    if (r->x_axis < 0)
        return 0;
    double x = strtod(lips_report_axis_value(r, r->x_axis, cell), NULL);
    int i = 0;
    while (i + 1 < r->n_x && r->x[i] < x)
        i++;
    return i;
}

static lips_status collect_variants(lips_report *r)
{
    int64_t n = 1;
    r->replicates = 1;
    for (int a = 0; a < r->experiment.n_axes; a++) {
        if (is_variant_axis(r, a))
            n *= r->experiment.axes[a].count;
        else if (a != r->x_axis)
            r->replicates *= r->experiment.axes[a].count;
    }
    r->n_variants = (int)n;
    r->variants = calloc((size_t)n + 1, sizeof *r->variants);
    if (!r->variants)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a report's variants");
    for (int64_t i = 0; i < r->n_cells; i++) {
        char *label = r->variants[r->cells[i].variant].label;
        size_t used = 0, size = sizeof r->variants->label;
        if (label[0])
            continue;
        for (int a = 0; a < r->experiment.n_axes && used < size; a++)
            if (is_variant_axis(r, a))
                used +=
                    (size_t)snprintf(label + used, size - used, "%s%s %s", used ? ", " : "",
                                     lips_report_axis_name(r, a), lips_report_axis_value(r, a, i));
    }
    return LIPS_OK;
}

/* ---- records ---- */

static lips_status add_record(lips_report *r, const lips_record *from)
{
    if (r->n_records == r->cap_records) {
        int64_t cap = r->cap_records ? 2 * r->cap_records : 1024;
        lips_record *more = realloc(r->records, (size_t)cap * sizeof *more);
        if (!more)
            return lips_fail(LIPS_ERR_MEMORY, "out of memory for %" PRId64 " records", cap);
        r->records = more;
        r->cap_records = cap;
    }
    lips_record *to = &r->records[r->n_records];
    *to = *from;
    LIPS_TRY(lips_names_keep(&r->names, from->quantity, &to->quantity));
    LIPS_TRY(lips_names_keep(&r->names, from->norm, &to->norm));
    LIPS_TRY(lips_names_keep(&r->names, from->output, &to->output));
    LIPS_TRY(lips_names_keep(&r->names, from->layer_name, &to->layer_name));
    LIPS_TRY(lips_names_keep(&r->names, from->split, &to->split));
    LIPS_TRY(lips_names_keep(&r->names, from->reason, &to->reason));
    LIPS_TRY(lips_names_keep(&r->names, from->precision, &to->precision));
    LIPS_TRY(lips_names_keep(&r->names, from->device, &to->device));
    r->n_records++;
    return LIPS_OK;
}

/* Lines as far as they are whole: the last one may be torn. */
static lips_status read_lines(lips_report *r, const char *text, size_t size)
{
    int64_t number = 1;
    for (const char *end; (end = memchr(text, '\n', size)) != NULL; number++) {
        size_t len = (size_t)(end - text);
        lips_record_line line;
        lips_status st = lips_record_parse(&line, text, len);
        if (st != LIPS_OK)
            return lips_fail_prefix(st, "line %" PRId64 ": ", number);
        st = add_record(r, &line.r);
        lips_record_line_free(&line);
        LIPS_TRY(st);
        text += len + 1;
        size -= len + 1;
    }
    return LIPS_OK;
}

/* A file that cannot be read leaves its cell without records, and the report with a warning. */
static lips_status read_metrics(lips_report *r, lips_report_cell *c, const char *dir)
{
    char path[LIPS_PATH_MAX], *text = NULL;
    size_t size = 0;
    c->first = r->n_records;
    LIPS_TRY(lips_path(path, sizeof path, "%s/metrics.jsonl", dir));
    if (!lips_file_exists(path))
        return LIPS_OK;
    lips_status st = lips_file_read(&text, &size, path, metrics_max);
    if (st == LIPS_OK)
        st = read_lines(r, text, size);
    free(text);
    if (st == LIPS_ERR_DATA) {
        c->damaged = true;
        r->n_records = c->first;
        return lips_names_keep(&r->names, lips_error(), &c->message);
    }
    LIPS_TRY(st);
    c->count = r->n_records - c->first;
    if (c->count > 0)
        c->epoch = r->records[r->n_records - 1].epoch;
    return LIPS_OK;
}

static lips_status read_note(lips_report *r, lips_report_cell *c, const char *dir)
{
    lips_note note;
    c->state = lips_cell_state_read(dir);
    if (c->state == LIPS_CELL_WAITING ||
        !lips_note_read(&note, dir, c->state == LIPS_CELL_DONE ? "done" : "failed"))
        return LIPS_OK;
    c->epoch = note.epoch;
    if (c->state == LIPS_CELL_DONE || c->damaged)
        return LIPS_OK;
    LIPS_TRY(lips_names_keep(&r->names, note.reason, &c->reason));
    return lips_names_keep(&r->names, note.message, &c->message);
}

static lips_status collect_cell(lips_report *r, int64_t i)
{
    lips_report_cell *c = &r->cells[i];
    lips_config cfg;
    char name[LIPS_CELL_NAME_MAX], dir[LIPS_PATH_MAX];
    *c = (lips_report_cell){.epoch = -1, .first = r->n_records};
    LIPS_TRY(lips_experiment_cell(&r->experiment, i, &cfg));
    LIPS_TRY(lips_experiment_cell_name(&r->experiment, &cfg, name, sizeof name));
    LIPS_TRY(lips_names_keep(&r->names, name, &c->name));
    LIPS_TRY(lips_path(dir, sizeof dir, "%s/cells/%s", r->out, name));
    c->x = x_place_of(r, i);
    c->variant = variant_of(r, i);
    c->replicate = replicate_of(r, i);
    LIPS_TRY(read_metrics(r, c, dir));
    return read_note(r, c, dir);
}

lips_status lips_report_collect(lips_report *r, const char *out)
{
    char path[LIPS_PATH_MAX];
    *r = (lips_report){.x_axis = -1};
    LIPS_TRY(lips_path(r->out, sizeof r->out, "%s", out));
    LIPS_TRY(lips_path(path, sizeof path, "%s/sweep.yaml", out));
    if (!lips_file_exists(path))
        return lips_fail(LIPS_ERR_DATA, "%s holds no sweep: there is no %s", out, path);
    lips_options(&r->options);
    lips_status st =
        lips_experiment_load(&r->experiment, &(lips_config_sources){.yaml_path = path});
    if (st != LIPS_OK)
        return lips_fail_prefix(LIPS_ERR_DATA, "%s is damaged: ", path);
    r->n_cells = lips_experiment_cells(&r->experiment);
    r->cells = calloc((size_t)r->n_cells + 1, sizeof *r->cells);
    if (!r->cells)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for %" PRId64 " cells", r->n_cells);
    LIPS_TRY(collect_x(r));
    for (int64_t i = 0; i < r->n_cells; i++)
        LIPS_TRY(collect_cell(r, i));
    return collect_variants(r);
}

void lips_report_free(lips_report *r)
{
    for (int i = 0; i < r->warnings.n; i++)
        free(r->warnings.text[i]);
    free(r->warnings.text);
    free(r->variants);
    free(r->x);
    lips_names_free(&r->names);
    free(r->records);
    free(r->cells);
    lips_experiment_free(&r->experiment);
    *r = (lips_report){.x_axis = -1};
}
