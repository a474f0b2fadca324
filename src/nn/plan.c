#include "nn/plan.h"

#include <stdbool.h>

static const size_t UNPLACED = (size_t)-1;

size_t lips_plan_round(size_t bytes)
{
    return (bytes + LIPS_PLAN_ALIGN - 1) / LIPS_PLAN_ALIGN * LIPS_PLAN_ALIGN;
}

/* A placed span that lives while s does and overlaps it where it stands; NULL if there is none. */
static const lips_span *conflict(const lips_span *spans, int n, const lips_span *s, size_t at)
{
    for (int i = 0; i < n; i++) {
        const lips_span *o = &spans[i];
        bool together = o->from <= s->to && s->from <= o->to;
        if (o != s && o->offset != UNPLACED && together && o->offset < at + s->bytes &&
            at < o->offset + o->bytes)
            return o;
    }
    return NULL;
}

static lips_span *largest_unplaced(lips_span *spans, int n)
{
    lips_span *best = NULL;
    for (int i = 0; i < n; i++)
        if (spans[i].offset == UNPLACED && (!best || spans[i].bytes > best->bytes))
            best = &spans[i];
    return best;
}

size_t lips_plan_place(lips_span *spans, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        spans[i].bytes = lips_plan_round(spans[i].bytes);
        spans[i].offset = UNPLACED;
    }
    for (lips_span *s; (s = largest_unplaced(spans, n));) {
        size_t at = 0;
        /* Every place before the end of a conflicting span conflicts with it too. */
        for (const lips_span *o; (o = conflict(spans, n, s, at));)
            at = o->offset + o->bytes;
        s->offset = at;
        if (at + s->bytes > total)
            total = at + s->bytes;
    }
    return total;
}
