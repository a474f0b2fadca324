/* report/figures.c - the table of figures, and its walk. */
#include "report/figure.h"

#include <stdlib.h>
#include <string.h>

#define LATEST(...)                                                                                \
    {                                                                                              \
        __VA_ARGS__, .epoch = LIPS_LATEST                                                          \
    }
#define JACOBIAN(norm_, output_)                                                                   \
    LATEST(.quantity = "jacobian", .norm = norm_, .output = output_, .split = "train")

static const lips_panel loss_panel = {
    .y_label = "loss",
    .curve = {{"test", LATEST(.quantity = "loss", .split = "test"), false},
              {"train", LATEST(.quantity = "loss", .split = "train"), false}},
    .n = 2};

static const lips_panels headline = {
    .panel = {{.y_label = "0/1 error",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"test", LATEST(.quantity = "error", .split = "test"), false},
                         {"train", LATEST(.quantity = "error", .split = "train"), false}},
               .n = 2,
               .otherwise = &loss_panel},
              {.y_label = "mean ‖∂f/∂x‖₂ on training data",
               .curve = {{"Jacobian norm", JACOBIAN("op", "logits"), false}},
               .n = 1,
               .first_colour = 2}},
    .n = 2};

static const lips_panels losses = {
    .panel = {{.y_label = "test loss",
               .curve = {{"test", LATEST(.quantity = "loss", .split = "test"), false}},
               .n = 1},
              {.y_label = "train loss",
               .scale = LIPS_SCALE_LOG,
               .curve = {{"labels trained on", LATEST(.quantity = "loss", .split = "train"), false},
                         {"true labels", LATEST(.quantity = "loss", .split = "train_clean"),
                          false}},
               .n = 2,
               .first_colour = 1}},
    .n = 2};

static const lips_panels errors_clean = {
    .panel = {{.y_label = "0/1 error",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"test", LATEST(.quantity = "error", .split = "test"), false},
                         {"train, noisy labels", LATEST(.quantity = "error", .split = "train"),
                          false},
                         {"train, true labels", LATEST(.quantity = "error", .split = "train_clean"),
                          false}},
               .n = 3},
              {.y_label = "memorised share",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"wrong labels learnt", LATEST(.quantity = "memorized"), false}},
               .n = 1,
               .first_colour = 3}},
    .n = 2};

static const lips_panels interpolation = {
    .panel = {{.y_label = "epochs to interpolation",
               .scale = LIPS_SCALE_LOG,
               .curve = {{"first epoch at interpolation", LATEST(.quantity = "interpolation_epoch"),
                          false}},
               .n = 1,
               .never_marks = true}},
    .n = 1};

static const lips_panels norms = {
    .panel = {{.y_label = "mean norm on training data",
               .curve = {{"spectral", JACOBIAN("op", "logits"), false},
                         {"Frobenius", JACOBIAN("fro", "logits"), false}},
               .n = 2}},
    .n = 1};

static const lips_panels outputs = {
    .panel = {{.y_label = "mean spectral norm on training data",
               .curve = {{"logits", JACOBIAN("op", "logits"), false},
                         {"softmax", JACOBIAN("op", "softmax"), false},
                         {"log-softmax", JACOBIAN("op", "log_softmax"), false},
                         {"target logit", JACOBIAN("op", "target_logit"), false},
                         {"loss", JACOBIAN("op", "loss"), false}},
               .n = 5}},
    .n = 1};

static const lips_panels distance = {
    .panel = {{.y_label = "‖θ(T) − θ(0)‖ / ‖θ(0)‖",
               .curve = {{"all parameters", LATEST(.quantity = "distance.total"), false}},
               .n = 1}},
    .n = 1};

static const lips_panels distance_layers = {
    .panel = {{.y_label = "‖θ_l(T) − θ_l(0)‖ / ‖θ_l(0)‖",
               .curve = {{"layer", LATEST(.quantity = "distance.layer"), true}},
               .n = 1}},
    .n = 1};

#define OVER_EPOCHS(label_, scale_, ...)                                                           \
    {                                                                                              \
        .y_label = label_, .scale = scale_, .curve = {{"", {__VA_ARGS__}, false}}, .n = 1          \
    }

static const lips_panels curves = {
    .panel = {OVER_EPOCHS("train error", LIPS_SCALE_LINEAR, .quantity = "error", .split = "train"),
              OVER_EPOCHS("test error", LIPS_SCALE_LINEAR, .quantity = "error", .split = "test"),
              OVER_EPOCHS("train loss", LIPS_SCALE_AUTO, .quantity = "loss", .split = "train"),
              OVER_EPOCHS("test loss", LIPS_SCALE_AUTO, .quantity = "loss", .split = "test")},
    .n = 4,
    .columns = 2};

static const lips_panels trajectories = {
    .panel = {OVER_EPOCHS("mean ‖∂f/∂x‖₂ on training data", LIPS_SCALE_AUTO, .quantity = "jacobian",
                          .norm = "op", .output = "logits", .split = "train"),
              OVER_EPOCHS("mean ‖∇_θ L‖ on training data", LIPS_SCALE_LOG,
                          .quantity = "landscape.param_grad", .output = "norm", .split = "train")},
    .n = 2,
    .columns = 2};

#define SPREAD "Line: mean over seeds; band: their range; dots: single seeds. "
#define LINES "One line per network, coloured by width; epoch 0 is the initialisation. "

const lips_figure_row lips_figure_rows[] = {
    {"double-descent", "Error and empirical Lipschitz constant over width",
     "Above: train and test error (for regression the loss; train: against the labels trained on). "
     "Below, on the same axis: the spectral norm of the input Jacobian of the logits with respect to "
     "the standardised input, averaged over training samples. " SPREAD
     "Shaded: interpolation threshold, from the last width at which no seed reaches the "
     "interpolation tolerance to the first at which all do. ",
     LIPS_PAGE_CHUNKS, lips_make_over_width, &headline},
    {"sine-fits", "Noisy sine, fitted by networks of growing width",
     "Ground truth (dashed), noisy observations (dots) and prediction of the last saved weights "
     "(line), evaluated in float64. One seed; at most twelve widths.",
     LIPS_PAGE_VARIANTS, lips_make_sine_fits, NULL},
    {"losses", "Test and train loss over width", "Mean loss at the last evaluated epoch. " SPREAD,
     LIPS_PAGE_CHUNKS, lips_make_over_width, &losses},
    {"interpolation", "Epochs to interpolation",
     "First evaluated epoch whose train error is at most the interpolation tolerance, so it is "
     "known "
     "to within the distance of evaluations. Crosses: networks that never got there; they are in "
     "no "
     "mean. " SPREAD,
     LIPS_PAGE_CHUNKS, lips_make_over_width, &interpolation},
    {"memorization", "What is learnt of the wrong labels",
     "Above: error on the training inputs against the labels trained on and against the true ones, "
     "and on test data. Below: share of the corrupted training samples that are predicted as their "
     "wrong label. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &errors_clean},
    {"jacobian-norms", "Spectral and Frobenius norm of the input Jacobian",
     "‖∂f/∂x‖ of the logits, averaged over training samples. " SPREAD, LIPS_PAGE_CHUNKS,
     lips_make_over_width, &norms},
    {"jacobian-outputs", "Jacobian norm under five output maps",
     "Spectral norm of the Jacobian of the logits, of what is made of them, and of the loss, all "
     "from the same Gram matrix. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &outputs},
    {"distance", "Distance from initialisation",
     "Of all parameters together, relative to the norm of the initial ones. " SPREAD,
     LIPS_PAGE_CHUNKS, lips_make_over_width, &distance},
    {"distance-layers", "Distance from initialisation per layer",
     "Of each layer's weight, relative to the norm of the initial one. " SPREAD, LIPS_PAGE_VARIANTS,
     lips_make_over_width, &distance_layers},
    {"curves", "Error and loss over training", LINES, LIPS_PAGE_VARIANTS, lips_make_over_epochs,
     &curves},
    {"trajectories", "Slope and parameter gradient over training",
     LINES
     "Left: mean spectral norm of the input Jacobian (in one dimension: the slope). Right: mean "
     "norm of the per-sample parameter gradient of the loss.",
     LIPS_PAGE_VARIANTS, lips_make_over_epochs, &trajectories},
};
const int lips_figure_count = sizeof lips_figure_rows / sizeof lips_figure_rows[0];

static void close_streams(lips_figure *f)
{
    FILE **const stream[] = {&f->data, &f->body, &f->csv};
    for (int i = 0; i < 3; i++) {
        if (*stream[i])
            fclose(*stream[i]);
        *stream[i] = NULL;
    }
}

static void figure_free(lips_figure *f)
{
    close_streams(f);
    free(f->data_text);
    free(f->body_text);
    free(f->csv_text);
}

static lips_status figure_open(lips_figure *f, const lips_figure_row *row, const lips_report *r,
                               int page, int first, int n)
{
    const char *label = n == 1 ? r->variants[first].label : "";
    *f = (lips_figure){.first_variant = first, .n_variants = n};
    snprintf(f->id, sizeof f->id, page ? "%s-%d" : "%s", row->id, page + 1);
    snprintf(f->title, sizeof f->title, "%.150s%s%.140s", row->title, label[0] ? ": " : "", label);
    snprintf(f->caption, sizeof f->caption, "%s", row->caption);
    f->data = open_memstream(&f->data_text, &f->data_size);
    f->body = open_memstream(&f->body_text, &f->body_size);
    f->csv = open_memstream(&f->csv_text, &f->csv_size);
    if (!f->data || !f->body || !f->csv)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the figure %s", f->id);
    return LIPS_OK;
}

static lips_status list_grow(lips_figure_list *list)
{
    if (list->n < list->cap)
        return LIPS_OK;
    int cap = list->cap ? 2 * list->cap : 32;
    lips_figure *more = realloc(list->figure, (size_t)cap * sizeof *more);
    if (!more)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for %d figures", cap);
    list->figure = more;
    list->cap = cap;
    return LIPS_OK;
}

/* One page of a row; it stays in the list if there was something to draw. */
static lips_status build_page(lips_figure_list *list, const lips_figure_row *row, lips_report *r,
                              const char *dir, lips_gnuplot *g, int page, int first, int n)
{
    lips_figure f;
    lips_status st;
    LIPS_TRY(list_grow(list));
    LIPS_TRY_GOTO(st, figure_open(&f, row, r, page, first, n), fail);
    st = row->make(&f, r, row->spec);
    if (st == LIPS_ERR_DATA) { /* one damaged file takes one figure away, not the report */
        f.drawn = false;
        st = lips_report_warn(r, "The figure \"%s\" is missing: %s", f.title, lips_error());
    }
    if (st != LIPS_OK)
        goto fail;
    close_streams(&f);
    if (!f.drawn) {
        figure_free(&f);
        return LIPS_OK;
    }
    LIPS_TRY_GOTO(st, lips_figure_render(&f, r, dir, g), fail);
    list->figure[list->n++] = f;
    return LIPS_OK;
fail:
    figure_free(&f);
    return st;
}

static lips_status build_row(lips_figure_list *list, const lips_figure_row *row, lips_report *r,
                             const char *dir, lips_gnuplot *g)
{
    int before = list->n, step = r->n_variants;
    if (row->paging != LIPS_PAGE_ONCE)
        step = row->paging == LIPS_PAGE_VARIANTS ? 1 : LIPS_CHUNK;
    int page = 0;
    for (int v = 0; v < r->n_variants && page < LIPS_PAGES_MAX; v += step, page++) {
        int n = r->n_variants - v < step ? r->n_variants - v : step;
        LIPS_TRY(build_page(list, row, r, dir, g, page, v, n));
    }
    if (page * step < r->n_variants)
        LIPS_TRY(lips_report_warn(r, "%s: %d of %d combinations are drawn; the tables have all.",
                                  row->title, page * step, r->n_variants));
    if (list->n == before)
        list->missing[list->n_missing++] = row->title;
    return LIPS_OK;
}

lips_status lips_figures_build(lips_figure_list *list, lips_report *r, const char *dir)
{
    lips_gnuplot g = {.missing = false};
    *list = (lips_figure_list){0};
    list->missing = calloc((size_t)lips_figure_count, sizeof *list->missing);
    if (!list->missing)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for the figures");
    for (int i = 0; i < lips_figure_count && r->n_cells > 0; i++)
        LIPS_TRY(build_row(list, &lips_figure_rows[i], r, dir, &g));
    return LIPS_OK;
}

void lips_figures_free(lips_figure_list *list)
{
    for (int i = 0; i < list->n; i++)
        figure_free(&list->figure[i]);
    free(list->figure);
    free(list->missing);
    *list = (lips_figure_list){0};
}
