/* report/figure_table.c - the table of figures. */
#include "report/figure.h"

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
               .curve = {{"", LATEST(.quantity = "distance.layer"), true}},
               .n = 1}},
    .n = 1};

#define LAYER(quantity_, ...)                                                                      \
    {                                                                                              \
        .quantity = quantity_, .split = "train", .epoch = LIPS_LATEST, __VA_ARGS__                 \
    }

static const lips_panels bound_layer = {
    .panel = {{.y_label = "E‖∂f/∂x_{l−1}‖₂ and its bound",
               .scale = LIPS_SCALE_LOG,
               .curve = {{"left side", LAYER("bound.layer", .output = "left"), true},
                         {"right side", LAYER("bound.layer", .output = "right"), true, 1}},
               .n = 2},
              {.y_label = "left / right",
               .scale = LIPS_SCALE_LOG,
               .curve = {{"ratio", LAYER("bound.layer", .output = "ratio"), true}},
               .n = 1},
              {.y_label = "samples that violate it",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"share", LAYER("bound.layer", .output = "violations"), true}},
               .n = 1}},
    .n = 3};

static const lips_panels depth = {
    .panel = {{.y_label = "mean ‖∂f/∂x_{l−1}‖₂",
               .curve = {{"", LAYER("layer.input_jacobian", .norm = "op"), true}},
               .n = 1},
              {.y_label = "mean ‖∂f/∂θ_l‖₂",
               .curve = {{"", LAYER("layer.param_jacobian", .norm = "op"), true}},
               .n = 1}},
    .n = 2,
    .columns = 2};

#define PARAM_GRAD(quantity_) LAYER(quantity_, .output = "norm")

static const lips_panels lipschitz = {
    .panel = {{.y_label = "bounds on the Lipschitz constant",
               .scale = LIPS_SCALE_LOG,
               .curve = {{"measured, mean", JACOBIAN("op", "logits"), false},
                         {"measured, largest",
                          {.quantity = "jacobian",
                           .norm = "op",
                           .output = "logits",
                           .split = "train",
                           .epoch = LIPS_LATEST,
                           .stat = LIPS_STAT_MAX},
                          false},
                         {"certified", LATEST(.quantity = "lipschitz.certified"), false},
                         {"product of norms", LATEST(.quantity = "lipschitz.product"), false, 1}},
               .n = 4,
               .context = 2}},
    .n = 1};

#define PROBE(name_)                                                                               \
    {                                                                                              \
        name_,                                                                                     \
            LATEST(.quantity = "jacobian", .norm = "op", .output = "logits",                       \
                   .split = "probe:" name_),                                                       \
            false                                                                                  \
    }

static const lips_panels probes = {
    .panel = {{.y_label = "mean ‖∂f/∂x‖₂",
               .curve = {{"training data", JACOBIAN("op", "logits"), false},
                         PROBE("uniform"),
                         PROBE("normal"),
                         PROBE("hypersphere"),
                         PROBE("jitter"),
                         PROBE("path")},
               .n = 6,
               .context = 1}},
    .n = 1};

static const lips_panels landscape = {
    .panel = {{.y_label = "mean gradient norm of a sample's loss",
               .curve = {{"of the input", PARAM_GRAD("landscape.input_grad"), false},
                         {"of all parameters", PARAM_GRAD("landscape.param_grad"), false},
                         {"of the first layer", PARAM_GRAD("landscape.param_grad_layer1"), false}},
               .n = 3},
              {.y_label = "trace",
               .curve = {{"Hessian", LATEST(.quantity = "hessian.trace"), false},
                         {"Gauss–Newton", LATEST(.quantity = "ggn.trace"), false, 1}},
               .n = 2},
              {.y_label = "largest eigenvalue",
               .curve = {{"Hessian", LATEST(.quantity = "hessian.lambda_max"), false},
                         {"Gauss–Newton", LATEST(.quantity = "ggn.lambda_max"), false, 1}},
               .n = 2},
              {.y_label = "alignment",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"minibatch gradient in top eigenvectors",
                          LATEST(.quantity = "hessian.alignment"), false}},
               .n = 1}},
    .n = 4};

static const lips_panels bound_landscape = {
    .panel =
        {{.y_label = "(h₁/‖θ₁‖) E‖∇ₓL‖ ≤ E‖∇_{θ₁}L‖",
          .scale = LIPS_SCALE_LOG,
          .curve = {{"left side", LAYER("bound.landscape", .output = "input.left"), false},
                    {"right side", LAYER("bound.landscape", .output = "input.right"), false, 1}},
          .n = 2},
         {.y_label = "E‖∇_θL‖² ≤ 2 L_{max} tr H",
          .scale = LIPS_SCALE_LOG,
          .curve = {{"left side", LAYER("bound.landscape", .output = "param.left"), false},
                    {"right side", LAYER("bound.landscape", .output = "param.right"), false, 1}},
          .n = 2,
          .first_colour = 2}},
    .n = 2};

static const lips_panels logit_hessian = {
    .panel = {{.y_label = "mean eigenvalue",
               .scale = LIPS_SCALE_LOG,
               .curve = {{"largest", LAYER("logit_hessian.max"), false},
                         {"smallest but one", LAYER("logit_hessian.min_nonzero"), false}},
               .n = 2},
              {.y_label = "degenerate share",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"largest below 1e-6", LAYER("logit_hessian.degenerate"), false}},
               .n = 1,
               .first_colour = 2}},
    .n = 2};

static const lips_panels maps = {
    .panel = {{.y_label = "mean ‖∂f/∂x‖₂ on training data",
               .curve = {{"", JACOBIAN("op", "logits"), false}},
               .n = 1},
              {.y_label = "test error",
               .scale = LIPS_SCALE_LINEAR,
               .curve = {{"", LATEST(.quantity = "error", .split = "test"), false}},
               .n = 1,
               .otherwise = &loss_panel},
              {.y_label = "train loss",
               .curve = {{"", LATEST(.quantity = "loss", .split = "train"), false}},
               .n = 1}},
    .n = 3,
    .columns = 3};

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
     "Below, on the same axis: the spectral norm of the input Jacobian of the logits with respect "
     "to "
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
     "mean. The losses over training are in a figure of their own, below. " SPREAD,
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
     LINES "As far as they were measured: the mean spectral norm of the input Jacobian (in one "
           "dimension: "
           "the slope), and the mean norm of the per-sample parameter gradient of the loss.",
     LIPS_PAGE_VARIANTS, lips_make_over_epochs, &trajectories},
    {"maps", "Norm, error and loss over width and epoch",
     "Each box is a width and an evaluated or measured epoch (0: the initialisation), its colour "
     "the "
     "mean over the seeds that have it; where seeds stopped early, fewer are left above.",
     LIPS_PAGE_VARIANTS, lips_make_maps, &maps},
    {"bound-layer", "The layer inequality",
     "E‖∂f/∂xₗ₋₁‖₂ ≤ (‖θₗ‖₂ / hₗ) E‖∂f/∂θₗ‖₂, with hₗ the smallest ‖xₗ₋₁‖ of a sample. "
     "Above: "
     "left side (full lines) and right side (dashed). Below: their ratio, and the share of samples "
     "for "
     "which the inequality fails with the sample's own norms. Left out: where hₗ = 0. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &bound_layer},
    {"depth", "Layer norms by depth",
     "Spectral norms of the Jacobian of the logits with respect to the input and to the weight of "
     "each "
     "layer, averaged over training samples, and over seeds: one line for each width.",
     LIPS_PAGE_VARIANTS, lips_make_over_depth, &depth},
    {"lipschitz", "Lower and upper bounds on the Lipschitz constant",
     "Mean and largest spectral norm of the input Jacobian over training samples, the largest "
     "being a "
     "lower bound on the Lipschitz constant; the certified upper bound; and the product of the "
     "layers' "
     "spectral norms. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &lipschitz},
    {"probes", "Smoothness away from data",
     "Mean spectral norm of the input Jacobian of the logits, on training data and on inputs that "
     "are "
     "not data. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &probes},
    {"landscape", "Loss landscape",
     "Gradient norms of the loss of single training samples; trace and largest eigenvalue of the "
     "Hessian "
     "of the mean loss; share of a minibatch gradient's square that lies in the Hessian's top "
     "eigenvectors. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &landscape},
    {"bound-landscape", "The landscape inequalities",
     "Both sides of each: left full, right dashed. The mean loss has the trace tr H, Lₘₐₓ is the "
     "largest loss of a sample. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &bound_landscape},
    {"logit-hessian", "Hessian of the cross-entropy in the logits",
     "Eigenvalues of diag(p) − p pᵀ, averaged over training samples (the smallest is always 0), "
     "and the "
     "share of samples for which even the largest is below 1e-6. " SPREAD,
     LIPS_PAGE_VARIANTS, lips_make_over_width, &logit_hessian},
};
const int lips_figure_count = sizeof lips_figure_rows / sizeof lips_figure_rows[0];
