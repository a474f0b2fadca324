/*
 * report/: what is made of an output folder, whole or damaged.
 *
 * `test_report DIR` leaves synthetic sweeps and their reports there instead, to be looked at.
 */
#include "built.h"
#include "report/stats.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void cells_find_their_places(void **state)
{
    (void)state;
    lips_experiment e;
    lips_report r;
    const char *out = out_dir();
    make_sweep(out, small, &e);
    assert_int_equal(lips_report_collect(&r, out), LIPS_OK);
    assert_int_equal(r.n_cells, 12);
    assert_int_equal(r.n_x, 4);
    static const double widths[] = {4, 16, 64, 256};
    for (int i = 0; i < 4; i++)
        assert_true(r.x[i] == widths[i]); /* in order, whatever the list's */
    assert_string_equal(r.x_name, "width");
    assert_int_equal(r.n_variants, 1);
    assert_string_equal(r.variants[0].label, "");
    assert_int_equal(r.replicates, 3);
    for (int64_t i = 0; i < r.n_cells; i++) {
        lips_config c;
        assert_int_equal(lips_experiment_cell(&e, i, &c), LIPS_OK);
        assert_true(r.x[r.cells[i].x] == (double)c.width);
        assert_int_equal(r.cells[i].state, LIPS_CELL_DONE);
        assert_int_equal(r.cells[i].epoch, 10);
    }
    double from = 0, to = 0;
    assert_true(lips_report_threshold(&r, 0, &from, &to));
    assert_true(from == 16 && to == 64); /* beyond() is above 0 from 64 on, below up to 16 */
    assert_int_equal(lips_report_layers(&r, "distance.layer", 0), 2);
    assert_string_equal(lips_report_layer_name(&r, "distance.layer", 0, 2), "2");
    lips_report_free(&r);
    lips_experiment_free(&e);
}

static void other_axes_are_variants(void **state)
{
    (void)state;
    lips_experiment e;
    lips_report r;
    const char *out = out_dir();
    make_sweep(out, "width: [4, 8]\nlabel_noise: [0, 0.2]\noptimizer: [sgd, adam]\nepochs: 1\n",
               &e);
    assert_int_equal(lips_report_collect(&r, out), LIPS_OK);
    assert_int_equal(r.n_variants, 4);
    for (int64_t i = 0; i < r.n_cells; i++) {
        lips_config c;
        char want[64];
        assert_int_equal(lips_experiment_cell(&e, i, &c), LIPS_OK);
        snprintf(want, sizeof want, "label_noise %g, optimizer %s", c.label_noise,
                 c.optimizer == LIPS_OPT_ADAM ? "adam" : "sgd");
        assert_string_equal(r.variants[r.cells[i].variant].label, want);
    }
    lips_report_free(&r);
    lips_experiment_free(&e);
    out = out_dir();
    make_sweep(out, "label_noise: [0.4, 0, 0.2]\nseed: 0..1\nepochs: 1\n", &e);
    assert_int_equal(lips_report_collect(&r, out), LIPS_OK);
    assert_string_equal(r.x_name, "label_noise"); /* no width is swept */
    assert_true(r.n_x == 3 && r.x[0] == 0 && r.x[2] == 0.4 && !r.x_log);
    lips_report_free(&r);
    lips_experiment_free(&e);
    build_ok(out);
}

static void spreads_are_over_finished_replicates(void **state)
{
    (void)state;
    lips_experiment e;
    lips_report r;
    lips_config c;
    char dir[4096];
    const char *out = out_dir();
    static const double v[] = {1, 4, NAN, 7, 100};
    make_sweep(out, "width: [2, 3]\nseed: 0..4\nepochs: 1\n", &e);
    for (int64_t i = 0; i < 5; i++) { /* width 2 */
        char line[200];
        lips_record rec = lips_record_init("q");
        rec.epoch = 1;
        rec.value = v[i];
        cell_dir(dir, out, &e, i, &c);
        lips_record_json(&rec, line, sizeof line - 1);
        strcat(line, "\n");
        write_text(dir, "metrics.jsonl", line);
    }
    char path[4200];
    lips_path(path, sizeof path, "%s/done", dir);
    assert_int_equal(unlink(path), 0); /* the cell with 100 runs on */
    assert_int_equal(lips_report_collect(&r, out), LIPS_OK);
    const lips_pick p = {.quantity = "q", .epoch = LIPS_LATEST};
    lips_spread s = lips_report_spread(&r, &p, 0, 0);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.left_out, 1);
    assert_true(s.mean == 4 && s.min == 1 && s.max == 7);
    assert_true(fabs(s.sd - 3) < 1e-14);
    s = lips_report_spread(&r, &p, 0, 1);
    assert_true(s.n == 0 && isnan(s.mean) && isnan(s.sd) && isnan(s.min));
    const lips_pick other = {.quantity = "q", .norm = "op", .epoch = LIPS_LATEST};
    assert_null(lips_report_find(&r, &r.cells[0], &other));
    assert_true(lips_report_has(&r, &p, 0));
    assert_false(lips_report_has(&r, &other, -1));
    assert_int_equal(lips_report_add_warnings(&r), LIPS_OK);
    assert_true(has_warning(&r, "unfinished: 1 of 10 cells"));
    assert_true(has_warning(&r, "1 records of 1 cells are not finite (the first: q, epoch 1"));
    lips_report_free(&r);
    lips_experiment_free(&e);
}

static void what_holds_no_sweep_is_refused(void **state)
{
    (void)state;
    char page[4096];
    const char *out = out_dir();
    assert_int_equal(lips_report_build(out, page), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "holds no sweep"));
    assert_int_equal(lips_dir_create(out), LIPS_OK);
    write_text(out, "sweep.yaml", "width: nine\n");
    assert_int_equal(lips_report_build(out, page), LIPS_ERR_DATA);
    assert_non_null(strstr(lips_error(), "sweep.yaml is damaged: "));
}

static void tables_hold_every_record(void **state)
{
    (void)state;
    lips_experiment e;
    lips_report r;
    const char *out = out_dir();
    make_sweep(out, small, &e);
    build_ok(out);
    assert_int_equal(lips_report_collect(&r, out), LIPS_OK);
    char *csv = read_file(out, "results.csv"), line[4096], path[4096];
    assert_int_equal(count_text(csv, "\n"), r.n_records + 1);
    snprintf(line, sizeof line, "\n%s,done,mlp,64,0.2,0,loss,,,,,,train,0,4000,%.17g,",
             r.cells[0].name, r.records[0].value);
    assert_non_null(strstr(csv, line));
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    lips_path(path, sizeof path, "%s/results.sqlite", out);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT count(*), sum(c.width = 64), typeof(c.width), "
                                        "max(r.value) FROM records r JOIN cells c USING (cell) "
                                        "WHERE quantity = 'interpolation_epoch'",
                                        -1, &s, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(s, 0), 12);
    assert_int_equal(sqlite3_column_int(s, 1), 3);
    assert_string_equal((const char *)sqlite3_column_text(s, 2), "integer");
    sqlite3_finalize(s);
    sqlite3_close(db);
    build_ok(out); /* again, over what is there: the same */
    char *again = read_file(out, "results.csv");
    assert_string_equal(csv, again);
    free(again);
    free(csv);
    lips_report_free(&r);
    lips_experiment_free(&e);
}

static void an_empty_sweep_has_an_empty_table(void **state)
{
    (void)state;
    lips_experiment e;
    const char *out = out_dir();
    make_sweep(out, "width: []\n", &e);
    assert_int_equal(lips_experiment_cells(&e), 0);
    build_ok(out);
    char *csv = read_file(out, "results.csv"), *page = read_file(out, "report/index.html");
    assert_int_equal(count_text(csv, "\n"), 1);
    assert_non_null(strstr(page, "The sweep has no cells"));
    free(page);
    free(csv);
    lips_experiment_free(&e);
}

static void a_full_disk_leaves_the_old_report(void **state)
{
    (void)state;
    lips_experiment e;
    const char *out = out_dir();
    make_sweep(out, small, &e);
    lips_experiment_free(&e);
    build_ok(out);
    char *before = read_file(out, "results.csv"), *page = read_file(out, "report/index.html");
    pid_t child = fork();
    if (child == 0) {
        char path[4096];
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){10000, 10000});
        lips_status st = lips_report_build(out, path);
        _exit(st == LIPS_ERR_RUNTIME && strstr(lips_error(), "cannot write") ? 0 : 1);
    }
    int how = -1;
    waitpid(child, &how, 0);
    assert_int_equal(how, 0);
    char *after = read_file(out, "results.csv"), *page_after = read_file(out, "report/index.html");
    assert_string_equal(before, after);
    assert_string_equal(page, page_after);
    assert_int_equal(tempdir_count(out),
                     5); /* cells report results.csv results.sqlite sweep.yaml */
    free(page_after);
    free(after);
    free(page);
    free(before);
}

static int look(const char *dir)
{
    static const char *const yaml[] = {
        "name: One hidden layer, 20 % noise\nwidth: logspace(2,512,20)\nseed: 0..2\n"
        "label_noise: 0.2\nepochs: 300\neval_epochs: log:20\nmeasure_epochs: log:10\noptimizer: "
        "adam\n",
        "name: Variants\nmodel: convnet\ndata: cifar10\nwidth: range(1,64)\nlabel_noise: [0, 0.2]\n"
        "augment: [false, true]\nepochs: 200\neval_epochs: log:20\n",
        "width: 16\nepochs: 3\neval_epochs: end\n"};
    for (int i = 0; i < 3; i++) {
        char out[4096], page[4096];
        lips_experiment e;
        lips_path(out, sizeof out, "%s/%d", dir, i);
        make_sweep(out, yaml[i], &e);
        lips_experiment_free(&e);
        printf("%s\n", lips_report_build(out, page) == LIPS_OK ? page : lips_error());
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return look(argv[1]);
    tempdir_make(base, sizeof base);
    setenv("PATH", "/nonexistent", 1); /* no gnuplot: figures are test_figures.c's */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_find_their_places),
        cmocka_unit_test(other_axes_are_variants),
        cmocka_unit_test(spreads_are_over_finished_replicates),
        cmocka_unit_test(what_holds_no_sweep_is_refused),
        cmocka_unit_test(tables_hold_every_record),
        cmocka_unit_test(an_empty_sweep_has_an_empty_table),
        cmocka_unit_test(a_full_disk_leaves_the_old_report),
    };
    int failed = cmocka_run_group_tests_name("report", tests, NULL, NULL);
    tempdir_remove(base);
    return failed;
}
