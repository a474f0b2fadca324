/* Records of section E: upper bounds on the network's Lipschitz constant, and their place above the
 * measured one. */
#include "base/log.h"
#include "measure/emit.h"

#include <math.h>
#include <stdlib.h>

static lips_record of_weights(const lips_emit *e, int row, double slack, int64_t iterations)
{
    lips_record r = lips_emit_base(e, row, 0, true);
    r.form = LIPS_FORM_VALUE;
    r.estimate = true;
    r.iterations = iterations;
    r.residual = slack;
    return r;
}

/* The talk's bound: no pooling, no norms, nothing added for shortcuts. Off by at most the residual,
 * relative. */
lips_status lips_emit_product(lips_emit *e, int row)
{
    double value = 1, slack = 1;
    int64_t iterations = 0;
    for (int l = 1; l <= e->survey->layers; l++) {
        LIPS_TRY(lips_emit_operator_norm(e, l));
        value *= e->norms[l].op.value;
        slack *= 1 + e->norms[l].op.residual;
        iterations += e->norms[l].op.iterations;
    }
    lips_record r = of_weights(e, row, slack - 1, iterations);
    r.value = value;
    return lips_emit_add(e, &r);
}

lips_status lips_emit_certify(lips_emit *e, double *out, double *slack, int64_t *iterations,
                              const char **reason)
{
    const lips_network_view *net = &e->survey->args->network;
    int layers = e->survey->layers;
    lips_status st = LIPS_OK;
    double plain;
    *iterations = 0;
    double *norm = calloc(2 * ((size_t)layers + 1), sizeof *norm), *wide = norm + layers + 1;
    if (!norm)
        return lips_fail(LIPS_ERR_MEMORY, "measure: out of memory for a bound");
    for (int l = 1; l <= layers; l++) {
        LIPS_TRY_GOTO(st, lips_emit_operator_norm(e, l), out);
        norm[l] = e->norms[l].op.value;
        wide[l] = norm[l] * (1 + e->norms[l].op.residual);
        *iterations += e->norms[l].op.iterations;
    }
    LIPS_TRY_GOTO(st, lips_net_lipschitz(net->net, net->params, net->buffers, norm, &plain, reason),
                  out);
    LIPS_TRY_GOTO(st, lips_net_lipschitz(net->net, net->params, net->buffers, wide, out, reason),
                  out);
    *slack = plain > 0 ? *out / plain - 1 : *out;
out:
    free(norm);
    return st;
}

lips_status lips_emit_certified(lips_emit *e, int row)
{
    double value, slack;
    int64_t iterations;
    const char *reason;
    LIPS_TRY(lips_emit_certify(e, &value, &slack, &iterations, &reason));
    if (reason) {
        lips_record r = lips_emit_base(e, row, 0, true);
        r.form = LIPS_FORM_NULL;
        r.reason = reason;
        return lips_emit_add(e, &r);
    }
    lips_record r = of_weights(e, row, slack, iterations);
    r.value = value;
    return lips_emit_add(e, &r);
}

void lips_chain_judge(lips_record *r, const lips_chain *c)
{
    const double room = 1 + c->rounding;
    r->reason = c->no_bound;
    if (!r->reason && (isnan(c->mean) || isnan(c->max) || isnan(c->certified)))
        r->reason = "one of the norms is not a number";
    r->form = r->reason ? LIPS_FORM_NULL : LIPS_FORM_VALUE;
    if (r->form == LIPS_FORM_NULL)
        return;
    if (c->mean > c->max * room)
        r->reason = "the mean of the norms is above their maximum";
    else if (c->max > c->certified * room)
        r->reason = "the largest norm is above the certified bound";
    r->value = r->reason ? 0 : 1;
}

lips_status lips_emit_chain(lips_emit *e, int row)
{
    const lips_survey *p = e->survey;
    const double *op = lips_survey_find(p, "jacobian", 0)->v[0]; /* of the logits, the first */
    /* Rounding of the measured side; a network of width 1 has equality. */
    lips_chain c = {.rounding = p->args->ops->real_bytes == 8 ? 1e-9 : 1e-5};
    double slack;
    int64_t iterations;
    lips_record r = lips_emit_base(e, row, 0, false);
    LIPS_TRY(lips_emit_certify(e, &c.certified, &slack, &iterations, &c.no_bound));
    for (int64_t i = 0; i < p->n; i++) {
        c.mean += op[i] / (double)p->n;
        c.max = op[i] > c.max || isnan(op[i]) ? op[i] : c.max; /* once NaN, it stays */
    }
    lips_chain_judge(&r, &c);
    if (r.form == LIPS_FORM_VALUE && r.reason)
        lips_warn("lipschitz.chain: %s: mean %.9g, max %.9g, certified %.9g", r.reason, c.mean,
                  c.max, c.certified);
    return lips_emit_add(e, &r);
}
