/* report/: the page's figures and their files, with gnuplot and without; and damage, above them. */
#include "base/safetensors.h"
#include "built.h"
#include "report/stats.h"

#include <unistd.h>

/* Has the figure all its files, and is each of its kind? */
static void expect_figure(const char *out, const char *id)
{
    static const struct {
        const char *ending, *begins;
    } kinds[] = {
        {"svg", "<?xml"}, {"pdf", "%PDF"}, {"png", "\x89PNG"}, {"gp", "# lipsweep"}, {"csv", ""}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        char name[200];
        snprintf(name, sizeof name, "report/%s.%s", id, kinds[k].ending);
        char *text = read_file(out, name);
        assert_true(strlen(text) > 3 &&
                    strncmp(text, kinds[k].begins, strlen(kinds[k].begins)) == 0);
        free(text);
    }
}

static void figures_have_all_their_files(void **state)
{
    (void)state;
    static const char *const ids[] = {
        "double-descent",   "losses",       "interpolation",   "memorization", "jacobian-norms",
        "jacobian-outputs", "distance",     "distance-layers", "curves",       "maps",
        "bound-layer",      "depth",        "lipschitz",       "probes",       "landscape",
        "bound-landscape",  "logit-hessian"};
    lips_experiment e;
    const char *out = out_dir();
    make_sweep(out, small, &e);
    lips_experiment_free(&e);
    build_ok(out);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        expect_figure(out, ids[i]);
    char *page = read_file(out, "report/index.html");
    assert_int_equal(count_text(page, "<svg"), count_text(page, "<figure>"));
    assert_true(count_text(page, "<svg") >= 17);
    assert_null(strstr(page, "gnuplot on ")); /* not a word of complaint */
    /* Nothing is fetched: no scripts, no images, no style sheets, links to neighbours only. */
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "<img"));
    assert_null(strstr(page, "<link"));
    assert_null(strstr(page, "href=\"http"));
    assert_null(strstr(page, base)); /* nor is anything of this machine in it */
    assert_null(strstr(page, "/some/where"));
    assert_non_null(strstr(page, "\nwidth: [64, 4, 16, 256]\n"));
    char *csv = read_file(out, "report/interpolation.csv");
    assert_non_null(strstr(csv, "panel,curve,variant,width,n,left_out,mean,sd,min,max\n"));
    assert_null(strstr(csv, ",4,")); /* width 4 never interpolated: no row, nothing made up */
    assert_non_null(strstr(csv, ",64,3,0,"));
    free(csv);
    free(page);
}

static void odd_names_are_harmless(void **state)
{
    (void)state;
    lips_experiment e;
    const char *out = out_dir();
    make_sweep(
        out,
        "name: \"<i>it's</i> `date` _{x} \\\\ %s\"\nwidth: [2, 4]\ninit: [he, glorot]\nepochs: 1\n",
        &e);
    lips_experiment_free(&e);
    build_ok(out);
    char *page = read_file(out, "report/index.html");
    assert_non_null(strstr(page, "<h1>&lt;i&gt;it's&lt;/i&gt; `date` _{x} \\ %s</h1>"));
    assert_null(strstr(page, "gnuplot on "));
    free(page);
}

/* stderr of a report without gnuplot in the search path. */
static void a_missing_gnuplot_is_said_once(void **state)
{
    (void)state;
    lips_experiment e;
    const char *out = out_dir();
    make_sweep(out, small, &e);
    lips_experiment_free(&e);
    char *path = strdup(getenv("PATH")), text[2000];
    FILE *log = tmpfile();
    assert_true(path && log);
    int keep = dup(STDERR_FILENO);
    fflush(stderr);
    dup2(fileno(log), STDERR_FILENO);
    setenv("PATH", "/nonexistent", 1);
    build_ok(out);
    setenv("PATH", path, 1);
    fflush(stderr);
    dup2(keep, STDERR_FILENO);
    close(keep);
    rewind(log);
    text[fread(text, 1, sizeof text - 1, log)] = '\0';
    fclose(log);
    free(path);
    assert_int_equal(count_text(text, "\n"), 1);
    assert_non_null(strstr(text, "warning: gnuplot is not installed"));
    char *page = read_file(out, "report/index.html"), *csv = read_file(out, "report/losses.csv");
    assert_non_null(strstr(page, "gnuplot is not installed"));
    assert_int_equal(count_text(page, "<svg"), 0);
    assert_true(count_text(csv, "\n") > 4);
    free(csv);
    free(page);
}

static void one_cell_has_a_report(void **state)
{
    (void)state;
    lips_experiment e;
    const char *out = out_dir();
    make_sweep(out, "width: 16\nepochs: 5\neval_epochs: \"0,1,end\"\n", &e);
    lips_experiment_free(&e);
    build_ok(out);
    expect_figure(out, "curves");
    char *page = read_file(out, "report/index.html");
    assert_non_null(strstr(page, "1 cell: 1 done"));
    assert_null(strstr(page, "gnuplot on "));
    free(page);
}

/* A network of two hidden units whose outputs are known: y = 2 relu(x') - 3 relu(-x' + 1/2) + 1/4.
 */
static void write_weights(const char *dir, int64_t epoch)
{
    static const float w1[] = {1, -1}, b1[] = {0, 0.5F}, w2[] = {2, -3}, b2[] = {0.25F};
    const lips_st_out_tensor t[] = {
        {.name = "0.weight", .dtype = LIPS_F32, .ndim = 2, .shape = {2, 1}, .data = w1},
        {.name = "0.bias", .dtype = LIPS_F32, .ndim = 1, .shape = {2}, .data = b1},
        {.name = "2.weight", .dtype = LIPS_F32, .ndim = 2, .shape = {1, 2}, .data = w2},
        {.name = "2.bias", .dtype = LIPS_F32, .ndim = 1, .shape = {1}, .data = b2}};
    char path[4200];
    lips_path(path, sizeof path, "%s/epoch-%04lld.safetensors", dir, (long long)epoch);
    assert_int_equal(lips_st_write(path, t, 4, NULL, 0), LIPS_OK);
}

static void sine_predictions_come_from_the_weights(void **state)
{
    (void)state;
    lips_experiment e;
    lips_config c;
    lips_dataset *d = NULL;
    char dir[4096];
    const char *out = out_dir();
    make_sweep(out,
               "data: sine\nloss: mse\nn_train: 20\nbatch: 20\nwidth: [2, 3]\nepochs: 4\n"
               "eval_epochs: \"0,1,2,end\"\nmeasure_epochs: \"0,1,2,end\"\n",
               &e);
    cell_dir(dir, out, &e, 0, &c);
    write_weights(dir, 4);
    lips_data_spec spec = lips_config_data(&c);
    assert_int_equal(lips_dataset_load(&d, &spec), LIPS_OK);
    build_ok(out);
    expect_figure(out, "sine-fits");
    expect_figure(out, "trajectories");
    char *csv = read_file(out, "report/sine-fits.csv");
    int predicted = 0;
    for (char *p = strstr(csv, "2,predicted,"); p; p = strstr(p + 1, "2,predicted,")) {
        double x, y;
        assert_int_equal(sscanf(p, "2,predicted,%lf,%lf", &x, &y), 2);
        double in = (x - (double)d->mean[0]) / (double)d->std[0];
        double want = 2 * fmax(in, 0) - 3 * fmax(0.5 - in, 0) + 0.25;
        assert_true(fabs(y - want) <= 1e-14 * (1 + fabs(want)));
        predicted++;
    }
    assert_int_equal(predicted, 400);
    assert_int_equal(count_text(csv, "2,observed,"), 20);
    free(csv);
    /* Damaged weights take away that figure, with a warning, and nothing else. */
    char name[4300], *bytes;
    lips_path(name, sizeof name, "%s/epoch-0004.safetensors", dir);
    size_t size = 0;
    assert_int_equal(lips_file_read(&bytes, &size, name, 1 << 20), LIPS_OK);
    bytes[size - 1] ^= 1;
    assert_int_equal(lips_file_write(name, bytes, size), LIPS_OK);
    free(bytes);
    build_ok(out);
    char *page = read_file(out, "report/index.html");
    assert_non_null(strstr(page, "the checksum does not hold"));
    assert_non_null(strstr(page, "id=\"trajectories\""));
    assert_null(strstr(page, "id=\"sine-fits\""));
    free(page);
    lips_dataset_free(d);
    lips_experiment_free(&e);
}

static void damage_is_named_and_left_out(void **state)
{
    (void)state;
    lips_experiment e;
    lips_report r;
    lips_config c;
    char dir[4096], path[4200], *text;
    const char *out = out_dir();
    make_sweep(out, small, &e);
    /* Cell 0 is torn at its end, as by a kill; cell 1 is damaged within; cell 2 diverged. */
    cell_dir(dir, out, &e, 0, &c);
    text = read_file(dir, "metrics.jsonl");
    int64_t whole = count_text(text, "\n");
    text[strlen(text) - 20] = '\0';
    write_text(dir, "metrics.jsonl", text);
    free(text);
    cell_dir(dir, out, &e, 1, &c);
    text = read_file(dir, "metrics.jsonl");
    *strchr(text, ':') = ';';
    write_text(dir, "metrics.jsonl", text);
    free(text);
    cell_dir(dir, out, &e, 2, &c);
    lips_path(path, sizeof path, "%s/done", dir);
    assert_int_equal(unlink(path), 0);
    write_text(dir, "failed", "{\"reason\":\"diverged\",\"epoch\":3,\"message\":\"loss <nan>\"}\n");
    assert_int_equal(lips_report_collect(&r, out), LIPS_OK);
    assert_int_equal(r.cells[0].count, whole - 1);
    assert_false(r.cells[0].damaged);
    assert_true(r.cells[1].damaged && r.cells[1].count == 0);
    assert_int_equal(r.cells[2].state, LIPS_CELL_FAILED);
    assert_int_equal(r.cells[2].epoch, 3);
    assert_int_equal(lips_report_add_warnings(&r), LIPS_OK);
    assert_true(has_warning(&r, "metrics.jsonl is damaged: line 1: record: not JSON"));
    assert_true(has_warning(&r, "failed, diverged: loss <nan>"));
    lips_report_free(&r);
    lips_experiment_free(&e);
    build_ok(out);
    text = read_file(out, "report/index.html");
    const char *warned = strstr(text, "failed, diverged: loss &lt;nan&gt;"); /* escaped */
    assert_non_null(warned);
    assert_true(warned < strstr(text, "<svg")); /* warnings come first */
    free(text);
}

int main(void)
{
    tempdir_make(base, sizeof base);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_have_all_their_files),
        cmocka_unit_test(odd_names_are_harmless),
        cmocka_unit_test(a_missing_gnuplot_is_said_once),
        cmocka_unit_test(one_cell_has_a_report),
        cmocka_unit_test(sine_predictions_come_from_the_weights),
        cmocka_unit_test(damage_is_named_and_left_out),
    };
    int failed = cmocka_run_group_tests_name("figures", tests, NULL, NULL);
    tempdir_remove(base);
    return failed;
}
