#include "base/nearest.h"

#include <ctype.h>
#include <string.h>

enum { WORD_MAX = 64 }; /* longer words are nobody's typing error */

static int fold(char ch)
{
    return ch == '-' ? '_' : tolower((unsigned char)ch);
}

static int min2(int a, int b)
{
    return a < b ? a : b;
}

/* Damerau-Levenshtein in its "optimal string alignment" form, three rows. */
static int edit_distance(const char *a, int na, const char *b, int nb)
{
    int row[3][WORD_MAX + 1];
    int *before = row[0], *last = row[1], *now = row[2];
    for (int j = 0; j <= nb; j++)
        last[j] = j;
    for (int i = 1; i <= na; i++) {
        now[0] = i;
        for (int j = 1; j <= nb; j++) {
            int replace = last[j - 1] + (fold(a[i - 1]) != fold(b[j - 1]));
            now[j] = min2(replace, min2(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                fold(a[i - 2]) == fold(b[j - 1]))
                now[j] = min2(now[j], before[j - 2] + 1);
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[nb];
}

const char *lips_nearest(const char *word, const char *const *names, int n)
{
    size_t len = strlen(word);
    if (len == 0 || len > WORD_MAX)
        return NULL;
    const char *best = NULL;
    int best_distance = WORD_MAX + 1;
    for (int i = 0; i < n; i++) {
        size_t other = strlen(names[i]);
        if (other > WORD_MAX)
            continue;
        int d = edit_distance(word, (int)len, names[i], (int)other);
        int longer = (int)(len > other ? len : other);
        int limit = longer / 3 > 2 ? longer / 3 : 2;
        /* Names of one or two letters would otherwise match anything. */
        if (d <= limit && d < longer && d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
