#include "base/record.h"
#include "base/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 1 << 16 }; /* a record is some hundred bytes */

lips_record lips_record_init(const char *quantity)
{
    return (lips_record){.quantity = quantity, .epoch = -1, .iterations = -1, .residual = NAN};
}

/* ---- statistics ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at;
    double frac = at - (double)i;
    /* Not through inf - inf or inf * 0 where the answer is plain. */
    if (i + 1 >= n || frac == 0 || sorted[i] == sorted[i + 1])
        return sorted[i];
    return sorted[i] + (sorted[i + 1] - sorted[i]) * frac;
}

lips_status lips_record_stats(lips_record *r, const double *v, int64_t n)
{
    if (n < 1)
        return lips_fail(LIPS_ERR_USAGE, "%s: statistics of %" PRId64 " samples (needs 1 or more)",
                         r->quantity, n);
    double *s = malloc((size_t)n * sizeof *s);
    if (!s)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for statistics of %" PRId64 " samples", n);
    memcpy(s, v, (size_t)n * sizeof *s);
    double sum = 0, squares = 0;
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        sum += s[i];
        nan |= isnan(s[i]) != 0;
    }
    r->form = LIPS_FORM_STATS;
    r->n = n;
    r->mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (s[i] - r->mean) * (s[i] - r->mean);
    r->std_err = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : isfinite(sum) ? 0 : NAN;
    if (nan) {
        r->min = r->median = r->q90 = r->max = NAN;
    } else {
        qsort(s, (size_t)n, sizeof *s, by_value);
        r->min = s[0];
        r->median = quantile(s, n, 0.5);
        r->q90 = quantile(s, n, 0.9);
        r->max = s[n - 1];
    }
    free(s);
    return LIPS_OK;
}

/* ---- the fields, once for writing and reading ---- */

static const struct text_field {
    const char *key;
    size_t at;
} head_texts[] = {{"quantity", offsetof(lips_record, quantity)},
                  {"norm", offsetof(lips_record, norm)},
                  {"output", offsetof(lips_record, output)}},
  tail_texts[] = {{"precision", offsetof(lips_record, precision)},
                  {"device", offsetof(lips_record, device)},
                  {"reason", offsetof(lips_record, reason)}},
  middle_texts[] = {{"layer_name", offsetof(lips_record, layer_name)},
                    {"split", offsetof(lips_record, split)}};

static const struct number_field {
    const char *key;
    size_t at;
} stats_fields[] = {
    {"mean", offsetof(lips_record, mean)}, {"std_err", offsetof(lips_record, std_err)},
    {"min", offsetof(lips_record, min)},   {"median", offsetof(lips_record, median)},
    {"q90", offsetof(lips_record, q90)},   {"max", offsetof(lips_record, max)}};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void write_texts(lips_json *j, const lips_record *r, const struct text_field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *s;
        memcpy(&s, (const char *)r + f[i].at, sizeof s);
        if (s)
            lips_json_string(j, f[i].key, s);
    }
}

static void write_numbers(lips_json *j, const lips_record *r)
{
    switch (r->form) {
    case LIPS_FORM_VALUE:
        lips_json_number(j, "value", r->value);
        if (r->estimate)
            lips_json_number(j, "std_err", r->std_err);
        break;
    case LIPS_FORM_STATS:
        for (size_t i = 0; i < COUNT(stats_fields); i++) {
            double v;
            memcpy(&v, (const char *)r + stats_fields[i].at, sizeof v);
            lips_json_number(j, stats_fields[i].key, v);
        }
        break;
    case LIPS_FORM_NULL: lips_json_null(j, "value"); break;
    }
    if (r->form == LIPS_FORM_STATS || r->estimate)
        lips_json_bool(j, "exact", r->exact);
    if (r->estimate && r->iterations >= 0)
        lips_json_int(j, "iterations", r->iterations);
    if (r->estimate && !isnan(r->residual))
        lips_json_number(j, "residual", r->residual);
}

int lips_record_json(const lips_record *r, char *buf, size_t size)
{
    lips_json j = lips_json_start(buf, size);
    lips_json_open(&j, NULL, '{');
    write_texts(&j, r, head_texts, COUNT(head_texts));
    if (r->layer > 0)
        lips_json_int(&j, "layer", r->layer);
    if (r->rank > 0)
        lips_json_int(&j, "rank", r->rank);
    write_texts(&j, r, middle_texts, COUNT(middle_texts));
    if (r->epoch >= 0)
        lips_json_int(&j, "epoch", r->epoch);
    if (r->n > 0)
        lips_json_int(&j, "n", r->n);
    write_numbers(&j, r);
    if (j.nonfinite)
        lips_json_bool(&j, "finite", false);
    if (r->has_seed && r->seed <= INT64_MAX) {
        lips_json_int(&j, "seed", (int64_t)r->seed);
    } else if (r->has_seed) { /* beyond what JSON readers keep as an integer */
        char t[24];
        snprintf(t, sizeof t, "%" PRIu64, r->seed);
        lips_json_string(&j, "seed", t);
    }
    write_texts(&j, r, tail_texts, COUNT(tail_texts));
    lips_json_close(&j, '}');
    return (int)j.len;
}

/* ---- reading ---- */

static lips_status bad_field(const char *key, const char *wanted)
{
    return lips_fail(LIPS_ERR_DATA, "record: \"%s\" is not %s", key, wanted);
}

static lips_status read_number(const json_t *v, const char *key, double *out)
{
    if (json_is_number(v)) {
        *out = json_number_value(v);
        return LIPS_OK;
    }
    const char *s = json_string_value(v);
    if (s && strcmp(s, "nan") == 0)
        *out = NAN;
    else if (s && strcmp(s, "inf") == 0)
        *out = INFINITY;
    else if (s && strcmp(s, "-inf") == 0)
        *out = -INFINITY;
    else
        return bad_field(key, "a number");
    return LIPS_OK;
}

static lips_status read_int(const json_t *v, const char *key, int64_t min, int64_t max,
                            int64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return lips_fail(LIPS_ERR_DATA, "record: \"%s\" is not an integer in %" PRId64 "..%" PRId64,
                         key, min, max);
    *out = json_integer_value(v);
    return LIPS_OK;
}

static lips_status read_seed(const json_t *v, lips_record *r)
{
    r->has_seed = true;
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        r->seed = (uint64_t)json_integer_value(v);
        return LIPS_OK;
    }
    const char *s = json_string_value(v);
    char again[24];
    if (s)
        r->seed = strtoull(s, NULL, 10);
    snprintf(again, sizeof again, "%" PRIu64, r->seed);
    return s && strcmp(s, again) == 0 ? LIPS_OK : bad_field("seed", "a 64-bit natural number");
}

/* Looks key up among n text fields; *found if it is one. */
static lips_status read_text(const json_t *v, const char *key, const struct text_field *f, size_t n,
                             lips_record *r, bool *found)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(f[i].key, key) != 0)
            continue;
        *found = true;
        const char *s = json_string_value(v);
        if (!s)
            return bad_field(key, "a string");
        memcpy((char *)r + f[i].at, &s, sizeof s);
    }
    return LIPS_OK;
}

/* What the lines' members said about form, to be checked for sense at the end. */
typedef struct seen {
    bool value, null, exact, extra; /* extra: iterations or residual */
    unsigned stats;                 /* bit per row of stats_fields */
} seen;

static lips_status read_scalar(const json_t *v, const char *key, lips_record *r, seen *s)
{
    int64_t number = 0;
    if (strcmp(key, "layer") == 0) {
        LIPS_TRY(read_int(v, key, 1, INT_MAX, &number));
        r->layer = (int)number;
    } else if (strcmp(key, "rank") == 0) {
        LIPS_TRY(read_int(v, key, 1, INT_MAX, &number));
        r->rank = (int)number;
    } else if (strcmp(key, "epoch") == 0) {
        LIPS_TRY(read_int(v, key, 0, INT64_MAX, &r->epoch));
    } else if (strcmp(key, "n") == 0) {
        LIPS_TRY(read_int(v, key, 1, INT64_MAX, &r->n));
    } else if (strcmp(key, "iterations") == 0) {
        s->extra = true;
        LIPS_TRY(read_int(v, key, 0, INT64_MAX, &r->iterations));
    } else if (strcmp(key, "residual") == 0) {
        s->extra = true;
        LIPS_TRY(read_number(v, key, &r->residual));
    } else if (strcmp(key, "seed") == 0) {
        LIPS_TRY(read_seed(v, r));
    } else if (strcmp(key, "exact") == 0) {
        if (!json_is_boolean(v))
            return bad_field(key, "true or false");
        s->exact = true;
        r->exact = json_is_true(v);
    } else if (strcmp(key, "finite") == 0) {
        if (!json_is_false(v)) /* written only when false; the numbers say it again */
            return bad_field(key, "false");
    } else if (strcmp(key, "value") == 0 && json_is_null(v)) {
        s->null = true;
    } else if (strcmp(key, "value") == 0) {
        s->value = true;
        LIPS_TRY(read_number(v, key, &r->value));
    } else {
        return lips_fail(LIPS_ERR_DATA, "record: unknown member \"%.60s\"", key);
    }
    return LIPS_OK;
}

static lips_status read_member(const json_t *v, const char *key, lips_record *r, seen *s)
{
    bool found = false;
    LIPS_TRY(read_text(v, key, head_texts, COUNT(head_texts), r, &found));
    LIPS_TRY(read_text(v, key, middle_texts, COUNT(middle_texts), r, &found));
    LIPS_TRY(read_text(v, key, tail_texts, COUNT(tail_texts), r, &found));
    for (size_t i = 0; i < COUNT(stats_fields) && !found; i++) {
        if (strcmp(key, stats_fields[i].key) != 0)
            continue;
        found = true;
        s->stats |= 1U << i;
        double d = 0;
        LIPS_TRY(read_number(v, key, &d));
        memcpy((char *)r + stats_fields[i].at, &d, sizeof d);
    }
    return found ? LIPS_OK : read_scalar(v, key, r, s);
}

/* A value may carry std_err alone (an estimate); statistics come whole. */
static lips_status settle_form(lips_record *r, const seen *s)
{
    const unsigned all = (1U << COUNT(stats_fields)) - 1, std_err_only = 1U << 1;
    if (!r->quantity)
        return lips_fail(LIPS_ERR_DATA, "record: \"quantity\" is missing");
    if (s->value && (s->stats & ~std_err_only) == 0)
        r->form = LIPS_FORM_VALUE;
    else if (s->null && s->stats == 0 && r->reason)
        r->form = LIPS_FORM_NULL;
    else if (!s->value && !s->null && s->stats == all)
        r->form = LIPS_FORM_STATS;
    else
        return lips_fail(LIPS_ERR_DATA,
                         "record: %.60s has neither a value, nor a null with its "
                         "reason, nor all of mean, std_err, min, median, q90, max",
                         r->quantity);
    r->estimate = s->extra || (r->form != LIPS_FORM_STATS && (s->exact || s->stats != 0));
    return LIPS_OK;
}

lips_status lips_record_parse(lips_record_line *out, const char *text, size_t len)
{
    if (len > LINE_MAX_BYTES)
        return lips_fail(LIPS_ERR_DATA, "record: a line of %zu bytes (the limit is %d)", len,
                         LINE_MAX_BYTES);
    json_error_t e;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return lips_fail(LIPS_ERR_DATA, "record: not JSON at byte %d: %s", e.position, e.text);
    lips_status st = LIPS_OK;
    lips_record r = lips_record_init(NULL);
    seen s = {0};
    if (!json_is_object(root))
        st = lips_fail(LIPS_ERR_DATA, "record: not a JSON object");
    const char *key;
    json_t *v;
    json_object_foreach(root, key, v)
    {
        if (st == LIPS_OK)
            st = read_member(v, key, &r, &s);
    }
    if (st == LIPS_OK)
        st = settle_form(&r, &s);
    if (st != LIPS_OK) {
        json_decref(root);
        return st;
    }
    *out = (lips_record_line){.r = r, .storage = root};
    return LIPS_OK;
}

void lips_record_line_free(lips_record_line *line)
{
    json_decref(line->storage);
    *line = (lips_record_line){0};
}
