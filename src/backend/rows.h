/*
 * backend/rows.h - rows of a data set in a backend's memory (lips_rows): where things lie in it,
 * the same for all backends.
 *
 *   [table (C,256) f32][source (N) i64][labels (N) i64][targets (N,targets) f32]
 *   [values (N,C,H,W): bytes if packed, else f32]
 *   labels and targets only where rows have them; each part begins at a multiple of 64 bytes
 */
#ifndef LIPS_BACKEND_ROWS_H
#define LIPS_BACKEND_ROWS_H

#include "backend/backend.h"

/* Of the memory that the rows take. */
size_t lips_rows_bytes(const lips_rows *r);

/* Are all values (N,C,H,W) in the table (C,256)? Then they may be packed. */
bool lips_rows_fit(const lips_rows *r, const float *x, const float *table);

/* ---- for backends ---- */

size_t lips_rows_source_at(const lips_rows *r);
size_t lips_rows_labels_at(const lips_rows *r);
size_t lips_rows_targets_at(const lips_rows *r);
size_t lips_rows_values_at(const lips_rows *r);
/* Of one row's values. */
size_t lips_rows_row_bytes(const lips_rows *r);

/* The number v of x = table[v], table (256) rising in equal steps but for rounding; -1: none. */
int lips_rows_pixel(const float *table, float x);

/* n rows of values as they are kept, at `to`; LIPS_ERR_USAGE: a value that the table lacks. */
lips_status lips_rows_pack(const lips_rows *r, void *to, const float *x, int64_t n,
                           const float *table);

#endif
