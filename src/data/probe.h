/*
 * data/probe.h - inputs that are not data, in the network's units: what a network is like beyond
 * the data manifold.
 *
 * With mu_c and sigma_c the mean and standard deviation of the source's channel c (0 and 1 for the
 * data it was standardised by), each row independent of the others unless it says otherwise:
 *
 *   uniform      every pixel from U[mu_c - sigma_c, mu_c + sigma_c]
 *   normal       every pixel from N(mu_c, sigma_c^2)
 *   hypersphere  each channel's H*W vector uniform in the unit ball (not only on its surface)
 *   jitter       a random source row, plus N(0, sigma_c^2) on every pixel: noise as strong as the
 *                data
 *   path         LIPS_PATH_POINTS rows along the straight line between two different random source
 *                rows, at t = (j + 1/2) / LIPS_PATH_POINTS: the mean of a quantity over them is the
 *                midpoint rule for its integral along the line, and no end is a data sample
 *
 * A row is a function of (seed, kind, its number) and the source: more rows begin with the fewer.
 */
#ifndef LIPS_DATA_PROBE_H
#define LIPS_DATA_PROBE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Part of every drawn number: never renumber. */
typedef enum lips_probe {
    LIPS_PROBE_UNIFORM,
    LIPS_PROBE_NORMAL,
    LIPS_PROBE_HYPERSPHERE,
    LIPS_PROBE_JITTER,
    LIPS_PROBE_PATH,
    LIPS_PROBES
} lips_probe;

enum { LIPS_PATH_POINTS = 10 };

const char *lips_probe_name(lips_probe kind);

/* A set of kinds from names joined by commas, "none" for the empty one: bit k stands for kind k.
 * LIPS_ERR_USAGE with the nearest known name; the text does not say which option or key it was. */
lips_status lips_probes_parse(unsigned *out, const char *text);
static inline bool lips_probes_has(unsigned set, lips_probe kind)
{
    return (set >> kind) & 1;
}

/* Rows of data that probes are made from; a view. */
typedef struct lips_probe_source {
    const float *x; /* (n,C,H,W) */
    int64_t n, c, h, w;
} lips_probe_source;

/* *out = n rows (n,C,H,W) f32, malloc'ed. LIPS_ERR_USAGE: an empty source, n < 1; LIPS_ERR_MEMORY.
 */
lips_status lips_probe_make(float **out, lips_probe kind, const lips_probe_source *source,
                            int64_t n, uint64_t seed);

#endif
