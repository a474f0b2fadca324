/* Sweeps: completion, growth, failures, refusals. */
#include "sweeps.h"
#include "base/record.h"

#include <inttypes.h>
#include <sys/stat.h>

static void assert_error_has(const char *part)
{
    char *text = text_of("error", NULL);
    if (!strstr(text, part))
        fail_msg("'%s' is not in '%s'", part, text);
    free(text);
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

/* When the cell ended; of the one with a name like mlp-w600-s0. */
static void end_of_wide(const char *out, const char *cell, void *user)
{
    struct timespec *ended = user;
    char path[1024];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s/cells/%s/done", folder, out, cell);
    assert_int_equal(stat(path, &s), 0);
    ended[strstr(cell, "w600") != NULL] = s.st_mtim;
}

/* So that no long one is left alone at the end. */
static void test_the_longest_cell_comes_first(void **state)
{
    (void)state;
    struct timespec ended[2] = {{0}};
    assert_int_equal(run("order", "width=2,600 seed=0 jobs=1 epochs=3"), LIPS_OK);
    assert_int_equal(each_cell("order", end_of_wide, ended), 2);
    assert_true(ended[1].tv_sec > 0);
    assert_true(ended[1].tv_sec < ended[0].tv_sec ||
                (ended[1].tv_sec == ended[0].tv_sec && ended[1].tv_nsec < ended[0].tv_nsec));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_complete),
        cmocka_unit_test(test_probes_and_traces),
        cmocka_unit_test(test_more_probes_than_samples),
        cmocka_unit_test(test_jobs_change_nothing),
        cmocka_unit_test(test_the_longest_cell_comes_first),
        cmocka_unit_test(test_second_run_does_nothing),
        cmocka_unit_test(test_more_cells_may_be_added),
        cmocka_unit_test(test_changed_settings_are_refused),
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
