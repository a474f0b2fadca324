/* Records of section H that come from the curvature of the mean loss: traces, eigenvalues,
 * alignment. */
#include "measure/emit.h"

#include "base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOP = 10,
    MINIBATCH = 128, /* samples of a minibatch gradient: the training protocol's batch */
    /* Products that a search usually takes (configs/fashion-mlp-small.yaml: 40 to 50, 10 to 15),
     * and forward passes of one (nn/second.h). */
    STEPS_TOP = 45,
    STEPS_ONE = 15,
    HESSIAN_PASSES = 6,
    GGN_PASSES = 4
};

/* For the activations and cotangents of the subset, beside the products' own memory. */
static size_t keep_of(const lips_survey *p)
{
    const size_t pass = p->args->ops->pass_bytes;
    return pass ? 2 * pass : (size_t)1 << 30;
}

/* Wanted |Hv - lv| / |l|; and what rounding of a product may leave, relative to |H|. */
static const double TOLERANCE = 1e-4, NOISE_F64 = 1e-12, NOISE_F32 = 1e-6;

static bool is_ggn(int row)
{
    return strncmp(lips_quantities[row].name, "ggn.", 4) == 0;
}

static lips_status emit_null(lips_emit *e, int row, int layer, const char *reason)
{
    return lips_emit_part_null(e, row, layer, NULL, reason);
}

/* ---- traces ---- */

lips_status lips_emit_need_remainder(lips_emit *e)
{
    const lips_survey *p = e->survey;
    lips_curvature *c = NULL;
    if (e->remainder)
        return LIPS_OK;
    double *r = calloc((size_t)(2 * (p->layers + 1)), sizeof *r);
    if (!r)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for a trace");
    lips_status st = lips_curvature_create(&c, p, p->n, 0);
    if (st == LIPS_OK)
        st = lips_curvature_remainder(c, r, r + p->layers + 1, &e->draws);
    lips_curvature_free(c);
    if (st != LIPS_OK) {
        free(r);
        return st;
    }
    e->remainder = r;
    return LIPS_OK;
}

/* Mean over samples of tr((d2L/dz2) Theta), with its error over samples; of the Hessian of a
 * network with curved maps plus the remainder's estimate, with that one's error. */
static lips_status emit_trace(lips_emit *e, int row, int layer)
{
    const lips_series *s = lips_survey_find(e->survey, "ggn.trace", layer);
    lips_record r = lips_emit_base(e, row, layer, false);
    LIPS_TRY(lips_record_stats(&r, s->v[0], e->survey->n));
    r.form = LIPS_FORM_VALUE;
    r.value = r.mean;
    r.estimate = r.exact = true;
    if (!is_ggn(row) && lips_net_curved(e->survey->net)) {
        LIPS_TRY(lips_emit_need_remainder(e));
        r.value += e->remainder[layer];
        r.std_err = e->remainder[e->survey->layers + 1 + layer];
        r.iterations = e->draws;
        r.exact = false;
    }
    return lips_emit_add(e, &r);
}

lips_status lips_emit_trace(lips_emit *e, int row)
{
    const char *reason = is_ggn(row) ? NULL : e->survey->no_loss;
    for (int l = 0; l <= e->survey->layers; l++)
        LIPS_TRY(reason ? emit_null(e, row, l, reason) : emit_trace(e, row, l));
    return LIPS_OK;
}

/* ---- eigenvalues ---- */

static int64_t subset(const lips_survey *p)
{
    int64_t n = p->args->curvature_n;
    return n > 0 && n < p->n ? n : p->n;
}

static lips_status engine(lips_emit *e)
{
    return e->curvature ? LIPS_OK
                        : lips_curvature_create(&e->curvature, e->survey, subset(e->survey),
                                                keep_of(e->survey));
}

/* A matrix by its products, for vectors in the memory of be. */
typedef struct matrix {
    lips_curvature *curvature;
    lips_backend *be;
    bool ggn;
} matrix;

static lips_status apply(void *user, double *out, const double *v)
{
    const matrix *m = user;
    return lips_curvature_product(m->curvature, m->be, out, v, m->ggn);
}

static bool wants(const lips_survey *p, const char *name)
{
    return (p->wanted >> lips_quantity_find(name)) & 1;
}

/* Pairs of the Hessian that the wanted rows need. */
static int hessian_pairs(const lips_survey *p)
{
    int64_t params = lips_net_params(p->net);
    if (!wants(p, "hessian.top") && !wants(p, "hessian.alignment"))
        return 1;
    return (int)(params < TOP ? params : TOP);
}

static bool asks(const lips_metrics *m, const char *name)
{
    return lips_metrics_has(m, lips_quantity_find(name));
}

double lips_measure_curvature_passes(const lips_metrics *m)
{
    bool top = asks(m, "hessian.top") || asks(m, "hessian.alignment");
    int products = top ? STEPS_TOP + TOP : asks(m, "hessian.lambda_max") ? STEPS_ONE + 1 : 0;
    int ggn = asks(m, "ggn.lambda_max") ? STEPS_ONE + 1 : 0;
    return HESSIAN_PASSES * products + GGN_PASSES * ggn;
}

double lips_measure_remainder_passes(const lips_metrics *m, const lips_net *net,
                                     const lips_ops *ops, int64_t n)
{
    if (!lips_net_curved(net) || !(asks(m, "hessian.trace") || asks(m, "bound.landscape")))
        return 0;
    const int64_t block = lips_survey_sum_block(net, ops, n);
    return (double)(HESSIAN_PASSES * lips_curvature_probes((n + block - 1) / block));
}

static bool wants_hessian(const lips_survey *p)
{
    return !p->no_loss && (wants(p, "hessian.lambda_max") || wants(p, "hessian.top") ||
                           wants(p, "hessian.alignment"));
}

/* Of all vectors. The Hessian's stay while the Gauss-Newton matrix's are sought, or a gradient is
 * compared with them. */
static double vector_bytes(const lips_survey *p)
{
    return lips_lanczos_bytes(lips_net_params(p->net), wants_hessian(p) ? hessian_pairs(p) + 1 : 1);
}

/* Vectors that take more than half of a device's memory are with the host. */
static lips_status vectors_fit(const lips_survey *p, bool *fit)
{
    lips_device d;
    LIPS_TRY(p->args->ops->probe(&d, p->args->device));
    *fit = d.bytes == 0 || vector_bytes(p) <= (double)d.bytes / 2;
    return LIPS_OK;
}

/* Of the eigenvalues' engine and vectors. */
static lips_status eigen_bytes(const lips_survey *p, size_t *bytes)
{
    bool fit;
    *bytes = 0;
    if (!wants_hessian(p) && !wants(p, "ggn.lambda_max"))
        return LIPS_OK;
    LIPS_TRY(vectors_fit(p, &fit));
    const lips_curvature_use use = {
        .samples = subset(p),
        .keep = keep_of(p),
        .host = !fit,
        .vectors = fit ? lips_lanczos_vectors(lips_net_params(p->net), hessian_pairs(p)) : 0};
    LIPS_TRY(lips_curvature_plan_bytes(p, &use, bytes));
    *bytes += (size_t)vector_bytes(p);
    return LIPS_OK;
}

static bool needs_remainder(const lips_survey *p)
{
    return lips_net_curved(p->net) && !p->no_loss &&
           (wants(p, "hessian.trace") || wants(p, "bound.landscape"));
}

lips_status lips_emit_plan_bytes(const lips_survey *p, size_t *bytes)
{
    size_t remainder = 0;
    LIPS_TRY(eigen_bytes(p, bytes));
    if (needs_remainder(p)) {
        const lips_curvature_use use = {.samples = p->n, .remainder = true, .vectors = 1};
        LIPS_TRY(lips_curvature_plan_bytes(p, &use, &remainder));
        remainder += (size_t)(2 * (p->layers + 1)) * sizeof(double);
    }
    *bytes += remainder; /* the eigenvalues' engine may be there already */
    return LIPS_OK;
}

static lips_status search(lips_emit *e, bool ggn, lips_backend *be, lips_eigenpairs *pairs)
{
    const lips_survey *p = e->survey;
    matrix m = {.curvature = e->curvature, .be = be, .ggn = ggn};
    return lips_lanczos(pairs, &(lips_lanczos_args){
                                   .be = be,
                                   .apply = apply,
                                   .user = &m,
                                   .n = lips_net_params(p->net),
                                   .k = ggn ? 1 : hessian_pairs(p),
                                   .tolerance = TOLERANCE,
                                   .noise = p->args->ops->real_bytes == 8 ? NOISE_F64 : NOISE_F32});
}

static lips_status search_on_host(lips_emit *e, bool ggn, lips_eigenpairs *pairs)
{
    if (!e->host) {
        lips_info(
            "measure: %.3g GB of vectors for eigenvalues are with the host, not on the device",
            vector_bytes(e->survey) * 1e-9);
        LIPS_TRY(lips_backend_find("cpu")->open(&e->host, 0));
    }
    return search(e, ggn, e->host, pairs);
}

/* By vectors on the device where they fit; the same bits otherwise. */
static lips_status eigen(lips_emit *e, bool ggn, const lips_eigenpairs **out)
{
    lips_eigenpairs *pairs = ggn ? &e->ggn : &e->hessian;
    bool fit;
    *out = pairs;
    if (pairs->value)
        return LIPS_OK;
    LIPS_TRY(engine(e));
    LIPS_TRY(vectors_fit(e->survey, &fit));
    lips_status st = LIPS_ERR_MEMORY;
    if (fit && !e->host)
        st = search(e, ggn, lips_curvature_backend(e->curvature), pairs);
    return st == LIPS_ERR_MEMORY && e->survey->args->ops->pass_bytes ? search_on_host(e, ggn, pairs)
                                                                     : st;
}

void lips_emit_drop_curvature(lips_emit *e)
{
    free(e->remainder);
    lips_eigenpairs_free(&e->hessian); /* before the handles whose memory they are in */
    lips_eigenpairs_free(&e->ggn);
    lips_curvature_free(e->curvature);
    if (e->host)
        e->host->ops->close(e->host);
}

/* Products with a Hessian are f32's both ways, whatever the blocks' passes take. */
static lips_record product_base(const lips_emit *e, int row)
{
    lips_record r = lips_emit_base(e, row, 0, false);
    r.precision =
        lips_precision_label(e->survey->args->ops, LIPS_PRECISION_F32, LIPS_PRECISION_F32);
    return r;
}

static lips_status emit_pair(lips_emit *e, int row, const lips_eigenpairs *pairs, int i, int rank)
{
    lips_record r = product_base(e, row);
    r.n = subset(e->survey);
    r.rank = rank;
    if (i >= pairs->found) {
        r.form = LIPS_FORM_NULL;
        r.reason = "the iterations ended before it was found";
        return lips_emit_add(e, &r);
    }
    r.form = LIPS_FORM_VALUE;
    r.value = pairs->value[i];
    r.estimate = true;
    r.residual = pairs->residual[i];
    r.iterations = pairs->iterations;
    return lips_emit_add(e, &r);
}

lips_status lips_emit_lambda_max(lips_emit *e, int row)
{
    const lips_eigenpairs *pairs;
    if (!is_ggn(row) && e->survey->no_loss)
        return emit_null(e, row, 0, e->survey->no_loss);
    LIPS_TRY(eigen(e, is_ggn(row), &pairs));
    return emit_pair(e, row, pairs, 0, 0);
}

/* One record per eigenvalue, the largest first. */
lips_status lips_emit_top(lips_emit *e, int row)
{
    const lips_eigenpairs *pairs;
    if (e->survey->no_loss)
        return emit_null(e, row, 0, e->survey->no_loss);
    LIPS_TRY(eigen(e, false, &pairs));
    for (int i = 0; i < hessian_pairs(e->survey); i++)
        LIPS_TRY(emit_pair(e, row, pairs, i, i + 1));
    return LIPS_OK;
}

/* ---- alignment ---- */

/* A gradient on its way through the minibatches, in the memory of the pairs. */
typedef struct gradient {
    double *g;      /* (P) */
    double *square; /* (1) shared: |g|^2, */
    double *along;  /* (found) and <g, v_j> */
} gradient;

/* Puts g to a size whose square is a number: at interpolation it may be below 1e-154. */
static lips_status resize(const lips_eigenpairs *pairs, const gradient *at)
{
    const lips_ops *ops = pairs->be->ops;
    for (int i = 0; i < 4; i++) {
        LIPS_TRY(ops->dots(
            pairs->be, &(lips_dots_args){
                           .out = at->square, .q = at->g, .w = at->g, .count = 1, .n = pairs->n}));
        LIPS_TRY(ops->sync(pairs->be));
        const bool small = *at->square<0x1p-900, large = *at->square> 0x1p900;
        if (!small && !large)
            break;
        LIPS_TRY(ops->combine(
            pairs->be,
            &(lips_combine_args){.y = at->g, .keep = small ? 0x1p400 : 0x1p-400, .n = pairs->n}));
    }
    return LIPS_OK;
}

/* *share = sum_j <g, v_j>^2 / |g|^2; -1 where g is zero. */
static lips_status aligned(const lips_eigenpairs *pairs, const gradient *at, double *share)
{
    const lips_ops *ops = pairs->be->ops;
    double along = 0;
    LIPS_TRY(resize(pairs, at));
    *share = -1;
    if (*at->square == 0)
        return LIPS_OK;
    if (pairs->found == 0) {
        *share = 0;
        return LIPS_OK;
    }
    LIPS_TRY(ops->dots(pairs->be, &(lips_dots_args){.out = at->along,
                                                    .q = pairs->vector,
                                                    .w = at->g,
                                                    .count = pairs->found,
                                                    .n = pairs->n}));
    LIPS_TRY(ops->sync(pairs->be));
    for (int j = 0; j < pairs->found; j++)
        along += at->along[j] * at->along[j];
    *share = along / *at->square;
    return LIPS_OK;
}

/* Shares of the minibatches with a gradient, into share; their number. */
static lips_status align_all(lips_emit *e, const lips_eigenpairs *pairs, double *share,
                             int64_t *count)
{
    int64_t n = e->survey->n, size = n < MINIBATCH ? n : MINIBATCH;
    const lips_ops *ops = pairs->be->ops;
    lips_status st = LIPS_OK;
    void *g = NULL, *shared = NULL;
    *count = 0;
    LIPS_TRY_GOTO(st, ops->alloc(pairs->be, &g, (size_t)pairs->n * sizeof(double)), out);
    LIPS_TRY_GOTO(
        st, ops->alloc_shared(pairs->be, &shared, (size_t)(1 + pairs->found) * sizeof(double)),
        out);
    const gradient at = {.g = g, .square = shared, .along = (double *)shared + 1};
    for (int64_t first = 0; first + size <= n; first += size) {
        LIPS_TRY_GOTO(st, lips_curvature_gradient(e->curvature, pairs->be, at.g, first, size), out);
        LIPS_TRY_GOTO(st, aligned(pairs, &at, &share[*count]), out);
        *count += share[*count] != -1;
    }
out:
    ops->release(pairs->be, g);
    ops->release(pairs->be, shared);
    return st;
}

/* Statistics over minibatches of consecutive measured samples; n: the samples in all of them. */
lips_status lips_emit_alignment(lips_emit *e, int row)
{
    const lips_eigenpairs *pairs;
    lips_record r = product_base(e, row);
    lips_status st = LIPS_OK;
    int64_t count, n = e->survey->n;
    if (e->survey->no_loss)
        return emit_null(e, row, 0, e->survey->no_loss);
    LIPS_TRY(eigen(e, false, &pairs));
    double *share = calloc((size_t)(n / MINIBATCH + 1), sizeof *share);
    if (!share)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for alignments");
    LIPS_TRY_GOTO(st, align_all(e, pairs, share, &count), out);
    if (count == 0) {
        st = emit_null(e, row, 0, "every minibatch's gradient is zero");
        goto out;
    }
    LIPS_TRY_GOTO(st, lips_record_stats(&r, share, count), out);
    r.n = n < MINIBATCH ? n : n - n % MINIBATCH;
    r.estimate = true;
    r.iterations = pairs->iterations;
    r.residual = 0;
    for (int j = 0; j < pairs->found; j++)
        r.residual = !(pairs->residual[j] <= r.residual) ? pairs->residual[j] : r.residual;
    LIPS_TRY_GOTO(st, lips_emit_add(e, &r), out);
out:
    free(share);
    return st;
}
