#include "sweep/places.h"

#include <stdlib.h>

/* Share of the free memory that cells may plan for. */
static const double MEMORY_SHARE = 0.9;

static int64_t slots_of(const lips_forecast *p)
{
    const lips_config *base = &p->e->base;
    if (p->devices.own && base->cells_per_device > 0)
        return base->cells_per_device;
    return (p->jobs + p->devices.n - 1) / p->devices.n;
}

lips_status lips_places_create(lips_places *out, const lips_forecast *plan)
{
    const lips_devices *d = &plan->devices;
    *out = (lips_places){.n = d->n, .jobs = plan->jobs};
    for (int i = 0; i < d->n; i++) {
        lips_spot *p = &out->at[i];
        *p = (lips_spot){.device = d->at[i],
                         .memory = MEMORY_SHARE * lips_memory_available(d->ops, d->at[i]),
                         .slots = slots_of(plan),
                         .fill = !d->own || plan->e->base.cells_per_device > 0};
        p->sets = calloc((size_t)p->slots, sizeof *p->sets);
        if (!p->sets) {
            lips_places_free(out);
            return lips_fail(LIPS_ERR_MEMORY, "out of memory for %d devices", d->n);
        }
    }
    return LIPS_OK;
}

void lips_places_free(lips_places *p)
{
    for (int i = 0; i < p->n; i++) {
        free(p->at[i].sets);
        p->at[i].sets = NULL;
    }
}

static lips_spot_set *set_of(const lips_spot *p, uint64_t data)
{
    for (int64_t i = 0; i < p->n_sets; i++)
        if (p->sets[i].data == data)
            return &p->sets[i];
    return NULL;
}

static double bytes_on(const lips_spot *p, const lips_demand *d)
{
    return d->bytes + (set_of(p, d->data) ? 0 : d->resident);
}

static bool has_room(const lips_spot *p, const lips_demand *d)
{
    if (p->running == 0)
        return true;
    return !p->alone && !d->alone && p->running < p->slots &&
           p->bytes + bytes_on(p, d) <= p->memory && (p->fill || p->share + d->share <= 1);
}

static bool less_loaded(const lips_spot *a, const lips_spot *b)
{
    return a->share != b->share ? a->share < b->share : a->running < b->running;
}

bool lips_places_fit(const lips_places *p, const lips_demand *d)
{
    bool fits = false;
    for (int i = 0; i < p->n; i++)
        fits = fits || lips_demand_bytes(d) <= p->at[i].memory;
    return fits;
}

int lips_places_choose(const lips_places *p, const lips_demand *d)
{
    int best = -1;
    const bool fits = lips_places_fit(p, d);
    for (int i = 0; i < p->n && p->running < p->jobs; i++) {
        const lips_spot *at = &p->at[i];
        if ((fits && lips_demand_bytes(d) > at->memory) || at->slots == 0 || !has_room(at, d))
            continue;
        if (best < 0 || less_loaded(at, &p->at[best]))
            best = i;
    }
    return best;
}

void lips_places_take(lips_places *p, int place, const lips_demand *d)
{
    lips_spot *at = &p->at[place];
    lips_spot_set *set = set_of(at, d->data);
    at->bytes += bytes_on(at, d);
    if (!set) {
        set = &at->sets[at->n_sets++];
        *set = (lips_spot_set){.data = d->data, .bytes = d->resident};
    }
    set->users++;
    at->share += d->share;
    at->alone = d->alone;
    at->running++;
    p->running++;
}

void lips_places_give(lips_places *p, int place, const lips_demand *d)
{
    lips_spot *at = &p->at[place];
    lips_spot_set *set = set_of(at, d->data);
    at->bytes -= d->bytes;
    if (--set->users == 0) {
        at->bytes -= set->bytes;
        *set = at->sets[--at->n_sets];
    }
    at->share -= d->share;
    at->alone = false;
    at->running--;
    p->running--;
    if (at->running == 0) /* sums of differences are not exactly 0 */
        at->bytes = at->share = 0;
}

lips_demand lips_demand_of(const lips_forecast *plan, int64_t cell, const lips_config *cfg)
{
    const lips_cell_class *k = lips_forecast_class(plan, cell);
    return (lips_demand){.bytes = (double)k->bytes,
                         .resident = (double)k->resident,
                         .data = lips_datasets_name(cfg),
                         .share = k->share};
}
