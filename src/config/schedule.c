/* config/schedule.c - at which epochs something is done. */
#include "config/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_DEFAULT = 20, COUNT_MAX = 1000000 };

/* The number behind a prefix such as "log:", 1 to COUNT_MAX; 0 if text is nothing of the kind. */
static int64_t number_after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0)
        return 0;
    const char *digits = text + n;
    size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > 7 || digits[len] != '\0')
        return 0;
    int64_t v = strtoll(digits, NULL, 10);
    return v <= COUNT_MAX ? v : 0;
}

/* Next item of a comma list: its length, and *next behind the comma (NULL at the end). */
static size_t item(const char *p, const char **next)
{
    size_t len = strcspn(p, ",");
    *next = p[len] == ',' ? p + len + 1 : NULL;
    return len;
}

static bool valid_list(const char *text)
{
    for (const char *p = text, *next; p; p = next) {
        size_t len = item(p, &next);
        bool end = len == 3 && strncmp(p, "end", 3) == 0;
        if (!end && (len == 0 || len > 9 || strspn(p, "0123456789") < len))
            return false;
    }
    return true;
}

bool lips_schedule_valid(const char *text)
{
    return strcmp(text, "none") == 0 || strcmp(text, "log") == 0 || number_after(text, "log:") ||
           number_after(text, "every:") || valid_list(text);
}

/* N epochs spread evenly in log from 1 to the last, rounded: is epoch one of them? */
static bool in_log(int64_t epoch, int64_t epochs, int64_t n)
{
    if (epoch <= 1 || n == 1)
        return epoch == 0 || (epoch == 1 && n > 1);
    double step = log((double)epochs) / (double)(n - 1);
    if (step <= 0)
        return false;
    /* Only the points beside log(epoch) can round to it; where points are dense, every epoch is
     * one. */
    int64_t i = (int64_t)floor(log((double)epoch - 0.5) / step) - 1;
    int64_t last = (int64_t)ceil(log((double)epoch + 0.5) / step) + 1;
    for (i = i < 0 ? 0 : i; i <= last && i < n; i++)
        if ((int64_t)llround(exp(step * (double)i)) == epoch)
            return true;
    return false;
}

static bool in_list(const char *text, int64_t epoch, bool last)
{
    for (const char *p = text, *next; p; p = next) {
        size_t len = item(p, &next);
        if (len == 3 && strncmp(p, "end", 3) == 0) {
            if (last)
                return true;
        } else if (strtoll(p, NULL, 10) == epoch) {
            return true;
        }
    }
    return false;
}

bool lips_schedule_has(const lips_schedule *s, int64_t epoch, int64_t epochs, bool last)
{
    const char *text = s->text;
    if (strcmp(text, "none") == 0)
        return false;
    int64_t every = number_after(text, "every:");
    if (every)
        return last || epoch % every == 0;
    int64_t points = strcmp(text, "log") == 0 ? LOG_DEFAULT : number_after(text, "log:");
    if (points)
        return last || in_log(epoch, epochs, points);
    return in_list(text, epoch, last);
}
