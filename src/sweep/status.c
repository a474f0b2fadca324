/* sweep/status.c - how far a sweep is, from another shell: reads only. */
#include "sweep/sweep.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "sweep/cell_files.h"
#include "sweep/output.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { SHOWN_MAX = 1000, JSON_BYTES = 4 << 20 };

/* A cell worth a line of its own. */
typedef struct shown {
    char name[LIPS_CELL_NAME_MAX];
    lips_note note;
    bool failed;
} shown;

typedef struct summary {
    int64_t cells, done, failed, started; /* started: has a progress.json, but no end yet */
    double left_seconds;
    bool working; /* a process holds the lock */
    shown *list;
    int64_t n_list;
} summary;

/* The holder keeps an exclusive lock; asking for a shared one disturbs nobody. */
static bool is_locked(const char *out)
{
    char path[LIPS_PATH_MAX];
    if (lips_path(path, sizeof path, "%s/lock", out) != LIPS_OK)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return locked;
}

static lips_status look(summary *s, const lips_experiment *e, int64_t i, lips_config *cell)
{
    char dir[LIPS_PATH_MAX];
    lips_note note;
    LIPS_TRY(lips_experiment_cell(e, i, cell));
    LIPS_TRY(lips_output_cell_dir(e, cell, dir, sizeof dir));
    lips_cell_state state = lips_cell_state_read(dir);
    s->done += state == LIPS_CELL_DONE;
    s->failed += state == LIPS_CELL_FAILED;
    if (state == LIPS_CELL_DONE)
        return LIPS_OK;
    const char *file = state == LIPS_CELL_FAILED ? "failed" : "progress.json";
    if (!lips_note_read(&note, dir, file))
        return LIPS_OK;
    s->started += state == LIPS_CELL_WAITING;
    if (s->n_list < SHOWN_MAX) {
        shown *line = &s->list[s->n_list++];
        snprintf(line->name, sizeof line->name, "%s", strrchr(dir, '/') + 1);
        line->note = note;
        line->failed = state == LIPS_CELL_FAILED;
    }
    return LIPS_OK;
}

static lips_status gather(summary *s, const lips_experiment *e, const char *out)
{
    lips_config *cell = malloc(sizeof *cell);
    s->list = malloc(SHOWN_MAX * sizeof *s->list);
    if (!cell || !s->list) {
        free(cell);
        return lips_fail(LIPS_ERR_MEMORY, "out of memory reading %s", out);
    }
    lips_note note;
    lips_status st = LIPS_OK;
    s->cells = lips_experiment_cells(e);
    s->working = is_locked(out);
    s->left_seconds =
        s->working && lips_note_read(&note, out, "progress.json") ? note.left_seconds : -1;
    for (int64_t i = 0; i < s->cells && st == LIPS_OK; i++)
        st = look(s, e, i, cell);
    free(cell);
    return st;
}

static void print_table(const summary *s, const char *out)
{
    char left[32];
    printf("%s: %" PRId64 " cells: %" PRId64 " done, %" PRId64 " %s, %" PRId64 " failed, %" PRId64
           " waiting",
           out, s->cells, s->done, s->started, s->working ? "running" : "interrupted", s->failed,
           s->cells - s->done - s->failed - s->started);
    lips_duration_text(left, sizeof left, s->left_seconds);
    if (s->left_seconds >= 0)
        printf(", about %s left", left);
    printf("\n");
    for (int64_t i = 0; i < s->n_list; i++) {
        const shown *l = &s->list[i];
        if (l->failed)
            printf("  %-44s %s in epoch %" PRId64 ": %s\n", l->name, l->note.reason, l->note.epoch,
                   l->note.message);
        else
            printf("  %-44s epoch %" PRId64 " of %" PRId64 "\n", l->name, l->note.epoch,
                   l->note.epochs);
    }
}

static lips_status print_json(const summary *s, const char *out)
{
    char *buf = malloc(JSON_BYTES);
    if (!buf)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory reading %s", out);
    lips_json j = lips_json_start(buf, JSON_BYTES);
    lips_json_open(&j, NULL, '{');
    lips_json_string(&j, "out", out);
    lips_json_bool(&j, "working", s->working);
    lips_json_int(&j, "cells", s->cells);
    lips_json_int(&j, "done", s->done);
    lips_json_int(&j, s->working ? "running" : "interrupted", s->started);
    lips_json_int(&j, "failed", s->failed);
    lips_json_int(&j, "waiting", s->cells - s->done - s->failed - s->started);
    if (s->left_seconds >= 0)
        lips_json_number(&j, "left_seconds", s->left_seconds);
    lips_json_open(&j, "unfinished", '[');
    for (int64_t i = 0; i < s->n_list; i++) {
        const shown *l = &s->list[i];
        lips_json_open(&j, NULL, '{');
        lips_json_string(&j, "name", l->name);
        lips_json_string(&j, "state", l->failed ? "failed" : "started");
        lips_json_int(&j, "epoch", l->note.epoch);
        if (!l->failed)
            lips_json_int(&j, "epochs", l->note.epochs);
        if (l->failed)
            lips_json_string(&j, "reason", l->note.reason);
        if (l->failed)
            lips_json_string(&j, "message", l->note.message);
        lips_json_close(&j, '}');
    }
    lips_json_close(&j, ']');
    lips_json_close(&j, '}');
    puts(buf);
    free(buf);
    return LIPS_OK;
}

lips_status lips_sweep_status(const char *out, bool json)
{
    char path[LIPS_PATH_MAX];
    LIPS_TRY(lips_path(path, sizeof path, "%s/sweep.yaml", out));
    if (!lips_file_exists(path))
        return lips_fail(LIPS_ERR_DATA, "%s holds no sweep: there is no %s", out, path);
    lips_experiment *e = calloc(1, sizeof *e);
    if (!e)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory reading %s", out);
    const lips_config_sources src = {.yaml_path = path};
    summary s = {0};
    lips_status st;
    LIPS_TRY_GOTO(st, lips_experiment_load(e, &src), out);
    /* The folder may have been moved since. */
    LIPS_TRY_GOTO(st, lips_path(e->base.out, sizeof e->base.out, "%s", out), out);
    LIPS_TRY_GOTO(st, gather(&s, e, out), out);
    if (json)
        LIPS_TRY_GOTO(st, print_json(&s, out), out);
    else
        print_table(&s, out);
out:
    free(s.list);
    lips_experiment_free(e);
    free(e);
    return st;
}
