/* config/values.h - from the text given for a key to the list of its values. */
#ifndef LIPS_CONFIG_VALUES_H
#define LIPS_CONFIG_VALUES_H

#include "config/options.h"

enum { LIPS_VALUES_MAX = 1000000 }; /* of one axis */

/* Canonical texts of a key that may be swept. Owns v. */
typedef struct lips_values {
    char (*v)[LIPS_VALUE_MAX];
    int64_t n, cap;
} lips_values;

/* Appends what one item stands for: a value or, for numbers, a..b (both included),
 * range(a,b[,step]) (b excluded) or logspace(a,b,n) (both included; whole numbers are rounded and
 * duplicates dropped). Error texts lack the key. */
lips_status lips_values_add(lips_values *out, const lips_option *o, const char *item);
/* Appends the items of a comma list (commas inside parentheses do not count). */
lips_status lips_values_add_list(lips_values *out, const lips_option *o, const char *list);
/* LIPS_ERR_USAGE naming the first value that is there twice. */
lips_status lips_values_check_unique(const lips_values *values);
void lips_values_free(lips_values *values);

#endif
