#include "cli/records.h"

#include "base/json.h"
#include "base/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 16384, COLUMNS = 9, CELL_MAX = 128 };

static lips_status print_head(const lips_measured *what)
{
    const lips_model_spec *s = what->model;
    char *head = malloc(HEAD_MAX), input[96];
    if (!head)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for JSON");
    snprintf(input, sizeof input, "%" PRId64 "x%" PRId64 "x%" PRId64, s->c, s->h, s->w);
    lips_json j = lips_json_start(head, HEAD_MAX);
    lips_json_open(&j, NULL, '{');
    lips_json_string(&j, "version", LIPS_VERSION);
    lips_json_string(&j, "commit", lips_commit());
    lips_json_string(&j, "backend", what->backend);
    lips_json_string(&j, "weights", what->weights);
    lips_json_string(&j, "model", s->kind);
    lips_json_int(&j, "width", s->width);
    lips_json_int(&j, "depth", s->depth);
    lips_json_int(&j, "classes", s->classes);
    lips_json_string(&j, "input", input);
    lips_json_bool(&j, "batch_norm", s->batch_norm);
    lips_json_string(&j, "split", what->inputs);
    lips_json_int(&j, "n", what->n);
    if (what->epoch >= 0)
        lips_json_int(&j, "epoch", what->epoch);
    lips_json_open(&j, "records", '['); /* closed by hand, behind the records */
    lips_status st = LIPS_OK;
    if (j.len >= HEAD_MAX)
        st =
            lips_fail(LIPS_ERR_RUNTIME, "measure: the description does not fit %d bytes", HEAD_MAX);
    else
        fputs(head, stdout);
    free(head);
    return st;
}

static lips_status print_line(const lips_record *r, bool first)
{
    int n = lips_record_json(r, NULL, 0);
    char *line = malloc((size_t)n + 1);
    if (!line)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for a record of %d bytes", n);
    lips_record_json(r, line, (size_t)n + 1);
    printf("%s\n%s", first ? "" : ",", line);
    free(line);
    return LIPS_OK;
}

lips_status lips_records_print_json(const lips_measured *m)
{
    bool first = true;
    LIPS_TRY(print_head(m));
    for (int k = 0; k < m->n_results; k++)
        for (int i = 0; i < m->results[k].n_records; i++, first = false)
            LIPS_TRY(print_line(&m->results[k].records[i], first));
    puts("\n]}");
    return LIPS_OK;
}

typedef struct row {
    char cell[COLUMNS][CELL_MAX];
} row;

static const char *const titles[COLUMNS] = {"quantity", "of",     "n",   "mean", "std_err",
                                            "min",      "median", "q90", "max"};

static void number(char cell[CELL_MAX], double v)
{
    snprintf(cell, CELL_MAX, "%.6g", v);
}

static void fill_row(row *out, const lips_record *r)
{
    const char *part = r->norm ? r->norm : r->output;
    *out = (row){0};
    snprintf(out->cell[0], CELL_MAX, "%s", r->quantity);
    if (r->layer > 0)
        snprintf(out->cell[1], CELL_MAX, "%d %s%s%s", r->layer, r->layer_name ? r->layer_name : "",
                 part ? " " : "", part ? part : "");
    else if (r->rank > 0)
        snprintf(out->cell[1], CELL_MAX, "%d", r->rank);
    else
        snprintf(out->cell[1], CELL_MAX, "%s%s%s", r->norm ? r->norm : "",
                 r->norm && r->output ? " " : "", r->output ? r->output : "");
    if (r->n > 0)
        snprintf(out->cell[2], CELL_MAX, "%" PRId64, r->n);
    switch (r->form) {
    case LIPS_FORM_VALUE:
        number(out->cell[3], r->value);
        if (r->estimate)
            number(out->cell[4], r->std_err);
        break;
    case LIPS_FORM_STATS: {
        const double v[] = {r->mean, r->std_err, r->min, r->median, r->q90, r->max};
        for (int i = 0; i < 6; i++)
            number(out->cell[3 + i], v[i]);
        break;
    }
    case LIPS_FORM_NULL: break; /* the reason goes behind the row */
    }
}

/* Behind the last filled cell nothing is printed. */
static void print_row(const row *r, const int *width, const char *reason)
{
    int last = COLUMNS - 1;
    while (last > 1 && !r->cell[last][0])
        last--;
    printf("%-*s  %-*s", width[0], r->cell[0], reason || last > 1 ? width[1] : 0, r->cell[1]);
    for (int c = 2; c <= last && !reason; c++)
        printf("  %*s", width[c], r->cell[c]);
    printf("%s%s\n", reason ? "  not available: " : "", reason ? reason : "");
}

static lips_status print_records(const lips_measurement *m)
{
    row *rows = malloc(((size_t)m->n_records + 1) * sizeof *rows);
    int width[COLUMNS] = {0};
    if (!rows)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for a table of %d rows", m->n_records);
    for (int c = 0; c < COLUMNS; c++)
        snprintf(rows[0].cell[c], CELL_MAX, "%s", titles[c]);
    for (int i = 0; i < m->n_records; i++)
        fill_row(&rows[i + 1], &m->records[i]);
    for (int i = 0; i <= m->n_records; i++)
        for (int c = 0; c < COLUMNS; c++)
            if ((int)strlen(rows[i].cell[c]) > width[c])
                width[c] = (int)strlen(rows[i].cell[c]);
    for (int i = 0; i <= m->n_records; i++) {
        const lips_record *r = i ? &m->records[i - 1] : NULL;
        bool null = r && r->form == LIPS_FORM_NULL;
        print_row(&rows[i], width, null ? (r->reason ? r->reason : "no reason given") : NULL);
    }
    free(rows);
    return LIPS_OK;
}

lips_status lips_records_print_table(const lips_measured *m)
{
    const lips_model_spec *s = m->model;
    printf("%s: %s of width %" PRId64 ", inputs %" PRId64 "x%" PRId64 "x%" PRId64 ", %" PRId64
           " outputs; %" PRId64 " samples (%s), backend %s\n",
           m->weights, s->kind, s->width, s->c, s->h, s->w, s->classes, m->n, m->inputs,
           m->backend);
    for (int k = 0; k < m->n_results; k++) {
        bool named = m->n_results > 1 && m->results[k].n_records > 0;
        printf("\n%s%s", named ? m->results[k].records[0].split : "", named ? "\n" : "");
        LIPS_TRY(print_records(&m->results[k]));
    }
    return LIPS_OK;
}
