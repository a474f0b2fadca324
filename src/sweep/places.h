/*
 * sweep/places.h - the devices of a sweep (or the host, as one), what runs on each, and which takes
 * the next cell. One user at a time: the caller has a lock.
 */
#ifndef LIPS_SWEEP_PLACES_H
#define LIPS_SWEEP_PLACES_H

#include "sweep/forecast.h"

/* What a cell asks of a device. */
typedef struct lips_demand {
    double bytes;    /* of its own */
    double resident; /* of its data set, once for all cells with the same */
    uint64_t data;   /* the data set's name */
    double share;    /* of the device's threads */
    bool alone;      /* nothing else may run beside it on the device */
} lips_demand;

typedef struct lips_spot_set {
    uint64_t data;
    double bytes;
    int64_t users;
} lips_spot_set;

typedef struct lips_spot {
    /* Configuration. */
    int device;
    double memory; /* bytes that cells may plan for */
    int64_t slots; /* cells at once, at most */
    bool fill;     /* slots are as many as asked for: shares do not matter */

    /* State. */
    int64_t running;
    double bytes, share; /* of these */
    bool alone;          /* one runs that wants to be */
    lips_spot_set *sets; /* (slots), the first n_sets in use */
    int64_t n_sets;
} lips_spot;

typedef struct lips_places {
    int n;
    lips_spot at[LIPS_DEVICES_MAX];
    int64_t running, jobs; /* on all places together; at most */
} lips_places;

/* Asks each device for its free memory. */
lips_status lips_places_create(lips_places *out, const lips_forecast *plan);
void lips_places_free(lips_places *p);

/* Whether some place holds the cell when nothing else runs there. */
bool lips_places_fit(const lips_places *p, const lips_demand *d);

/* Where the cell goes now: where least runs of those that have room for it; one that has too little
 * memory even when empty only if all have. -1: it must wait. */
int lips_places_choose(const lips_places *p, const lips_demand *d);
void lips_places_take(lips_places *p, int place, const lips_demand *d);
void lips_places_give(lips_places *p, int place, const lips_demand *d);

/* Bytes of the cell on an empty device. */
static inline double lips_demand_bytes(const lips_demand *d)
{
    return d->bytes + d->resident;
}

/* Of cell number `cell`, whose settings are cfg. */
lips_demand lips_demand_of(const lips_forecast *plan, int64_t cell, const lips_config *cfg);

#endif
