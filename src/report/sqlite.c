/* report/sqlite.c - derived, and written anew each time: no journal, no locking, renamed when
 * whole. */
#include "report/sqlite.h"

#include "base/file.h"

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

typedef struct database {
    sqlite3 *db;
    sqlite3_stmt *cell, *record;
    const char *path;
} database;

static lips_status failed(const database *d)
{
    return lips_fail(LIPS_ERR_RUNTIME, "cannot write %s: %s", d->path, sqlite3_errmsg(d->db));
}

static lips_status run(database *d, const char *sql)
{
    return sqlite3_exec(d->db, sql, NULL, NULL, NULL) == SQLITE_OK ? LIPS_OK : failed(d);
}

static bool is_number(const lips_option *o)
{
    return o->type == LIPS_OPTION_INT || o->type == LIPS_OPTION_UINT || o->type == LIPS_OPTION_REAL;
}

/* Columns of `cells` after its first five: every key that changes results. */
static lips_status create_cells(database *d, const lips_report *r, int n_options)
{
    char *sql = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&sql, &size);
    if (!f)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory writing %s", d->path);
    fputs("CREATE TABLE cells (cell TEXT PRIMARY KEY, state TEXT NOT NULL, last_epoch INTEGER, "
          "reason TEXT, message TEXT",
          f);
    for (int i = 0; i < n_options; i++)
        if (r->options[i].flags & LIPS_OPTION_HASHED)
            fprintf(f, ", \"%s\" %s", r->options[i].name,
                    is_number(&r->options[i]) ? "NUMERIC" : "TEXT");
    fputs(")", f);
    fclose(f);
    lips_status st = run(d, sql);
    free(sql);
    return st;
}

static lips_status prepare_cells(database *d, const lips_report *r, int n_options)
{
    char *sql = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&sql, &size);
    if (!f)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory writing %s", d->path);
    fputs("INSERT INTO cells VALUES (?,?,?,?,?", f);
    for (int i = 0; i < n_options; i++)
        if (r->options[i].flags & LIPS_OPTION_HASHED)
            fputs(",?", f);
    fputs(")", f);
    fclose(f);
    int rc = sqlite3_prepare_v2(d->db, sql, -1, &d->cell, NULL);
    free(sql);
    return rc == SQLITE_OK ? LIPS_OK : failed(d);
}

static lips_status create(database *d, const lips_report *r, int n_options)
{
    LIPS_TRY(run(d, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN"));
    LIPS_TRY(create_cells(d, r, n_options));
    LIPS_TRY(
        run(d, "CREATE TABLE records (cell TEXT NOT NULL REFERENCES cells, quantity TEXT NOT NULL,"
               " norm TEXT, output TEXT, layer INTEGER, layer_name TEXT, rank INTEGER, split TEXT,"
               " epoch INTEGER, n INTEGER, value REAL, mean REAL, std_err REAL, min REAL, median "
               "REAL, q90 REAL,"
               " max REAL, nonfinite TEXT, exact INTEGER, iterations INTEGER, residual REAL,"
               " reason TEXT, drawn_by_seed TEXT, precision TEXT, device TEXT)"));
    LIPS_TRY(prepare_cells(d, r, n_options));
    if (sqlite3_prepare_v2(d->db,
                           "INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                           "?,?,?,?,?)",
                           -1, &d->record, NULL) != SQLITE_OK)
        return failed(d);
    return LIPS_OK;
}

static void bind_text(sqlite3_stmt *s, int at, const char *text)
{
    sqlite3_bind_text(s, at, text, -1, SQLITE_TRANSIENT); /* NULL binds NULL */
}

/* SQLite stores NaN as NULL; infinities it keeps. The column nonfinite says what was there. */
static void bind_real(sqlite3_stmt *s, int at, double v, bool there)
{
    if (there)
        sqlite3_bind_double(s, at, v);
    else
        sqlite3_bind_null(s, at);
}

static void bind_int(sqlite3_stmt *s, int at, int64_t v, bool there)
{
    if (there)
        sqlite3_bind_int64(s, at, v);
    else
        sqlite3_bind_null(s, at);
}

static lips_status step(database *d, sqlite3_stmt *s)
{
    if (sqlite3_step(s) != SQLITE_DONE)
        return failed(d);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return LIPS_OK;
}

static lips_status insert_cell(database *d, const lips_report *r, int64_t i, int n_options)
{
    const lips_report_cell *c = &r->cells[i];
    lips_config cfg;
    char value[LIPS_PATH_MAX];
    LIPS_TRY(lips_experiment_cell(&r->experiment, i, &cfg));
    bind_text(d->cell, 1, c->name);
    bind_text(d->cell, 2, lips_cell_state_name(c->state));
    bind_int(d->cell, 3, c->epoch, c->epoch >= 0);
    bind_text(d->cell, 4, c->reason);
    bind_text(d->cell, 5, c->message);
    int at = 6;
    for (int k = 0; k < n_options; k++) {
        if (!(r->options[k].flags & LIPS_OPTION_HASHED))
            continue;
        lips_option_print(&r->options[k], &cfg, value, sizeof value);
        bind_text(d->cell, at++, value); /* the column's affinity makes numbers of it */
    }
    return step(d, d->cell);
}

static const char *what_is_not_finite(const lips_record *rec)
{
    if (rec->form == LIPS_FORM_NULL)
        return NULL;
    double v = rec->form == LIPS_FORM_VALUE ? rec->value : rec->mean;
    if (isfinite(v))
        return NULL;
    return isnan(v) ? "nan" : v > 0 ? "inf" : "-inf";
}

static lips_status insert_record(database *d, const char *cell, const lips_record *rec)
{
    sqlite3_stmt *s = d->record;
    bool stats = rec->form == LIPS_FORM_STATS, value = rec->form == LIPS_FORM_VALUE;
    bind_text(s, 1, cell);
    bind_text(s, 2, rec->quantity);
    bind_text(s, 3, rec->norm);
    bind_text(s, 4, rec->output);
    bind_int(s, 5, rec->layer, rec->layer > 0);
    bind_text(s, 6, rec->layer_name);
    bind_int(s, 7, rec->rank, rec->rank > 0);
    bind_text(s, 8, rec->split);
    bind_int(s, 9, rec->epoch, rec->epoch >= 0);
    bind_int(s, 10, rec->n, rec->n > 0);
    bind_real(s, 11, rec->value, value);
    bind_real(s, 12, rec->mean, stats);
    bind_real(s, 13, rec->std_err, stats || (value && rec->estimate));
    bind_real(s, 14, rec->min, stats);
    bind_real(s, 15, rec->median, stats);
    bind_real(s, 16, rec->q90, stats);
    bind_real(s, 17, rec->max, stats);
    bind_text(s, 18, what_is_not_finite(rec));
    bind_int(s, 19, rec->exact, stats || rec->estimate);
    bind_int(s, 20, rec->iterations, rec->iterations >= 0);
    bind_real(s, 21, rec->residual, !isnan(rec->residual));
    bind_text(s, 22, rec->reason);
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)rec->seed);
    bind_text(s, 23, rec->has_seed ? seed : NULL); /* beyond 2^63 no INTEGER holds it */
    bind_text(s, 24, rec->precision);
    bind_text(s, 25, rec->device);
    return step(d, s);
}

static lips_status fill(database *d, const lips_report *r)
{
    const lips_option *options;
    int n_options = lips_options(&options);
    LIPS_TRY(create(d, r, n_options));
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_report_cell *c = &r->cells[i];
        LIPS_TRY(insert_cell(d, r, i, n_options));
        for (int64_t k = c->first; k < c->first + c->count; k++)
            LIPS_TRY(insert_record(d, c->name, &r->records[k]));
    }
    return run(d,
               "CREATE INDEX records_by_quantity ON records (quantity, norm, output, split, epoch);"
               "COMMIT");
}

/* The statements must go before the database can be closed. */
static lips_status close_database(database *d)
{
    sqlite3_finalize(d->cell);
    sqlite3_finalize(d->record);
    int rc = sqlite3_close(d->db);
    d->db = NULL;
    return rc == SQLITE_OK
               ? LIPS_OK
               : lips_fail(LIPS_ERR_RUNTIME, "cannot write %s: %s", d->path, sqlite3_errstr(rc));
}

lips_status lips_report_sqlite(const lips_report *r)
{
    char path[LIPS_PATH_MAX];
    lips_file_atomic a;
    LIPS_TRY(lips_path(path, sizeof path, "%s/results.sqlite", r->out));
    LIPS_TRY(lips_file_begin(&a, path)); /* SQLite takes the empty file for a new database */
    database d = {.path = path};
    lips_status st = LIPS_OK;
    if (sqlite3_open_v2(a.temp, &d.db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        st = failed(&d);
    if (st == LIPS_OK)
        st = fill(&d, r);
    lips_status closed = close_database(&d);
    if (st == LIPS_OK)
        st = closed;
    if (st != LIPS_OK) {
        lips_file_abandon(&a);
        return st;
    }
    return lips_file_commit(&a);
}
