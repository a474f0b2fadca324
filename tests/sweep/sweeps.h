/*
 * sweeps.h - sweeps on tiny made data, each in a process of its own, as it is for users: signals
 * and kills stay there.
 */
#ifndef TESTS_SWEEP_SWEEPS_H
#define TESTS_SWEEP_SWEEPS_H

#include "../lib/cmocka_all.h"
#include "../lib/data_files.h"
#include "../lib/tempdir.h"
#include "base/file.h"
#include "base/log.h"
#include "sweep/sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OVERRIDES_MAX = 32, N_TRAIN = 60, N_TEST = 30, ROWS = 4, COLUMNS = 5 };

static char folder[256]; /* of this program's data and outputs */

/* Four cells of a small MLP on noisy labels. */
static const char base_yaml[] = "data: idx\n"
                                "model: mlp\n"
                                "width: [2, 5]\n"
                                "seed: [0, 1]\n"
                                "n_train: 48\n"
                                "label_noise: 0.25\n"
                                "epochs: 12\n"
                                "batch: 16\n"
                                "lr: 0.05\n"
                                "eval_epochs: every:2\n"
                                "measure_epochs: \"0,end\"\n"
                                "save_epochs: \"0,end\"\n"
                                "measure_n: 20\n"
                                "metrics: jacobian, layer.act_norm, distance\n"
                                "probes: path, uniform\n"
                                "probe_n: 15\n"
                                "trace_epochs: every:3\n"
                                "trace_metrics: layer.act_norm, layer.loss_grad_param\n"
                                "trace_n: 7\n"
                                "checkpoint_epochs: 1\n"
                                "checkpoint_seconds: 0\n";

static const char *yaml = base_yaml; /* of the runs to come */

typedef struct flags {
    bool retry_failed, dry_run, json;
} flags;

/* One whole run; the message of an error goes to FOLDER/error. */
static lips_status sweep(const char *out, const char *settings, flags f)
{
    char words[1024], out_word[512], data_word[512], path[512];
    const char *over[OVERRIDES_MAX];
    int n = 0;
    snprintf(words, sizeof words, "%s", settings);
    snprintf(out_word, sizeof out_word, "out=%s/%s", folder, out);
    snprintf(data_word, sizeof data_word, "data_dir=%s/data", folder);
    over[n++] = out_word;
    over[n++] = data_word;
    for (char *w = strtok(words, " "); w && n < OVERRIDES_MAX; w = strtok(NULL, " "))
        over[n++] = w;
    const lips_config_sources src = {.yaml_text = yaml, .overrides = over, .n_overrides = n};
    lips_experiment *e = calloc(1, sizeof *e);
    lips_status st = lips_experiment_load(e, &src);
    const lips_sweep_args args = {
        .experiment = e, .retry_failed = f.retry_failed, .dry_run = f.dry_run, .json = f.json};
    if (st == LIPS_OK)
        st = lips_sweep_run(&args);
    snprintf(path, sizeof path, "%s/error", folder);
    FILE *file = fopen(path, "w");
    fprintf(file, "%s", st ? lips_error() : "");
    fclose(file);
    lips_experiment_free(e);
    free(e);
    return st;
}

static pid_t begin(const char *out, const char *settings, flags f)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    lips_log_set_level(LIPS_LOG_QUIET);
    _exit((int)sweep(out, settings, f));
}

/* Status of a run to its end; -signal if it was killed. */
static int end(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int run(const char *out, const char *settings)
{
    return end(begin(out, settings, (flags){0}));
}

static char *text_of(const char *name, size_t *size)
{
    char path[1024], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (lips_file_read(&text, &n, path, 64 << 20) != LIPS_OK)
        fail_msg("%s", lips_error());
    if (size)
        *size = n;
    return text;
}

static bool exists(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool exists(const char *fmt, ...)
{
    char name[1024], path[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lips_file_exists(path);
}

typedef void (*cell_visit)(const char *out, const char *cell, void *user);

/* Calls visit for each cell's folder of out, by name; returns their number. */
static int each_cell(const char *out, cell_visit visit, void *user)
{
    char path[1024];
    struct dirent **list;
    snprintf(path, sizeof path, "%s/%s/cells", folder, out);
    int n = scandir(path, &list, NULL, alphasort), cells = 0;
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') {
            cells++;
            if (visit)
                visit(out, list[i]->d_name, user);
        }
        free(list[i]);
    }
    free(list);
    return cells;
}

static char *cell_text(const char *out, const char *cell, const char *file, size_t *size)
{
    char name[1024];
    snprintf(name, sizeof name, "%s/cells/%s/%s", out, cell, file);
    return text_of(name, size);
}

static const char *const result_files[] = {"metrics.jsonl", "done", "config.yaml",
                                           "epoch-0000.safetensors", "epoch-0012.safetensors"};

/* The cell's results are those of the same cell of `user`, byte for byte. */
static void same_as(const char *out, const char *cell, void *user)
{
    for (size_t i = 0; i < sizeof result_files / sizeof *result_files; i++) {
        size_t na, nb;
        char *a = cell_text(out, cell, result_files[i], &na);
        char *b = cell_text((const char *)user, cell, result_files[i], &nb);
        if (na != nb || memcmp(a, b, na) != 0)
            fail_msg("%s/cells/%s/%s differs from %s", out, cell, result_files[i],
                     (const char *)user);
        free(a);
        free(b);
    }
}

static void assert_same(const char *out, const char *want)
{
    assert_int_equal(each_cell(out, same_as, (void *)(size_t)want), each_cell(want, NULL, NULL));
}

static void make_reference(void)
{
    if (exists("reference/sweep.yaml"))
        return;
    if (run("reference", "jobs=1") != LIPS_OK) {
        char *text = text_of("error", NULL);
        fail_msg("%s", text);
    }
}

static int setup(void **state)
{
    char path[512];
    (void)state;
    tempdir_make(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/data", folder);
    if (lips_dir_create(path) != LIPS_OK)
        return -1;
    test_idx_set(path, N_TRAIN, N_TEST, ROWS, COLUMNS, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(folder);
    return 0;
}

#endif
