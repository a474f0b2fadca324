#include "config/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bounds of ranges: up to here int64 and double hold the same whole numbers and no sum overflows.
 */
static const double WHOLE_MAX = 9007199254740992.0; /* 2^53 */

static bool is_number(const lips_option *o)
{
    return o->type == LIPS_OPTION_INT || o->type == LIPS_OPTION_UINT || o->type == LIPS_OPTION_REAL;
}

static lips_status add_value(lips_values *out, const lips_option *o, const char *text)
{
    if (out->n == LIPS_VALUES_MAX)
        return lips_fail(LIPS_ERR_USAGE, "has more than %d values", LIPS_VALUES_MAX);
    if (out->n == out->cap) {
        int64_t cap = out->cap ? out->cap * 2 : 16;
        void *grown = realloc(out->v, (size_t)cap * sizeof *out->v);
        if (!grown)
            return lips_fail(LIPS_ERR_MEMORY, "no memory for %lld values", (long long)cap);
        out->v = grown;
        out->cap = cap;
    }
    lips_config scratch; /* only the field of o is written and read */
    LIPS_TRY(lips_option_set(o, &scratch, text));
    lips_option_print(o, &scratch, out->v[out->n++], LIPS_VALUE_MAX);
    return LIPS_OK;
}

static lips_status add_real(lips_values *out, const lips_option *o, double v, int digits)
{
    char text[32];
    /* Rounded to few digits: 0.1 + 0.2 is meant to be 0.3, and pow() differs between machines in
     * its last bit. */
    snprintf(text, sizeof text, "%.*g", digits, v);
    return add_value(out, o, text);
}

static lips_status add_whole_range(lips_values *out, const lips_option *o, int64_t a, int64_t b,
                                   int64_t step, bool with_b)
{
    int64_t span = step > 0 ? b - a : a - b, stride = step > 0 ? step : -step;
    int64_t n = with_b ? span / stride + 1 : (span + stride - 1) / stride;
    if (span < 0 || n <= 0)
        return lips_fail(LIPS_ERR_USAGE, "gives no value");
    if (n > LIPS_VALUES_MAX)
        return lips_fail(LIPS_ERR_USAGE, "has more than %d values", LIPS_VALUES_MAX);
    for (int64_t i = 0; i < n; i++) {
        char text[32];
        snprintf(text, sizeof text, "%lld", (long long)(a + i * step));
        LIPS_TRY(add_value(out, o, text));
    }
    return LIPS_OK;
}

static lips_status add_real_range(lips_values *out, const lips_option *o, double a, double b,
                                  double step)
{
    /* A last value within 1e-9 of a step of b counts as b, which is excluded. */
    double n = ceil((b - a) / step - 1e-9);
    if (!(n >= 1))
        return lips_fail(LIPS_ERR_USAGE, "gives no value");
    if (n > LIPS_VALUES_MAX)
        return lips_fail(LIPS_ERR_USAGE, "has more than %d values", LIPS_VALUES_MAX);
    for (int64_t i = 0; i < (int64_t)n; i++)
        LIPS_TRY(add_real(out, o, a + (double)i * step, 12));
    return LIPS_OK;
}

static bool whole(double v)
{
    return floor(v) == v && fabs(v) <= WHOLE_MAX;
}

static lips_status add_range(lips_values *out, const lips_option *o, const double *v, int n)
{
    double step = n == 3 ? v[2] : 1;
    if (n < 2 || n > 3 || step == 0)
        return lips_fail(LIPS_ERR_USAGE, "needs range(first, end) or range(first, end, step), "
                                         "step not 0; end is excluded");
    if (o->type == LIPS_OPTION_REAL)
        return add_real_range(out, o, v[0], v[1], step);
    if (!whole(v[0]) || !whole(v[1]) || !whole(step))
        return lips_fail(LIPS_ERR_USAGE, "needs whole numbers in range()");
    return add_whole_range(out, o, (int64_t)v[0], (int64_t)v[1], (int64_t)step, false);
}

static lips_status add_logspace(lips_values *out, const lips_option *o, const double *v, int n)
{
    if (n != 3 || !(v[0] > 0) || !(v[1] > 0) || !whole(v[2]) || v[2] < 1 || v[2] > LIPS_VALUES_MAX)
        return lips_fail(LIPS_ERR_USAGE,
                         "needs logspace(first, last, count), first and last above "
                         "0, count from 1 to %d",
                         LIPS_VALUES_MAX);
    int64_t count = (int64_t)v[2];
    double lo = log(v[0]), step = count > 1 ? (log(v[1]) - lo) / (double)(count - 1) : 0;
    double before = -1;
    for (int64_t i = 0; i < count; i++) {
        double x = i == 0 ? v[0] : i == count - 1 ? v[1] : exp(lo + step * (double)i);
        if (o->type != LIPS_OPTION_REAL) {
            x = rint(x);
            if (x == before)
                continue;
            before = x;
            LIPS_TRY(add_real(out, o, x, 17));
        } else {
            LIPS_TRY(add_real(out, o, x, i == 0 || i == count - 1 ? 17 : 6));
        }
    }
    return LIPS_OK;
}

/* "name(1, 2.5)": reads the numbers; -1 if item is no call of name, -2 if it is a malformed one. */
static int read_call(const char *item, const char *name, double v[3])
{
    size_t len = strlen(name);
    if (strncmp(item, name, len) != 0 || item[len] != '(')
        return -1;
    int n = 0;
    for (const char *p = item + len + 1;;) {
        char number[LIPS_VALUE_MAX];
        p += strspn(p, " ");
        size_t digits = strcspn(p, " ,)");
        if (n == 3 || digits >= sizeof number)
            return -2;
        memcpy(number, p, digits);
        number[digits] = '\0';
        if (!lips_read_real(number, &v[n++]))
            return -2;
        p += digits;
        p += strspn(p, " ");
        if (*p == ')')
            return p[1] == '\0' ? n : -2;
        if (*p++ != ',')
            return -2;
    }
}

/* "0..4": both ends included. */
static bool read_dots(const char *item, int64_t *a, int64_t *b)
{
    const char *dots = strstr(item, "..");
    char first[LIPS_VALUE_MAX];
    if (!dots || (size_t)(dots - item) >= sizeof first)
        return false;
    memcpy(first, item, (size_t)(dots - item));
    first[dots - item] = '\0';
    return lips_read_int(first, a) && lips_read_int(dots + 2, b) && whole((double)*a) &&
           whole((double)*b);
}

lips_status lips_values_add(lips_values *out, const lips_option *o, const char *item)
{
    double v[3];
    int64_t a, b;
    if (!is_number(o))
        return add_value(out, o, item);
    int n = read_call(item, "range", v);
    if (n > 0)
        return add_range(out, o, v, n);
    if (n == -1 && (n = read_call(item, "logspace", v)) > 0)
        return add_logspace(out, o, v, n);
    if (n == -2)
        return lips_fail(LIPS_ERR_USAGE, "needs range(first, end[, step]) or "
                                         "logspace(first, last, count), with numbers");
    if (o->type != LIPS_OPTION_REAL && read_dots(item, &a, &b))
        return add_whole_range(out, o, a, b, 1, true);
    return add_value(out, o, item);
}

lips_status lips_values_add_list(lips_values *out, const lips_option *o, const char *list)
{
    char *copy = strdup(list);
    if (!copy)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for a list of values");
    lips_status st = LIPS_OK;
    char *start = copy;
    bool inside = false; /* parentheses */
    for (char *p = copy; st == LIPS_OK && start; p++) {
        if (*p == '(' || *p == ')')
            inside = *p == '(';
        if (*p != '\0' && (*p != ',' || inside))
            continue;
        bool last = *p == '\0';
        *p = '\0';
        start += strspn(start, " ");
        for (char *end = p; end > start && end[-1] == ' ';)
            *--end = '\0';
        st = lips_values_add(out, o, start);
        start = last ? NULL : p + 1;
    }
    free(copy);
    return st;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

lips_status lips_values_check_unique(const lips_values *values)
{
    if (values->n < 2)
        return LIPS_OK;
    const char **sorted = malloc((size_t)values->n * sizeof *sorted);
    if (!sorted)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for %lld values", (long long)values->n);
    for (int64_t i = 0; i < values->n; i++)
        sorted[i] = values->v[i];
    qsort(sorted, (size_t)values->n, sizeof *sorted, compare_text);
    lips_status st = LIPS_OK;
    for (int64_t i = 1; i < values->n && st == LIPS_OK; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            st = lips_fail(LIPS_ERR_USAGE, "has the value %s twice", sorted[i]);
    free(sorted);
    return st;
}

void lips_values_free(lips_values *values)
{
    free(values->v);
    *values = (lips_values){0};
}
