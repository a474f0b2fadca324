/* Products of warpgroups (products.h): what is under way, and the arithmetic. */
#include "kernels/mma.h"
#include "sim.h"

#include <vector>

#ifdef CUSIM_TSAN
extern "C" void __tsan_read_range(void *address, unsigned long bytes);
#else
static void __tsan_read_range(void *, unsigned long)
{
}
#endif

namespace cusim
{

namespace
{

/* Shared memory begins with what the system keeps there. */
const uint32_t FIRST_ADDRESS = 1024;
const int CORE = 128; /* bytes of a core matrix: 8 columns of 16 */
const uint32_t POISON = 0x7fc0dea1u;

/* What a warp's product under way reads, of the whole block. */
struct Reading {
    int warp;
    const unsigned char *from;
    size_t bytes;
};
std::vector<Reading> &readings = *new std::vector<Reading>;

struct Operand {
    uint32_t start, leading, stride;
};

int warp_now()
{
    return (int)((now.thread.z * now.block_dim.y + now.thread.y) * now.block_dim.x + now.thread.x) /
           32;
}

Operand decode(uint64_t b)
{
    const Operand o = {(uint32_t)(b & 0x3fff) << 4, (uint32_t)(b >> 16 & 0x3fff) << 4,
                       (uint32_t)(b >> 32 & 0x3fff) << 4};
    if (b >> 62)
        report("wgmma: descriptor %016llx asks for swizzle %d: only 0 is emulated",
               (unsigned long long)b, (int)(b >> 62));
    if (b & ~((uint64_t)0x3fff << 32 | (uint64_t)0x3fff << 16 | 0x3fff))
        report("wgmma: descriptor %016llx has bits beyond address and offsets",
               (unsigned long long)b);
    return o;
}

/* The bytes from the first to the last that a product reads. */
size_t reach(const Operand &o, int columns)
{
    return o.leading + (size_t)(columns / 8 - 1) * o.stride + CORE;
}

const unsigned char *dynamic(const Operand &o, int columns)
{
    const size_t at = o.start - FIRST_ADDRESS;
    if (o.start < FIRST_ADDRESS || at + reach(o, columns) > shared_dynamic_bytes())
        report("wgmma: B at %u, %zu bytes, is not in the %zu bytes of dynamic shared memory",
               o.start, reach(o, columns), shared_dynamic_bytes());
    return now.dynamic_shared + at;
}

Sum *find_sum(Products *p, const float *d)
{
    for (int i = 0; i < p->n_sums; i++)
        if (p->sums[i].d == d)
            return &p->sums[i];
    return nullptr;
}

bool poisoned(const Sum *s)
{
    for (int i = 0; i < s->columns / 2; i++)
        if (mma_emulated::float_bits(s->d[i]) != POISON)
            return false;
    return true;
}

void take_over(Products *p, const GroupProduct &q)
{
    Sum *s = find_sum(p, q.d);
    if (s && (s->columns != q.columns || !poisoned(s)))
        report("wgmma: accumulators were touched while a product was under way");
    if (!s) {
        if (p->n_sums == SUMS_MAX)
            report("wgmma: more than %d sets of accumulators under way", SUMS_MAX);
        s = &p->sums[p->n_sums++];
        s->d = q.d;
        s->columns = q.columns;
        s->under_way = 0;
        memcpy(s->value, q.d, (size_t)q.columns / 2 * sizeof(float));
        for (int i = 0; i < q.columns / 2; i++)
            q.d[i] = mma_emulated::bits_float(POISON);
    }
    s->under_way++;
}

void give_back(Products *p, Sum *s)
{
    if (--s->under_way > 0)
        return;
    if (!poisoned(s))
        report("wgmma: accumulators were touched while a product was under way");
    memcpy(s->d, s->value, (size_t)s->columns / 2 * sizeof(float));
    *s = p->sums[--p->n_sums];
}

float half(uint32_t word, int which)
{
    return mma_emulated::bits_float(which ? word & 0xffff0000u : word << 16);
}

/* The warp's 16 rows of A, k along a row. */
void gather_a(double (&a)[16][16], const Products *const *lanes, int number)
{
    for (int lane = 0; lane < 32; lane++) {
        const GroupProduct &p = lanes[lane]->list[number];
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            const int row = g + (i & 1) * 8;
            if (p.bf16)
                for (int k = 0; k < 2; k++)
                    a[row][t * 2 + (i >> 1) * 8 + k] = half(p.a[i], k);
            else
                a[row][t + (i >> 1) * 4] = mma_emulated::bits_float(p.a[i] & 0xffffe000u);
        }
    }
}

/* B as it was published, which must be what is there. */
void gather_b(double (*b)[COLUMNS_MAX], const GroupProduct &p)
{
    const Operand o = decode(p.b);
    const unsigned char *there = dynamic(o, p.columns);
    const size_t at = (size_t)(there - now.dynamic_shared);
    const int pairs = p.bf16 ? 2 : 1;
    for (int n = 0; n < p.columns; n++)
        for (int word = 0; word < 8; word++) {
            const size_t byte =
                at + word / 4 * o.leading + n / 8 * o.stride + n % 8 * 16 + word % 4 * 4;
            uint32_t seen, now_there;
            memcpy(&seen, shared_published() + byte, sizeof seen);
            memcpy(&now_there, now.dynamic_shared + byte, sizeof now_there);
            if (seen != now_there)
                report("wgmma: byte %zu of B is not what was published before a barrier: "
                       "fence.proxy.async is missing, or it was overwritten under way",
                       byte);
            for (int k = 0; k < pairs; k++)
                b[word * pairs + k][n] =
                    p.bf16 ? half(seen, k) : mma_emulated::bits_float(seen & 0xffffe000u);
        }
}

void multiply(Products *const *lanes, int number)
{
    const GroupProduct &p = lanes[0]->list[number];
    static double a[16][16], b[16][COLUMNS_MAX], sum[COLUMNS_MAX]; /* one kernel at a time */
    Sum *sums[32];
    const int depth = p.bf16 ? 16 : 8;
    for (int lane = 0; lane < 32; lane++) {
        const GroupProduct &q = lanes[lane]->list[number];
        if (q.b != p.b || q.columns != p.columns || q.bf16 != p.bf16)
            report("wgmma: lanes of a warp ask for different products");
        sums[lane] = find_sum(lanes[lane], q.d);
    }
    gather_a(a, lanes, number);
    gather_b(b, p);
    for (int row = 0; row < 16; row++) {
        const int first = row % 8 * 4, which = row / 8 * 2;
        for (int n = 0; n < p.columns; n++)
            sum[n] = p.fresh ? 0 : sums[first + n % 8 / 2]->value[n / 8 * 4 + which + n % 2];
        for (int k = 0; k < depth; k++)
            for (int n = 0; n < p.columns; n++)
                sum[n] += a[row][k] * b[k][n];
        for (int n = 0; n < p.columns; n++)
            sums[first + n % 8 / 2]->value[n / 8 * 4 + which + n % 2] =
                mma_emulated::cut_to_float(sum[n]);
    }
}

/* How many entries of the list all but the last `keep` groups are. */
int finished(const Products *p, int keep)
{
    int groups = 0, i = 0;
    for (int k = 0; k < p->n; k++)
        groups += !p->list[k].d;
    for (; i < p->n && groups > keep; i++)
        groups -= !p->list[i].d;
    return i;
}

int keep_now;   /* of the wait that is being carried out */
int publishers; /* threads of the block that have published since the last barrier */

/* Carries out what is asked for of a warp's products; how many are left under way. */
size_t carry_out_lanes(unsigned mask, const void *const *in)
{
    Unseen unseen;
    Products *lanes[32];
    size_t kept = 0;
    if (mask != 0xffffffffu)
        report("wgmma by a part of a warp: mask %08x", mask);
    for (int lane = 0; lane < 32; lane++)
        lanes[lane] = (Products *)in[lane];
    const int n = finished(lanes[0], keep_now);
    for (int lane = 1; lane < 32; lane++)
        if (lanes[lane]->n != lanes[0]->n || finished(lanes[lane], keep_now) != n)
            report("wgmma: lanes of a warp have different products under way");
    for (int i = 0; i < n; i++)
        if (lanes[0]->list[i].d)
            multiply(lanes, i);
    for (Products *p : lanes) {
        for (int i = 0; i < n; i++)
            if (p->list[i].d)
                give_back(p, find_sum(p, p->list[i].d));
        p->n -= n;
        memmove(p->list, p->list + n, (size_t)p->n * sizeof *p->list);
    }
    for (const GroupProduct *q = lanes[0]->list; q < lanes[0]->list + lanes[0]->n; q++)
        kept += q->d != nullptr;
    return kept;
}

/* What the warp's products so far read, but for the last `kept` of them. */
void forget_readings(size_t kept)
{
    size_t gone = 0;
    const int warp = warp_now();
    for (const Reading &r : readings)
        gone += r.warp == warp;
    gone -= kept; /* the oldest of the warp */
    for (size_t i = 0; i < readings.size() && gone > 0;)
        if (readings[i].warp == warp) {
            __tsan_read_range((void *)readings[i].from, readings[i].bytes);
            Unseen unseen;
            readings.erase(readings.begin() + (long)i);
            gone--;
        } else {
            i++;
        }
}

void carry_out(unsigned mask, const void *const *in, void *const *)
{
    forget_readings(carry_out_lanes(mask, in));
}

void push(const GroupProduct &q)
{
    Products *p = now.products;
    if (p->n == PRODUCTS_MAX)
        report("wgmma: more than %d products under way", PRODUCTS_MAX);
    p->list[p->n++] = q;
}

} // namespace

uint32_t shared_address(const void *p)
{
    const unsigned char *at = (const unsigned char *)p;
    if (!now.dynamic_shared || at < now.dynamic_shared ||
        at >= now.dynamic_shared + shared_dynamic_bytes() || (at - now.dynamic_shared) % 16)
        report("wgmma: B at %p is not in dynamic shared memory, or not 16-byte aligned", p);
    return (uint32_t)(at - now.dynamic_shared) + FIRST_ADDRESS;
}

void product_ask(const GroupProduct &q)
{
    Products *p = now.products;
    const unsigned threads = now.block_dim.x * now.block_dim.y * now.block_dim.z;
    if (threads % 128)
        report("wgmma in a block of %u threads: no whole warpgroups", threads);
    if (!p->fenced)
        report("wgmma without a wgmma.fence since registers were loaded or waited for");
    const Operand o = decode(q.b);
    const unsigned char *from = dynamic(o, q.columns);
    {
        Unseen unseen;
        take_over(p, q);
        push(q);
        if (now.lane == 0)
            readings.push_back({warp_now(), from, reach(o, q.columns)});
    }
    p->trail = (p->trail ^ q.b ^ (uint64_t)q.columns << 48) * 1099511628211u;
    if (now.lane == 0)
        __tsan_read_range((void *)from, reach(o, q.columns));
}

void product_fence()
{
    now.products->fenced = true;
}

void product_publish()
{
    publishers += !now.products->published;
    now.products->published = true;
}

void product_unpublish()
{
    publishers -= now.products->published;
    now.products->published = false;
}

void product_commit()
{
    push({nullptr, nullptr, 0, 0, false, false});
}

void product_wait(int keep, const Site *site)
{
    keep_now = keep;
    now.products->fenced = false;
    warp_collective(0xffffffffu, site, now.products, nullptr, carry_out);
}

void product_settled(const float *d)
{
    const Products *p = now.products;
    for (int i = 0; i < p->n_sums; i++)
        if (d >= p->sums[i].d && d < p->sums[i].d + p->sums[i].columns / 2)
            report("wgmma: accumulators are used while a product is under way");
}

void product_check_copy(const void *to, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)to;
    for (const Reading &r : readings)
        if (at < r.from + r.bytes && r.from < at + bytes)
            report("asynchronous copy over B of a wgmma under way");
}

void products_begin(Products *p)
{
    p->fenced = p->published = false;
    p->n = p->n_sums = 0;
    p->trail = 0;
}

void products_begin_block()
{
    readings.clear();
    publishers = 0;
}

bool products_at_barrier(int threads)
{
    const int all = publishers;
    publishers = 0;
    if (all == threads)
        shared_publish();
    return all > 0;
}

void products_end(const Products *p)
{
    for (int i = 0; i < p->n; i++)
        if (p->list[i].d)
            report("the thread ends with wgmma under way");
}

} // namespace cusim
