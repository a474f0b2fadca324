/* base/hash.h - XXH3 hashing, streaming, so that pieces hash as their concatenation. */
#ifndef LIPS_BASE_HASH_H
#define LIPS_BASE_HASH_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

uint64_t lips_hash64(const void *bytes, size_t size);

typedef struct lips_hasher lips_hasher;
lips_status lips_hasher_create(lips_hasher **out);
void lips_hasher_add(lips_hasher *h, const void *bytes, size_t size);
uint64_t lips_hasher_digest64(const lips_hasher *h);
void lips_hasher_digest128(const lips_hasher *h, char hex[33]);
void lips_hasher_free(lips_hasher *h);

#endif
