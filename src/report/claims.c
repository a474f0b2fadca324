/* report/claims.c - the rules: from a variant's records to a verdict on each claim. */
#include "report/claims.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTHS_RANKED = 5, /* a rank correlation over fewer says little */
    WIDTHS_FITTED = 3
};

static const double ROUNDING = 1e-5, /* of both sides of an inequality, in float32 */
    GROWTH_MAX = 5,     /* per cent for each doubling of the width, that still counts as bounded */
    LOOSE_LEAST = 10,   /* a bound above this multiple of what is measured */
    MOST_SAMPLES = 0.5; /* a share above it */

#define END(...)                                                                                   \
    {                                                                                              \
        .epoch = LIPS_LATEST, __VA_ARGS__                                                          \
    }
static const lips_pick test_error = END(.quantity = "error", .split = "test");
static const lips_pick test_loss = END(.quantity = "loss", .split = "test");
static const lips_pick norm =
    END(.quantity = "jacobian", .norm = "op", .output = "logits", .split = "train");

static bool over_widths(const lips_claim_data *d, int least)
{
    return strcmp(d->r->x_name, "width") == 0 && d->n_x >= least;
}

/* Room s (0, 1 or 2) for one number of each seed. */
static double *room(const lips_claim_data *d, int s)
{
    return d->of_seed + s * d->n_seeds;
}

static lips_interval interval(const lips_claim_data *d, int s)
{
    return lips_interval_of(room(d, s), d->n_seeds);
}

/* The same for numbers that cannot be beyond -most and most. */
static lips_interval interval_within(const lips_claim_data *d, int s, double most)
{
    lips_interval i = interval(d, s);
    if (i.n > 1) {
        i.lo = fmax(i.lo, -most);
        i.hi = fmin(i.hi, most);
    }
    return i;
}

/* What d->number holds, to keep; NULL: no memory. */
static double *copy_numbers(const lips_claim_data *d)
{
    size_t size = (size_t)(d->n_seeds * d->n_x) * sizeof(double);
    double *v = malloc(size + 1);
    if (v)
        memcpy(v, d->number, size);
    return v;
}

/* The test error, or for regression the test loss. */
static const char *load_error(const lips_claim_data *d)
{
    if (lips_claim_load(d, &test_error) > 0)
        return "error";
    return lips_claim_load(d, &test_loss) > 0 ? "loss" : NULL;
}

static const char TOO_FEW[] = "Fewer than 2 seeds with numbers at enough widths";

/* ---- 1: smoothness mirrors double descent ---- */

/* The mean over seeds but `without` (-1: all) at each place, of v (n_seeds, n_x). */
static void mean_curve(double *out, const lips_claim_data *d, const double *v, int64_t without)
{
    for (int x = 0; x < d->n_x; x++) {
        double sum = 0, n = 0;
        for (int64_t s = 0; s < d->n_seeds; s++)
            if (s != without && isfinite(v[s * d->n_x + x])) {
                sum += v[s * d->n_x + x];
                n++;
            }
        out[x] = n > 0 ? sum / n : NAN;
    }
}

/* Each seed's rise to the peak that the other seeds' mean has; says it, and where the peak of all
 * is. A seed for which the others have no peak has a rise of 0. */
static lips_status peak_of(lips_interval *out, lips_claim_row *row, const lips_claim_data *d,
                           const double *v, const char *name)
{
    char text[80];
    int64_t peak = -1;
    double *curve = malloc((size_t)d->n_x * sizeof *curve + 1);
    if (!curve)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the claims");
    for (int64_t s = 0; s < d->n_seeds; s++) {
        int64_t place = -1;
        mean_curve(curve, d, v, s);
        room(d, 1)[s] = lips_prominence(v + s * d->n_x, curve, d->n_x, &place);
        if (place < 0 && lips_interval_of(curve, d->n_x).n > 0 &&
            lips_interval_of(v + s * d->n_x, d->n_x).n > 0)
            room(d, 1)[s] = 0;
    }
    *out = interval(d, 1);
    mean_curve(curve, d, v, -1);
    lips_prominence(curve, curve, d->n_x, &peak);
    free(curve);
    snprintf(text, sizeof text, "rise of the %s to its peak", name);
    lips_claim_say_interval(row, text, out);
    if (peak >= 0)
        lips_claim_say(row, "peak of the mean %s at %g; ", name, d->r->x[peak]);
    return LIPS_OK;
}

static lips_status mirrors(lips_claim_row *row, const lips_claim_data *d, const double *error,
                           const char *name)
{
    lips_interval bump, rise;
    char text[40];
    for (int64_t s = 0; s < d->n_seeds; s++)
        room(d, 0)[s] = lips_rank_correlation(error + s * d->n_x, d->number + s * d->n_x, d->n_x,
                                              WIDTHS_RANKED);
    lips_interval rho = interval_within(d, 0, 1);
    lips_claim_say_interval(row, "rank correlation", &rho);
    snprintf(text, sizeof text, "test %s", name);
    LIPS_TRY(peak_of(&bump, row, d, error, text));
    LIPS_TRY(peak_of(&rise, row, d, d->number, "norm"));
    if (rho.n < 2)
        return lips_claim_untested(row, TOO_FEW);
    if (!(bump.lo > 0))
        return lips_claim_untested(
            row, "The test error has no second descent here beyond the spread of the seeds");
    row->verdict = rho.lo > 0 && rise.lo > 0 ? LIPS_SUPPORTED : LIPS_NOT_SUPPORTED;
    return LIPS_OK;
}

static lips_status judge_mirrors(lips_claim_row *row, const lips_claim_data *d)
{
    if (!over_widths(d, WIDTHS_RANKED))
        return lips_claim_untested(row, "Fewer than five widths");
    const char *name = load_error(d);
    double *error = copy_numbers(d);
    lips_status st = LIPS_OK;
    if (!error)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the claims");
    if (!name || lips_claim_load(d, &norm) == 0)
        lips_claim_untested(row, "No test error or no Jacobian norm was recorded");
    else
        st = mirrors(row, d, error, name);
    free(error);
    return st;
}

/* ---- 2 and 7: inequalities ---- */

typedef struct ratio_count {
    int64_t n, nulls, broken; /* finite; without value; not finite */
    int64_t above;            /* beyond 1 */
} ratio_count;

/* Takes the ratios of p into the largest ones of each seed (room 0). */
static void add_ratios(ratio_count *c, const lips_claim_data *d, const lips_pick *p)
{
    double *largest = room(d, 0);
    for (int64_t s = 0; s < d->n_seeds; s++)
        for (int x = 0; x < d->n_x; x++) {
            const lips_record *rec = lips_claim_record(d, p, s, x);
            double v = rec ? lips_record_number(rec) : NAN;
            c->nulls += rec && rec->form == LIPS_FORM_NULL;
            c->broken += rec && rec->form != LIPS_FORM_NULL && !isfinite(v);
            if (!isfinite(v))
                continue;
            c->n++;
            c->above += v > 1 + ROUNDING;
            largest[s] = isnan(largest[s]) || v > largest[s] ? v : largest[s];
        }
}

static void no_numbers(const lips_claim_data *d)
{
    for (int64_t i = 0; i < 3 * d->n_seeds; i++)
        d->of_seed[i] = NAN;
}

static lips_status judge_ratios(lips_claim_row *row, const lips_claim_data *d, const ratio_count *c)
{
    lips_interval s = interval(d, 0);
    if (c->n == 0)
        return lips_claim_untested(row, "Its two sides were not recorded");
    lips_claim_say(row, "largest left/right of a seed: %.4g to %.4g; %lld of %lld ratios above 1; ",
                   s.min, s.max, (long long)c->above, (long long)c->n);
    if (s.n == 1)
        lips_claim_say(row, "one seed: no spread is known; ");
    if (c->nulls + c->broken > 0)
        lips_claim_say(row, "left out: %lld without value, %lld not finite; ", (long long)c->nulls,
                       (long long)c->broken);
    row->verdict = c->above == 0 ? LIPS_SUPPORTED : LIPS_NOT_SUPPORTED;
    return LIPS_OK;
}

static lips_status judge_layers(lips_claim_row *row, const lips_claim_data *d)
{
    lips_pick p = END(.quantity = "bound.layer", .output = "ratio", .split = "train");
    int layers = lips_report_layers(d->r, p.quantity, d->variant);
    ratio_count c = {0};
    double violated = 0;
    no_numbers(d);
    for (p.layer = 1; p.layer <= layers; p.layer++)
        add_ratios(&c, d, &p);
    p.output = "violations";
    for (p.layer = 1; p.layer <= layers; p.layer++) {
        lips_claim_load(d, &p);
        violated = fmax(violated, lips_interval_of(d->number, d->n_seeds * d->n_x).max);
    }
    LIPS_TRY(judge_ratios(row, d, &c));
    if (row->verdict != LIPS_NOT_TESTED)
        lips_claim_say(row, "samples that fail it by themselves: at most %.3g %% in a layer; ",
                       100 * violated);
    return LIPS_OK;
}

static lips_status judge_landscape(lips_claim_row *row, const lips_claim_data *d)
{
    lips_pick p = END(.quantity = "bound.landscape", .split = "train");
    ratio_count input = {0}, both;
    no_numbers(d);
    p.output = "input.ratio";
    add_ratios(&input, d, &p);
    both = input;
    p.output = "param.ratio";
    add_ratios(&both, d, &p);
    LIPS_TRY(judge_ratios(row, d, &both));
    if (row->verdict != LIPS_NOT_TESTED)
        lips_claim_say(row, "above 1: %lld of the input inequality, %lld of the parameter one; ",
                       (long long)input.above, (long long)(both.above - input.above));
    return LIPS_OK;
}

/* ---- 3: overparameterisation accelerates interpolation ---- */

static lips_status judge_acceleration(lips_claim_row *row, const lips_claim_data *d)
{
    const lips_pick p = END(.quantity = "interpolation_epoch");
    if (!over_widths(d, WIDTHS_RANKED))
        return lips_claim_untested(row, "Fewer than five widths");
    int64_t reached = lips_claim_load(d, &p);
    for (int64_t s = 0; s < d->n_seeds; s++)
        room(d, 0)[s] =
            lips_rank_correlation(d->r->x, d->number + s * d->n_x, d->n_x, WIDTHS_RANKED);
    lips_interval rho = interval_within(d, 0, 1);
    lips_claim_say_interval(row, "rank correlation", &rho);
    lips_claim_say(row, "%lld cells interpolate; ", (long long)reached);
    if (rho.n < 2)
        return lips_claim_untested(row, "Fewer than 2 seeds that interpolate at five widths");
    row->verdict = rho.hi < 0 ? LIPS_SUPPORTED : LIPS_NOT_SUPPORTED;
    return LIPS_OK;
}

/* ---- 4 and 5: what does not grow with the width ---- */

/* Per cent for each doubling of the width, over interpolating widths: of each seed into room 1, and
 * the largest so far into room 0. */
static bool add_growth(const lips_claim_data *d, const lips_pick *p)
{
    bool any = false;
    lips_claim_load(d, p);
    lips_claim_keep_interpolating(d);
    for (int64_t s = 0; s < d->n_seeds; s++) {
        double slope = lips_log_slope(d->r->x, d->number + s * d->n_x, d->n_x, WIDTHS_FITTED);
        double growth = 100 * (exp2(slope) - 1);
        room(d, 1)[s] = growth;
        room(d, 0)[s] = fmax(room(d, 0)[s], growth); /* fmax(NaN, v) = v */
        any |= !isnan(growth);
    }
    return any;
}

static lips_status judge_growth(lips_claim_row *row, const lips_claim_data *d)
{
    lips_interval s = interval(d, 0);
    lips_claim_say_interval(row, "largest growth (%)", &s);
    if (s.n < 2)
        return lips_claim_untested(row, "Fewer than 2 seeds with numbers at three or more widths "
                                        "that interpolate");
    row->verdict = s.hi < GROWTH_MAX ? LIPS_SUPPORTED : LIPS_NOT_SUPPORTED;
    return LIPS_OK;
}

static lips_status judge_distance(lips_claim_row *row, const lips_claim_data *d)
{
    lips_pick p = END(.quantity = "distance.total");
    int layers = lips_report_layers(d->r, "distance.layer", d->variant);
    if (!over_widths(d, WIDTHS_FITTED))
        return lips_claim_untested(row, "Fewer than three widths");
    no_numbers(d);
    if (add_growth(d, &p)) {
        lips_interval all = interval(d, 1);
        lips_claim_say_interval(row, "all parameters (%)", &all);
    }
    p.quantity = "distance.layer";
    for (p.layer = 1; p.layer <= layers; p.layer++)
        add_growth(d, &p);
    return judge_growth(row, d);
}

static lips_status judge_probes(lips_claim_row *row, const lips_claim_data *d)
{
    static const char *const probes[] = {"probe:uniform", "probe:normal", "probe:hypersphere",
                                         "probe:jitter", "probe:path"};
    lips_pick p = norm;
    if (!over_widths(d, WIDTHS_FITTED))
        return lips_claim_untested(row, "Fewer than three widths");
    no_numbers(d);
    bool any = false;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        p.split = probes[i];
        any |= lips_claim_load(d, &p) > 0;
        if (!add_growth(d, &p))
            continue;
        lips_interval one = interval(d, 1);
        lips_claim_say(row, "%s %.3g %%; ", probes[i] + strlen("probe:"), one.mean);
    }
    return any ? judge_growth(row, d) : lips_claim_untested(row, "No probe was measured");
}

/* ---- 6: the product bound is uninformative ---- */

static lips_status uninformative(lips_claim_row *row, const lips_claim_data *d, const double *error,
                                 const double *product)
{
    lips_pick largest = norm;
    largest.stat = LIPS_STAT_MAX;
    lips_claim_load(d, &norm);
    for (int64_t s = 0; s < d->n_seeds; s++) {
        int64_t at = s * d->n_x;
        room(d, 1)[s] = lips_rank_correlation(error + at, product + at, d->n_x, WIDTHS_RANKED);
        room(d, 0)[s] = lips_rank_correlation(error + at, d->number + at, d->n_x, WIDTHS_RANKED) -
                        room(d, 1)[s];
    }
    lips_claim_load(d, &largest);
    for (int64_t i = 0; i < d->n_seeds * d->n_x; i++)
        d->number[i] = log10(product[i] / d->number[i]);
    for (int64_t s = 0; s < d->n_seeds; s++)
        room(d, 2)[s] = lips_interval_of(d->number + s * d->n_x, d->n_x).mean;
    lips_interval ahead = interval_within(d, 0, 2), rho = interval_within(d, 1, 1),
                  loose = interval(d, 2);
    lips_claim_say_interval(row, "log10 of product over largest norm", &loose);
    lips_claim_say_interval(row, "rank correlation of the product with the test error", &rho);
    lips_claim_say_interval(row, "that of the norm less that of the product", &ahead);
    if (ahead.n < 2 || loose.n < 2)
        return lips_claim_untested(row, TOO_FEW);
    row->verdict =
        loose.lo > log10(LOOSE_LEAST) && ahead.lo > 0 ? LIPS_SUPPORTED : LIPS_NOT_SUPPORTED;
    return LIPS_OK;
}

static lips_status judge_product(lips_claim_row *row, const lips_claim_data *d)
{
    const lips_pick p = END(.quantity = "lipschitz.product");
    double *error = NULL, *product = NULL;
    lips_status st = LIPS_OK;
    if (!over_widths(d, WIDTHS_RANKED))
        return lips_claim_untested(row, "Fewer than five widths");
    const char *name = load_error(d);
    error = copy_numbers(d);
    int64_t n = lips_claim_load(d, &p);
    product = copy_numbers(d);
    if (!error || !product)
        st = lips_fail(LIPS_ERR_MEMORY, "out of memory for the claims");
    else if (!name || n == 0)
        lips_claim_untested(row, "No test error or no product bound was recorded");
    else
        st = uninformative(row, d, error, product);
    free(error);
    free(product);
    return st;
}

/* ---- 8: the logit Hessian is degenerate ---- */

static lips_status judge_degenerate(lips_claim_row *row, const lips_claim_data *d)
{
    const lips_pick share = END(.quantity = "logit_hessian.degenerate", .split = "train");
    const lips_pick largest = END(.quantity = "logit_hessian.max", .split = "train");
    if (lips_claim_load(d, &share) == 0)
        return lips_claim_untested(row, "The logit Hessian was not recorded, or the loss has none");
    lips_claim_keep_interpolating(d);
    for (int64_t s = 0; s < d->n_seeds; s++)
        room(d, 0)[s] = lips_interval_of(d->number + s * d->n_x, d->n_x).mean;
    lips_claim_load(d, &largest);
    lips_claim_keep_interpolating(d);
    lips_interval s = interval(d, 0), eigen = lips_interval_of(d->number, d->n_seeds * d->n_x);
    lips_claim_say_interval(row, "share", &s);
    if (eigen.n > 0)
        lips_claim_say(row, "mean largest eigenvalue of a cell: %.3g to %.3g; ", eigen.min,
                       eigen.max);
    if (s.n < 2)
        return lips_claim_untested(row, "Fewer than 2 seeds with a width that interpolates");
    row->verdict = s.lo > MOST_SAMPLES ? LIPS_SUPPORTED : LIPS_NOT_SUPPORTED;
    return LIPS_OK;
}

const lips_claim lips_claim_table[LIPS_CLAIMS] = {
    {"smoothness-mirrors-double-descent",
     "The Jacobian norm on training data mirrors the double descent of the test error",
     "Spearman correlation over widths of test error (regression: loss) and mean norm; rise of "
     "each "
     "to its peak from the lower of the places on either side, all three places chosen on the "
     "other seeds' mean",
     "Tested if the rise of the test error is above 0; supported if the correlation and the rise "
     "of the norm are above 0: each time the lower end of the interval",
     "double-descent", judge_mirrors},
    {"layer-gradients-bound-growth",
     "Parameter gradients of a layer bound the growth of the function in its input",
     "Largest left/right of bound.layer over layers and widths",
     "Supported if at most 1 (to 1e-5) in every layer, width and seed", "bound-layer",
     judge_layers},
    {"overparameterisation-accelerates", "Overparameterisation accelerates interpolation",
     "Spearman correlation of width and first epoch at interpolation, over the widths (at least 5) "
     "that get there",
     "Supported if the upper end of the interval is below 0", "interpolation", judge_acceleration},
    {"bounded-distance", "The distance from initialisation stays bounded as the width grows",
     "Growth of the relative distance for each doubling of the width, in per cent, by least "
     "squares "
     "on logarithms over the widths (at least 3) that interpolate: the largest of all parameters "
     "together and of each layer",
     "Supported if the upper end of the interval is below 5 %", "distance-layers", judge_distance},
    {"bounded-away-from-data", "Smoothness away from data stays bounded as the width grows",
     "Growth of the mean Jacobian norm for each doubling of the width, as for the distance: the "
     "largest over probes",
     "Supported if the upper end of the interval is below 5 %", "probes", judge_probes},
    {"product-uninformative", "The product of the layers' norms says little about the function",
     "Mean over widths of log10(product / largest measured norm); Spearman correlation with the "
     "test "
     "error over widths, of the mean norm less that of the product",
     "Supported if the product is more than 10 times the largest norm and the norm follows the "
     "test "
     "error better than the product: lower ends of the intervals above 1 and 0",
     "lipschitz", judge_product},
    {"landscape-bound", "The loss landscape's gradients and curvature bound each other as stated",
     "Largest left/right of both inequalities of bound.landscape over widths",
     "Supported if at most 1 (to 1e-5) at every width and seed", "bound-landscape",
     judge_landscape},
    {"degenerate-logit-hessian", "At interpolation the cross-entropy is degenerate in the logits",
     "Mean over interpolating widths of the share of samples whose logit Hessian has no eigenvalue "
     "above 1e-6",
     "Supported if the lower end of the interval is above 0.5", "logit-hessian", judge_degenerate},
};
