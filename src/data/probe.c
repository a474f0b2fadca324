#include "data/probe.h"

#include "base/nearest.h"
#include "base/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"uniform", "normal", "hypersphere", "jitter", "path", "none"};
_Static_assert(sizeof names / sizeof *names == LIPS_PROBES + 1, "a name for each kind, and none");

/* Draws that one kind keeps apart; with the kind they are the epoch of its random numbers. */
enum { DRAW_PIXEL, DRAW_CHOICE, DRAW_STRIDE = 16 };
_Static_assert((int)LIPS_PROBES <= (int)DRAW_STRIDE, "draws of two kinds must not meet");

typedef struct moments {
    double mean, std;
} moments;

/* What the rows of one kind share. */
typedef struct maker {
    const lips_probe_source *source;
    moments *channel; /* (C) */
    int64_t area;     /* H W */
    lips_rng pixel, choice;
} maker;

const char *lips_probe_name(lips_probe kind)
{
    return names[kind];
}

static lips_status add_name(unsigned *set, const char *word, size_t len)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), word);
    for (int k = 0; k <= LIPS_PROBES; k++)
        if (strcmp(name, names[k]) == 0) {
            *set |= 1u << k;
            return LIPS_OK;
        }
    const char *meant = lips_nearest(name, names, LIPS_PROBES + 1);
    return lips_fail(LIPS_ERR_USAGE, "no probe '%s'%s%s%s", name, meant ? "; did you mean '" : "",
                     meant ? meant : "",
                     meant ? "'?" : "; there are uniform, normal, hypersphere, jitter, path, none");
}

lips_status lips_probes_parse(unsigned *out, const char *text)
{
    const unsigned none = 1u << LIPS_PROBES;
    unsigned set = 0;
    *out = 0;
    for (const char *at = text, *next; at; at = next) {
        size_t len = strcspn(at, ",");
        next = at[len] ? at + len + 1 : NULL;
        while (len > 0 && *at == ' ')
            at++, len--;
        while (len > 0 && at[len - 1] == ' ')
            len--;
        LIPS_TRY(add_name(&set, at, len));
    }
    if ((set & none) && set != none)
        return lips_fail(LIPS_ERR_USAGE, "none stands alone, not in '%.200s'", text);
    *out = set & ~none;
    return LIPS_OK;
}

/* Two passes: the mean may be large against the deviation. */
static moments channel_moments(const lips_probe_source *s, int64_t c, int64_t area)
{
    double count = (double)s->n * (double)area, sum = 0, squares = 0;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < area; j++)
            sum += (double)s->x[(i * s->c + c) * area + j];
    double mean = sum / count;
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t j = 0; j < area; j++) {
            double off = (double)s->x[(i * s->c + c) * area + j] - mean;
            squares += off * off;
        }
    return (moments){mean, sqrt(squares / count)};
}

/* The pixels of row i, one channel: place k of the row's random numbers is pixel k. */
static void fill_pixels(const maker *m, lips_probe kind, int64_t i, int64_t c, float *row)
{
    const moments *stat = &m->channel[c];
    uint64_t first = (uint64_t)((i * m->source->c + c) * m->area);
    for (int64_t j = 0; j < m->area; j++) {
        uint64_t place = first + (uint64_t)j;
        double v = kind == LIPS_PROBE_UNIFORM ? 2 * lips_rng_uniform(&m->pixel, place) - 1
                                              : lips_rng_normal(&m->pixel, place);
        row[j] = (float)(stat->mean + stat->std * v);
    }
}

/* A normal vector has a uniform direction; U^(1/d) is the distance from the centre of a uniform
 * point of the d-ball. */
static void fill_ball(const maker *m, int64_t i, int64_t c, float *row)
{
    int64_t channel = i * m->source->c + c;
    uint64_t first = (uint64_t)(channel * m->area);
    double squares = 0;
    for (int64_t j = 0; j < m->area; j++) {
        double v = lips_rng_normal(&m->pixel, first + (uint64_t)j);
        squares += v * v;
    }
    double radius = pow(lips_rng_uniform(&m->choice, (uint64_t)channel), 1.0 / (double)m->area);
    double scale = squares > 0 ? radius / sqrt(squares) : 0;
    for (int64_t j = 0; j < m->area; j++)
        row[j] = (float)(scale * lips_rng_normal(&m->pixel, first + (uint64_t)j));
}

static void fill_jitter(const maker *m, int64_t i, int64_t c, float *row)
{
    const lips_probe_source *s = m->source;
    int64_t from = (int64_t)lips_rng_below(&m->choice, (uint64_t)i, (uint64_t)s->n);
    const float *x = s->x + (from * s->c + c) * m->area;
    uint64_t first = (uint64_t)((i * s->c + c) * m->area);
    for (int64_t j = 0; j < m->area; j++)
        row[j] = (float)((double)x[j] +
                         m->channel[c].std * lips_rng_normal(&m->pixel, first + (uint64_t)j));
}

static void fill_path(const maker *m, int64_t i, int64_t c, float *row)
{
    const lips_probe_source *s = m->source;
    uint64_t line = (uint64_t)(i / LIPS_PATH_POINTS), n = (uint64_t)s->n;
    int64_t a = (int64_t)lips_rng_below(&m->choice, 2 * line, n), b = a;
    if (n > 1) { /* a line of one sample is that sample */
        b = (int64_t)lips_rng_below(&m->choice, 2 * line + 1, n - 1);
        b += b >= a;
    }
    double t = ((double)(i % LIPS_PATH_POINTS) + 0.5) / LIPS_PATH_POINTS;
    const float *from = s->x + (a * s->c + c) * m->area, *to = s->x + (b * s->c + c) * m->area;
    for (int64_t j = 0; j < m->area; j++)
        row[j] = (float)((1 - t) * (double)from[j] + t * (double)to[j]);
}

static void fill_channel(const maker *m, lips_probe kind, int64_t i, int64_t c, float *row)
{
    switch (kind) {
    case LIPS_PROBE_HYPERSPHERE: fill_ball(m, i, c, row); return;
    case LIPS_PROBE_JITTER: fill_jitter(m, i, c, row); return;
    case LIPS_PROBE_PATH: fill_path(m, i, c, row); return;
    default: fill_pixels(m, kind, i, c, row); return;
    }
}

lips_status lips_probe_make(float **out, lips_probe kind, const lips_probe_source *source,
                            int64_t n, uint64_t seed)
{
    const lips_probe_source *s = source;
    size_t bytes;
    *out = NULL;
    if (n < 1 || !s->x || s->n < 1 || s->c < 1 || s->h < 1 || s->w < 1)
        return lips_fail(LIPS_ERR_USAGE,
                         "probe %s: %" PRId64 " rows from %" PRId64 " samples of %" PRId64
                         "x%" PRId64 "x%" PRId64 ", expected at least one of each",
                         names[kind], n, s->n, s->c, s->h, s->w);
    maker m = {.source = s, .area = s->h * s->w};
    m.pixel = (lips_rng){seed, LIPS_STREAM_PROBE, (uint32_t)kind + DRAW_STRIDE * DRAW_PIXEL};
    m.choice = (lips_rng){seed, LIPS_STREAM_PROBE, (uint32_t)kind + DRAW_STRIDE * DRAW_CHOICE};
    if (__builtin_mul_overflow((size_t)n, (size_t)(s->c * m.area) * sizeof **out, &bytes))
        return lips_fail(LIPS_ERR_MEMORY, "probe %s: %" PRId64 " rows do not fit", names[kind], n);
    m.channel = malloc((size_t)s->c * sizeof *m.channel);
    *out = malloc(bytes);
    if (!m.channel || !*out) {
        free(m.channel);
        free(*out);
        *out = NULL;
        return lips_fail(LIPS_ERR_MEMORY, "probe %s: no memory for %zu bytes", names[kind], bytes);
    }
    for (int64_t c = 0; c < s->c; c++)
        m.channel[c] = channel_moments(s, c, m.area);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < s->c; c++)
            fill_channel(&m, kind, i, c, *out + (i * s->c + c) * m.area);
    free(m.channel);
    return LIPS_OK;
}
