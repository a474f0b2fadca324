/*
 * Every kernel of the cuda backend (kernels/) through the backend table, at the shapes of its
 * networks: convnet and mlp at w = 1, 4, 8, 16, 32, 64 with K = 10 and 100 stacked cotangents,
 * resnet18's strided convolutions and shortcuts, vit's tokens; streams at sizes well beyond the
 * second-level cache. Own kernels (libraries off); lib_us is cuDNN's or cuBLAS's call for the bare
 * product, speed is lib_us over ours. err_rel: the first samples against the cpu backend.
 * usage: cuda_kernels [SELECT]; environment BENCH_TINY=1: small shapes, BENCH_PREDICT=1: no device
 */
#include "gpu_op.h"

#include "common.h"

#include <stdlib.h>

enum { B = 128, K = 10, K_LARGE = 100, B_LARGE = 16 };
static const int64_t widths[] = {1, 4, 8, 16, 32, 64};
enum { WIDTHS = sizeof widths / sizeof *widths };

static const lips_conv_geom same = {3, 1, 1}, strided = {3, 2, 1}, shortcut = {1, 2, 0},
                            point = {1, 1, 0}, patch = {4, 4, 0};

/* Activations of 128 MiB, stacked ones too: rows that are judged as streams. */
static void streams(gpu *g)
{
    const gpu_shape one = {.b = 256, .t = 1, .c = 128, .h = 32, .w = 32, .pool = 2};
    const gpu_shape many = {.b = 128, .t = K, .c = 32, .h = 32, .w = 32, .pool = 2};
    static const char *const of_one[][2] = {{"add", ""},
                                            {"fill", ""},
                                            {"relu_forward", ""},
                                            {"gelu_forward", ""},
                                            {"bias_forward", ""},
                                            {"bias_grad", ""},
                                            {"avgpool_forward", ""},
                                            {"bn_forward", "eval"},
                                            {"bn_forward", "training"},
                                            {"bn_vjp", "training"},
                                            {"bn_grad", "eval"},
                                            {"ln_forward", ""},
                                            {"ln_grad", ""}};
    static const char *const of_many[][2] = {
        {"relu_mask", ""}, {"gelu_slope", ""}, {"avgpool_vjp", ""}, {"bn_vjp", "eval"},
        {"ln_jvp", ""},    {"ln_vjp", ""},     {"gram", ""},        {"bias_gram", ""},
        {"bn_gram", ""},   {"ln_gram", ""}};
    for (size_t i = 0; i < sizeof of_one / sizeof *of_one; i++)
        gpu_op_rows(g, of_one[i][0], of_one[i][1], one, false);
    for (size_t i = 0; i < sizeof of_many / sizeof *of_many; i++)
        gpu_op_rows(g, of_many[i][0], of_many[i][1], many, false);
    for (int64_t t = 1; t <= K_LARGE; t = t == 1 ? 3 : t == 3 ? 32 : t == 32 ? K_LARGE : 1000)
        gpu_op_rows(g, "gram", "", (gpu_shape){.b = 1280 / t, .t = t, .c = 32, .h = 32, .w = 32},
                    false);
    gpu_op_rows(g, "avgpool_forward", "", (gpu_shape){.b = 4096, .t = 1, .c = 128, .h = 8, .w = 8},
                false);
    gpu_op_rows(g, "avgpool_vjp", "", (gpu_shape){.b = 512, .t = K, .c = 128, .h = 8, .w = 8},
                false);
    const gpu_shape params = {.b = 1, .t = 1, .c = 1, .h = 1, .w = 1, .o = (int64_t)1 << 24};
    gpu_op_rows(g, "sgd", "momentum", params, false);
    gpu_op_rows(g, "adam", "", params, false);
}

/* Small ones, whose time is the launches'. */
static void launches(gpu *g)
{
    for (int k = K; k <= K_LARGE; k *= 10) {
        const gpu_shape logits = {.b = B, .t = 1, .c = k, .h = 1, .w = 1};
        gpu_op_rows(g, "loss", "", logits, false);
        gpu_op_rows(g, "loss_curve", "", logits, false);
    }
    gpu_op_rows(g, "norms", "", (gpu_shape){.b = 10000, .t = K, .c = 1, .h = 1, .w = 1}, false);
    for (int64_t n = 1000; n <= 1000000; n *= 1000)
        gpu_op_rows(g, "adam", "", (gpu_shape){.b = 1, .t = 1, .c = 1, .h = 1, .w = 1, .o = n},
                    false);
}

/* Forward, input gradient of t stacked cotangents, weight gradient and per-sample Grams. */
static void products(gpu *g, const char *kind, gpu_shape z, int64_t t, bool grad)
{
    static const char *const conv[] = {"conv_forward", "conv_vjp", "conv_grad", "conv_gram"};
    static const char *const linear[] = {"linear_forward", "linear_vjp", "linear_grad",
                                         "linear_gram"};
    const char *const *names = kind[0] == 'c' ? conv : linear;
    gpu_shape many = z;
    many.t = t;
    many.b = t > K ? B_LARGE : z.b;
    z.t = 1;
    if (grad) {
        gpu_op_rows(g, names[0], "", z, true);
        gpu_op_rows(g, names[1], "", z, true);
        gpu_op_rows(g, names[2], "", z, true);
    }
    gpu_op_rows(g, names[1], "", many, true);
    gpu_op_rows(g, names[3], "", z, false);
    gpu_op_rows(g, names[3], "", many, false);
}

static void convnet(gpu *g)
{
    for (int i = 0; i < WIDTHS; i++)
        for (int layer = 0; layer < 4; layer++) {
            const int64_t w = widths[i], side = layer < 2 ? 32 : layer == 2 ? 16 : 8;
            const gpu_shape z = {.b = B,
                                 .c = layer ? w << (layer - 1) : 3,
                                 .o = w << layer,
                                 .h = side,
                                 .w = side,
                                 .geom = same};
            products(g, "conv", z, K, true);
            if (w == 4 || w == 64)
                products(g, "conv", z, K_LARGE, false);
        }
}

static void mlp(gpu *g)
{
    for (int i = 0; i < WIDTHS; i++) {
        const gpu_shape in = {.b = B, .c = 784, .o = widths[i], .h = 1, .w = 1};
        const gpu_shape out = {.b = B, .c = widths[i], .o = K, .h = 1, .w = 1};
        products(g, "linear", in, K, true);
        products(g, "linear", out, K, true);
    }
    products(g, "linear", (gpu_shape){.b = 4096, .c = 784, .o = 512, .h = 1, .w = 1}, K, true);
    products(g, "linear", (gpu_shape){.b = B, .c = 784, .o = 512, .h = 1, .w = 1}, K_LARGE, false);
}

static void resnet18(gpu *g)
{
    for (int64_t w = 16; w <= 64; w *= 4)
        for (int stage = 0; stage < 3; stage++) {
            const gpu_shape z = {.b = B,
                                 .c = w << stage,
                                 .o = w << (stage + 1),
                                 .h = 32 >> stage,
                                 .w = 32 >> stage,
                                 .geom = strided};
            gpu_shape bare = z;
            bare.geom = shortcut;
            products(g, "conv", z, K, true);
            products(g, "conv", bare, K, true);
        }
}

static void vit(gpu *g)
{
    static const char *const attn[] = {"attn_forward", "attn_jvp", "attn_vjp"};
    static const char *const tokens[] = {"tokens_forward", "tokens_vjp", "tokens_grad",
                                         "pick_forward", "pick_vjp"};
    for (int64_t w = 16; w <= 64; w *= 4) {
        const gpu_shape x = {.b = B, .t = K, .c = w, .h = 1, .w = 65, .heads = w % 32 ? 1 : w / 32};
        for (int i = 0; i < 3; i++)
            gpu_op_rows(g, attn[i], "", x, false);
        gpu_shape places = {.b = B, .t = K, .c = w, .h = 8, .w = 8, .geom = point};
        for (int i = 0; i < 5; i++)
            gpu_op_rows(g, tokens[i], "", places, false);
        places.o = 3 * w;
        products(g, "conv", places, K, true);
        places.o = 4 * w;
        products(g, "conv", places, K, true);
        products(g, "conv", (gpu_shape){.b = B, .c = 3, .o = w, .h = 32, .w = 32, .geom = patch}, K,
                 true);
    }
}

int main(int argc, char **argv)
{
    gpu *g = gpu_begin(argc, argv);
    if (gpu_is_there(g))
        bench_ok(gpu_handle(g)->base.ops->set_libraries(&gpu_handle(g)->base, LIPS_LIBRARY_OWN,
                                                        LIPS_LIBRARY_OWN));
    streams(g);
    launches(g);
    gpu_bare_rows(g);
    convnet(g);
    mlp(g);
    resnet18(g);
    vit(g);
    return gpu_end(g);
}
