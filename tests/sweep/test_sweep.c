/* Sweeps on tiny made data: completion, growth, kills and resumes, failures, refusals. Each sweep
 * runs in a process of its own, as it does for users: signals and kills stay there. */
#include "../lib/data_files.h"
#include "../lib/tempdir.h"
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "sweep/sweep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
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

static void assert_error_has(const char *part)
{
    char *text = text_of("error", NULL);
    if (!strstr(text, part))
        fail_msg("'%s' is not in '%s'", part, text);
    free(text);
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

/* What a finished cell looks like. */
static void check_cell(const char *out, const char *cell, void *user)
{
    int count[4] = {0};
    (void)user;
    char *text = cell_text(out, cell, "metrics.jsonl", NULL), *save = NULL;
    for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        lips_record_line line;
        if (lips_record_parse(&line, l, strlen(l)) != LIPS_OK)
            fail_msg("%s: %s", l, lips_error());
        const char *q = line.r.quantity;
        count[0] += strcmp(q, "loss") == 0;
        count[1] += strcmp(q, "memorized") == 0;
        count[2] += strcmp(q, "jacobian") == 0;
        count[3] += strcmp(q, "interpolation_epoch") == 0;
        if (strcmp(q, "loss") == 0 && strcmp(line.r.split, "train") == 0)
            assert_int_equal(line.r.n, 48);
        if (strcmp(q, "memorized") == 0)
            assert_int_equal(line.r.n, 12);
        if (strcmp(q, "jacobian") == 0 && strcmp(line.r.split, "train") == 0)
            assert_int_equal(line.r.n, 20);
        lips_record_line_free(&line);
    }
    free(text);
    assert_int_equal(count[0], 7 * 3); /* epochs 0, 2, ... 12; train, train_clean, test */
    assert_int_equal(count[1], 7);
    assert_true(count[2] >= 2 * 2);
    assert_int_equal(count[3], 1);
    assert_true(exists("%s/cells/%s/done", out, cell));
    assert_true(exists("%s/cells/%s/epoch-0000.safetensors", out, cell));
    assert_true(exists("%s/cells/%s/epoch-0012.safetensors", out, cell));
    assert_false(exists("%s/cells/%s/state.safetensors", out, cell));
    assert_false(exists("%s/cells/%s/progress.json", out, cell));
}

static void test_cells_complete(void **state)
{
    (void)state;
    make_reference();
    assert_int_equal(each_cell("reference", check_cell, NULL), 4);
    assert_true(exists("reference/sweep.yaml"));
    assert_false(exists("reference/progress.json"));
}

/* Of each epoch 0 to 12: records of the norms of one layer's inputs and of its gradients. */
typedef struct tally {
    int train[13], traced[13], gradient[13], probe[13], on_probes;
} tally;

static void count_measured(tally *m, const lips_record *r)
{
    bool probe = strcmp(r->split ? r->split : "", "probe:uniform") == 0 ||
                 strcmp(r->split ? r->split : "", "probe:path") == 0;
    m->on_probes += r->split && strncmp(r->split, "probe:", 6) == 0;
    if (probe) {
        assert_int_equal(r->n, 15);
        assert_true(r->has_seed && r->seed == 1234);
        assert_int_equal(r->form, LIPS_FORM_STATS);
        assert_true(strcmp(r->quantity, "jacobian") == 0 ||
                    strcmp(r->quantity, "layer.act_norm") == 0);
    }
    if (r->layer != 1)
        return;
    if (strcmp(r->quantity, "layer.act_norm") == 0) {
        if (probe)
            m->probe[r->epoch]++;
        else if (r->n == 20)
            m->train[r->epoch]++;
        else if (r->n == 7)
            m->traced[r->epoch]++;
    }
    if (strcmp(r->quantity, "layer.loss_grad_param") == 0) {
        assert_int_equal(r->n, 7);
        m->gradient[r->epoch]++;
    }
}

/* The metrics at 0 and 12, on data and probes; the traced ones every three epochs, at 0 and 12 only
 * what is not there already. On probes: jacobian op and fro of three outputs (those without labels)
 * and two layers' inputs. */
static void check_measured(const char *out, const char *cell, void *user)
{
    tally m = {0};
    (void)user;
    char *text = cell_text(out, cell, "metrics.jsonl", NULL), *save = NULL;
    for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        lips_record_line line;
        assert_int_equal(lips_record_parse(&line, l, strlen(l)), LIPS_OK);
        count_measured(&m, &line.r);
        lips_record_line_free(&line);
    }
    free(text);
    for (int e = 0; e <= 12; e++) {
        bool measure = e == 0 || e == 12, trace = e % 3 == 0;
        assert_int_equal(m.train[e], measure);
        assert_int_equal(m.probe[e], 2 * measure);
        assert_int_equal(m.traced[e], trace && !measure);
        assert_int_equal(m.gradient[e], trace);
    }
    assert_int_equal(m.on_probes, 2 * 2 * (2 * 3 + 2));
}

/* More places on the probes than there are training samples, whose labels end before. */
static void test_more_probes_than_samples(void **state)
{
    (void)state;
    assert_int_equal(run("probed", "width=2 seed=0 epochs=1 probe_n=20000 metrics=jacobian"),
                     LIPS_OK);
}

static void test_probes_and_traces(void **state)
{
    (void)state;
    make_reference();
    assert_int_equal(each_cell("reference", check_measured, NULL), 4);
}

static void test_jobs_change_nothing(void **state)
{
    (void)state;
    make_reference();
    assert_int_equal(run("jobs2", "jobs=2"), LIPS_OK);
    assert_same("jobs2", "reference");
    assert_int_equal(run("jobs9", "jobs=9 checkpoint_epochs=0"), LIPS_OK);
    assert_same("jobs9", "reference");
}

/* Marks each finished cell: a cell that is run again gets a new `done`. */
static void mark(const char *out, const char *cell, void *user)
{
    char path[1024];
    (void)user;
    snprintf(path, sizeof path, "%s/%s/cells/%s/done", folder, out, cell);
    assert_int_equal(lips_file_write(path, "kept", 4), LIPS_OK);
}

static void count_marks(const char *out, const char *cell, void *user)
{
    char *text = cell_text(out, cell, "done", NULL);
    *(int *)user += strcmp(text, "kept") == 0;
    free(text);
}

static int marks(const char *out)
{
    int n = 0;
    each_cell(out, count_marks, &n);
    return n;
}

static void test_second_run_does_nothing(void **state)
{
    (void)state;
    assert_int_equal(run("again", ""), LIPS_OK);
    each_cell("again", mark, NULL);
    assert_int_equal(run("again", "jobs=2 checkpoint_epochs=3"), LIPS_OK);
    assert_int_equal(marks("again"), 4);
}

static void test_more_cells_may_be_added(void **state)
{
    (void)state;
    assert_int_equal(run("grow", "width=2"), LIPS_OK);
    assert_int_equal(each_cell("grow", NULL, NULL), 2);
    each_cell("grow", mark, NULL);
    assert_int_equal(run("grow", "width=5,2"), LIPS_OK);
    assert_int_equal(each_cell("grow", NULL, NULL), 4);
    assert_int_equal(marks("grow"), 2);
    /* A new axis changes the names of the old cells' folders, not the cells. */
    each_cell("grow", mark, NULL);
    assert_int_equal(run("grow", "lr=0.05,0.1"), LIPS_OK);
    assert_int_equal(each_cell("grow", NULL, NULL), 8);
    assert_int_equal(marks("grow"), 4);
}

static void test_changed_settings_are_refused(void **state)
{
    (void)state;
    assert_int_equal(run("fixed", "width=2"), LIPS_OK);
    char *before = text_of("fixed/sweep.yaml", NULL);
    assert_int_equal(run("fixed", "width=2 lr=0.01"), LIPS_ERR_USAGE);
    assert_error_has("lr is 0.05 there and 0.01 here");
    assert_int_equal(run("fixed", "width=3,4"), LIPS_ERR_USAGE);
    assert_error_has("width is 2 there and 3, 4 here");
    assert_int_equal(run("fixed", "width=2 seed=1"), LIPS_ERR_USAGE);
    assert_error_has("seed is 0, 1 there and 1 here");
    char *after = text_of("fixed/sweep.yaml", NULL);
    assert_string_equal(before, after);
    free(before);
    free(after);
    assert_int_equal(each_cell("fixed", NULL, NULL), 2);
    /* What changes no result may change. */
    assert_int_equal(run("fixed", "width=2 name=other jobs=1 checkpoint_seconds=7"), LIPS_OK);
}

static void wait_milliseconds(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Bytes of records in the folder, so far. */
static int64_t recorded(const char *out)
{
    char path[1024];
    int64_t bytes = 0;
    snprintf(path, sizeof path, "%s/%s/cells", folder, out);
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        struct stat s;
        snprintf(path, sizeof path, "%s/%s/cells/%.200s/metrics.jsonl", folder, out, e->d_name);
        bytes += stat(path, &s) == 0 ? (int64_t)s.st_size : 0;
    }
    if (d)
        closedir(d);
    return bytes;
}

/* The status at the end of the run, which is killed once so much is recorded. */
static int kill_at(pid_t pid, const char *out, int64_t bytes)
{
    int status;
    while (recorded(out) < bytes) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        wait_milliseconds(1);
    }
    kill(pid, SIGKILL);
    return end(pid);
}

/* Killed again and again, further on each time, then left to finish. */
static void test_kill_and_resume(void **state)
{
    (void)state;
    make_reference();
    const int64_t whole = recorded("reference");
    int killed = 0;
    for (int trial = 0; trial < 4; trial++) {
        char out[32];
        int st = -SIGKILL;
        snprintf(out, sizeof out, "kill%d", trial);
        for (int i = 0; i < 8 && st != LIPS_OK; i++) {
            pid_t pid = begin(out, "jobs=2", (flags){0}); /* checkpoints after each epoch */
            st = kill_at(pid, out, whole * (3 * trial + 12 * i) / 100);
            killed += st == -SIGKILL;
            assert_true(st == LIPS_OK || st == -SIGKILL);
        }
        assert_int_equal(run(out, "jobs=2"), LIPS_OK);
        assert_same(out, "reference");
    }
    assert_true(killed >= 16);
}

/* The signal comes while cells train, again and again; each time the run ends with its checkpoint.
 */
static void stops_by(int sig, lips_status want)
{
    char out[32], lock[512];
    int stopped = 0, st = (int)want;
    snprintf(out, sizeof out, "signal%d", sig);
    snprintf(lock, sizeof lock, "%s/%s/lock", folder, out);
    for (int i = 0; i < 300 && st == (int)want; i++) {
        unlink(lock);
        pid_t pid = begin(out, "jobs=1 checkpoint_epochs=0", (flags){0});
        /* The signals are caught before the lock is taken. */
        while (!lips_file_exists(lock))
            wait_milliseconds(5);
        wait_milliseconds(i * 4);
        kill(pid, sig);
        st = end(pid);
        stopped += st == (int)want;
    }
    assert_int_equal(st, LIPS_OK);
    assert_true(stopped > 0);
    assert_same(out, "reference");
}

static void test_signals_checkpoint(void **state)
{
    (void)state;
    make_reference();
    stops_by(SIGTERM, LIPS_ERR_REQUEUE);
    stops_by(SIGUSR2, LIPS_ERR_REQUEUE);
    stops_by(SIGINT, LIPS_ERR_INTERRUPTED);
}

static void count_failed(const char *out, const char *cell, void *user)
{
    if (!exists("%s/cells/%s/failed", out, cell)) {
        assert_true(exists("%s/cells/%s/done", out, cell));
        return;
    }
    ++*(int *)user;
    char *text = cell_text(out, cell, "failed", NULL);
    assert_non_null(strstr(text, "\"reason\":\"diverged\""));
    assert_non_null(strstr(text, "\"epoch\":1"));
    free(text);
    assert_false(exists("%s/cells/%s/done", out, cell));
    assert_true(exists("%s/cells/%s/state.safetensors", out, cell));
}

static void test_a_failed_cell_lets_the_others_go_on(void **state)
{
    (void)state;
    int failed = 0;
    const char *s = "lr=0.05,1e9 loss=mse width=2 jobs=2";
    assert_int_equal(run("fail", s), LIPS_ERR_PARTIAL);
    assert_error_has("2 of 4 cells failed");
    assert_int_equal(each_cell("fail", count_failed, &failed), 4);
    assert_int_equal(failed, 2);
    /* They stay failed, without being run, unless asked. */
    assert_int_equal(run("fail", s), LIPS_ERR_PARTIAL);
    char *text = text_of("error", NULL);
    assert_null(strstr(text, "diverged"));
    free(text);
    assert_int_equal(end(begin("fail", s, (flags){.retry_failed = true})), LIPS_ERR_PARTIAL);
    assert_error_has("diverged");
    failed = 0;
    each_cell("fail", count_failed, &failed);
    assert_int_equal(failed, 2);
}

static void count_oom(const char *out, const char *cell, void *user)
{
    if (!exists("%s/cells/%s/failed", out, cell))
        return;
    ++*(int *)user;
    char *text = cell_text(out, cell, "failed", NULL);
    assert_non_null(strstr(text, "\"reason\":\"oom\""));
    free(text);
}

/* 3e10 weights: half a terabyte. */
static void test_a_cell_too_large_for_the_machine(void **state)
{
    (void)state;
    int oom = 0;
    assert_int_equal(run("large", "width=2,100000 depth=4 seed=0"), LIPS_ERR_PARTIAL);
    assert_error_has("out of memory");
    assert_int_equal(each_cell("large", count_oom, &oom), 2);
    assert_int_equal(oom, 1);
}

static void test_locked_folder(void **state)
{
    (void)state;
    char path[512];
    int fd;
    assert_int_equal(run("busy", "width=2"), LIPS_OK);
    snprintf(path, sizeof path, "%s/busy/lock", folder);
    assert_int_equal(lips_lock_acquire(&fd, path), LIPS_OK);
    assert_int_equal(run("busy", "width=2"), LIPS_ERR_BUSY);
    lips_lock_release(fd);
    assert_int_equal(run("busy", "width=2"), LIPS_OK);
}

static void test_changed_data_is_refused(void **state)
{
    (void)state;
    char path[512];
    assert_int_equal(run("changed", "width=2"), LIPS_OK);
    snprintf(path, sizeof path, "%s/data", folder);
    test_idx_set(path, N_TRAIN, N_TEST + 1, ROWS, COLUMNS, false);
    assert_int_equal(run("changed", "width=2,5"), LIPS_ERR_DATA);
    assert_error_has("data hash");
    test_idx_set(path, N_TRAIN, N_TEST, ROWS, COLUMNS, false);
    assert_int_equal(run("changed", "width=2,5"), LIPS_OK);
}

static void copy_name(const char *out, const char *cell, void *user)
{
    (void)out;
    snprintf(user, 256, "%s", cell);
}

/* A folder that cannot be written stops the sweep; the cell is not to blame. */
static void test_output_errors_are_not_the_cells(void **state)
{
    (void)state;
    char path[1024], cell[256] = "";
    const char *s = "width=2 seed=0";
    assert_int_equal(run("blocked", s), LIPS_OK);
    assert_int_equal(each_cell("blocked", copy_name, cell), 1);
    snprintf(path, sizeof path, "%s/blocked/cells/%s", folder, cell);
    tempdir_remove(path);
    snprintf(path, sizeof path, "%s/blocked/cells/%s/metrics.jsonl", folder, cell);
    assert_int_equal(lips_dir_create(path), LIPS_OK);
    assert_int_equal(run("blocked", s), LIPS_ERR_RUNTIME);
    assert_error_has("metrics.jsonl");
    assert_false(exists("blocked/cells/%s/failed", cell));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(run("blocked", s), LIPS_OK);
}

static void test_bad_settings_leave_nothing_behind(void **state)
{
    (void)state;
    assert_int_equal(run("bad", "batch=49"), LIPS_ERR_USAGE);
    assert_error_has("batch");
    assert_int_equal(run("bad", "n_train=48,61"), LIPS_ERR_USAGE);
    assert_error_has("n_train");
    assert_int_equal(run("bad", "metrics=nonsense"), LIPS_ERR_USAGE);
    assert_error_has("nonsense");
    assert_int_equal(run("bad", "trace_metrics=nonsense"), LIPS_ERR_USAGE);
    assert_error_has("nonsense");
    assert_int_equal(run("bad", "probes=path,unifrom"), LIPS_ERR_USAGE);
    assert_error_has("did you mean 'uniform'?");
    assert_int_equal(run("bad", "probe_n=0"), LIPS_ERR_USAGE);
    assert_error_has("probe_n");
    assert_false(exists("bad"));
}

static void test_empty_sweep(void **state)
{
    (void)state;
    yaml = "data: idx\nwidth: []\nseed: [0, 1]\n";
    assert_int_equal(run("empty", ""), LIPS_OK);
    assert_int_equal(end(begin("dry", "", (flags){.dry_run = true})), LIPS_OK);
    yaml = base_yaml;
    assert_true(exists("empty/sweep.yaml"));
    assert_int_equal(each_cell("empty", NULL, NULL), 0);
}

/* The end comes at the first evaluated epoch whose loss is low enough, with all that is due there.
 */
static void check_early(const char *out, const char *cell, void *user)
{
    int64_t epoch = 0;
    bool measured = false;
    (void)user;
    char *done = cell_text(out, cell, "done", NULL);
    assert_int_equal(sscanf(done, "{\"epoch\":%" SCNd64 ",\"stopped\":\"early\"}", &epoch), 1);
    free(done);
    assert_true(epoch > 0 && epoch < 200 && epoch % 2 == 0);
    assert_true(exists("%s/cells/%s/epoch-%04d.safetensors", out, cell, (int)epoch));
    char *text = cell_text(out, cell, "metrics.jsonl", NULL), *save = NULL;
    for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        lips_record_line line;
        assert_int_equal(lips_record_parse(&line, l, strlen(l)), LIPS_OK);
        const lips_record *r = &line.r;
        if (strcmp(r->quantity, "loss") == 0 && strcmp(r->split, "train") == 0)
            assert_true((r->value <= 1.5) == (r->epoch == epoch));
        measured = measured || (strcmp(r->quantity, "jacobian") == 0 && r->epoch == epoch);
        lips_record_line_free(&line);
    }
    assert_true(measured);
    free(text);
}

static void test_early_stop(void **state)
{
    (void)state;
    assert_int_equal(run("early", "width=16 seed=0 stop_loss=1.5 epochs=200 measure_epochs=end "
                                  "save_epochs=end"),
                     LIPS_OK);
    assert_int_equal(each_cell("early", check_early, NULL), 1);
}

/* A regression has no errors, only losses, and says so where the epoch of interpolation would be.
 */
static void check_regression(const char *out, const char *cell, void *user)
{
    (void)user;
    char *text = cell_text(out, cell, "metrics.jsonl", NULL);
    assert_null(strstr(text, "\"quantity\":\"error\""));
    assert_null(strstr(text, "memorized"));
    assert_non_null(strstr(text, "\"quantity\":\"loss\",\"split\":\"train_clean\""));
    assert_non_null(strstr(text, "\"reason\":\"regression has no 0/1 error\""));
    free(text);
}

static void test_regression(void **state)
{
    (void)state;
    assert_int_equal(run("sine", "data=sine loss=mse label_noise=0 n_train=20 seed=0"), LIPS_OK);
    assert_int_equal(each_cell("sine", check_regression, NULL), 2);
}

static void test_dry_run_writes_nothing(void **state)
{
    (void)state;
    flags f = {.dry_run = true};
    assert_int_equal(end(begin("dry", "", f)), LIPS_OK);
    f.json = true;
    assert_int_equal(end(begin("dry", "seed=0..99", f)), LIPS_OK);
    f.json = false;
    assert_int_equal(end(begin("dry", "seed=0..499999", f)), LIPS_OK);
    assert_false(exists("dry"));
}

static void test_status(void **state)
{
    (void)state;
    char path[512];
    make_reference();
    snprintf(path, sizeof path, "%s/reference", folder);
    assert_int_equal(lips_sweep_status(path, false), LIPS_OK);
    assert_int_equal(lips_sweep_status(path, true), LIPS_OK);
    snprintf(path, sizeof path, "%s/nothing-here", folder);
    assert_int_equal(lips_sweep_status(path, false), LIPS_ERR_DATA);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_complete),
        cmocka_unit_test(test_probes_and_traces),
        cmocka_unit_test(test_more_probes_than_samples),
        cmocka_unit_test(test_jobs_change_nothing),
        cmocka_unit_test(test_second_run_does_nothing),
        cmocka_unit_test(test_more_cells_may_be_added),
        cmocka_unit_test(test_changed_settings_are_refused),
        cmocka_unit_test(test_kill_and_resume),
        cmocka_unit_test(test_signals_checkpoint),
        cmocka_unit_test(test_a_failed_cell_lets_the_others_go_on),
        cmocka_unit_test(test_a_cell_too_large_for_the_machine),
        cmocka_unit_test(test_locked_folder),
        cmocka_unit_test(test_changed_data_is_refused),
        cmocka_unit_test(test_output_errors_are_not_the_cells),
        cmocka_unit_test(test_bad_settings_leave_nothing_behind),
        cmocka_unit_test(test_empty_sweep),
        cmocka_unit_test(test_early_stop),
        cmocka_unit_test(test_regression),
        cmocka_unit_test(test_dry_run_writes_nothing),
        cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
