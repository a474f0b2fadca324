/* Which device takes the next cell: load, memory, slots, cells that want to be alone. */
#include "../lib/cmocka_all.h"
#include "config/options.h"
#include "sweep/places.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 3, SLOTS = 4 };

static lips_spot_set sets[PLACES][SLOTS];

/* Three devices of 100 bytes and four slots each. */
static lips_places three(bool fill)
{
    lips_places p = {.n = PLACES, .jobs = PLACES * SLOTS};
    for (int i = 0; i < PLACES; i++)
        p.at[i] =
            (lips_spot){.device = i, .memory = 100, .slots = SLOTS, .fill = fill, .sets = sets[i]};
    return p;
}

static int start(lips_places *p, const lips_demand *d)
{
    const int at = lips_places_choose(p, d);
    if (at >= 0)
        lips_places_take(p, at, d);
    return at;
}

static void expect(lips_places *p, const lips_demand *d, const int *want, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(start(p, d), want[i]);
}

static void test_even_load(void **state)
{
    (void)state;
    lips_places p = three(false);
    const lips_demand half = {.bytes = 10, .share = 0.5}, narrow = {.bytes = 1, .share = 0.25};
    expect(&p, &half, (int[]){0, 1, 2, 0}, 4);
    expect(&p, &narrow, (int[]){1, 2, 1, 2, -1}, 5);
    lips_places_give(&p, 0, &half);
    expect(&p, &narrow, (int[]){0, 0, -1}, 3);
    assert_int_equal(p.running, 9);
}

static void test_slots_as_asked(void **state)
{
    (void)state;
    lips_places p = three(true);
    const lips_demand wide = {.bytes = 1, .share = 0.5};
    expect(&p, &wide, (int[]){0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, -1}, 13);
    p = three(true);
    p.jobs = 2;
    expect(&p, &wide, (int[]){0, 1, -1}, 3);
}

static void test_memory(void **state)
{
    (void)state;
    lips_places p = three(true);
    p.at[1].memory = 30; /* less than one cell with its data */
    const lips_demand a = {.bytes = 20, .resident = 40, .data = 1};
    lips_demand b = a;
    b.data = 2;
    expect(&p, &a, (int[]){0, 2}, 2);
    assert_int_equal(start(&p, &b), -1); /* a second data set does not fit beside the first */
    expect(&p, &a, (int[]){0, 2, 0, 2, -1}, 5);
    assert_true(p.at[0].bytes == 100 && p.at[0].n_sets == 1);
    for (int i = 0; i < 3; i++)
        lips_places_give(&p, 0, &a);
    assert_true(p.at[0].bytes == 0 && p.at[0].n_sets == 0 && p.at[0].running == 0);
    assert_int_equal(start(&p, &b), 0);
    /* What fits nowhere goes to an empty device, where it is recorded as failed. */
    const lips_demand huge = {.bytes = 1000};
    assert_false(lips_places_fit(&p, &huge));
    assert_int_equal(lips_places_choose(&p, &huge), 1);
}

/* A data set's memory is there again once its last cell has ended, not before. */
static void test_data_leave(void **state)
{
    (void)state;
    lips_places p = three(true);
    p.n = 1;
    const lips_demand big = {.bytes = 5, .resident = 60, .data = 1},
                      other = {.bytes = 5, .resident = 20, .data = 2},
                      late = {.bytes = 5, .resident = 60, .data = 3};
    expect(&p, &big, (int[]){0, 0}, 2);
    expect(&p, &other, (int[]){0}, 1);
    expect(&p, &late, (int[]){-1}, 1);
    lips_places_give(&p, 0, &big);
    expect(&p, &late, (int[]){-1}, 1);
    lips_places_give(&p, 0, &big);
    expect(&p, &late, (int[]){0}, 1);
}

/* As many cells at once as are asked for on each device, or its share of all jobs. */
static void test_slots(void **state)
{
    (void)state;
    lips_experiment *e = calloc(1, sizeof *e);
    assert_non_null(e);
    lips_forecast plan = {.e = e, .jobs = 5, .devices = {.n = 2, .at = {1, 4}, .own = true}};
    lips_places p;
    assert_int_equal(lips_places_create(&p, &plan), LIPS_OK);
    assert_true(p.n == 2 && p.jobs == 5);
    for (int i = 0; i < 2; i++)
        assert_true(p.at[i].slots == 3 && !p.at[i].fill && p.at[i].device == (i ? 4 : 1));
    lips_places_free(&p);
    e->base.cells_per_device = 4;
    assert_int_equal(lips_places_create(&p, &plan), LIPS_OK);
    assert_true(p.at[0].slots == 4 && p.at[1].slots == 4 && p.at[0].fill);
    lips_places_free(&p);
    plan.devices =
        (lips_devices){.n = 1}; /* the host: a slot for each job, whatever a cell takes */
    e->base.cells_per_device = 0;
    assert_int_equal(lips_places_create(&p, &plan), LIPS_OK);
    assert_true(p.at[0].slots == 5 && p.at[0].fill && p.at[0].memory > 0);
    lips_places_free(&p);
    free(e);
}

/* Unless told otherwise, at least one for each device. */
static void test_jobs(void **state)
{
    (void)state;
    lips_config c;
    lips_config_defaults(&c);
    const lips_devices many = {.n = LIPS_DEVICES_MAX}, two = {.n = 2};
    assert_true(lips_sweep_jobs(&c, &many) >= LIPS_DEVICES_MAX);
    c.cells_per_device = 3;
    assert_int_equal(lips_sweep_jobs(&c, &two), 6);
    c.jobs = 5;
    assert_int_equal(lips_sweep_jobs(&c, &two), 5);
}

static void test_alone(void **state)
{
    (void)state;
    lips_places p = three(true);
    const lips_demand cell = {.bytes = 1}, alone = {.bytes = 1, .alone = true};
    expect(&p, &cell, (int[]){0, 1}, 2);
    expect(&p, &alone, (int[]){2, -1}, 2);
    expect(&p, &cell, (int[]){0, 1, 0, 1, 0, 1, -1}, 7);
    lips_places_give(&p, 2, &alone);
    assert_int_equal(start(&p, &cell), 2);
}

static void test_share(void **state)
{
    (void)state;
    double before = 0;
    for (int64_t width = 1; width <= 256; width *= 4) {
        const lips_model_spec spec = {
            .kind = "convnet", .width = width, .classes = 10, .c = 3, .h = 32, .w = 32};
        lips_net *net;
        assert_int_equal(lips_net_create(&net, &spec), LIPS_OK);
        const double share = lips_device_share(net, 128, 132 * 2048);
        assert_true(share > before || share == 0.5);
        assert_true(share <= 0.5);
        assert_true(lips_device_share(net, 128, 0) == 0);
        before = share;
        lips_net_free(net);
    }
    assert_true(before == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_load), cmocka_unit_test(test_slots_as_asked),
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_alone),
        cmocka_unit_test(test_share),     cmocka_unit_test(test_data_leave),
        cmocka_unit_test(test_slots),     cmocka_unit_test(test_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
