/* base/hash.c: pieces hash as their concatenation; a known answer of XXH3. */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void pieces_hash_as_the_whole(void **state)
{
    (void)state;
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    char whole[33], pieces[33];
    for (size_t step = 1; step <= 400; step += 57) {
        lips_hasher *h = NULL;
        assert_int_equal(lips_hasher_create(&h), LIPS_OK);
        lips_hasher_add(h, bytes, sizeof bytes);
        lips_hasher_digest128(h, whole);
        assert_true(lips_hasher_digest64(h) == lips_hash64(bytes, sizeof bytes));
        lips_hasher_free(h);
        assert_int_equal(lips_hasher_create(&h), LIPS_OK);
        for (size_t at = 0; at < sizeof bytes; at += step)
            lips_hasher_add(h, bytes + at, at + step < sizeof bytes ? step : sizeof bytes - at);
        lips_hasher_add(h, NULL, 0);
        lips_hasher_digest128(h, pieces);
        assert_true(lips_hasher_digest64(h) == lips_hash64(bytes, sizeof bytes));
        lips_hasher_free(h);
        assert_string_equal(whole, pieces);
    }
    lips_hasher_free(NULL);
}

/* Published with xxHash: the digests of nothing. */
static void the_empty_input_is_known(void **state)
{
    (void)state;
    lips_hasher *h = NULL;
    char hex[33];
    assert_int_equal(lips_hasher_create(&h), LIPS_OK);
    lips_hasher_digest128(h, hex);
    lips_hasher_free(h);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    assert_true(lips_hash64("", 0) == UINT64_C(0x2d06800538d394c2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_hash_as_the_whole),
        cmocka_unit_test(the_empty_input_is_known),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
