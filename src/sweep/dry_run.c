#include "sweep/dry_run.h"

#include "base/json.h"
#include "base/log.h"
#include "sweep/places.h"

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

/* Seconds on `jobs` cores, or on the devices: no schedule is shorter than its longest cell. */
static double wall_seconds(const lips_forecast *p, const lips_forecast_totals *t)
{
    double even = t->busy / (double)(p->devices.own ? p->devices.n : p->jobs);
    return even > t->longest ? even : t->longest;
}

/* Classes in the order in which workers take them. */
typedef struct ranked {
    int64_t number;
    double seconds;
} ranked;

static int by_seconds_down(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds < y->seconds ? 1 : -1;
    return (x->number > y->number) - (x->number < y->number);
}

/* What runs on each device once the sweep has started; *too_large: cells that no device holds. */
static lips_status fill_places(const lips_forecast *p, lips_places *places, lips_config *cfg,
                               int64_t *too_large)
{
    const int64_t each = p->n_classes > 0 ? p->n_cells / p->n_classes : 0;
    ranked *order = malloc((size_t)p->n_classes * sizeof *order + 1);
    *too_large = 0;
    if (!order)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory planning the devices");
    for (int64_t i = 0; i < p->n_classes; i++)
        order[i] = (ranked){i, p->classes[i].seconds};
    qsort(order, (size_t)p->n_classes, sizeof *order, by_seconds_down);
    lips_status st = LIPS_OK;
    bool room = true;
    for (int64_t i = 0; i < p->n_classes; i++) {
        const int64_t cell = lips_forecast_first(p, order[i].number);
        LIPS_TRY_GOTO(st, lips_experiment_cell(p->e, cell, cfg), out);
        const lips_demand d = lips_demand_of(p, cell, cfg);
        if (!lips_places_fit(places, &d)) {
            *too_large += each;
            continue;
        }
        for (int64_t k = 0; k < each && room; k++) {
            const int at = lips_places_choose(places, &d);
            room = at >= 0;
            if (room)
                lips_places_take(places, at, &d);
        }
    }
out:
    free(order);
    return st;
}

static double resident_bytes(const lips_spot *at)
{
    double bytes = 0;
    for (int64_t i = 0; i < at->n_sets; i++)
        bytes += at->sets[i].bytes;
    return bytes;
}

static void place_json(const lips_spot *at, const char *name, bool fits, bool first)
{
    char line[LINE];
    lips_json j = lips_json_start(line, sizeof line);
    lips_json_open(&j, NULL, '{');
    lips_json_int(&j, "device", at->device);
    lips_json_string(&j, "name", name);
    lips_json_int(&j, "cells", at->running);
    lips_json_int(&j, "cell_bytes", (int64_t)(at->bytes - resident_bytes(at)));
    lips_json_int(&j, "data_bytes", (int64_t)resident_bytes(at));
    lips_json_int(&j, "bytes", (int64_t)at->bytes);
    lips_json_int(&j, "limit_bytes", (int64_t)at->memory);
    lips_json_bool(&j, "fits", fits);
    lips_json_close(&j, '}');
    printf("%s\n  %s", first ? "" : ",", line);
}

static void place_text(const lips_spot *at, const char *name)
{
    char all[32], cells[32], data[32], limit[32];
    size_text(all, at->bytes);
    size_text(cells, at->bytes - resident_bytes(at));
    size_text(data, resident_bytes(at));
    size_text(limit, at->memory);
    printf("device %d (%s): %" PRId64 " cells at once, %s and %s of data: %s of %s\n", at->device,
           name, at->running, cells, data, all, limit);
}

/* A line for each device: what it starts with, against the memory that cells may take. */
static lips_status print_places(const lips_forecast *p, lips_config *cfg, bool json)
{
    lips_places places;
    int64_t too_large;
    lips_device d;
    if (!p->devices.own)
        return LIPS_OK;
    LIPS_TRY(lips_places_create(&places, p));
    lips_status st;
    LIPS_TRY_GOTO(st, fill_places(p, &places, cfg, &too_large), out);
    if (json)
        printf("\n ],\"devices\":[");
    for (int i = 0; i < places.n; i++) {
        LIPS_TRY_GOTO(st, p->devices.ops->probe(&d, places.at[i].device), out);
        if (json)
            place_json(&places.at[i], d.name, too_large == 0, i == 0);
        else
            place_text(&places.at[i], d.name);
    }
    if (!json && too_large > 0)
        printf("%" PRId64 " cells do not fit on any device: they will be recorded as failed\n",
               too_large);
out:
    lips_places_free(&places);
    return st;
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
               p->devices.own ? "time, alone" : "time, 1 core", "memory", "disk");
    for (int64_t i = 0; i < p->n_cells && (json || i < ROWS); i++)
        LIPS_TRY_GOTO(st, print_row(p, i, cfg, json), out);
    if (!json && p->n_cells > ROWS)
        printf("... and %" PRId64 " more\n", p->n_cells - ROWS);
    LIPS_TRY_GOTO(st, print_places(p, cfg, json), out);
    print_totals(p, &totals, json);
out:
    free(cfg);
    return st;
}
