#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

struct lips_hasher {
    XXH3_state_t *state;
};

uint64_t lips_hash64(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

lips_status lips_hasher_create(lips_hasher **out)
{
    lips_hasher *h = calloc(1, sizeof *h);
    if (h)
        h->state = XXH3_createState();
    if (!h || !h->state) {
        free(h);
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a hash");
    }
    /* The 128-bit state yields the 64-bit digest too: both forms share the accumulation. */
    XXH3_128bits_reset(h->state);
    *out = h;
    return LIPS_OK;
}

void lips_hasher_add(lips_hasher *h, const void *bytes, size_t size)
{
    if (size)
        XXH3_128bits_update(h->state, bytes, size);
}

uint64_t lips_hasher_digest64(const lips_hasher *h)
{
    return XXH3_64bits_digest(h->state);
}

void lips_hasher_digest128(const lips_hasher *h, char hex[33])
{
    XXH128_hash_t d = XXH3_128bits_digest(h->state);
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)d.high64, (unsigned long long)d.low64);
}

void lips_hasher_free(lips_hasher *h)
{
    if (!h)
        return;
    XXH3_freeState(h->state);
    free(h);
}
