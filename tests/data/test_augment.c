/* Batch order, and crops and flips as functions of (seed, epoch, source sample) alone. */
#include "data/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 400, C = 3, H = 6, W = 5, D = C * H * W, PAD = 4 };

/* Pixel values name their place, so that a crop can be read off. */
static float value_at(int64_t i, int64_t c, int64_t y, int64_t x)
{
    return (float)(1 + ((i * C + c) * H + y) * W + x);
}

typedef struct fixture {
    lips_dataset d;
    float x[N * D];
    int64_t source[N];
} fixture;

static void fixture_fill(fixture *f)
{
    f->d = (lips_dataset){.c = C,
                          .h = H,
                          .w = W,
                          .classes = 2,
                          .mean = {0.5f, 0.25f, 0.125f},
                          .std = {0.25f, 0.5f, 0.5f}};
    for (int64_t i = 0; i < N; i++) {
        f->source[i] = 1000 + 3 * i;
        for (int64_t c = 0; c < C; c++)
            for (int64_t y = 0; y < H; y++)
                for (int64_t x = 0; x < W; x++)
                    f->x[((i * C + c) * H + y) * W + x] = value_at(i, c, y, x);
    }
    f->d.train = (lips_split){.n = N, .x = f->x, .source_index = f->source};
}

static const float BLACK[C] = {-2, -0.5f, -0.25f}; /* (0 - mean) / std */

/* Is out the crop of sample i at (top, left), mirrored or not? */
static bool is_crop(const float *out, int64_t i, int64_t top, int64_t left, bool flip)
{
    for (int64_t c = 0; c < C; c++)
        for (int64_t y = 0; y < H; y++)
            for (int64_t x = 0; x < W; x++) {
                int64_t sy = y + top, sx = left + (flip ? W - 1 - x : x);
                bool inside = sy >= 0 && sy < H && sx >= 0 && sx < W;
                float want = inside ? value_at(i, c, sy, sx) : BLACK[c];
                if (out[(c * H + y) * W + x] != want)
                    return false;
            }
    return true;
}

static void crops_are_crops_and_uniform(void **state)
{
    (void)state;
    static fixture f;
    static float out[N * D];
    int64_t idx[N], places[2 * PAD + 1][2 * PAD + 1] = {{0}}, flips = 0;
    fixture_fill(&f);
    for (int64_t i = 0; i < N; i++)
        idx[i] = i;
    lips_augment(&f.d, &f.d.train, idx, N, 7, 3, out);
    for (int64_t i = 0; i < N; i++) {
        int found = 0;
        for (int64_t top = -PAD; top <= PAD; top++)
            for (int64_t left = -PAD; left <= PAD; left++)
                for (int flip = 0; flip < 2; flip++)
                    if (is_crop(out + i * D, i, top, left, flip)) {
                        found++;
                        flips += flip;
                        places[top + PAD][left + PAD]++;
                    }
        assert_int_equal(found, 1); /* at these sizes at least 2 x 1 pixels show, so it is unique */
    }
    assert_in_range(flips, 160, 240); /* 400 fair coins: 4 standard deviations */
    int64_t rows[9] = {0}, columns[9] = {0};
    for (int a = 0; a < 9; a++)
        for (int b = 0; b < 9; b++) {
            rows[a] += places[a][b];
            columns[b] += places[a][b];
        }
    for (int a = 0; a < 9; a++) { /* 400/9 = 44.4 expected, standard deviation 6.3 */
        assert_in_range(rows[a], 20, 70);
        assert_in_range(columns[a], 20, 70);
    }
}

static void neither_batch_nor_place_matters(void **state)
{
    (void)state;
    static fixture f;
    float one[D], many[3 * D], again[D];
    fixture_fill(&f);
    const int64_t single[] = {17}, batch[] = {5, 17, 17};
    lips_augment(&f.d, &f.d.train, single, 1, 7, 3, one);
    lips_augment(&f.d, &f.d.train, batch, 3, 7, 3, many);
    assert_memory_equal(one, many + D, sizeof one);
    assert_memory_equal(one, many + 2 * D, sizeof one);

    /* Another subset in which the same source sample stands elsewhere. */
    static fixture g;
    fixture_fill(&g);
    memcpy(g.x, f.x + 17 * D, D * sizeof(float));
    g.source[0] = f.source[17];
    const int64_t zero[] = {0};
    lips_augment(&g.d, &g.d.train, zero, 1, 7, 3, again);
    assert_memory_equal(one, again, sizeof one);
}

static void seed_and_epoch_matter(void **state)
{
    (void)state;
    static fixture f;
    static float a[N * D], b[N * D];
    int64_t idx[N];
    fixture_fill(&f);
    for (int64_t i = 0; i < N; i++)
        idx[i] = i;
    lips_augment(&f.d, &f.d.train, idx, N, 7, 3, a);
    lips_augment(&f.d, &f.d.train, idx, N, 8, 3, b);
    assert_memory_not_equal(a, b, sizeof a);
    lips_augment(&f.d, &f.d.train, idx, N, 7, 4, b);
    assert_memory_not_equal(a, b, sizeof a);
    lips_augment(&f.d, &f.d.train, idx, N, 7, 3, b);
    assert_memory_equal(a, b, sizeof a);
}

static void order_is_a_permutation(void **state)
{
    (void)state;
    int64_t a[N], b[N], seen[N] = {0};
    lips_batch_order(1, 1, N, a);
    for (int64_t i = 0; i < N; i++)
        assert_int_equal(seen[a[i]]++, 0);
    lips_batch_order(1, 2, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    lips_batch_order(2, 1, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    lips_batch_order(1, 1, N, b);
    assert_memory_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crops_are_crops_and_uniform),
        cmocka_unit_test(neither_batch_nor_place_matters),
        cmocka_unit_test(seed_and_epoch_matter),
        cmocka_unit_test(order_is_a_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
