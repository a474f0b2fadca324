/* Ops of a training step that needs nothing of the host: what moves the cursor, and recordings. */
#include "opcases.h"

#include "cmocka_all.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes there and back, two fetches under way at once; what is fetched is of its own time. */
static void bytes(opcase *c)
{
    const lips_ops *ops = c->be->ops;
    static const int64_t sizes[] = {1, 8, 1000, 70001};
    const size_t n = (size_t)opcase_pick(c, sizes, 4);
    unsigned char *v = malloc(n), *w = malloc(n);
    void *back = NULL;
    assert_true(v && w);
    for (size_t i = 0; i < n; i++) {
        v[i] = (unsigned char)(i * 37 + 1);
        w[i] = (unsigned char)(i * 11 + 2);
    }
    opcase_ok(ops->alloc_shared(c->be, &back, LIPS_FETCHES * n));
    unsigned char *got = back;
    void *p = opcase_bytes(c, v, n);
    opcase_ok(ops->fetch(c->be, got, p, n, 0));
    opcase_ok(ops->put(c->be, p, w, n));
    opcase_ok(ops->fetch(c->be, got + n, p, n, 1));
    opcase_ok(ops->await(c->be, 0));
    assert_memory_equal(got, v, n);
    opcase_ok(ops->await(c->be, 1));
    assert_memory_equal(got + n, w, n);
    opcase_ok(ops->put(c->be, p, v, 0));
    opcase_ok(ops->fetch(c->be, got, p, n, 1));
    opcase_ok(ops->await(c->be, 1));
    assert_memory_equal(got, w, n);
    const double good = 1;
    opcase_emit_doubles(c, "good", &good, 1);
    ops->release(c->be, back);
    free(v), free(w);
}

/* What advance meets, and what it is to say. */
static const struct {
    const char *name;
    double loss, grad;
    bool stopped;
    lips_stop stop;
} batches[] = {
    {"usual", 1, 1, false, LIPS_STOP_NONE},
    {"large loss", 1e6, 1, false, LIPS_STOP_NONE},
    {"large loss and gradient", 1e6, 1e32, false, LIPS_STOP_GRADIENT},
    {"large gradient alone", 1, 1e32, false, LIPS_STOP_NONE},
    {"large loss, gradient NaN", 1e6, NAN, false, LIPS_STOP_GRADIENT},
    {"NaN", NAN, 1, false, LIPS_STOP_LOSS},
    {"infinite", INFINITY, 1, false, LIPS_STOP_LOSS},
    {"stopped before", 1, 1, true, LIPS_STOP_LOSS},
};

static void emit_cursor(opcase *c, const void *cursor)
{
    void *p = NULL;
    opcase_ok(c->be->ops->alloc_shared(c->be, &p, sizeof(lips_cursor)));
    opcase_ok(c->be->ops->fetch(c->be, p, cursor, sizeof(lips_cursor), 0));
    opcase_ok(c->be->ops->await(c->be, 0));
    const lips_cursor *s = p;
    const double v[] = {(double)s->row,   (double)s->updates,
                        (double)s->epoch, (double)s->stop,
                        s->rate,          isfinite(s->loss) ? s->loss : -1,
                        s->adam_rate,     s->adam_root};
    opcase_emit_doubles(c, "cursor", v, sizeof v / sizeof *v);
    c->be->ops->release(c->be, p);
}

static void advance(opcase *c)
{
    static const int64_t sizes[] = {1, 31, 511, 512, 513, 1500};
    const int64_t b = opcase_pick(c, sizes, 6), n = opcase_pick(c, sizes, 6);
    static const int64_t kinds[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const int64_t kind = opcase_pick(c, kinds, (int)(sizeof batches / sizeof batches[0]));
    const int64_t n_buffers = pick_bool(c) ? opcase_pick(c, sizes, 6) : 0;
    snprintf(c->shape, sizeof c->shape, "B=%" PRId64 " n=%" PRId64 " buffers=%" PRId64 " %s", b, n,
             n_buffers, batches[kind].name);
    lips_cursor host, *cursor = pick_cursor(c, batches[kind].stopped, &host);
    double *loss = malloc((size_t)b * sizeof *loss), last = batches[kind].grad;
    assert_non_null(loss);
    for (int64_t i = 0; i < b; i++)
        loss[i] = fabs(opcase_value(c)) + (i == b / 2 ? (double)b * batches[kind].loss : 0);
    lips_advance_args a = {.cursor = cursor,
                           .loss = opcase_bytes(c, loss, (size_t)b * sizeof *loss),
                           .b = b,
                           .g = opcase_reals(c, n),
                           .n = n,
                           .n_buffers = n_buffers,
                           .buffers = n_buffers ? opcase_reals(c, n_buffers) : NULL,
                           .kept = n_buffers ? opcase_reals(c, n_buffers) : NULL,
                           .loss_watch = 1e4,
                           .grad_max = 1e30,
                           .beta1 = 0.9,
                           .beta2 = 0.999};
    opcase_ok(c->be->ops->write(c->be, (void *)(size_t)a.g, n - 1, &last, 1));
    opcase_ok(c->be->ops->advance(c->be, &a));
    emit_cursor(c, cursor);
    const double *got = c->result[0].v;
    assert_true(got[3] == batches[kind].stop);
    assert_true(got[0] == (double)(host.row + (batches[kind].stop ? 0 : b)));
    assert_true(got[1] == (double)(host.updates + (batches[kind].stop ? 0 : 1)));
    if (n_buffers) {
        opcase_emit_reals(c, "buffers", a.buffers, n_buffers);
        opcase_emit_reals(c, "kept", a.kept, n_buffers);
    }
    free(loss);
}

/* A few ops of different kinds: library or own products, scratch, sums into memory. */
typedef struct piece {
    lips_linear_args forward, grad;
    lips_sgd_args sgd;
    void *dw;
    int64_t n;
} piece;

static void run_piece(opcase *c, const piece *p)
{
    const lips_ops *ops = c->be->ops;
    opcase_ok(ops->zero(c->be, p->dw, (size_t)p->n * ops->real_bytes));
    opcase_ok(ops->linear_forward(c->be, &p->forward));
    opcase_ok(ops->linear_grad(c->be, &p->grad));
    opcase_ok(ops->sgd(c->be, &p->sgd));
}

/* What cannot be part of a recording says so, and what is recorded after it is dropped whole. */
static void refuse_recording(opcase *c, const piece *p)
{
    const lips_ops *ops = c->be->ops;
    void *q = NULL;
    double v = 0;
    lips_recorded *r = NULL;
    opcase_ok(ops->record_begin(c->be));
    assert_int_equal(ops->record_begin(c->be), LIPS_ERR_USAGE);
    assert_int_equal(ops->alloc(c->be, &q, 100), LIPS_ERR_USAGE);
    assert_int_equal(ops->write(c->be, p->dw, 0, &v, 1), LIPS_ERR_USAGE);
    assert_int_equal(ops->read(c->be, &v, p->dw, 0, 1), LIPS_ERR_USAGE);
    assert_int_equal(ops->put(c->be, p->dw, &v, 4), LIPS_ERR_USAGE);
    assert_int_equal(ops->sync(c->be), LIPS_ERR_USAGE);
    assert_int_equal(ops->await(c->be, 0), LIPS_ERR_USAGE);
    assert_non_null(strstr(lips_error(), "cannot be recorded"));
    run_piece(c, p);
    opcase_ok(ops->record_end(c->be, NULL));
    assert_int_equal(ops->record_end(c->be, &r), LIPS_ERR_USAGE);
    assert_null(r);
    assert_int_equal(ops->replay(c->be, NULL), LIPS_ERR_USAGE);
    ops->recorded_free(c->be, NULL);
}

/* An upload through scratch of 2 n reals. */
static void transpose_large(opcase *c, int64_t n)
{
    const lips_ops *ops = c->be->ops;
    float *v = calloc((size_t)(2 * n), sizeof *v);
    lips_tensor t = {.cap = 1, .b = 1, .c = 2, .h = 1, .w = n, .t = 1};
    assert_non_null(v);
    t.lanes = ops->plan_lanes(c->be, 1, true);
    opcase_ok(ops->alloc(c->be, &t.data, ops->tensor_bytes(c->be, &t)));
    opcase_ok(ops->upload(c->be, &t, v, NULL));
    opcase_ok(ops->sync(c->be));
    ops->release(c->be, t.data);
    free(v);
}

/* One recording replayed among direct ops; where none is offered, all run directly. */
static void recorded(opcase *c)
{
    static const int64_t reals[] = {0, 3 << 10};
    const lips_ops *ops = c->be->ops;
    pick_arithmetic(c);
    opcase_batch(c, pick_batch(c), false);
    const int64_t in = pick_width(c), out = pick_width(c), n = in * out;
    const int64_t more = opcase_pick(c, reals, 2);
    snprintf(c->shape, sizeof c->shape, "B=%" PRId64 " %" PRId64 " to %" PRId64, c->b, in, out);
    piece p = {.dw = opcase_poisoned(c, n), .n = n};
    p.forward = (lips_linear_args){.y = opcase_output(c, out, 1, 1, 1),
                                   .x = opcase_input(c, in, 1, 1, 1),
                                   .w = opcase_reals(c, n)};
    p.grad = (lips_linear_args){
        .y = p.forward.y, .x = p.forward.x, .dw = p.dw, .db = opcase_reals(c, out)};
    p.sgd = (lips_sgd_args){.p = (void *)(size_t)p.forward.w, .g = p.dw, .n = n, .lr = 1e-3};
    run_piece(c, &p);
    lips_recorded *r = NULL;
    if (ops->record_begin) {
        refuse_recording(c, &p);
        opcase_ok(ops->record_begin(c->be));
        run_piece(c, &p);
        opcase_ok(ops->record_end(c->be, &r));
        assert_non_null(r);
    }
    for (int i = 0; i < 3; i++) {
        if (!r || i == 1)
            run_piece(c, &p);
        else
            opcase_ok(ops->replay(c->be, r));
        /* An op between that needs more scratch than any before leaves the recording its own. */
        if (more)
            transpose_large(c, more << i);
    }
    opcase_emit_reals(c, "w", p.forward.w, n);
    opcase_emit_tensor(c, "y", &p.forward.y);
    opcase_emit_reals(c, "db", p.grad.db, out);
    if (r)
        ops->recorded_free(c->be, r);
}

static const opcase_row rows[] = {
    OPCASE_ROW(put, bytes, OP_EXACT, 8),
    OPCASE_ROW(fetch, bytes, OP_EXACT, 8),
    OPCASE_ROW(await, bytes, OP_EXACT, 8),
    OPCASE_ROW(advance, advance, OP_F64, 32),
    OPCASE_ROW(record_begin, recorded, OP_BF16, 8),
    OPCASE_ROW(record_end, recorded, OP_BF16, 8),
    OPCASE_ROW(replay, recorded, OP_BF16, 20),
    OPCASE_ROW(recorded_free, recorded, OP_BF16, 4),
};

const opcase_table opcases_step = {rows, sizeof rows / sizeof rows[0]};
