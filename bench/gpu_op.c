#include "gpu_op.h"

#include "common.h"
#include "network.h"

#include "backend/cuda/conv_dnn.h"
#include "kernels/conv.h"
#include "kernels/gram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Samples that have values of their own, and are computed on the cpu backend as well: the device's
 * batch repeats them, so that sums over it are known too. */
enum { DISTINCT = 4 };

/* What an entry may be off by, of the largest: sums of some thousand products with operands of 24,
 * 11 and 8 bits, over the batch. */
static const double error_most[] = {
    [LIPS_PRECISION_F32] = 1e-4, [LIPS_PRECISION_TF32] = 5e-3, [LIPS_PRECISION_BF16] = 4e-2};

static bool reads(const gpu_op *op, char letter)
{
    return strchr(op->reads, letter);
}

static bool uses(const gpu_op *op, char letter)
{
    return reads(op, letter) || strchr(op->writes, letter);
}

/* Are its products in the handle's precision? */
static bool has_precision(const gpu_op *op)
{
    return op->unit == GPU_F32 && (op->family == GPU_CONV || op->family == GPU_LINEAR);
}

/* ---- operands ---- */

static lips_tensor tensor(const gpu_side *s, int64_t c, int64_t h, int64_t w, int64_t t)
{
    const bool spatial = s->s.h * s->s.w > 1;
    lips_tensor x = {.cap = s->s.b, .b = s->s.b, .c = c, .h = h, .w = w, .t = t};
    if (s->be)
        x.lanes = s->be->ops->plan_lanes(s->be, s->s.b, spatial);
    return x;
}

/* Descriptors of x (also the mask's and the primal's shape) and y. */
static void describe(gpu_side *s)
{
    const gpu_shape *z = &s->s;
    const int64_t tx = uses(s->op, 'X') ? z->t : 1, ty = uses(s->op, 'Y') ? z->t : 1;
    s->x = tensor(s, s->op->family == GPU_ATTN ? 3 * z->c : z->c, z->h, z->w, tx);
    s->y = tensor(s, z->c, z->h, z->w, ty);
    switch (s->op->family) {
    case GPU_CONV:
        s->y.c = z->o;
        s->y.h = lips_conv_out(z->h, &z->geom);
        s->y.w = lips_conv_out(z->w, &z->geom);
        break;
    case GPU_POOL:
        s->y.h = z->pool ? z->h / z->pool : 1;
        s->y.w = z->pool ? z->w / z->pool : 1;
        break;
    case GPU_LINEAR: s->y.c = z->o; break;
    case GPU_TOKENS: s->y.h = 1, s->y.w = z->h * z->w + 1; break;
    case GPU_PICK: s->y.h = s->y.w = 1; break;
    case GPU_SAME:
    case GPU_ATTN: break;
    }
    s->in = s->mask = s->x;
    s->in.t = s->mask.t = 1;
}

static int64_t reals_of(const lips_tensor *t)
{
    return t->b * t->t * lips_tensor_features(t);
}

/* Of weights, gradients and moments. */
static int64_t count(const gpu_side *s, char letter)
{
    const gpu_shape *z = &s->s;
    if (s->op->family == GPU_CONV)
        return z->o * z->c * z->geom.r * z->geom.r;
    if (s->op->family == GPU_LINEAR)
        return z->o * z->c;
    if (s->op->family == GPU_TOKENS)
        return (z->h * z->w + (letter == 'd' ? 2 : 1)) * z->c;
    return z->o ? z->o : 2 * z->c; /* parameters of an optimiser; gamma and beta */
}

static void *real_memory(gpu_side *s, int64_t n)
{
    void *p = NULL;
    bench_ok(s->be->ops->alloc(s->be, &p, (size_t)n * s->be->ops->real_bytes));
    return p;
}

/* All samples repeat the first DISTINCT ones, whose values depend on the seed alone. */
static void fill_tensor(gpu_side *s, lips_tensor *t, uint64_t seed)
{
    lips_tensor first = *t;
    const int64_t sample = lips_tensor_features(t) * t->t;
    int64_t done = t->b < DISTINCT ? t->b : DISTINCT;
    double *host = bench_take(done * sample, sizeof *host);
    for (int64_t i = 0; i < done * sample; i++)
        host[i] = (double)bench_uniform(seed, i);
    first.b = first.cap = t->b > DISTINCT ? DISTINCT : t->b;
    bench_ok(s->be->ops->upload_f64(s->be, &first, host));
    free(host);
    for (; done < t->b; done *= 2) { /* the device's layouts have samples outermost */
        const int64_t more = t->b - done < done ? t->b - done : done;
        bench_ok(s->be->ops->copy(s->be, lips_real_at(s->be, t->data, done * sample), t->data,
                                  (size_t)(more * sample) * s->be->ops->real_bytes));
    }
}

static void make_tensor(gpu_side *s, lips_tensor *t, char one, char stacked, uint64_t seed)
{
    if (!uses(s->op, one) && !uses(s->op, stacked))
        return;
    bench_ok(s->be->ops->alloc(s->be, &t->data, s->be->ops->tensor_bytes(s->be, t)));
    if (reads(s->op, one) || reads(s->op, stacked))
        fill_tensor(s, t, seed);
    else
        bench_ok(s->be->ops->fill(s->be, t, 7)); /* to see what is not written */
}

static void *make_vector(gpu_side *s, int64_t n, uint64_t seed, bool positive, double scale)
{
    void *p = real_memory(s, n);
    double *host = bench_take(n, sizeof *host);
    for (int64_t i = 0; i < n; i++) {
        const double u = (double)bench_uniform(seed, i);
        host[i] = (double)(float)((positive ? fabs(u) + 0.5 : u) * scale);
    }
    bench_ok(s->be->ops->write(s->be, p, 0, host, n));
    free(host);
    return p;
}

/* Symmetric matrices with eigenvalues of both signs for norms; zeros to be added to otherwise. */
static void make_shared(gpu_side *s)
{
    const int64_t t = s->s.t, n = s->s.b * t * t;
    void *p = NULL;
    bench_ok(s->be->ops->alloc_shared(s->be, &p, (size_t)n * sizeof(double)));
    s->q = p;
    if (uses(s->op, 'r')) {
        for (int64_t i = 0; i < n; i++) {
            const int64_t a = i / t % t, b = i % t, k = i / (t * t) % DISTINCT;
            s->q[i] = (double)bench_uniform(11, k * t * t + (a < b ? a * t + b : b * t + a));
        }
        bench_ok(s->be->ops->alloc_shared(s->be, &p, (size_t)(2 * s->s.b) * sizeof(double)));
        s->r = p;
    }
}

static void make_vectors(gpu_side *s)
{
    const gpu_op *op = s->op;
    const double fan = s->op->family == GPU_LINEAR ? sqrt(1 / (double)s->s.c) : 0.1;
    if (uses(op, 'w'))
        s->w = make_vector(s, count(s, 'w'), 21, false, fan);
    if (uses(op, 'd'))
        s->d = make_vector(s, count(s, 'd'), 22, false, strchr(op->writes, 'd') ? 0 : 1);
    if (uses(op, 'a'))
        s->m1 = make_vector(s, count(s, 'a'), 23, false, 0.1);
    if (uses(op, 'b'))
        s->m2 = make_vector(s, count(s, 'b'), 24, true, 0.1);
    for (int i = 0; i < 4 && uses(op, 'v'); i++)
        s->v[i] = make_vector(s, s->s.c > s->s.o ? s->s.c : s->s.o, 31 + (uint64_t)i, true, 1);
}

/* Of the batch, which derivatives in training mode read: those of a forward pass over the primal
 * input, whose result goes where the op's will. */
static lips_status put_statistics(gpu_side *s)
{
    lips_tensor y = s->x;
    y.t = 1;
    return s->be->ops->bn_forward(s->be, &(lips_bn_args){.y = y,
                                                         .x = s->in,
                                                         .gamma = s->v[0],
                                                         .beta = s->v[1],
                                                         .mean = s->v[2],
                                                         .var = s->v[3],
                                                         .batch_mean = s->batch,
                                                         .batch_var = s->batch + s->s.c,
                                                         .training = true,
                                                         .eps = 1e-5,
                                                         .momentum = 0.1});
}

static void make(gpu_side *s)
{
    void *p = NULL;
    describe(s);
    make_tensor(s, &s->x, 'x', 'X', 1);
    make_tensor(s, &s->y, 'y', 'Y', 2);
    make_tensor(s, &s->in, 'i', 'i', 3);
    make_tensor(s, &s->mask, 'm', 'm', 4);
    make_vectors(s);
    if (uses(s->op, 'q'))
        make_shared(s);
    s->labels = bench_take(s->s.b, sizeof *s->labels);
    for (int64_t i = 0; i < s->s.b; i++)
        s->labels[i] = i % DISTINCT % s->s.c;
    if (s->training) {
        bench_ok(s->be->ops->alloc(s->be, &p, (size_t)(2 * s->s.c) * sizeof(double)));
        s->batch = p;
    }
    if (s->training && strcmp(s->op->name, "bn_forward") != 0)
        bench_ok(put_statistics(s));
    const lips_conv_args conv = {.y = s->y, .x = s->x, .geom = s->s.geom};
    const lips_attn_args attn = {.y = s->y, .x = s->x, .heads = s->s.heads};
    if (s->op->family == GPU_CONV)
        s->work_bytes = s->be->ops->conv_workspace(s->be, &conv);
    if (s->op->family == GPU_ATTN)
        s->work_bytes = s->be->ops->attn_workspace(s->be, &attn);
    if (s->work_bytes)
        bench_ok(s->be->ops->alloc(s->be, &s->work, s->work_bytes));
}

static void drop(gpu_side *s)
{
    void *done[] = {s->x.data, s->y.data, s->in.data, s->mask.data, s->w,    s->d, s->m1,    s->m2,
                    s->v[0],   s->v[1],   s->v[2],    s->v[3],      s->work, s->q, s->batch, s->r};
    for (size_t i = 0; i < sizeof done / sizeof *done; i++)
        if (done[i])
            s->be->ops->release(s->be, done[i]);
    free(s->labels);
}

/* ---- counts ---- */

static double letter_bytes(const gpu_side *s, char letter)
{
    if (s->op->family == GPU_PICK && letter == 'x')
        letter = 'y'; /* it reads no other place */
    switch (letter) {
    case 'x':
    case 'X': return 4 * (double)reals_of(&s->x);
    case 'y':
    case 'Y': return 4 * (double)reals_of(&s->y);
    case 'i':
    case 'm': return 4 * (double)reals_of(&s->in);
    case 'v': return 8 * (double)s->s.c;
    case 'q': return 8 * (double)(s->s.b * s->s.t * s->s.t);
    case 'r': return 16 * (double)s->s.b;
    default: return 4 * (double)count(s, letter);
    }
}

static double all_bytes(const gpu_side *s)
{
    double sum = 0;
    for (const char *p = s->op->reads; *p; p++)
        sum += letter_bytes(s, *p);
    for (const char *p = s->op->writes; *p; p++)
        sum += letter_bytes(s, *p);
    return sum;
}

/* ---- check ---- */

/* The checked output's values of the first samples; *n of them; NULL-terminated by nothing. */
static double *output(gpu_side *s, int64_t samples, int64_t *n)
{
    const char letter = s->op->writes[0];
    lips_tensor t = letter == 'x' || letter == 'X' ? s->x : s->y;
    double *out;
    if (strchr("xXyY", letter)) {
        t.b = t.cap = samples;
        *n = reals_of(&t);
        out = bench_take(*n, sizeof *out);
        bench_ok(s->be->ops->download(s->be, out, &t));
        return out;
    }
    if (letter == 'q' || letter == 'r') {
        bench_ok(s->be->ops->sync(s->be));
        *n = samples * (letter == 'q' ? s->s.t * s->s.t : 1);
        out = bench_take(*n, sizeof *out);
        memcpy(out, letter == 'q' ? s->q : s->r, (size_t)*n * sizeof *out);
        return out;
    }
    *n = strcmp(s->op->name, "bias_grad") == 0 ? s->s.c : count(s, letter);
    out = bench_take(*n, sizeof *out);
    bench_ok(s->be->ops->read(s->be, out, letter == 'w' ? s->w : s->d, 0, *n));
    return out;
}

/* Runs both sides once, on operands that no earlier run has touched, and compares. */
static void check(gpu_side *s, lips_precision precision, gpu_found *found)
{
    static const lips_precision f32 = LIPS_PRECISION_F32;
    gpu_side host = {.op = s->op, .s = s->s, .training = s->training};
    const int64_t samples = s->s.b < DISTINCT ? s->s.b : DISTINCT;
    /* A sum over the batch repeats that over the distinct samples. */
    const double repeats = strchr("d", s->op->writes[0]) ? (double)(s->s.b / samples) : 1;
    int64_t n = 0;
    host.s.b = samples;
    bench_ok(lips_backend_find(s->op->ref ? "ref" : "cpu")->open(&host.be, 0));
    make(&host);
    bench_ok(s->op->run(&host));
    bench_ok(s->op->run(s));
    double *want = output(&host, samples, &n), *got = output(s, samples, &n);
    float *narrow = bench_take(n, sizeof *narrow);
    for (int64_t i = 0; i < n; i++) {
        want[i] *= repeats;
        narrow[i] = (float)got[i];
    }
    found->checked = true;
    found->error = bench_error(narrow, want, n, error_most[has_precision(s->op) ? precision : f32],
                               &found->wrong);
    free(want), free(got), free(narrow);
    drop(&host);
    host.be->ops->close(host.be);
}

/* ---- rows ---- */

static lips_status call_op(void *user)
{
    gpu_side *s = user;
    return s->op->run(s);
}

/* As the kernels' headers predict for an H100. On tensor cores, 3x3 convolutions with stride 1
 * forward and back 90, 230 and 450 TFLOP/s in f32, TF32 and BF16, of more than 32 columns 115, 350
 * and 580, other products 75, 160 and 170; of few columns, which cannot fill a tile of 32, so much
 * less; below 16 columns by FFMA, 40. */
static double expected_product(const gpu_side *s, lips_precision precision, gpu_unit *unit)
{
    static const double shares[3][3] = {{0.57, 0.40, 0.21}, {0.68, 0.58, 0.57}, {0.87, 0.88, 0.73}};
    const bool patches = s->op->family == GPU_CONV && s->s.geom.r == 3 && s->s.geom.stride == 1 &&
                         !strstr(s->op->name, "grad");
    const int64_t columns = strstr(s->op->name, "vjp") ? s->s.c : s->s.o;
    if (strstr(s->op->name, "gram"))
        return s->op->expected;
    if (columns > 16)
        return shares[patches ? 1 + (columns > 32) : 0][precision] *
               (columns < 32 ? (double)columns / 32 : 1);
    *unit = GPU_FFMA;
    return 0.75;
}

static double busy_seconds(const gpu_side *s)
{
    double conversions = 0, f64 = 0, issued = 0;
    for (int i = 0; i < 2 && s->op->reads[i]; i++) {
        const gpu_counts *c = &s->op->counts[i];
        const double values = letter_bytes(s, s->op->reads[i]) / 4;
        conversions += values * c->conversions;
        f64 += values * c->f64;
        issued += values * c->issued;
    }
    return gpu_busy(conversions, f64, issued);
}

/* The Gram's products are those of whole 8x8 tiles of its triangle above T = 4; few samples are cut
 * into slices, which a second launch adds. */
static void count_gram(const gpu *g, const gpu_side *s, gpu_row *r)
{
    const int64_t t = s->s.t, tiles = (t + 7) / 8;
    const lips_cuda_gram_args k = {.b = s->s.b, .p = s->s.h * s->s.w, .t = t, .c = s->s.c};
    const double all = 64 * (double)(tiles * (tiles + 1)) * (double)(k.b * k.p * k.c);
    if (t > 4)
        r->busy = fmax(r->busy, gpu_floor(g, &(gpu_row){.flops = all, .unit = GPU_F64}));
    r->launches += lips_cuda_gram_work(&k) > 0;
}

/* What the op must move and compute. */
static void count_row(const gpu *g, gpu_side *s, lips_precision precision, gpu_row *r)
{
    static const char *const dtypes[] = {"f32", "tf32", "bf16"};
    static const gpu_unit units[] = {GPU_F32, GPU_TF32, GPU_BF16};
    const gpu_op *op = s->op;
    describe(s);
    *r = (gpu_row){.op = op->name,
                   .variant = op->variant[0] ? op->variant : "cuda",
                   .dtype = op->unit == GPU_F64 ? "f64" : dtypes[precision],
                   .bytes = all_bytes(s),
                   .flops = op->flops ? op->flops(s) : 0,
                   .unit = has_precision(op) ? units[precision] : op->unit,
                   .expected = op->expected,
                   .busy = busy_seconds(s),
                   .launches = op->launches,
                   .streams = op->streams};
    if (has_precision(op))
        r->expected = expected_product(s, precision, &r->unit);
    if (strcmp(op->name, "gram") == 0)
        count_gram(g, s, r);
}

static void row(gpu *g, gpu_side *s, lips_precision precision)
{
    char shape[96];
    gpu_row r;
    count_row(g, s, precision, &r);
    snprintf(shape, sizeof shape, "B=%lld,C=%lld,HW=%lld,O=%lld,R=%lld,T=%lld", (long long)s->s.b,
             (long long)s->s.c, (long long)s->s.h, (long long)s->s.o, (long long)s->s.geom.r,
             (long long)s->s.t);
    r.shape = shape;
    if (!gpu_selected(g, &r))
        return;
    if (!gpu_is_there(g)) {
        gpu_print(g, &r, NULL);
        return;
    }
    gpu_found found = {0};
    lips_status (*library)(void *) = NULL;
    s->precision = precision;
    bench_ok(s->be->ops->set_precision(s->be, precision, precision));
    make(s);
    check(s, precision, &found);
    found.time = gpu_clock(g, call_op, s, GPU_COLD);
    if (gpu_op_library(s, &library))
        found.library = gpu_clock(g, library, s, GPU_COLD).median;
    gpu_print(g, &r, &found);
    drop(s);
    bench_ok(s->be->ops->set_precision(s->be, LIPS_PRECISION_F32, LIPS_PRECISION_F32));
}

double gpu_op_predict(gpu *g, const char *name, gpu_shape z, lips_precision precision,
                      int *launches)
{
    gpu_side s = {.op = gpu_op_find(name, ""), .s = z};
    gpu_row r;
    if (!s.op)
        bench_ok(lips_fail(LIPS_ERR_USAGE, "bench: no op %s", name));
    count_row(g, &s, precision, &r);
    *launches += r.launches;
    return gpu_predicted(g, &r);
}

void gpu_op_rows(gpu *g, const char *name, const char *variant, gpu_shape z, bool precise)
{
    const gpu_op *op = gpu_op_find(name, variant);
    if (!op)
        bench_ok(lips_fail(LIPS_ERR_USAGE, "bench: no op %s %s", name, variant));
    if (gpu_is_tiny(g)) {
        z.b = z.b < 2 * DISTINCT ? z.b : 2 * DISTINCT;
        z.t = z.t < 3 ? z.t : 3;
        z.h = z.h > 8 ? 8 : z.h;
        z.w = z.w > 8 ? 8 : z.w;
        z.c = z.c > 8 ? 8 : z.c;
        z.o = z.o > 24 ? 24 : z.o;
        z.heads = z.heads > 1 ? 1 : z.heads;
    }
    for (int p = LIPS_PRECISION_F32; p <= (precise ? LIPS_PRECISION_BF16 : LIPS_PRECISION_F32);
         p++) {
        lips_backend *be = gpu_is_there(g) ? &gpu_handle(g)->base : NULL;
        gpu_side s = {.be = be, .op = op, .s = z, .training = op->training};
        row(g, &s, (lips_precision)p);
    }
}
