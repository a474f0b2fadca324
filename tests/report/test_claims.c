/*
 * report/claims*: verdicts on records that are made to support a claim, to speak against it, or to
 * say nothing of it.
 */
#include "report/claims.h"
#include "../lib/tempdir.h"
#include "report/report.h"
#include "synthetic.h"

static char base[256];

static const char yaml[] =
    "width: [2, 4, 8, 16, 32, 64, 128, 256]\nseed: 0..2\nepochs: 1\neval_epochs: end\n";

/* What a cell's records say of each claim, 1 to 8; and departures of single cells. */
typedef struct story {
    lips_verdict of[LIPS_CLAIMS + 1];
    bool no_bump;      /* the test error has no second descent */
    bool lone_bump;    /* in seed 0 alone it has one; no noise */
    bool divided;      /* seed 2 speaks against every claim */
    int64_t odd_width; /* of seed 0: its layer inequality is broken */
    double odd_ratio;  /* the ratio there; 0: a null */
} story;

static story all(lips_verdict v)
{
    story s = {.odd_width = -1};
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        s.of[i] = v;
    return s;
}

static void put_null(FILE *f, const char *quantity, const char *output, int layer)
{
    lips_record r = lips_record_init(quantity);
    r.output = output;
    r.layer = layer;
    r.split = "train";
    r.epoch = 1;
    r.form = LIPS_FORM_NULL;
    r.reason = "none";
    put(f, &r);
}

static void tell_fit(FILE *f, const lips_config *c, const story *s)
{
    double w = (double)c->width, off = log2(w / 32), small = s->lone_bump ? 0 : 0.01 * jitter(c, 1);
    bool flat = s->no_bump || (s->lone_bump && c->seed != 0);
    double bump = exp(-off * off), error = 0.3 / w + (flat ? 0 : 0.2 * bump) + 0.1;
    put_value(f, "error", "test", 1, error * (1 + small));
    if (s->of[1] != LIPS_NOT_TESTED)
        put_stats(f, "jacobian", "op", "logits", 1,
                  (s->of[1] == LIPS_SUPPORTED ? 2 + 10 * bump + 1 / w : 20 - log2(w)) *
                      (1 + small));
    double epoch = s->of[3] == LIPS_SUPPORTED ? 4000 / w : 10 + w;
    if (s->of[3] == LIPS_NOT_TESTED || w < 8)
        put_null(f, "interpolation_epoch", NULL, 0);
    else
        put_value(f, "interpolation_epoch", "train", 1, round(epoch));
}

static void tell_growth(FILE *f, const lips_config *c, const story *s)
{
    static const char *const probes[] = {"probe:uniform", "probe:path"};
    double w = (double)c->width, small = 1 + 0.01 * jitter(c, 2);
    double d = pow(w, s->of[4] == LIPS_SUPPORTED ? -0.4 : 0.3) * small;
    if (w < 8) /* does not interpolate, must not count */
        d = 100;
    if (s->of[4] != LIPS_NOT_TESTED) {
        put_value(f, "distance.total", NULL, 1, pow(w, -0.5) * small);
        lips_record r = lips_record_init("distance.layer");
        r.layer = 2; /* one layer's growth is enough to speak against the claim */
        r.layer_name = "2";
        r.epoch = 1;
        r.value = d;
        put(f, &r);
    }
    for (int i = 0; s->of[5] != LIPS_NOT_TESTED && i < 2; i++) {
        lips_record r = lips_record_init("jacobian");
        r.norm = "op";
        r.output = "logits";
        r.split = probes[i];
        r.epoch = 1;
        put_stats_of(f, r, pow(w, i == 0 && s->of[5] != LIPS_SUPPORTED ? 0.4 : -0.2) * small);
    }
}

static void tell_bounds(FILE *f, const lips_config *c, const story *s)
{
    double w = (double)c->width, small = 1 + 0.01 * jitter(c, 3);
    bool odd = c->width == s->odd_width && c->seed == 0;
    for (int l = 1; s->of[2] != LIPS_NOT_TESTED && l <= 2; l++) {
        double ratio = s->of[2] == LIPS_SUPPORTED ? 0.3 * l : 1.1;
        if (odd && l == 2 && s->odd_ratio == 0)
            put_null(f, "bound.layer", "ratio", l);
        else
            put_part(f, "bound.layer", l, "ratio", 1, odd && l == 2 ? s->odd_ratio : ratio);
        put_part(f, "bound.layer", l, "violations", 1, s->of[2] == LIPS_SUPPORTED ? 0 : 0.25);
    }
    if (s->of[6] != LIPS_NOT_TESTED)
        put_value(f, "lipschitz.product", NULL, 1,
                  (s->of[6] == LIPS_SUPPORTED ? 1000 * w : 25) * small);
    if (s->of[7] != LIPS_NOT_TESTED) {
        put_part(f, "bound.landscape", 0, "input.ratio", 1,
                 s->of[7] == LIPS_NOT_SUPPORTED && c->seed == 0 ? 1.1 : 0.5);
        put_part(f, "bound.landscape", 0, "param.ratio", 1,
                 s->of[7] == LIPS_SUPPORTED ? 0.1 * small : 1.2);
    }
    if (s->of[8] != LIPS_NOT_TESTED) {
        /* Narrow widths do not interpolate: what they say must not count. */
        double share = s->of[8] == LIPS_SUPPORTED ? 0.6 : 0.4;
        put_value(f, "logit_hessian.degenerate", "train", 1, w < 8 ? share < 0.5 : share * small);
        put_stats(f, "logit_hessian.max", NULL, NULL, 1, 1e-7);
    }
}

static const char *tell(const char *text, const story *s)
{
    static char out[300];
    static int number;
    lips_experiment e;
    lips_config c;
    char dir[4096], path[4200];
    snprintf(out, sizeof out, "%s/out%d", base, number++);
    make_sweep(out, text, &e);
    for (int64_t i = 0; i < lips_experiment_cells(&e); i++) {
        cell_dir(dir, out, &e, i, &c);
        lips_path(path, sizeof path, "%s/metrics.jsonl", dir);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        const story against = all(LIPS_NOT_SUPPORTED),
                    *told = s->divided && c.seed == 2 ? &against : s;
        tell_fit(f, &c, told);
        tell_growth(f, &c, told);
        tell_bounds(f, &c, told);
        fclose(f);
    }
    lips_experiment_free(&e);
    return out;
}

typedef struct judged {
    lips_report r;
    lips_claims c;
} judged;

static judged judge(const char *text, const story *s)
{
    judged j;
    assert_int_equal(lips_report_collect(&j.r, tell(text, s)), LIPS_OK);
    assert_int_equal(lips_claims_judge(&j.c, &j.r), LIPS_OK);
    return j;
}

static void judged_free(judged *j)
{
    lips_claims_free(&j->c);
    lips_report_free(&j->r);
}

static void expect(const judged *j, int claim, lips_verdict v)
{
    const lips_claim_row *row = &j->c.row[claim - 1];
    assert_int_equal(row->number, claim);
    if (row->verdict != v)
        fail_msg("claim %d: %s instead of %s: %s", claim, lips_verdict_name(row->verdict),
                 lips_verdict_name(v), row->numbers);
    assert_true(row->numbers[0] != '\0');
}

static void records_decide(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    judged j = judge(yaml, &s);
    assert_int_equal(j.c.n, LIPS_CLAIMS);
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        expect(&j, i, LIPS_SUPPORTED);
    judged_free(&j);
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        for (lips_verdict v = LIPS_NOT_TESTED; v < LIPS_SUPPORTED; v++) {
            s = all(LIPS_SUPPORTED);
            s.of[i] = v;
            j = judge(yaml, &s);
            expect(&j, i, v);
            judged_free(&j);
        }
}

static void nothing_recorded_is_nothing_tested(void **state)
{
    (void)state;
    story s = all(LIPS_NOT_TESTED);
    judged j = judge(yaml, &s);
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        expect(&j, i, LIPS_NOT_TESTED);
    judged_free(&j);
}

static void one_seed_has_no_interval(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    judged j = judge("width: [2, 4, 8, 16, 32, 64, 128, 256]\nepochs: 1\neval_epochs: end\n", &s);
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        expect(&j, i, i == 2 || i == 7 ? LIPS_SUPPORTED : LIPS_NOT_TESTED);
    assert_non_null(strstr(j.c.row[1].numbers, "one seed: no spread is known"));
    assert_non_null(strstr(j.c.row[0].numbers, "rise of the norm to its peak: no number"));
    judged_free(&j);
}

static void widths_must_be_swept(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    judged j = judge("width: [64, 128]\nseed: 0..2\nepochs: 1\neval_epochs: end\n", &s);
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        expect(&j, i, i == 2 || i >= 7 ? LIPS_SUPPORTED : LIPS_NOT_TESTED);
    judged_free(&j);
}

static void without_a_second_descent_there_is_nothing_to_mirror(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    s.no_bump = true;
    judged j = judge(yaml, &s);
    expect(&j, 1, LIPS_NOT_TESTED);
    assert_non_null(strstr(j.c.row[0].numbers, "no second descent"));
    judged_free(&j);
}

/* A seed's peak is looked for where the others have theirs: a peak of its own is no evidence. */
static void a_lone_peak_is_noise(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    s.lone_bump = true;
    judged j = judge(yaml, &s);
    expect(&j, 1, LIPS_NOT_TESTED);
    const char *rise = strstr(j.c.row[0].numbers, "rise of the test error");
    assert_non_null(rise);
    rise = strstr(rise, " to 0; "); /* the largest of a seed */
    assert_true(rise && rise < strstr(j.c.row[0].numbers, "rise of the norm"));
    judged_free(&j);
}

static void one_cell_breaks_an_inequality(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    s.odd_width = 16;
    s.odd_ratio = 1.01;
    judged j = judge(yaml, &s);
    expect(&j, 2, LIPS_NOT_SUPPORTED);
    assert_non_null(strstr(j.c.row[1].numbers, "0.6 to 1.01; 1 of 48 ratios above 1"));
    judged_free(&j);
    s.odd_ratio = 0; /* a null is left out, and said */
    j = judge(yaml, &s);
    expect(&j, 2, LIPS_SUPPORTED);
    assert_non_null(strstr(j.c.row[1].numbers, "0 of 47 ratios"));
    assert_non_null(strstr(j.c.row[1].numbers, "left out: 1 without value, 0 not finite"));
    judged_free(&j);
    s.odd_ratio = NAN;
    j = judge(yaml, &s);
    assert_non_null(strstr(j.c.row[1].numbers, "left out: 0 without value, 1 not finite"));
    judged_free(&j);
}

/* The interval over seeds decides, not their mean: with one of three against, none is supported. */
static void divided_seeds_support_nothing(void **state)
{
    (void)state;
    story s = all(LIPS_SUPPORTED);
    s.divided = true;
    judged j = judge(yaml, &s);
    for (int i = 1; i <= LIPS_CLAIMS; i++)
        expect(&j, i, LIPS_NOT_SUPPORTED);
    judged_free(&j);
}

/* The number that follows the words. */
static double said(const judged *j, int claim, const char *words)
{
    const char *at = strstr(j->c.row[claim - 1].numbers, words);
    double v = NAN;
    if (!at || sscanf(at + strlen(words), "%lf", &v) != 1)
        fail_msg("'%s' and a number are not in '%s'", words, j->c.row[claim - 1].numbers);
    return v;
}

/* Made from powers of the width, with a jitter of 1 %. */
static void numbers_are_what_they_say(void **state)
{
    (void)state;
    story s = all(LIPS_NOT_SUPPORTED);
    judged j = judge(yaml, &s);
    assert_true(said(&j, 2, "samples that fail it by themselves: at most ") == 25);
    assert_true(fabs(said(&j, 3, "rank correlation ") - 1) < 1e-9);
    assert_true(fabs(said(&j, 4, "largest growth (%) ") - 100 * (exp2(0.3) - 1)) < 1);
    assert_true(fabs(said(&j, 4, "all parameters (%) ") - 100 * (exp2(-0.5) - 1)) < 1);
    assert_true(fabs(said(&j, 5, "uniform ") - 100 * (exp2(0.4) - 1)) < 1);
    assert_true(fabs(said(&j, 5, "path ") - 100 * (exp2(-0.2) - 1)) < 1);
    assert_true(said(&j, 7, "above 1: ") == 8);
    assert_true(said(&j, 7, "of the input inequality, ") == 24);
    assert_true(fabs(said(&j, 8, "share ") - 0.4) < 0.01);
    judged_free(&j);
}

static void the_page_ends_with_the_claims(void **state)
{
    (void)state;
    char page[4096], path[4200], *text = NULL, *csv = NULL;
    size_t size = 0;
    story s = all(LIPS_SUPPORTED);
    s.of[5] = LIPS_NOT_TESTED;
    const char *out = tell("width: [4, 8, 16, 32, 64]\nseed: 0..1\nlabel_noise: [0, 0.2]\n"
                           "epochs: 1\neval_epochs: end\n",
                           &s);
    assert_int_equal(lips_report_build(out, page), LIPS_OK);
    assert_int_equal(lips_file_read(&text, &size, page, 1 << 28), LIPS_OK);
    lips_path(path, sizeof path, "%s/report/claims.csv", out);
    assert_int_equal(lips_file_read(&csv, &size, path, 1 << 20), LIPS_OK);
    const char *at = strstr(text, "<h2 id=\"claims\">");
    assert_true(at && at > strstr(text, "<h2 id=\"provenance\">"));
    assert_null(strstr(at + 1, "<h2"));
    assert_non_null(strstr(at, "<h3>label_noise 0.2</h3>"));
    assert_non_null(strstr(at, "<td class=\"supported\">supported</td>"));
    assert_non_null(strstr(at, "<td class=\"untested\">not tested</td>"));
    /* Each combination links to its own drawing, and every link has its end. */
    assert_non_null(strstr(at, "href=\"#bound-layer\""));
    assert_non_null(strstr(at, "href=\"#bound-layer-2\""));
    assert_non_null(strstr(text, "<h2 id=\"bound-layer-2\">"));
    assert_null(strstr(at, "href=\"#probes")); /* not drawn */
    int lines = 0;
    for (const char *p = csv; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 1 + 2 * LIPS_CLAIMS);
    assert_non_null(strstr(csv, "\n2,layer-gradients-bound-growth,"));
    free(csv);
    free(text);
}

/* ---- statistics ---- */

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * (1 + fabs(b));
}

static void correlations_are_of_ranks(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4, 5, NAN}, cube[] = {1, 8, 27, 64, 125, 7};
    const double down[] = {9, 4, 3, 2, -1, 0}, same[] = {2, 2, 2, 2, 2, 2};
    const double ties[] = {1, 1, 2, 3, 3, 9}; /* ranks 1.5 1.5 3 4.5 4.5 */
    assert_true(near(lips_rank_correlation(x, cube, 6, 5), 1));
    assert_true(near(lips_rank_correlation(x, down, 6, 5), -1));
    assert_true(near(lips_rank_correlation(x, ties, 6, 5), 9 / sqrt(10 * 9)));
    assert_true(isnan(lips_rank_correlation(x, same, 6, 5)));
    assert_true(isnan(lips_rank_correlation(x, cube, 6, 6))); /* the NaN is no pair */
}

static void slopes_are_of_logarithms(void **state)
{
    (void)state;
    const double x[] = {1, 2, 4, 8, 16}, y[] = {3, 3 * M_SQRT2, 6, 0, NAN};
    assert_true(near(lips_log_slope(x, y, 5, 3), 0.5)); /* 0 has no logarithm */
    assert_true(isnan(lips_log_slope(x, y, 5, 4)));
}

static void intervals_are_students(void **state)
{
    (void)state;
    const double v[] = {3, NAN, 1, 2};
    lips_interval s = lips_interval_of(v, 4);
    assert_int_equal(s.n, 3);
    assert_true(s.mean == 2 && s.min == 1 && s.max == 3);
    assert_true(fabs(s.hi - (2 + 4.302653 / sqrt(3))) < 1e-4 && fabs(s.lo + s.hi - 4) < 1e-12);
    s = lips_interval_of(v, 2);
    assert_true(s.n == 1 && isnan(s.lo) && isnan(s.hi));
    double many[31]; /* 30 degrees of freedom: quantile 2.0423 */
    for (int i = 0; i < 31; i++)
        many[i] = i % 2 ? 1 : i == 30 ? 0 : -1;
    s = lips_interval_of(many, 31);
    assert_true(fabs(s.hi - 2.0423 / sqrt(31)) < 2e-3);
    assert_int_equal(lips_interval_of(v + 1, 1).n, 0);
}

static void peaks_are_where_the_guide_has_them(void **state)
{
    (void)state;
    const double guide[] = {5, 1, 4, 3, 2}, v[] = {5, 2, 2.5, 9, 1}, falls[] = {5, 4, 3, 2, 1};
    int64_t peak = -1;
    assert_true(near(lips_prominence(guide, guide, 5, &peak), 2));
    assert_int_equal(peak, 2);
    assert_true(near(lips_prominence(v, guide, 5, &peak), 0.5)); /* not 8, its own peak's */
    peak = -1;
    assert_true(isnan(lips_prominence(v, falls, 5, &peak)));
    assert_int_equal(peak, -1);
}

int main(void)
{
    tempdir_make(base, sizeof base);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_decide),
        cmocka_unit_test(nothing_recorded_is_nothing_tested),
        cmocka_unit_test(one_seed_has_no_interval),
        cmocka_unit_test(widths_must_be_swept),
        cmocka_unit_test(without_a_second_descent_there_is_nothing_to_mirror),
        cmocka_unit_test(a_lone_peak_is_noise),
        cmocka_unit_test(one_cell_breaks_an_inequality),
        cmocka_unit_test(divided_seeds_support_nothing),
        cmocka_unit_test(numbers_are_what_they_say),
        cmocka_unit_test(the_page_ends_with_the_claims),
        cmocka_unit_test(correlations_are_of_ranks),
        cmocka_unit_test(slopes_are_of_logarithms),
        cmocka_unit_test(intervals_are_students),
        cmocka_unit_test(peaks_are_where_the_guide_has_them),
    };
    int failed = cmocka_run_group_tests_name("claims", tests, NULL, NULL);
    tempdir_remove(base);
    return failed;
}
