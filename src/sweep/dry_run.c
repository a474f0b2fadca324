#include "sweep/dry_run.h"

#include "base/json.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 20, LINE = 1024 };

static void size_text(char buf[32], double bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    for (; bytes >= 1024 && u < 4; u++)
        bytes /= 1024;
    snprintf(buf, 32, bytes < 10 && u > 0 ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
}

static lips_status print_row(const lips_forecast *p, int64_t i, lips_config *cfg, bool json)
{
    const lips_cell_class *k = lips_forecast_class(p, i);
    char name[LIPS_CELL_NAME_MAX], line[LINE], time[32], memory[32], disk[32];
    LIPS_TRY(lips_experiment_cell(p->e, i, cfg));
    LIPS_TRY(lips_experiment_cell_name(p->e, cfg, name, sizeof name));
    if (!json) {
        lips_duration_text(time, sizeof time, k->seconds);
        size_text(memory, (double)k->bytes);
        size_text(disk, (double)k->disk);
        printf("%-44s %7" PRId64 " %8" PRId64 " %10" PRId64 " %12s %9s %9s\n", name, cfg->epochs,
               k->n_train, k->params, time, memory, disk);
        return LIPS_OK;
    }
    lips_json j = lips_json_start(line, sizeof line);
    lips_json_open(&j, NULL, '{');
    lips_json_string(&j, "name", name);
    lips_json_int(&j, "epochs", cfg->epochs);
    lips_json_int(&j, "n_train", k->n_train);
    lips_json_int(&j, "parameters", k->params);
    lips_json_number(&j, "seconds", k->seconds);
    lips_json_int(&j, "memory_bytes", (int64_t)k->bytes);
    lips_json_int(&j, "disk_bytes", k->disk);
    lips_json_close(&j, '}');
    printf("%s\n  %s", i ? "," : "", line);
    return LIPS_OK;
}

/* Seconds on `jobs` cores: no schedule is shorter than its longest cell. */
static double wall_seconds(const lips_forecast *p, const lips_forecast_totals *t)
{
    double even = t->seconds / (double)p->jobs;
    return even > t->longest ? even : t->longest;
}

static void print_totals(const lips_forecast *p, const lips_forecast_totals *t, bool json)
{
    char time[32], memory[32], disk[32];
    if (json) {
        printf("\n ],\"n_cells\":%" PRId64 ",\"jobs\":%" PRId64 ",\"core_seconds\":%.3f,"
               "\"seconds\":%.3f,\"memory_bytes\":%zu,\"disk_bytes\":%" PRId64 "}\n",
               p->n_cells, p->jobs, t->seconds, wall_seconds(p, t), t->bytes, t->disk);
        return;
    }
    lips_duration_text(time, sizeof time, wall_seconds(p, t));
    size_text(memory, (double)t->bytes);
    size_text(disk, (double)t->disk);
    if (p->n_cells > ROWS)
        printf("... and %" PRId64 " more\n", p->n_cells - ROWS);
    printf("%" PRId64 " cells, %" PRId64 " at once: about %s, %s of memory, %s of disk\n",
           p->n_cells, p->jobs, time, memory, disk);
}

lips_status lips_sweep_dry_run(const lips_forecast *p, bool json)
{
    lips_forecast_totals totals;
    lips_config *cfg = malloc(sizeof *cfg);
    if (!cfg)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory listing the cells");
    lips_status st;
    LIPS_TRY_GOTO(st, lips_forecast_sum(p, &totals), out);
    if (json)
        printf("{\"cells\":[");
    else
        printf("%-44s %7s %8s %10s %12s %9s %9s\n", "cell", "epochs", "samples", "parameters",
               "time, 1 core", "memory", "disk");
    for (int64_t i = 0; i < p->n_cells && (json || i < ROWS); i++)
        LIPS_TRY_GOTO(st, print_row(p, i, cfg, json), out);
    print_totals(p, &totals, json);
out:
    free(cfg);
    return st;
}
