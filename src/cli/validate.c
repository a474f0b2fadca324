/* lipsweep validate WHAT: checks a configuration, an output folder or a weights file; changes
 * nothing. */
#include "base/file.h"
#include "base/record.h"
#include "base/safetensors.h"
#include "cli/cli.h"
#include "config/options.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { METRICS_MAX = 1 << 30 };

/* What an output folder holds; problems are printed as they are found. */
typedef struct folder_check {
    int64_t cells, finished, failed, records, weights, problems;
} folder_check;

static void problem(folder_check *c, const char *path)
{
    c->problems++;
    printf("%s%s%s\n", path ? path : "", path ? ": " : "", lips_error());
    lips_error_clear();
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static lips_status validate_weights(const char *path)
{
    lips_st_file *f;
    int64_t values = 0;
    LIPS_TRY(lips_st_read(&f, path));
    for (int i = 0; i < lips_st_count(f); i++)
        values += lips_st_at(f, i)->count;
    printf("%s: %d tensors, %" PRId64 " values, %s\n", path, lips_st_count(f), values,
           lips_st_is_ours(f) ? "checksum holds" : "no checksum (not written by lipsweep)");
    lips_st_free(f);
    return LIPS_OK;
}

static lips_status validate_config(const lips_args *a)
{
    lips_experiment e;
    LIPS_TRY(lips_args_experiment(a, &e, false));
    printf("%s: %" PRId64 " cells, output %s\n", a->positional[0], lips_experiment_cells(&e),
           e.base.out);
    lips_experiment_free(&e);
    return LIPS_OK;
}

/* Every complete line must parse; what stands behind the last end of line is a torn write, which a
 * resume drops. */
static lips_status check_metrics(folder_check *c, const char *path)
{
    char *text;
    size_t size;
    LIPS_TRY(lips_file_read(&text, &size, path, METRICS_MAX));
    lips_status st = LIPS_OK;
    int64_t number = 1;
    for (char *line = text, *end; st == LIPS_OK && (end = strchr(line, '\n')); line = end + 1) {
        lips_record_line record;
        st = lips_record_parse(&record, line, (size_t)(end - line));
        if (st == LIPS_OK) {
            lips_record_line_free(&record);
            c->records++;
            number++;
        }
    }
    free(text);
    return st == LIPS_OK ? st : lips_fail_prefix(st, "line %" PRId64 ": ", number);
}

/* The folder's name ends in the hash of the settings that are written in it. */
static lips_status check_cell_config(const char *dir, const char *name)
{
    char path[LIPS_PATH_MAX], hash[16];
    LIPS_TRY(lips_path(path, sizeof path, "%s/config.yaml", dir));
    lips_experiment e;
    const lips_config_sources src = {.yaml_path = path};
    LIPS_TRY(lips_experiment_load(&e, &src));
    snprintf(hash, sizeof hash, "-%08" PRIx64, lips_config_hash(&e.base) >> 32);
    lips_experiment_free(&e);
    if (!ends_with(name, hash))
        return lips_fail(LIPS_ERR_DATA, "config.yaml belongs to the cell ...%s", hash);
    return LIPS_OK;
}

static lips_status check_cell(folder_check *c, const char *cells, const char *name)
{
    char dir[LIPS_PATH_MAX], path[LIPS_PATH_MAX];
    LIPS_TRY(lips_path(dir, sizeof dir, "%s/%s", cells, name));
    DIR *d = opendir(dir);
    if (!d)
        return lips_fail(LIPS_ERR_DATA, "%s: %s", dir, strerror(errno));
    c->cells++;
    if (check_cell_config(dir, name) != LIPS_OK)
        problem(c, dir);
    for (struct dirent *entry; (entry = readdir(d));) {
        lips_status st = lips_path(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (st == LIPS_OK && ends_with(entry->d_name, ".safetensors")) {
            lips_st_file *f;
            st = lips_st_read(&f, path);
            if (st == LIPS_OK)
                lips_st_free(f);
            c->weights += st == LIPS_OK;
        } else if (st == LIPS_OK && strcmp(entry->d_name, "metrics.jsonl") == 0) {
            st = check_metrics(c, path);
        }
        c->finished += strcmp(entry->d_name, "done") == 0;
        c->failed += strcmp(entry->d_name, "failed") == 0;
        if (st != LIPS_OK)
            problem(c, strstr(lips_error(), path) ? NULL : path);
    }
    closedir(d);
    return LIPS_OK;
}

static lips_status validate_folder(const char *out)
{
    char path[LIPS_PATH_MAX];
    LIPS_TRY(lips_path(path, sizeof path, "%s/sweep.yaml", out));
    lips_experiment e;
    const lips_config_sources src = {.yaml_path = path};
    if (!lips_file_exists(path))
        return lips_fail(LIPS_ERR_DATA, "%s holds no sweep: there is no sweep.yaml in it", out);
    LIPS_TRY(lips_experiment_load(&e, &src));
    int64_t wanted = lips_experiment_cells(&e);
    lips_experiment_free(&e);
    LIPS_TRY(lips_path(path, sizeof path, "%s/cells", out));
    folder_check c = {0};
    DIR *d = opendir(path);
    if (!d && errno != ENOENT)
        return lips_fail(LIPS_ERR_DATA, "%s: %s", path, strerror(errno));
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.' && check_cell(&c, path, entry->d_name) != LIPS_OK)
            problem(&c, NULL);
    if (d)
        closedir(d);
    printf("%s: %" PRId64 " of %" PRId64 " cells begun, %" PRId64 " finished, %" PRId64
           " failed, %" PRId64 " records, %" PRId64 " weights files, %" PRId64 " problems\n",
           out, c.cells, wanted, c.finished, c.failed, c.records, c.weights, c.problems);
    if (c.problems)
        return lips_fail(LIPS_ERR_DATA, "%s: %" PRId64 " problems", out, c.problems);
    return LIPS_OK;
}

/* Weights in another format are told by what is wrong with them as weights. */
static bool holds_weights(const char *path)
{
    char head[16];
    FILE *f = ends_with(path, ".safetensors") ? NULL : fopen(path, "rb");
    size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        fclose(f);
    return ends_with(path, ".safetensors") || lips_st_mistaken(head, n);
}

static lips_status run(const lips_args *a)
{
    const char *what = a->positional[0];
    struct stat s;
    bool folder = stat(what, &s) == 0 && S_ISDIR(s.st_mode);
    bool weights = !folder && holds_weights(what);
    if ((folder || weights) && a->n_overrides)
        return lips_fail(LIPS_ERR_USAGE,
                         "validate: key=value goes with a configuration, not with %s", what);
    if (folder)
        return validate_folder(what);
    return weights ? validate_weights(what) : validate_config(a);
}

const lips_command lips_command_validate = {
    .name = "validate",
    .usage = "CONFIG.yaml [key=value...] | OUT | FILE.safetensors",
    .summary = "checks a configuration, an output folder or a weights file; changes nothing",
    .details = "A configuration: all errors with line and column. An output folder: every record, "
               "checksum and cell.\nA weights file: format, and checksum where it has one.",
    .keys = true,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
