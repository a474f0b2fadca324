/* base/safetensors*.c: round trip, PyTorch-like foreign files, and everything that must be refused.
 */
#include "base/file.h"
#include "base/random.h"
#include "base/safetensors.h"
#include "../lib/tempdir.h"
#include "fault_io.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cmocka.h>

static char dir[256], path[300];

/* A sanitizer's shadow memory counts as memory used. */
#ifdef __SANITIZE_ADDRESS__
enum { RSS_LIMIT_KIB = 512 * 1024 };
#else
enum { RSS_LIMIT_KIB = 64 * 1024 };
#endif

static const float weights[6] = {1, -2, 3.5F, 0x1p-149F, -0.0F, 65504};
static const double moments[3] = {1.0 / 3, -1e300, 0};
static const int64_t steps = 1234567890123456789;

static lips_status write_sample(void)
{
    const lips_st_out_tensor t[] = {
        {.name = "0.weight", .dtype = LIPS_F32, .ndim = 2, .shape = {2, 3}, .data = weights},
        {.name = "0.num_batches_tracked", .dtype = LIPS_I64, .ndim = 0, .data = &steps},
        {.name = "empty", .dtype = LIPS_F32, .ndim = 2, .shape = {0, 7}, .data = NULL},
        {.name = "m \"quoted\"", .dtype = LIPS_F64, .ndim = 1, .shape = {3}, .data = moments},
    };
    const lips_st_meta_pair meta[] = {{"lipsweep.epoch", "300"}, {"lipsweep.config", "width: 8\n"}};
    return lips_st_write(path, t, 4, meta, 2);
}

static void *read_bytes(size_t *size)
{
    char *bytes = NULL;
    assert_int_equal(lips_file_read(&bytes, size, path, 1 << 20), LIPS_OK);
    return bytes;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    assert_int_equal(write_sample(), LIPS_OK);
    lips_st_file *f = NULL;
    assert_int_equal(lips_st_read(&f, path), LIPS_OK);
    assert_true(lips_st_is_ours(f));
    assert_string_equal(lips_st_label(f), path);
    assert_int_equal(lips_st_count(f), 4);
    assert_string_equal(lips_st_meta(f, "lipsweep.config"), "width: 8\n");
    assert_null(lips_st_meta(f, "none"));
    assert_null(lips_st_find(f, "none"));
    const lips_st_tensor *t = lips_st_find(f, "0.weight");
    assert_non_null(t);
    assert_int_equal(t->ndim, 2);
    assert_true(t->shape[0] == 2 && t->shape[1] == 3 && t->count == 6);
    float w[6];
    assert_int_equal(lips_st_to_f32(t, w), LIPS_OK);
    assert_memory_equal(w, weights, sizeof w);
    double d[6];
    assert_int_equal(lips_st_to_f64(t, d), LIPS_OK);
    assert_true(d[2] == 3.5 && d[3] == 0x1p-149 && signbit(d[4]));
    int64_t n = 0;
    assert_int_equal(lips_st_to_i64(t, &n), LIPS_ERR_DATA);
    t = lips_st_find(f, "0.num_batches_tracked");
    assert_true(t && t->ndim == 0 && t->count == 1);
    assert_int_equal(lips_st_to_i64(t, &n), LIPS_OK);
    assert_true(n == steps);
    t = lips_st_find(f, "m \"quoted\"");
    assert_non_null(t);
    assert_int_equal((size_t)t->data % 8, 0); /* malloc's alignment and the writer's order */
    assert_int_equal(lips_st_to_f64(t, d), LIPS_OK);
    assert_memory_equal(d, moments, sizeof moments);
    assert_int_equal(lips_st_to_f32(t, w), LIPS_ERR_DATA);
    assert_string_equal(lips_error(), "tensor m \"quoted\": value 1, -1e+300, is beyond float32");
    t = lips_st_find(f, "empty");
    assert_true(t && t->count == 0);
    assert_int_equal(lips_st_to_f64(t, NULL), LIPS_OK);
    lips_st_free(f);
    lips_st_free(NULL);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    size_t size = 0;
    assert_int_equal(write_sample(), LIPS_OK);
    char *bytes = read_bytes(&size);
    for (size_t cut = 0; cut < size; cut++) { /* 0..header+64 and further, to the last byte */
        lips_st_file *f = NULL;
        assert_int_equal(lips_st_parse(&f, bytes, cut, "cut"), LIPS_ERR_DATA);
        assert_non_null(strstr(lips_error(), "cut"));
    }
    free(bytes);
}

static void every_changed_bit_is_refused(void **state)
{
    (void)state;
    size_t size = 0, accepted = 0;
    assert_int_equal(write_sample(), LIPS_OK);
    char *bytes = read_bytes(&size);
    assert_true(size * 8 >= 2000);
    for (size_t bit = 0; bit < size * 8; bit++) {
        lips_st_file *f = NULL;
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        accepted += lips_st_parse(&f, bytes, size, "flip") != LIPS_ERR_DATA;
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
    }
    assert_int_equal(accepted, 0);
    free(bytes);
    /* Without metadata of the caller's: the writer's own second key must do. */
    const lips_st_out_tensor t = {
        .name = "a", .dtype = LIPS_F32, .ndim = 1, .shape = {6}, .data = weights};
    assert_int_equal(lips_st_write(path, &t, 1, NULL, 0), LIPS_OK);
    bytes = read_bytes(&size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        lips_st_file *f = NULL;
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        accepted += lips_st_parse(&f, bytes, size, "flip") != LIPS_ERR_DATA;
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
    }
    assert_int_equal(accepted, 0);
    free(bytes);
}

/* A file of header (its size field set to it) and data bytes of zeros. */
static lips_status parse_header(lips_st_file **f, const char *header, size_t data)
{
    size_t n = strlen(header);
    uint64_t length = n;
    char *bytes = calloc(1, 8 + n + data);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, n);
    *f = NULL;
    lips_status st = lips_st_parse(f, bytes, 8 + n + data, "h");
    free(bytes);
    return st;
}

static void foreign_files_are_read(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ",
        "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"shape\":[2],\"data_offsets\":[0,8],"
        "\"dtype\":\"F32\"}}",
        "{\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]},"
        "\"a\":{\"dtype\":\"BF16\",\"shape\":[1,2,1],\"data_offsets\":[0,4]}}",
        "{\"e\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[8,8]},"
        "\"f\":{\"dtype\":\"I64\",\"shape\":[3,0],\"data_offsets\":[0,0]},"
        "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        lips_st_file *f;
        assert_int_equal(parse_header(&f, good[i], 8), LIPS_OK);
        assert_false(lips_st_is_ours(f));
        assert_non_null(lips_st_find(f, "a"));
        lips_st_free(f);
    }
    lips_st_file *f;
    assert_int_equal(parse_header(&f, "{}", 0), LIPS_OK);
    assert_int_equal(lips_st_count(f), 0);
    lips_st_free(f);
}

static void hostile_headers_are_refused(void **state)
{
    (void)state;
#define T(dtype, shape, offsets)                                                                   \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
    static const char *const bad[][2] = {
        {" {}", "does not begin with"},
        {"[]", "does not begin with"},
        {"{", "header"},
        {"{} {}", "header"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") ",\"a\":" T("F32", "[2]", "[0,8]") "}", "duplicate"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") ",\"\\u0061\":" T("F32", "[2]", "[0,8]") "}",
         "duplicate"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         "duplicate"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") "}", "4 bytes behind the last tensor"},
        {"{\"a\":" T("F32", "[1]", "[4,8]") "}", "a hole"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[2]", "[0,8]") "}", "an overlap"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[4,8]") "}", "an overlap"},
        {"{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[0]", "[4,4]") "}", "an overlap"},
        {"{\"a\":" T("F32", "[4]", "[0,16]") "}", "cut short"},
        {"{\"a\":" T("F32", "[2]", "[8,0]") "}", "data_offsets"},
        {"{\"a\":" T("F32", "[2]", "[-8,0]") "}", "data_offsets"},
        {"{\"a\":" T("F32", "[2]", "[0,8,8]") "}", "data_offsets"},
        {"{\"a\":" T("F32", "[2]", "[0.0,8.0]") "}", "data_offsets"},
        {"{\"a\":" T("F32", "[2]", "8") "}", "data_offsets"},
        {"{\"a\":" T("F32", "[3]", "[0,8]") "}", "do not fill"},
        {"{\"a\":" T("F32", "[9223372036854775807]", "[0,8]") "}", "do not fill"},
        {"{\"a\":" T("F32", "[4611686018427387906]", "[0,8]") "}",
         "do not fill"}, /* x4 = 8 mod 2^64 */
        {"{\"a\":" T("F32", "[4294967296,4294967296]", "[0,8]") "}", "overflows"},
        {"{\"a\":" T("F32", "[4294967296,4294967296,0]", "[0,0]") "}", "overflows"},
        {"{\"a\":" T("F32", "[9223372036854775808]", "[0,8]") "}", "too big"},
        {"{\"a\":" T("F32", "[2]", "[0,9223372036854775808]") "}", "too big"},
        {"{\"a\":" T("U8", "[9223372036854775807]", "[0,9223372036854775807]") "}", "cut short"},
        {"{\"a\":" T("F32", "[-2]", "[0,8]") "}", "not a size"},
        {"{\"a\":" T("F32", "[2.0]", "[0,8]") "}", "not a size"},
        {"{\"a\":" T("F32", "2", "[0,8]") "}", "shape"},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", "shape"},
        {"{\"a\":" T("Q32", "[2]", "[0,8]") "}", "dtype Q32"},
        {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", "dtype"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "is not an object of"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}",
         "is not an object of"},
        {"{\"a\":[]}", "is not an object of"},
        {"{\"__metadata__\":[],\"a\":" T("F32", "[2]", "[0,8]") "}", "__metadata__"},
        {"{\"__metadata__\":{\"k\":1},\"a\":" T("F32", "[2]", "[0,8]") "}", "metadata"},
        {"{\"__metadata__\":{\"lipsweep.epoch\":\"1\"},\"a\":" T("F32", "[2]", "[0,8]") "}",
         "no checksum"},
        {"{\"__metadata__\":{\"lipsweep.checksum\":\"00\"},\"a\":" T("F32", "[2]", "[0,8]") "}",
         "no checksum"},
        {"{\"__metadata__\":{\"lipsweep\\u002echecksum\":\"00000000000000000000000000000000\"},"
         "\"a\":" T("F32", "[2]", "[0,8]") "}",
         "no checksum"},
        {"{\"__metadata__\":{\"lipsweep.checksum\":\"00000000000000000000000000000000\"},\"a\":" T(
             "F32", "[2]", "[0,8]") "}",
         "does not hold"},
        {"{\"\xff\":" T("F32", "[2]", "[0,8]") "}", "header"},
        {"{\"a\\u0000b\":" T("F32", "[2]", "[0,8]") "}", "header"},
    };
#undef T
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        lips_st_file *f;
        lips_error_clear();
        lips_status st = parse_header(&f, bad[i][0], 8);
        if (st != LIPS_ERR_DATA || !strstr(lips_error(), bad[i][1]))
            fail_msg("%s: status %d, %s", bad[i][0], st, lips_error());
    }
}

static void sizes_and_other_formats_are_named(void **state)
{
    (void)state;
    static const struct {
        char bytes[16];
        const char *says;
    } bad[] = {
        {"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "over the limit"},
        {"\x00\x00\x00\x00\x00\x00\x00\x80{}", "over the limit"}, /* 2^63 */
        {"\x00\x00\x00\x00\x00\x00\x00\x02{}", "over the limit"}, /* big-endian 2 */
        {"\x09\x00\x00\x00\x00\x00\x00\x00{}", "more than the file's"},
        {"PK\x03\x04", "a zip file"},
        {"\x80\x02}q\x00.", "a Python pickle"},
        {"\211HDF\r\n\032\n", "an HDF5 file"},
        {"\223NUMPY\x01", "a NumPy file"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        lips_st_file *f = NULL;
        assert_int_equal(lips_st_parse(&f, bad[i].bytes, 16, "b"), LIPS_ERR_DATA);
        if (!strstr(lips_error(), bad[i].says))
            fail_msg("%s, not %s", lips_error(), bad[i].says);
    }
    lips_st_file *f = NULL;
    assert_int_equal(lips_st_read(&f, dir), LIPS_ERR_DATA);
}

/* The costliest headers of the largest size, each in a process of its own under a memory limit. */
static void large_headers_stay_small_in_memory(void **state)
{
    (void)state;
    static const char *const filler[] = {"[", "{\"a\":", "0,", "[],", "\"\","};
    for (size_t k = 0; k < sizeof filler / sizeof filler[0]; k++) {
        pid_t child = fork();
        if (child == 0) {
            char *header = malloc(LIPS_ST_HEADER_MAX + 1);
            size_t at = (size_t)sprintf(header, "{\"a\":[");
            while (at + strlen(filler[k]) + 4 < LIPS_ST_HEADER_MAX)
                at += (size_t)sprintf(header + at, "%s", filler[k]);
            sprintf(header + at, k < 2 ? "0" : "0]}");
            lips_st_file *f;
            lips_status st = parse_header(&f, header, 8);
            struct rusage u;
            getrusage(RUSAGE_SELF, &u);
            free(header);
            _exit(st != LIPS_ERR_DATA ? 1 : u.ru_maxrss > RSS_LIMIT_KIB ? 2 : 0);
        }
        int how = -1;
        waitpid(child, &how, 0);
        assert_int_equal(how, 0);
    }
}

static void half_precision_is_converted(void **state)
{
    (void)state;
    static const struct {
        uint16_t bits;
        double half, bf16;
    } v[] = {{0x0000, 0, 0},
             {0x8000, -0.0, -0.0},
             {0x3c00, 1, 0x1p-7},
             {0x0001, 0x1p-24, 0x1p-133},
             {0x7bff, 65504, 0x1.fep120},
             {0xfc00, -INFINITY, -0x1p121},
             {0x3f80, 1.875, 1},
             {0x7f80, NAN, INFINITY}};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        double a = 0, b = 0;
        lips_st_tensor t = {.name = "t", .dtype = LIPS_F16, .count = 1, .data = &v[i].bits};
        assert_int_equal(lips_st_to_f64(&t, &a), LIPS_OK);
        t.dtype = LIPS_BF16;
        assert_int_equal(lips_st_to_f64(&t, &b), LIPS_OK);
        assert_true(isnan(v[i].half) ? isnan(a) : a == v[i].half);
        assert_true(b == v[i].bf16);
    }
    static const unsigned char bytes[4] = {0, 1, 255, 1};
    int64_t n[4];
    lips_st_tensor t = {.name = "t", .dtype = LIPS_U8, .count = 4, .data = bytes};
    assert_int_equal(lips_st_to_i64(&t, n), LIPS_OK);
    assert_true(n[0] == 0 && n[1] == 1 && n[2] == 255);
    int32_t negative = -7;
    t = (lips_st_tensor){.name = "t", .dtype = LIPS_I32, .count = 1, .data = &negative};
    assert_int_equal(lips_st_to_i64(&t, n), LIPS_OK);
    assert_true(n[0] == -7);
}

static void failing_writes_leave_the_old_checkpoint(void **state)
{
    (void)state;
    fault_io_reset();
    assert_int_equal(write_sample(), LIPS_OK);
    size_t size = 0;
    char *old = read_bytes(&size);
    for (int n = 1;; n++) {
        fault_io_reset();
        fault_io.most = 100;
        fault_io.fail_write = n;
        fault_io.write_error = n % 2 ? ENOSPC : EIO;
        lips_status st = write_sample();
        size_t again = 0;
        char *now = read_bytes(&again);
        assert_int_equal(again, size);
        assert_memory_equal(now, old, size);
        free(now);
        assert_int_equal(tempdir_count(dir), 1);
        if (st == LIPS_OK) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(st, LIPS_ERR_RUNTIME);
    }
    fault_io_reset();
    fault_io.fail_fsync = 1;
    assert_int_equal(write_sample(), LIPS_ERR_RUNTIME);
    fault_io_reset();
    lips_st_file *f = NULL;
    assert_int_equal(lips_st_read(&f, path), LIPS_OK);
    lips_st_free(f);
    free(old);
}

static void the_writer_refuses_what_it_could_not_read(void **state)
{
    (void)state;
    lips_st_out_tensor t[2] = {
        {.name = "a", .dtype = LIPS_F32, .ndim = 1, .shape = {1}, .data = weights},
        {.name = "a", .dtype = LIPS_F32, .ndim = 1, .shape = {1}, .data = weights}};
    assert_int_equal(lips_st_write(path, t, 2, NULL, 0), LIPS_ERR_USAGE);
    t[1].name = "b";
    t[1].ndim = 9;
    assert_int_equal(lips_st_write(path, t, 2, NULL, 0), LIPS_ERR_USAGE);
    const lips_st_meta_pair twice[] = {{"k", "1"}, {"k", "2"}};
    assert_int_equal(lips_st_write(path, t, 1, twice, 2), LIPS_ERR_USAGE);
    const lips_st_meta_pair own[] = {{"lipsweep.checksum", "0"}};
    assert_int_equal(lips_st_write(path, t, 1, own, 1), LIPS_ERR_USAGE);
}

int main(void)
{
    tempdir_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/w.safetensors", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_bit_is_refused),
        cmocka_unit_test(foreign_files_are_read),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(sizes_and_other_formats_are_named),
        cmocka_unit_test(large_headers_stay_small_in_memory),
        cmocka_unit_test(half_precision_is_converted),
        cmocka_unit_test(failing_writes_leave_the_old_checkpoint),
        cmocka_unit_test(the_writer_refuses_what_it_could_not_read),
    };
    int failed = cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
    tempdir_remove(dir);
    return failed;
}
