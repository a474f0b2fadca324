/* config/value.c - one value: strict reading, exact printing. */
#include "config/options.h"

#include "base/nearest.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double EXACT_MAX = 9007199254740992.0; /* 2^53: whole doubles up to here are exact */

#define DEVICES_EXPECTED "all, or numbers from 0 to %d joined by commas"

const char *lips_quote(char buf[LIPS_QUOTE_MAX], const char *text)
{
    enum { SHOWN = 48 };
    size_t n = 0;
    buf[n++] = '\'';
    while (text[n - 1] && n <= SHOWN) {
        unsigned char ch = (unsigned char)text[n - 1];
        buf[n++] = (char)(ch < 0x20 || ch == 0x7f ? '?' : ch);
    }
    bool cut = text[n - 1] != '\0';
    /* Never half a UTF-8 character: messages end up in terminals and JSON. */
    while (cut && n > 1 && ((unsigned char)text[n - 1] & 0xC0) == 0x80)
        n--;
    snprintf(buf + n, LIPS_QUOTE_MAX - n, cut ? "...'" : "'");
    return buf;
}

static void *field(const lips_option *o, const lips_config *c)
{
    return (char *)(size_t)c + o->offset;
}

static int choice_count(const lips_option *o)
{
    int n = 0;
    while (o->choices[n])
        n++;
    return n;
}

static const char *plain_number(char buf[32], double v)
{
    lips_real_print(v, buf);
    return buf;
}

void lips_option_expects(const lips_option *o, char *buf, size_t size)
{
    char lo[32], hi[32];
    switch (o->type) {
    case LIPS_OPTION_INT:
        snprintf(buf, size, "%sa whole number from %.0f to %.0f",
                 o->flags & LIPS_OPTION_AUTO ? "auto or " : "", o->min, o->max);
        return;
    case LIPS_OPTION_UINT:
        snprintf(buf, size, "a whole number from 0 to %" PRIu64, UINT64_MAX);
        return;
    case LIPS_OPTION_REAL:
        snprintf(buf, size, "a number %s %s%s%s", o->flags & LIPS_OPTION_ABOVE ? "above" : "from",
                 plain_number(lo, o->min), o->flags & LIPS_OPTION_ABOVE ? " up to " : " to ",
                 plain_number(hi, o->max));
        return;
    case LIPS_OPTION_BOOL: snprintf(buf, size, "true or false"); return;
    case LIPS_OPTION_ENUM:
    case LIPS_OPTION_CHOICE: {
        size_t used = (size_t)snprintf(buf, size, "one of");
        for (int i = 0; o->choices[i] && used < size; i++)
            used += (size_t)snprintf(buf + used, size - used, "%s %s", i ? "," : "", o->choices[i]);
        return;
    }
    case LIPS_OPTION_TEXT:
        snprintf(buf, size, "text of at most %zu bytes without control characters", o->size - 1);
        return;
    case LIPS_OPTION_LIST:
        snprintf(buf, size, "names joined by commas, at most %zu bytes", o->size - 1);
        return;
    case LIPS_OPTION_SCHEDULE:
        snprintf(buf, size, "end, none, log, log:N, every:N or epochs joined by commas");
        return;
    case LIPS_OPTION_DEVICES: snprintf(buf, size, DEVICES_EXPECTED, LIPS_DEVICE_LAST); return;
    }
}

static lips_status refuse(const lips_option *o, const char *text)
{
    char expects[512], quoted[LIPS_QUOTE_MAX];
    lips_option_expects(o, expects, sizeof expects);
    const char *meant = o->choices ? lips_nearest(text, o->choices, choice_count(o)) : NULL;
    return lips_fail(LIPS_ERR_USAGE, "must be %s, not %s%s%s%s", expects, lips_quote(quoted, text),
                     meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
}

/* strtod alone would take "nan", "0x1p3", " 1" and "1e999". */
bool lips_read_real(const char *text, double *out)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    /* Underflow to a denormal or 0 is refused too: the value asked for is not the one used. */
    if (*end != '\0' || errno == ERANGE || !isfinite(v))
        return false;
    *out = v + 0.0; /* -0 becomes 0: one value, one text */
    return true;
}

/* Digits alone are read exactly; "1e3" and "2.0" are whole numbers too. */
bool lips_read_int(const char *text, int64_t *out)
{
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    if (digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0') {
        errno = 0;
        *out = strtoll(text, NULL, 10);
        return errno == 0;
    }
    double v;
    if (!lips_read_real(text, &v) || floor(v) != v || fabs(v) > EXACT_MAX)
        return false;
    *out = (int64_t)v;
    return true;
}

static bool read_uint(const char *text, uint64_t *out)
{
    const char *digits = text + (text[0] == '+');
    if (digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0') {
        errno = 0;
        *out = strtoull(text, NULL, 10);
        return errno == 0;
    }
    int64_t v;
    if (!lips_read_int(text, &v) || v < 0)
        return false;
    *out = (uint64_t)v;
    return true;
}

static bool in_range(const lips_option *o, double v)
{
    return v <= o->max && (o->flags & LIPS_OPTION_ABOVE ? v > o->min : v >= o->min);
}

/* Well-formed UTF-8 without control characters: it is written into YAML, JSON and HTML. */
static bool clean_text(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    while (*p) {
        int more;
        uint32_t code;
        if (*p < 0x80)
            more = 0, code = *p;
        else if (*p >= 0xC2 && *p < 0xE0)
            more = 1, code = *p & 0x1Fu;
        else if (*p >= 0xE0 && *p < 0xF0)
            more = 2, code = *p & 0x0Fu;
        else if (*p >= 0xF0 && *p < 0xF5)
            more = 3, code = *p & 0x07u;
        else
            return false;
        p++;
        for (int i = 0; i < more; i++, p++) {
            if ((*p & 0xC0) != 0x80)
                return false;
            code = code << 6 | (*p & 0x3Fu);
        }
        bool too_long = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
        /* U+FFFE and U+FFFF and the C1 controls are what YAML calls not printable. */
        if (code < 0x20 || (code >= 0x7F && code < 0xA0) || too_long || code > 0x10FFFF ||
            (code >= 0xD800 && code < 0xE000) || code == 0xFFFE || code == 0xFFFF ||
            code == 0xFEFF || code == 0x2028 || code == 0x2029)
            return false;
    }
    return true;
}

/* Words of [A-Za-z0-9_.:-] joined by commas; blanks around them are dropped. */
static bool read_list(const char *text, char *out, size_t size)
{
    size_t n = 0, word = 0;
    for (const char *p = text; *p; p++) {
        bool letter = (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                      (*p >= 'a' && *p <= 'z') || strchr("_.:-", *p) != NULL;
        if (*p == ' ' && (p[1] == '\0' || p[1] == ' ' || p[1] == ',' || word == 0))
            continue;
        if (!(letter || (*p == ',' && word > 0)) || n + 1 >= size)
            return false;
        out[n++] = *p;
        word = letter ? word + 1 : 0;
    }
    out[n] = '\0';
    return word > 0;
}

static lips_status set_text(const lips_option *o, char *dst, const char *text)
{
    if (strlen(text) >= o->size || !clean_text(text))
        return refuse(o, text);
    memcpy(dst, text, strlen(text) + 1);
    return LIPS_OK;
}

static lips_status set_words(const lips_option *o, char *dst, const char *text)
{
    char words[LIPS_SCHEDULE_MAX];
    _Static_assert((int)LIPS_SCHEDULE_MAX >= (int)LIPS_TEXT_MAX, "words holds either");
    if (!read_list(text, words, o->size < sizeof words ? o->size : sizeof words) ||
        (o->type == LIPS_OPTION_SCHEDULE && !lips_schedule_valid(words)))
        return refuse(o, text);
    memcpy(dst, words, strlen(words) + 1);
    return LIPS_OK;
}

lips_status lips_devices_read(lips_device_list *out, const char *text)
{
    *out = (lips_device_list){0};
    if (strcmp(text, "all") == 0)
        return LIPS_OK;
    for (const char *p = text;; p++) {
        char number[16], quoted[LIPS_QUOTE_MAX];
        int64_t v;
        const size_t n = strcspn(p, ",");
        snprintf(number, sizeof number, "%.*s", n < sizeof number ? (int)n : 0, p);
        if (!lips_read_int(number, &v) || v < 0 || v > LIPS_DEVICE_LAST)
            return lips_fail(LIPS_ERR_USAGE, "must be " DEVICES_EXPECTED ", not %s",
                             LIPS_DEVICE_LAST, lips_quote(quoted, text));
        for (int i = 0; i < out->n; i++)
            if (out->at[i] == v)
                return lips_fail(LIPS_ERR_USAGE, "names device %" PRId64 " twice", v);
        if (out->n == LIPS_DEVICES_MAX)
            return lips_fail(LIPS_ERR_USAGE, "names more than %d devices", LIPS_DEVICES_MAX);
        out->at[out->n++] = (int)v;
        p += n;
        if (*p == '\0')
            return LIPS_OK;
    }
}

/* Blanks are dropped, numbers printed plainly. */
static lips_status set_devices(const lips_option *o, char *dst, const char *text)
{
    char words[LIPS_DEVICE_TEXT];
    lips_device_list list;
    if (!read_list(text, words, sizeof words))
        return refuse(o, text);
    LIPS_TRY(lips_devices_read(&list, words));
    size_t used = (size_t)snprintf(dst, o->size, "%s", list.n ? "" : "all");
    for (int i = 0; i < list.n; i++)
        used += (size_t)snprintf(dst + used, o->size - used, "%s%d", i ? "," : "", list.at[i]);
    return LIPS_OK;
}

static lips_status set_choice(const lips_option *o, lips_config *c, const char *text)
{
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], text) != 0)
            continue;
        if (o->type == LIPS_OPTION_CHOICE) {
            snprintf(field(o, c), o->size, "%s", text);
        } else {
            unsigned value = (unsigned)i; /* a C enum without negative members */
            memcpy(field(o, c), &value, sizeof value);
        }
        return LIPS_OK;
    }
    return refuse(o, text);
}

lips_status lips_option_set(const lips_option *o, lips_config *c, const char *text)
{
    int64_t i;
    double r;
    switch (o->type) {
    case LIPS_OPTION_INT:
        if (o->flags & LIPS_OPTION_AUTO && strcmp(text, "auto") == 0) {
            *(int64_t *)field(o, c) = 0;
            return LIPS_OK;
        }
        if (!lips_read_int(text, &i) || (double)i < o->min || (double)i > o->max)
            return refuse(o, text);
        *(int64_t *)field(o, c) = i;
        return LIPS_OK;
    case LIPS_OPTION_UINT: return read_uint(text, field(o, c)) ? LIPS_OK : refuse(o, text);
    case LIPS_OPTION_REAL:
        if (!lips_read_real(text, &r) || !in_range(o, r))
            return refuse(o, text);
        *(double *)field(o, c) = r;
        return LIPS_OK;
    case LIPS_OPTION_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return refuse(o, text);
        *(bool *)field(o, c) = text[0] == 't';
        return LIPS_OK;
    case LIPS_OPTION_ENUM:
    case LIPS_OPTION_CHOICE: return set_choice(o, c, text);
    case LIPS_OPTION_TEXT: return set_text(o, field(o, c), text);
    case LIPS_OPTION_DEVICES: return set_devices(o, field(o, c), text);
    case LIPS_OPTION_LIST:
    case LIPS_OPTION_SCHEDULE: return set_words(o, field(o, c), text);
    }
    return refuse(o, text);
}

/* Decimal digits of v, as snprintf("%" PRIu64) but without its cost: a million cell names print
 * forty values each. */
static int print_uint(uint64_t v, char *buf)
{
    char digits[20];
    int n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    for (int i = 0; i < n; i++)
        buf[i] = digits[n - 1 - i];
    buf[n] = '\0';
    return n;
}

int lips_real_print(double v, char buf[32])
{
    /* Most values have few decimals: m / 10^6 with both exact is correctly rounded, so if it gives
     * v back its digits are a text of v; at most 15 of them, so no shorter one exists. */
    double m = rint(v * 1e6);
    if (fabs(v) < 1e9 && m / 1e6 == v) {
        uint64_t micro = (uint64_t)fabs(m);
        int n = 0;
        if (v < 0)
            buf[n++] = '-';
        n += print_uint(micro / 1000000, buf + n);
        uint64_t rest = micro % 1000000;
        if (rest == 0)
            return n;
        buf[n++] = '.';
        for (uint64_t place = 100000; rest != 0; rest %= place, place /= 10)
            buf[n++] = (char)('0' + rest / place);
        buf[n] = '\0';
        return n;
    }
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(buf, 32, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    return n;
}

int lips_option_print(const lips_option *o, const lips_config *c, char *buf, size_t size)
{
    char number[32] = "";
    const char *text = number;
    int n = -1;
    const void *f = field(o, c);
    switch (o->type) {
    case LIPS_OPTION_INT: {
        int64_t v = *(const int64_t *)f;
        if (v == 0 && o->flags & LIPS_OPTION_AUTO) {
            text = "auto";
            break;
        }
        number[0] = '-';
        n = v < 0 ? 1 + print_uint(-(uint64_t)v, number + 1) : print_uint((uint64_t)v, number);
        break;
    }
    case LIPS_OPTION_UINT: n = print_uint(*(const uint64_t *)f, number); break;
    case LIPS_OPTION_REAL: n = lips_real_print(*(const double *)f, number); break;
    case LIPS_OPTION_BOOL: text = *(const bool *)f ? "true" : "false"; break;
    case LIPS_OPTION_ENUM: {
        unsigned v;
        memcpy(&v, f, sizeof v);
        text = (int)v < choice_count(o) ? o->choices[v] : "?";
        break;
    }
    case LIPS_OPTION_CHOICE:
    case LIPS_OPTION_TEXT:
    case LIPS_OPTION_LIST:
    case LIPS_OPTION_DEVICES:
    case LIPS_OPTION_SCHEDULE: text = f; break;
    }
    if (n < 0)
        n = (int)strlen(text);
    if (size > 0) {
        size_t shown = (size_t)n < size ? (size_t)n : size - 1;
        memcpy(buf, text, shown);
        buf[shown] = '\0';
    }
    return n;
}
