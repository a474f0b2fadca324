/* data/augment.c - batch order, and random crops and flips, as functions of (seed, epoch, sample).
 */
#include "base/random.h"
#include "data/data.h"

void lips_batch_order(uint64_t seed, int64_t epoch, int64_t n, int64_t *out)
{
    lips_rng r = {seed, LIPS_STREAM_ORDER, (uint32_t)epoch};
    lips_rng_permutation(&r, out, n);
}

/* One row of the crop: image columns first .. first + w, black outside 0 .. w; mirrored if flip. */
static void row_crop(float *dst, const float *src, int64_t w, int64_t first, bool flip, float black)
{
    for (int64_t x = 0; x < w; x++) {
        int64_t from = first + (flip ? w - 1 - x : x);
        dst[x] = from >= 0 && from < w ? src[from] : black;
    }
}

void lips_augment(const lips_dataset *d, const lips_split *s, const int64_t *idx, int64_t b,
                  uint64_t seed, int64_t epoch, float *dst)
{
    enum { PAD = 4, PLACES = 2 * PAD + 1 };
    /* Keyed by the sample's number in its file: neither its batch nor its place there matters. */
    lips_rng r = {seed, LIPS_STREAM_AUGMENT, (uint32_t)epoch};
    int64_t c = d->c, h = d->h, w = d->w;
    for (int64_t i = 0; i < b; i++) {
        uint32_t word[4];
        lips_rng_words(&r, (uint64_t)s->source_index[idx[i]], word);
        int64_t top = (int64_t)((uint64_t)word[0] * PLACES >> 32) - PAD;
        int64_t left = (int64_t)((uint64_t)word[1] * PLACES >> 32) - PAD;
        bool flip = word[2] >> 31;
        for (int64_t k = 0; k < c; k++) {
            float black = (float)((0.0 - (double)d->mean[k]) / (double)d->std[k]);
            const float *image = s->x + (idx[i] * c + k) * h * w;
            for (int64_t y = 0; y < h; y++, dst += w) {
                int64_t from = top + y;
                if (from >= 0 && from < h)
                    row_crop(dst, image + from * w, w, left, flip, black);
                else
                    for (int64_t x = 0; x < w; x++)
                        dst[x] = black;
            }
        }
    }
}
