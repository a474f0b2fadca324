#include "report/csv.h"

#include "base/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void lips_csv_text(FILE *f, const char *text)
{
    if (!text)
        return;
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, f);
        return;
    }
    putc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            putc('"', f);
        putc(*text, f);
    }
    putc('"', f);
}

void lips_csv_number(FILE *f, double v)
{
    if (isfinite(v))
        fprintf(f, "%.17g", v);
    else
        fputs(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf", f);
}

/* Keys of a cell that every table has; other swept keys follow. */
static const char *const always[] = {"model", "width", "label_noise", "seed"};
enum { ALWAYS = sizeof always / sizeof always[0] };

static bool is_extra_axis(const lips_report *r, int axis)
{
    for (int i = 0; i < ALWAYS; i++)
        if (strcmp(lips_report_axis_name(r, axis), always[i]) == 0)
            return false;
    return true;
}

static void write_header(FILE *f, const lips_report *r)
{
    fputs("cell,state", f);
    for (int i = 0; i < ALWAYS; i++)
        fprintf(f, ",%s", always[i]);
    for (int a = 0; a < r->experiment.n_axes; a++)
        if (is_extra_axis(r, a))
            fprintf(f, ",%s", lips_report_axis_name(r, a));
    fputs(",quantity,norm,output,layer,layer_name,rank,split,epoch,n,value,mean,std_err,min,median,"
          "q90,"
          "max,"
          "exact,iterations,residual,reason,drawn_by_seed,precision,device\n",
          f);
}

static lips_status write_cell_keys(FILE *f, const lips_report *r, int64_t i)
{
    lips_config cfg;
    char value[LIPS_PATH_MAX];
    LIPS_TRY(lips_experiment_cell(&r->experiment, i, &cfg));
    lips_csv_text(f, r->cells[i].name);
    fprintf(f, ",%s", lips_cell_state_name(r->cells[i].state));
    for (int k = 0; k < ALWAYS; k++) {
        lips_option_print(&r->options[lips_option_find(always[k])], &cfg, value, sizeof value);
        putc(',', f);
        lips_csv_text(f, value);
    }
    for (int a = 0; a < r->experiment.n_axes; a++)
        if (is_extra_axis(r, a)) {
            putc(',', f);
            lips_csv_text(f, lips_report_axis_value(r, a, i));
        }
    return LIPS_OK;
}

static void write_int(FILE *f, int64_t v, bool there)
{
    putc(',', f);
    if (there)
        fprintf(f, "%" PRId64, v);
}

static void write_number(FILE *f, double v, bool there)
{
    putc(',', f);
    if (there)
        lips_csv_number(f, v);
}

static void write_text(FILE *f, const char *text)
{
    putc(',', f);
    lips_csv_text(f, text);
}

static void write_record(FILE *f, const lips_record *rec)
{
    bool stats = rec->form == LIPS_FORM_STATS;
    write_text(f, rec->quantity);
    write_text(f, rec->norm);
    write_text(f, rec->output);
    write_int(f, rec->layer, rec->layer > 0);
    write_text(f, rec->layer_name);
    write_int(f, rec->rank, rec->rank > 0);
    write_text(f, rec->split);
    write_int(f, rec->epoch, rec->epoch >= 0);
    write_int(f, rec->n, rec->n > 0);
    write_number(f, rec->value, rec->form == LIPS_FORM_VALUE);
    write_number(f, rec->mean, stats);
    write_number(f, rec->std_err, stats || (rec->estimate && rec->form == LIPS_FORM_VALUE));
    write_number(f, rec->min, stats);
    write_number(f, rec->median, stats);
    write_number(f, rec->q90, stats);
    write_number(f, rec->max, stats);
    write_text(f, stats || rec->estimate ? (rec->exact ? "true" : "false") : NULL);
    write_int(f, rec->iterations, rec->iterations >= 0);
    write_number(f, rec->residual, !isnan(rec->residual));
    write_text(f, rec->reason);
    putc(',', f);
    if (rec->has_seed)
        fprintf(f, "%" PRIu64, rec->seed);
    write_text(f, rec->precision);
    write_text(f, rec->device);
    putc('\n', f);
}

static lips_status write_table(FILE *f, const lips_report *r)
{
    write_header(f, r);
    for (int64_t i = 0; i < r->n_cells; i++) {
        char *keys = NULL;
        size_t size = 0;
        FILE *k = open_memstream(&keys, &size);
        if (!k)
            return lips_fail(LIPS_ERR_MEMORY, "out of memory writing results.csv");
        lips_status st = write_cell_keys(k, r, i);
        fclose(k);
        for (int64_t n = 0; st == LIPS_OK && n < r->cells[i].count; n++) {
            fputs(keys, f);
            write_record(f, &r->records[r->cells[i].first + n]);
        }
        free(keys);
        LIPS_TRY(st);
    }
    return LIPS_OK;
}

lips_status lips_report_csv(const lips_report *r)
{
    char path[LIPS_PATH_MAX];
    lips_file_atomic a;
    LIPS_TRY(lips_path(path, sizeof path, "%s/results.csv", r->out));
    LIPS_TRY(lips_file_begin(&a, path));
    lips_status st = write_table(a.f, r);
    if (st != LIPS_OK) {
        lips_file_abandon(&a);
        return st;
    }
    return lips_file_commit(&a);
}
